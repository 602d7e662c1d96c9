"""`gans interpolate`: from latent to latent, as a strip, a GIF or a video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from gans.commands import options
from gans.commands.artist import LATENT, Artist, Drawing, Line
from gans.commands.checks import at_least, positive, writable
from gans.commands.options import Option

if TYPE_CHECKING:
    from torch import Tensor

PER_SECOND = 12  # frames
KINDS = (".png", ".gif", ".mp4")
USUAL = (".png", ".gif")


@dataclass(frozen=True, kw_only=True)
class Interpolate(Drawing):
    """Go from latent to latent, as a strip, a GIF or a video."""

    through: Annotated[tuple[str, ...] | None, Option(f"one row through these {LATENT}", metavar="LATENT")] = None
    rows: Annotated[int, Option("rows between random latents")] = 4
    stops: Annotated[int, Option("random latents per row")] = 3
    steps: Annotated[int, Option("images from one latent to the next")] = 12
    line: Line = "slerp"
    output: Annotated[
        tuple[Path, ...],
        Option(
            "one or more files: .png is a strip, .gif and .mp4 go round for ever; if not given, a new .png and "
            ".gif in outputs/samples"
        ),
    ] = ()


def add(commands: Any) -> None:
    """Add the command to the parser."""
    options.add(commands, "interpolate", Interpolate, run)


def run(asked: Interpolate) -> int:
    """Draw rows of images between latents, into as many files as are named."""
    writable(asked.output, KINDS, asked.force)
    positive("--steps", asked.steps)
    artist = Artist.of(asked)
    stops = _stops(asked, artist.latent)
    kinds = [path.suffix.lower() for path in asked.output] or USUAL
    drawn = [_rows(asked, artist, stops, closed=kind != ".png") for kind in kinds]
    for images, path in zip(drawn, asked.files(asked.output, "interpolation", *USUAL), strict=True):
        _save(images, path)
        print(f"{images.shape[0]} x {images.shape[1]} images in {path}")
    return 0


def _stops(asked: Interpolate, length: int) -> Tensor:
    """The latents to go through: (rows, stops, length)."""
    from gans.generate import latents

    if asked.through:
        at_least("latents after --through:", len(asked.through), 2)
        return latents.chosen(asked.through, length)[None]
    rows, stops = positive("--rows", asked.rows), at_least("--stops", asked.stops, 2)
    return latents.draw(rows * stops, length, asked.seed).unflatten(0, (rows, stops))


def _rows(asked: Interpolate, artist: Artist, stops: Tensor, closed: bool) -> Tensor:
    """uint8 images (rows, steps, channels, height, width) from stop to stop; closed, back to the first one."""
    import torch

    from gans.generate import latents

    between = latents.BETWEEN[asked.line]
    rows = torch.stack([latents.path(row, asked.steps, between, closed) for row in stops])
    return artist.draw(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])


def _save(images: Tensor, path: Path) -> None:
    """Write rows of images as the file's name says: below each other, or one after the other."""
    from gans.pictures.grids import picture, save_picture
    from gans.pictures.video import save_gif, save_mp4

    kind = path.suffix.lower()
    if kind == ".png":
        save_picture(picture(images.flatten(0, 1), columns=images.shape[1], least=64), path)
        return
    frames = [picture(frame) for frame in images.unbind(1)]
    if kind == ".gif":
        save_gif(frames, [round(100 / PER_SECOND) * 10] * len(frames), path)
    else:
        save_mp4(frames, PER_SECOND, path)
