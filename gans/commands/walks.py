"""`gans sample | interpolate | arithmetic | walk`: what a trained generator draws, and where."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gans.commands.checks import at_least, at_most, drawing, finite, positive, suffixes
from gans.errors import InputError, unknown

if TYPE_CHECKING:
    from torch import Tensor, nn

GENERATOR = "a generator.safetensors, a run's folder, or an MLflow run id (its first characters will do)"
LATENT = "latents as SEED:INDEX: image INDEX, from 0, row by row, of `gans sample --seed SEED`"
PER_SECOND = 12  # frames
AMONG = 2000  # samples that directions are found from


def add(commands: Any) -> None:
    """Add the commands to the parser."""
    sample = _command(commands, "sample", "draw images from a trained generator", run_sample)
    sample.add_argument("--count", type=int, default=64)
    sample.add_argument(
        "--truncation", type=float, metavar="T", help="draw latents within ±T: fewer odd images, less variety"
    )
    sample.add_argument("--output", type=Path, default=Path("samples.png"))

    walk = _command(commands, "walk", "draw a plane of latent space as a grid", run_walk)
    walk.add_argument("--through", nargs=3, metavar="LATENT", help=f"three corners, {LATENT}")
    walk.add_argument(
        "--around", default="0:0", metavar="LATENT", help="else: along the two directions that change images most"
    )
    walk.add_argument("--reach", type=float, default=2.5, help="standard deviations along these")
    walk.add_argument("--size", type=int, default=9, help="images a side")
    walk.add_argument("--line", default="slerp", choices=["slerp", "lerp"], help="great circles or straight lines")
    walk.add_argument("--output", type=Path, default=Path("walk.png"))

    between = _command(
        commands, "interpolate", "go from latent to latent, as a strip, a GIF or a video", run_interpolate
    )
    between.add_argument("--through", nargs="+", metavar="LATENT", help=f"one row through these {LATENT}")
    between.add_argument("--rows", type=int, default=4, help="rows between random latents")
    between.add_argument("--stops", type=int, default=3, help="random latents per row")
    between.add_argument("--steps", type=int, default=12, help="images from one latent to the next")
    between.add_argument(
        "--line", default="slerp", choices=["slerp", "lerp"], help="great circles or straight lines"
    )
    between.add_argument(
        "--output",
        type=Path,
        nargs="+",
        default=[Path("interpolation.png"), Path("interpolation.gif")],
        help="one or more files: .png is a strip, .gif and .mp4 go round for ever",
    )

    sums = _command(
        commands, "arithmetic", "a - b + c of the mean latents of classes, as in the DCGAN paper", run_arithmetic
    )
    for name in "abc":
        sums.add_argument(
            f"--{name}",
            required=True,
            metavar="CLASS",
            help="a class's name, or latents: 0:3,0:17,0:40" if name == "a" else "likewise",
        )
    sums.add_argument("--examples", type=int, default=3, help="latents to average for a class")
    sums.add_argument(
        "--among",
        type=int,
        default=2000,
        help="samples to choose them from: those that the classifier is surest of",
    )
    sums.add_argument("--noise", type=float, default=0.25, help="of the eight images around the result")
    sums.add_argument("--output", type=Path, default=Path("arithmetic.png"))


def _command(
    commands: Any, name: str, text: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """What all of them take."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.add_argument("generator", metavar="GENERATOR", help=GENERATOR)
    command.add_argument("--seed", type=int, default=0, help="of all that is random")
    command.add_argument("--device", default="auto")
    command.set_defaults(run=run)
    return command


@dataclass(frozen=True)
class Artist:
    """A generator that is ready to draw."""

    name: str
    generator: nn.Module
    about: dict[str, Any]

    @classmethod
    def of(cls, asked: argparse.Namespace) -> Artist:
        """The generator that the command line names."""
        from gans.compute import devices
        from gans.generate import latents
        from gans.generate.sampling import load_generator
        from gans.runs.find import find_generator

        at_most("--seed", at_least("--seed", asked.seed, 0), latents.LARGEST_SEED)
        path = find_generator(asked.generator)
        return cls(asked.generator, *load_generator(path, devices.resolve(asked.device)))

    @property
    def latent(self) -> int:
        """Length of its latents."""
        return int(self.about["networks"]["latent"])

    def draw(self, z: Tensor) -> Tensor:
        """uint8 images (n, channels, height, width) of latents (n, length)."""
        from gans.generate.sampling import generate

        with drawing(self.name):
            return generate(self.generator, z)


def run_sample(asked: argparse.Namespace) -> int:
    """Draw a grid of images."""
    from gans.generate import latents
    from gans.pictures.grids import picture, save_picture

    suffixes([asked.output], [".png"])
    count = at_most("--count", positive("--count", asked.count), latents.MOST)
    if asked.truncation is not None and finite("--truncation", asked.truncation) < 0.1:
        raise InputError(f"--truncation {asked.truncation} must be at least 0.1; 2 cuts little, 0.5 much")
    artist = Artist.of(asked)
    z = latents.draw(count, artist.latent, asked.seed)
    if asked.truncation is not None:
        z = latents.truncated(z, asked.truncation, asked.seed)
    save_picture(picture(artist.draw(z)), asked.output)
    print(f"{count} images in {asked.output}")
    return 0


def run_interpolate(asked: argparse.Namespace) -> int:
    """Rows of images between latents, and the same as an animation."""
    import torch

    from gans.generate import latents
    from gans.pictures.grids import picture, save_picture
    from gans.pictures.video import SUFFIXES, save_gif, save_mp4

    suffixes(asked.output, [".png", *SUFFIXES])
    steps, between = positive("--steps", asked.steps), latents.BETWEEN[asked.line]
    artist = Artist.of(asked)
    stops = _stops(asked, artist.latent)
    for path in asked.output:
        still = path.suffix.lower() == ".png"
        rows = torch.stack([latents.path(row, steps, between, closed=not still) for row in stops])
        images = artist.draw(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
        if still:
            save_picture(picture(images.flatten(0, 1), columns=rows.shape[1], least=64), path)
        else:
            frames = [picture(frame) for frame in images.unbind(1)]
            if path.suffix.lower() == ".gif":
                save_gif(frames, [round(100 / PER_SECOND) * 10] * len(frames), path)
            else:
                save_mp4(frames, PER_SECOND, path)
        print(f"{rows.shape[0]} x {rows.shape[1]} images in {path}")
    return 0


def _stops(asked: argparse.Namespace, length: int) -> Tensor:
    """The latents to go through: (rows, stops, length)."""
    from gans.generate import latents

    if asked.through:
        at_least("latents after --through:", len(asked.through), 2)
        return latents.chosen(asked.through, length)[None]
    rows, stops = positive("--rows", asked.rows), at_least("--stops", asked.stops, 2)
    return latents.draw(rows * stops, length, asked.seed).unflatten(0, (rows, stops))


def run_walk(asked: argparse.Namespace) -> int:
    """A grid of images over a plane of latents."""
    from gans.generate import latents
    from gans.pictures.grids import picture, save_picture

    suffixes([asked.output], [".png"])
    size, reach = at_least("--size", asked.size, 2), finite("--reach", asked.reach)
    artist = Artist.of(asked)
    if asked.through:
        z = latents.plane(latents.chosen(asked.through, artist.latent), size, latents.BETWEEN[asked.line])
    else:
        some = latents.draw(AMONG, artist.latent, asked.seed)
        axes = latents.directions(some, artist.draw(some), 2)
        z = latents.around(latents.chosen([asked.around], artist.latent)[0], axes, size, reach)
    save_picture(picture(artist.draw(z), columns=size), asked.output)
    print(f"{size} x {size} images in {asked.output}")
    return 0


def run_arithmetic(asked: argparse.Namespace) -> int:
    """The mean latents of three sets of samples, added up, and what the generator draws from them."""
    from gans.generate import latents
    from gans.pictures.grids import save_picture
    from gans.pictures.strips import Term, strip

    suffixes([asked.output], [".png"])
    positive("--examples", asked.examples)
    finite("--noise", asked.noise)
    artist = Artist.of(asked)
    names = {name: getattr(asked, name) for name in "abc"}
    found = choose(names, asked, artist)
    z = {name: latents.chosen(own, artist.latent) for name, own in found.items()}
    terms = [Term(names[name], artist.draw(own), artist.draw(own.mean(dim=0)[None])[0]) for name, own in z.items()]
    result = latents.analogy(z["a"], z["b"], z["c"])
    around = artist.draw(latents.nearby(result, 8, asked.noise, asked.seed))
    save_picture(strip(terms, artist.draw(result[None])[0], around), asked.output)
    for name, own in found.items():
        print(f"{name} = {names[name]}: {','.join(own)}")
    print(f"a - b + c in {asked.output}")
    return 0


def choose(terms: dict[str, str], asked: argparse.Namespace, artist: Artist) -> dict[str, list[str]]:
    """The latents of each term, as SEED:INDEX: those given, or those of samples that look most like its class."""
    from gans.generate import latents

    given = {name: term.split(",") for name, term in terms.items() if ":" in term}
    if len(given) == len(terms):
        return given
    classes, classify = classifier(artist.about)
    wanted = {name: class_index(term, classes) for name, term in terms.items() if name not in given}
    among = at_most("--among", positive("--among", asked.among), latents.MOST)
    logits = classify(artist.draw(latents.draw(among, artist.latent, asked.seed)))
    for name, index in wanted.items():
        rows = latents.most_like(logits, index, asked.examples)
        if len(rows) < asked.examples:
            raise InputError(
                f"only {len(rows)} of {among} samples look like class '{classes[index]}', "
                f"{asked.examples} are wanted; raise --among or lower --examples"
            )
        given[name] = [f"{asked.seed}:{row}" for row in rows]
    return {name: given[name] for name in terms}


def class_index(name: str, classes: Sequence[str]) -> int:
    """The index of a class, by its name, or else by its name in another case.

    Raises:
        InputError: there is none of this name.
    """
    if name in classes:
        return classes.index(name)
    lower = [known.lower() for known in classes]
    if name.lower() not in lower:
        raise unknown("class", name, classes)
    return lower.index(name.lower())


def classifier(about: dict[str, Any]) -> tuple[Sequence[str], Callable[[Tensor], Tensor]]:
    """The pinned classifier of the data set that a generator was trained on, and the names of its classes.

    The names are those on its card; without any, numbers. It maps uint8 images (n, channels, side, side) to
    logits (n, classes).

    Raises:
        InputError: the data set has no classifier of its own, or cannot be had.
    """
    import torch

    from gans import fidelity
    from gans.data import datasets

    images = datasets.load(about["experiment"]["dataset"], resolution=about["shape"][1])
    name = fidelity.default_extractor(images)
    if name == fidelity.INCEPTION:
        raise InputError(
            f"{images.title} at {images.resolution}x{images.resolution} has no classifier to choose samples with; "
            "name latents in place of classes: --a 0:3,0:17"
        )
    extractor = fidelity.require(name)
    network: Any = extractor.network()

    def classify(pixels: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([network(part)[1] for part in pixels.split(500)])

    return extractor.labels or tuple(map(str, range(network.classifier.head.out_features))), classify
