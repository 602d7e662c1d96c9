"""`gans sample`: a grid of images from a trained generator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from gans.commands import options
from gans.commands.artist import MOST, Artist, Drawing
from gans.commands.checks import writable
from gans.commands.options import Option


@dataclass(frozen=True, kw_only=True)
class Sample(Drawing):
    """Draw images from a trained generator."""

    count: Annotated[int, Option("images", least=1, most=MOST)] = 64
    truncation: Annotated[
        float | None,
        Option("draw latents within ±T: fewer odd images, less variety", metavar="T", least=0.1, most=100),
    ] = None
    class_: Annotated[
        str | None,
        Option("of this class, by its name or its number from 0; conditional generators only", metavar="CLASS"),
    ] = None
    output: Annotated[Path | None, Option("the PNG to write; if not given, a new one in outputs/samples")] = None


def add(commands: Any) -> None:
    """Add the command to the parser."""
    options.add(commands, "sample", Sample, run)


def run(asked: Sample) -> int:
    """Draw a grid of images."""
    named = [asked.output] if asked.output else []
    writable(named, [".png"], asked.force)
    artist = Artist.of(asked)
    from gans.generate import latents
    from gans.pictures.grids import picture, save_picture

    wanted = None if asked.class_ is None else artist.label(asked.class_)
    code = artist.prior.sample(asked.count, asked.seed, latents.PURPOSE)  # of classes by their shares
    z = code.z if asked.truncation is None else latents.truncated(code.z, asked.truncation, asked.seed)
    code = replace(code, z=z) if wanted is None else artist.prior.of_class(z, wanted)
    drawn = picture(artist.draw(code))
    (path,) = asked.files(named, "samples", ".png")
    save_picture(drawn, path)
    print(f"{asked.count} images in {path}")
    return 0
