"""`gans walk`: a plane of latent space as a grid of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from gans.commands.artist import LATENT, Artist, Class, Line, Picture
from gans.commands.options import flat, option

AMONG = 2000  # samples that directions are found from


@flat
@dataclass(frozen=True, kw_only=True)
class Walk(Picture):
    through: Annotated[tuple[str, str, str] | None, option(f"three corners, {LATENT}", metavar="LATENT")] = None
    around: Annotated[str, option("else: along the two directions that change images most", metavar="LATENT")] = (
        "0:0"
    )
    reach: Annotated[float, option("standard deviations along these", least=-100, most=100)] = 2.5
    size: Annotated[int, option("images a side", least=2, most=1_000)] = 9
    line: Line = "slerp"
    class_: Class = None


def walk(options: Walk) -> int:
    artist, size = Artist.of(options), options.size
    from gans.generate import latents
    from gans.pictures.grids import picture

    wanted = None if options.class_ is None else artist.label(options.class_)  # None: the first
    if options.through:
        z = latents.plane(latents.chosen(options.through, artist.latent), size, latents.BETWEEN[options.line])
    else:
        some = latents.draw(AMONG, artist.latent, options.seed)
        axes = latents.directions(some, artist.draw(artist.prior.of_class(some, wanted)), 2)
        z = latents.around(latents.chosen([options.around], artist.latent)[0], axes, size, options.reach)
    drawn = picture(artist.draw(artist.prior.of_class(z, wanted)), columns=size)
    options.save(drawn, "walk", f"{size} x {size} images")
    return 0
