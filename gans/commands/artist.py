"""What the commands that draw have in common: `gans sample | interpolate | arithmetic | walk`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from gans import places
from gans.commands.checks import device, drawing
from gans.commands.options import Option
from gans.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gans.models.inputs import GeneratorInput, Prior

LATENT = "latents as SEED:INDEX: image INDEX, from 0, row by row, of `gans sample --seed SEED`"
MOST = 10**6  # images of a call
Line = Annotated[Literal["slerp", "lerp"], Option("great circles or straight lines")]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The options of every command that draws."""

    generator: Annotated[
        str,
        Option(
            "a generator.safetensors, a run's folder, an MLflow run id (or how it begins), or zoo:NAME",
            positional=True,
        ),
    ]
    seed: Annotated[int, Option("of all that is random", least=0, most=10**18 - 1)] = 0
    device: Annotated[str, Option("auto, cpu, cuda or cuda:1")] = "auto"
    force: Annotated[bool, Option("write over an output that is there")] = False

    def files(self, named: Sequence[Path], stem: str, *suffixes: str) -> tuple[Path, ...]:
        """The files to write: those that were named, or else new ones in the folder of samples.

        Raises:
            InputError: without force, one of those named has come to be.
        """
        if not named:
            return places.free(places.outputs() / places.SAMPLES, stem, *suffixes)
        for path in () if self.force else named:
            places.claim(path)
        return tuple(named)


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
    def of(cls, asked: Drawing) -> Artist:
        """The generator that the command line names.

        Raises:
            InputError: there is none, or its file is damaged.
        """
        from gans.runs.find import find_generator

        device(asked.device)
        path = find_generator(asked.generator)
        from gans.compute import devices  # seconds to import, which a wrong name does not wait for
        from gans.generate.sampling import load_generator

        return cls(asked.generator, *load_generator(path, devices.resolve(asked.device)))

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
