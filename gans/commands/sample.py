"""`gans sample`: a grid of images from a trained generator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from gans.commands.artist import MOST, Artist, Class, Picture
from gans.commands.options import flat, option


@flat
@dataclass(frozen=True, kw_only=True)
class Sample(Picture):
    count: Annotated[int, option("images", least=1, most=MOST)] = 64
    truncation: Annotated[
        float | None,
        option("draw latents within ±T: fewer odd images, less variety", metavar="T", least=0.1, most=100),
    ] = None
    class_: Class = None


def sample(options: Sample) -> int:
    artist = Artist.of(options)
    from gans.generate import latents
    from gans.pictures.grids import picture

    wanted = None if options.class_ is None else artist.label(options.class_)
    code = artist.prior.sample(options.count, options.seed, latents.PURPOSE)  # of classes by their shares
    z = code.z if options.truncation is None else latents.truncated(code.z, options.truncation, options.seed)
    code = replace(code, z=z) if wanted is None else artist.prior.of_class(z, wanted)
    options.save(picture(artist.draw(code)), "samples", f"{options.count} images")
    return 0
