"""`gans walk`: a plane of latent space as a grid of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from gans.commands import options
from gans.commands.artist import LATENT, Artist, Drawing, Line
from gans.commands.checks import writable
from gans.commands.options import Option

AMONG = 2000  # samples that directions are found from


@dataclass(frozen=True, kw_only=True)
class Walk(Drawing):
    """Draw a plane of latent space as a grid."""

    through: Annotated[tuple[str, str, str] | None, Option(f"three corners, {LATENT}", metavar="LATENT")] = None
    around: Annotated[str, Option("else: along the two directions that change images most", metavar="LATENT")] = (
        "0:0"
    )
    reach: Annotated[float, Option("standard deviations along these", least=-100, most=100)] = 2.5
    size: Annotated[int, Option("images a side", least=2, most=1_000)] = 9
    line: Line = "slerp"
    class_: Annotated[
        str | None,
        Option("of this class, by its name or its number from 0; if not given, the first", metavar="CLASS"),
    ] = None
    output: Annotated[Path | None, Option("the PNG to write; if not given, a new one in outputs/samples")] = None


def add(commands: Any) -> None:
    """Add the command to the parser."""
    options.add(commands, "walk", Walk, run)


def run(asked: Walk) -> int:
    """Draw a grid of images over a plane of latents."""
    named = [asked.output] if asked.output else []
    writable(named, [".png"], asked.force)
    size = asked.size
    artist = Artist.of(asked)
    from gans.generate import latents
    from gans.pictures.grids import picture, save_picture

    wanted = None if asked.class_ is None else artist.label(asked.class_)
    if asked.through:
        z = latents.plane(latents.chosen(asked.through, artist.latent), size, latents.BETWEEN[asked.line])
    else:
        some = latents.draw(AMONG, artist.latent, asked.seed)
        axes = latents.directions(some, artist.draw(artist.prior.of_class(some, wanted)), 2)
        z = latents.around(latents.chosen([asked.around], artist.latent)[0], axes, size, asked.reach)
    drawn = picture(artist.draw(artist.prior.of_class(z, wanted)), columns=size)
    (path,) = asked.files(named, "walk", ".png")
    save_picture(drawn, path)
    print(f"{size} x {size} images in {path}")
    return 0
