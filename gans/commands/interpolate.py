"""`gans interpolate`: from latent to latent, as a strip, a GIF or a video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from gans.commands.artist import LATENT, MOST, Artist, Drawing, Line
from gans.commands.options import flat, option
from gans.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

PER_SECOND = 12  # frames
SIDE = 64  # pixels: about how large an image of a strip is shown, at least
USUAL = (".png", ".gif")


@flat
@dataclass(frozen=True, kw_only=True)
class Interpolate(Drawing):
    through: Annotated[tuple[str, ...] | None, option(f"one row through these {LATENT}", metavar="LATENT")] = None
    rows: Annotated[int, option("rows between random latents", least=1, most=1_000)] = 4
    stops: Annotated[int, option("random latents per row", least=2, most=1_000)] = 3
    steps: Annotated[int, option("images from one latent to the next", least=1, most=10_000)] = 12
    classes: Annotated[
        tuple[str, ...] | None,
        option(
            "the latents' classes in turn, by name or number from 0: from one to the next, or one all the way; "
            "conditional generators only",
            metavar="CLASS",
        ),
    ] = None
    line: Line = "slerp"
    output: Annotated[
        tuple[Path, ...],
        option(
            "one or more files: .png is a strip, .gif and .mp4 go round for ever; if not given, a new .png and "
            ".gif in outputs/samples"
        ),
    ] = ()
    kinds = (".png", ".gif", ".mp4")

    @property
    def named(self) -> tuple[Path, ...]:
        return self.output


def interpolate(options: Interpolate) -> int:
    rows, each = (1, len(options.through)) if options.through else (options.rows, options.stops)
    if rows * each * options.steps > MOST:
        raise InputError(f"{rows} rows of {each} stops in --steps {options.steps} are more than {MOST:,} images")
    artist = Artist.of(options)
    classes = [artist.label(name) for name in options.classes or ()]
    stops = _stops(options, artist.latent)
    kinds = [path.suffix.lower() for path in options.output] or USUAL
    drawn = [_rows(options, artist, stops, classes, closed=kind != ".png") for kind in kinds]
    for images, path in zip(drawn, options.files("interpolation", *USUAL), strict=True):
        _save(images, path)
        print(f"{images.shape[0]} x {images.shape[1]} images in {path}")
    return 0


def _stops(options: Interpolate, length: int) -> Tensor:
    """The latents to go through: (rows, stops, length)."""
    from gans.generate import latents

    if options.through:
        if len(options.through) < 2:
            raise InputError("--through takes 2 latents or more")
        return latents.chosen(options.through, length)[None]
    shape = options.rows, options.stops
    return latents.draw(math.prod(shape), length, options.seed).unflatten(0, shape)


def _rows(options: Interpolate, artist: Artist, stops: Tensor, classes: Sequence[int], closed: bool) -> Tensor:
    """uint8 images (rows, steps, channels, height, width) from stop to stop; closed, back to the first one."""
    import torch

    from gans.generate import latents
    from gans.models.inputs import GeneratorInput

    between = latents.BETWEEN[options.line]
    rows = torch.stack([latents.path(row, options.steps, between, closed) for row in stops])
    z = rows.flatten(0, 1)
    if not classes:
        return artist.draw(z).unflatten(0, rows.shape[:2])
    in_turn = torch.tensor([classes[stop % len(classes)] for stop in range(stops.shape[1])])
    mixtures = torch.nn.functional.one_hot(in_turn, len(artist.prior.classes)).float()
    way = latents.path(mixtures, options.steps, latents.lerp, closed)
    try:
        return artist.draw(GeneratorInput(z, way.repeat(len(stops), 1))).unflatten(0, rows.shape[:2])
    except (RuntimeError, TypeError, IndexError):  # a model from elsewhere, whose labels are whole
        raise InputError(f"{artist.name} does not mix classes; name one") from None


def _save(images: Tensor, path: Path) -> None:
    """Write rows of images as the file's name says: below each other, or one after the other."""
    from gans.pictures.grids import picture, save_picture
    from gans.pictures.video import save_gif, save_mp4

    kind = path.suffix.lower()
    if kind == ".png":
        rows, columns = images.shape[:2]
        save_picture(picture(images.flatten(0, 1), columns, least=SIDE * min(rows, columns)), path)
        return
    frames = [picture(frame) for frame in images.unbind(1)]
    if kind == ".gif":
        save_gif(frames, [round(100 / PER_SECOND) * 10] * len(frames), path)
    else:
        save_mp4(frames, PER_SECOND, path)
