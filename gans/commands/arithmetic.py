"""`gans arithmetic`: a - b + c of the mean latents of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from gans.commands.artist import MOST, Artist, Picture
from gans.commands.options import flat, option
from gans.errors import InputError, unknown

if TYPE_CHECKING:
    from torch import Tensor


@flat
@dataclass(frozen=True, kw_only=True)
class Arithmetic(Picture):
    a: Annotated[str, option("a class's name, or latents: 0:3,0:17,0:40", metavar="CLASS")]
    b: Annotated[str, option("likewise", metavar="CLASS")]
    c: Annotated[str, option("likewise", metavar="CLASS")]
    examples: Annotated[int, option("latents to average for a class", least=1, most=1_000)] = 3
    among: Annotated[
        int, option("samples to choose them from: those that the classifier is surest of", least=1, most=MOST)
    ] = 2000
    noise: Annotated[
        float,
        option(
            "of the eight images around the result: each number of their latents is within ± this",
            least=0,
            most=100,
        ),
    ] = 0.25


def arithmetic(options: Arithmetic) -> int:
    artist = Artist.of(options)
    from gans.generate import latents
    from gans.pictures.strips import Term, strip

    names = {"a": options.a, "b": options.b, "c": options.c}
    found = choose(names, options, artist)
    z = {name: latents.chosen(own, artist.latent) for name, own in found.items()}
    terms = [Term(names[name], artist.draw(own), artist.draw(own.mean(dim=0)[None])[0]) for name, own in z.items()]
    result = latents.analogy(z["a"], z["b"], z["c"])
    around = artist.draw(latents.nearby(result, 8, options.noise, options.seed))
    drawn = strip(terms, artist.draw(result[None])[0], around)
    for name, own in found.items():
        print(f"{name} = {names[name]}: {','.join(own)}")
    options.save(drawn, "arithmetic", "a - b + c")
    return 0


def choose(terms: dict[str, str], options: Arithmetic, artist: Artist) -> dict[str, list[str]]:
    """The latents of each term, as SEED:INDEX: those given, or those of samples that look most like its class."""
    from gans.generate import latents

    given = {name: term.split(",") for name, term in terms.items() if ":" in term}
    if len(given) == len(terms):
        return given
    if artist.prior.classes:
        raise InputError(
            f"{artist.name} gets the class apart from its latents, which hold none to add up; draw one with "
            "`gans sample --class`, or name latents in place of classes: --a 0:3,0:17"
        )
    classes, classify = classifier(artist.about)
    wanted = {name: class_index(term, classes) for name, term in terms.items() if name not in given}
    among = options.among
    logits = classify(artist.draw(latents.draw(among, artist.latent, options.seed)))
    for name, index in wanted.items():
        rows = latents.most_like(logits, index, options.examples)
        if len(rows) < options.examples:
            raise InputError(
                f"only {len(rows)} of {among} samples look like class '{classes[index]}', "
                f"{options.examples} are wanted; raise --among or lower --examples"
            )
        given[name] = [f"{options.seed}:{row}" for row in rows]
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
    name = fidelity.own_extractor(images)
    if name is None:
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
