"""`gans sample | walk | interpolate | export`: images of a trained generator, or the network alone."""

from __future__ import annotations

import math
import os
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from gans.commands.options import Device, flat, option
from gans.errors import InputError, first_line
from gans.files import EXPORTS, SAMPLES, free, outputs, taken, write_bytes
from gans.schema import GENERATOR, slug

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

    from gans.models.inputs import GeneratorInput, Prior

LATENT = "latents as SEED:INDEX; INDEX counts the images of `gans sample --seed SEED` row by row, from 0"
MOST = 10**6  # images of a call
AMONG = 2000  # samples that a walk's directions are found from
COMPARED = 64  # images of an exported generator and of ours
PER_SECOND = 12  # frames of a film
SIDE = 64  # pixels: about how large an image of a strip is shown, at least
Line = Annotated[Literal["slerp", "lerp"], option("great circles (slerp) or straight lines (lerp)")]
Class = Annotated[
    str | None,
    option("class by name or by number from 0; conditional generators only", name="--class", metavar="CLASS"),
]


@flat
@dataclass(frozen=True)
class Writing:
    """The options of every command that makes files of a generator."""

    generator: Annotated[
        str, option("a generator.safetensors, a run's folder, an MLflow run id or its start, or zoo:NAME")
    ]
    _: KW_ONLY
    seed: Annotated[int, option("random seed", least=0, most=10**18 - 1)] = 0
    output: Annotated[
        tuple[Path, ...],
        option(
            "one or more files: .png; for interpolations also .gif and .mp4, which loop; default: new files in "
            "outputs/samples"
        ),
    ] = ()
    force: Annotated[bool, option("overwrite existing output files")] = False

    kinds: ClassVar[tuple[str, ...]] = (".png",)  # of files that it writes
    folder: ClassVar[str] = SAMPLES  # of new files, in the folder of results

    def check(self) -> None:
        """Refuse, before anything is drawn, a file of another kind or, without force, one that is there."""
        for path in self.output:
            if path.suffix.lower() not in self.kinds:
                kinds = " or ".join(self.kinds)
                raise InputError(f"--output {path}: '{path.suffix}' cannot be written; take {kinds}")
            if path.absolute().parts[1] in ("dev", "proc", "sys"):
                raise InputError(f"--output {path}: files cannot be written there; name another folder")
            if os.path.lexists(path) and not self.force:
                raise taken(path)

    def files(self, stem: str, *suffixes: str) -> tuple[Path, ...]:
        """The files to write: those that were named, or else new ones, named after the generator."""
        path = Path(self.generator.removeprefix("zoo:")).absolute()
        name = path.parent.name if path.name == GENERATOR else path.name.removesuffix(".safetensors")
        return self.output or free(outputs() / self.folder, f"{stem}-{slug(name)[-80:]}", *suffixes)


@flat
@dataclass(frozen=True, kw_only=True)
class Drawing(Writing):
    """The options of every command that draws."""

    device: Device = "auto"

    def save(self, image: Image, stem: str, what: str) -> int:
        """Write a picture, print where it is, and return the exit code."""
        from gans.pictures.grids import save_picture

        for path in self.files(stem, ".png"):
            save_picture(image, path)
            print(f"{what} in {path}")
        return 0


@dataclass(frozen=True)
class Artist:
    """A loaded generator."""

    name: str  # as the command line has it
    generator: nn.Module  # in eval mode, on its device
    about: dict[str, Any]  # what its file says of it

    @classmethod
    def of(cls, options: Writing) -> Artist:
        """The generator of the command line, after a check of the output files; to be exported, on the CPU."""
        from gans.runs.find import find_generator

        options.check()
        path = find_generator(options.generator)
        from gans.compute import devices  # seconds to import, which a wrong name does not wait for
        from gans.generate import load_generator

        device = devices.resolve(options.device) if isinstance(options, Drawing) else "cpu"
        return cls(options.generator, *load_generator(path, device))

    @property
    def prior(self) -> Prior:
        from gans.models.inputs import Prior

        return Prior.from_about(self.about)

    def label(self, wanted: str | None) -> int | None:
        """The number of a class, from its name or else its number, from 0; of None None."""
        prior = self.prior
        if wanted is None:
            return None
        if not prior.classes:
            raise InputError(f"{self.name} has no classes: it is not a conditional generator")
        number = wanted not in prior.classes and wanted.isascii() and wanted.isdigit()
        return prior.number(int(wanted) if number else wanted)

    def draw(self, code: Tensor | GeneratorInput) -> Tensor:
        """uint8 images (n, channels, height, width) of codes, or of latents: of the first class then."""
        from gans.data.images import check_memory
        from gans.models.inputs import GeneratorInput, generate

        code = code if isinstance(code, GeneratorInput) else self.prior.of_class(code)
        channels, side = self.about["shape"]
        check_memory(self.name, (len(code), channels, side, side), "ask for fewer images")
        try:
            return generate(self.generator, code)
        except FloatingPointError as error:
            raise InputError(f"{self.name}: {error}") from None


@flat
@dataclass(frozen=True, kw_only=True)
class Sample(Drawing):
    count: Annotated[int, option("number of images", least=1, most=MOST)] = 64
    truncation: Annotated[
        float | None,
        option("truncate latents to ±T: fewer odd images, less variety", metavar="T", least=0.1, most=100),
    ] = None
    class_: Class = None


def sample(options: Sample) -> int:
    artist = Artist.of(options)
    from gans.generate import latents
    from gans.pictures.grids import picture

    wanted = artist.label(options.class_)
    code = artist.prior.sample(options.count, options.seed, latents.PURPOSE)  # of classes by their shares
    z = code.z if options.truncation is None else latents.truncated(code.z, options.truncation, options.seed)
    code = replace(code, z=z) if wanted is None else artist.prior.of_class(z, wanted)
    return options.save(picture(artist.draw(code)), "samples", f"{options.count} images")


@flat
@dataclass(frozen=True, kw_only=True)
class Walk(Drawing):
    through: Annotated[tuple[str, str, str] | None, option(f"three corners: {LATENT}", metavar="LATENT")] = None
    around: Annotated[str, option("or its centre; axes are the directions of most change", metavar="LATENT")] = (
        "0:0"
    )
    reach: Annotated[float, option("extent along these axes, in standard deviations", least=-100, most=100)] = 2.5
    size: Annotated[int, option("images per side of the grid", least=2, most=1_000)] = 9
    line: Line = "slerp"
    class_: Class = None


def walk(options: Walk) -> int:
    artist, size = Artist.of(options), options.size
    from gans.generate import latents
    from gans.pictures.grids import picture

    wanted = artist.label(options.class_)  # None: the first
    if options.through:
        z = latents.plane(
            latents.chosen(options.through, artist.prior.latent), size, latents.BETWEEN[options.line]
        )
    else:
        some = latents.draw(AMONG, artist.prior.latent, options.seed)
        axes = latents.directions(some, artist.draw(artist.prior.of_class(some, wanted)), 2)
        z = latents.around(latents.chosen([options.around], artist.prior.latent)[0], axes, size, options.reach)
    drawn = picture(artist.draw(artist.prior.of_class(z, wanted)), columns=size)
    return options.save(drawn, "walk", f"{size} x {size} images")


@flat
@dataclass(frozen=True, kw_only=True)
class Interpolate(Drawing):
    through: Annotated[tuple[str, ...] | None, option(f"one row through {LATENT}", metavar="LATENT")] = None
    rows: Annotated[int, option("number of rows, each with its own random latents", least=1, most=1_000)] = 4
    stops: Annotated[int, option("random latents per row", least=2, most=1_000)] = 3
    steps: Annotated[int, option("images from one latent to the next", least=1, most=10_000)] = 12
    classes: Annotated[
        tuple[str, ...] | None,
        option(
            "one class for all images, or the class at each latent in turn, by name or number from 0; conditional "
            "generators only",
            metavar="CLASS",
        ),
    ] = None
    line: Line = "slerp"
    kinds = (".png", ".gif", ".mp4")


def interpolate(options: Interpolate) -> int:
    rows, each = (1, len(options.through)) if options.through else (options.rows, options.stops)
    if each < 2:
        raise InputError("--through takes 2 latents or more")
    if rows * each * options.steps > MOST:
        raise InputError(f"{rows} rows of {each} stops in --steps {options.steps} are more than {MOST:,} images")
    artist = Artist.of(options)
    from gans.generate import latents

    classes = [number for name in options.classes or () if (number := artist.label(name)) is not None]
    if options.through:
        z = latents.chosen(options.through, artist.prior.latent)
    else:
        z = latents.draw(math.prod((rows, each)), artist.prior.latent, options.seed)
    suffixes = tuple(path.suffix.lower() for path in options.output) or (".png", ".gif")
    closed = any(suffix != ".png" for suffix in suffixes)
    images = _rows(options, artist, z.unflatten(0, (rows, each)), classes, closed)
    for path in options.files("interpolation", *suffixes):
        # a strip ends at the last stop, a film goes back to the first one
        way = images[:, : (each - 1) * options.steps + 1] if path.suffix.lower() == ".png" else images
        _save(way, path)
        print(f"{way.shape[0]} x {way.shape[1]} images in {path}")
    return 0


def _rows(options: Interpolate, artist: Artist, stops: Tensor, classes: list[int], closed: bool) -> Tensor:
    """uint8 images (rows, steps, channels, height, width) from stop to stop; closed, back to the first one."""
    import torch

    from gans.generate import latents
    from gans.models.inputs import GeneratorInput

    between = latents.BETWEEN[options.line]
    rows = torch.stack([latents.path(row, options.steps, between, closed) for row in stops])
    code: Tensor | GeneratorInput = rows.flatten(0, 1)
    if classes:
        in_turn = torch.tensor([classes[stop % len(classes)] for stop in range(stops.shape[1])])
        mixtures = torch.nn.functional.one_hot(in_turn, len(artist.prior.classes)).float()
        way = latents.path(mixtures, options.steps, latents.lerp, closed)
        code = GeneratorInput(rows.flatten(0, 1), way.repeat(len(stops), 1))
    try:
        return artist.draw(code).unflatten(0, rows.shape[:2])
    except (RuntimeError, TypeError, IndexError) as error:
        if not classes:
            raise
        raise InputError(f"{artist.name} does not mix classes ({first_line(error)}); name one") from error


def _save(images: Tensor, path: Path) -> None:
    """Write rows of images as the file's name says: below each other, or one after the other."""
    from gans.pictures.grids import picture, save_picture
    from gans.pictures.video import gif, save_mp4

    kind = path.suffix.lower()
    if kind == ".png":
        rows, columns = images.shape[:2]
        save_picture(picture(images.flatten(0, 1), columns, least=SIDE * min(rows, columns)), path)
        return
    frames = [picture(frame) for frame in images.unbind(1)]
    if kind == ".gif":
        write_bytes(path, gif(frames, [round(100 / PER_SECOND) * 10] * len(frames)))
    else:
        save_mp4(frames, PER_SECOND, path)


@flat
@dataclass(frozen=True, kw_only=True)
class Export(Writing):
    output: Annotated[
        tuple[Path, ...],
        option(
            "one or more files, .pt2 (torch.export) or .onnx; default: a new .pt2 in outputs/exports",
            name=("--output", "--onnx"),
        ),
    ] = ()
    kinds = (".pt2", ".onnx")
    folder = EXPORTS


def export(options: Export) -> int:
    artist = Artist.of(options)
    from gans.generate import export, latents

    code = artist.prior.sample(COMPARED, options.seed, latents.PURPOSE)
    suffixes = sorted({path.suffix.lower() for path in options.output}) or [".pt2"]
    made = {suffix: export.export(artist.generator, artist.about, code, suffix) for suffix in suffixes}
    for path in options.files("generator", ".pt2"):
        content, apart = made[path.suffix.lower()]
        write_bytes(path, content)
        print(f"{path}: {COMPARED} images differ from this package's by at most {apart:.2g}, in [-1, 1]")
    return 0
