"""What the commands that draw have in common: `gans sample | interpolate | arithmetic | walk`."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from gans import places
from gans.commands.checks import drawing, writable
from gans.commands.options import Device, flat, option
from gans.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

    from gans.models.inputs import GeneratorInput, Prior

LATENT = "latents as SEED:INDEX: image INDEX, from 0, row by row, of `gans sample --seed SEED`"
MOST = 10**6  # images of a call
Line = Annotated[Literal["slerp", "lerp"], option("great circles or straight lines")]
Class = Annotated[
    str | None,
    option(
        "of this class, by its name or its number from 0; conditional generators only",
        name="--class",
        metavar="CLASS",
    ),
]


@flat
@dataclass(frozen=True)
class Drawing:
    """The options of every command that draws."""

    generator: Annotated[
        str, option("a generator.safetensors, a run's folder, an MLflow run id (or how it begins), or zoo:NAME")
    ]
    _: KW_ONLY
    seed: Annotated[int, option("of all that is random", least=0, most=10**18 - 1)] = 0
    device: Device = "auto"
    force: Annotated[bool, option("write over an output that is there")] = False

    kinds: ClassVar[tuple[str, ...]] = (".png",)  # of files that it writes

    @property
    def named(self) -> tuple[Path, ...]:
        """The files that the command line names."""
        raise NotImplementedError

    def files(self, stem: str, *suffixes: str) -> tuple[Path, ...]:
        """The files to write: those that were named, or else new ones in the folder of samples.

        Raises:
            InputError: without force, one of those named has come to be.
        """
        if not self.named:
            return places.free(places.outputs() / places.SAMPLES, stem, *suffixes)
        for path in () if self.force else self.named:
            places.claim(path)
        return self.named


@flat
@dataclass(frozen=True, kw_only=True)
class Picture(Drawing):
    """The options of a command that draws one PNG."""

    output: Annotated[Path | None, option("the PNG to write; if not given, a new one in outputs/samples")] = None

    @property
    def named(self) -> tuple[Path, ...]:
        return (self.output,) if self.output else ()

    def save(self, image: Image, stem: str, what: str) -> None:
        """Write the picture and print where it is."""
        from gans.pictures.grids import save_picture

        (path,) = self.files(stem, ".png")
        save_picture(image, path)
        print(f"{what} in {path}")


@dataclass(frozen=True)
class Artist:
    """A generator that is ready to draw.

    Attributes:
        name: as the command line names it.
        generator: in eval mode, on its device.
        about: what its file says of it.
    """

    name: str
    generator: nn.Module
    about: dict[str, Any]

    @classmethod
    def of(cls, options: Drawing) -> Artist:
        """The generator that the command line names, once it is clear that what is drawn can be written.

        Raises:
            InputError: there is none, its file is damaged, or an output is in the way.
        """
        from gans.runs.find import find_generator

        writable(options.named, options.kinds, options.force)
        path = find_generator(options.generator)
        from gans.compute import devices  # seconds to import, which a wrong name does not wait for
        from gans.generate.sampling import load_generator

        return cls(options.generator, *load_generator(path, devices.resolve(options.device)))

    @property
    def latent(self) -> int:
        """Length of its latents."""
        return int(self.about["networks"]["latent"])

    @property
    def prior(self) -> Prior:
        """What it draws from."""
        from gans.models.inputs import Prior

        return Prior.from_about(self.about)

    def label(self, wanted: str) -> int:
        """The number of a class, from its name or else its number, from 0.

        Raises:
            InputError: there is no such class, or the generator has none.
        """
        prior = self.prior
        if not prior.classes:
            raise InputError(f"{self.name} has no classes: it was not trained as a conditional one")
        number = wanted not in prior.classes and wanted.isascii() and wanted.isdigit()
        return prior.number(int(wanted) if number else wanted)

    def draw(self, code: Tensor | GeneratorInput) -> Tensor:
        """uint8 images (n, channels, height, width) of codes, or of latents (n, length): of the first class then.

        Raises:
            InputError: memory does not hold them, or the generator has diverged.
        """
        from gans.data.images import check_memory
        from gans.generate.sampling import generate
        from gans.models.inputs import GeneratorInput

        code = code if isinstance(code, GeneratorInput) else self.prior.of_class(code)
        channels, side = self.about["shape"]
        check_memory(self.name, (len(code), channels, side, side), "ask for fewer images")
        with drawing(self.name):
            return generate(self.generator, code)
