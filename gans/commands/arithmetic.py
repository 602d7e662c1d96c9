"""`gans arithmetic`: a - b + c of the mean latents of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from gans.commands.draw import MOST, Artist, Drawing
from gans.commands.options import flat, option
from gans.errors import InputError, unknown

if TYPE_CHECKING:
    from torch import Tensor


@flat
@dataclass(frozen=True, kw_only=True)
class Arithmetic(Drawing):
    a: Annotated[str, option("first term: name of a class, or latents (0:3,0:17,0:40)", metavar="CLASS")]
    b: Annotated[str, option("subtracted term", metavar="CLASS")]
    c: Annotated[str, option("added term", metavar="CLASS")]
    examples: Annotated[int, option("latents in the mean of a class", least=1, most=1_000)] = 3
    among: Annotated[
        int, option("samples from which the classifier chooses the most certain ones", least=1, most=MOST)
    ] = 2000
    noise: Annotated[
        float,
        option(
            "maximal difference of each latent coordinate in the eight images around the result", least=0, most=100
        ),
    ] = 0.25


def arithmetic(options: Arithmetic) -> int:
    artist = Artist.of(options)
    from gans.generate import latents
    from gans.pictures.strips import Term, strip

    found = choose((options.a, options.b, options.c), options, artist)
    z = [latents.chosen(own, artist.prior.latent) for _, own in found]
    terms = [
        Term(name, artist.draw(own), artist.draw(own.mean(dim=0)[None])[0])
        for (name, _), own in zip(found, z, strict=True)
    ]
    result = latents.analogy(*z)
    around = artist.draw(latents.nearby(result, 8, options.noise, options.seed))
    drawn = strip(terms, artist.draw(result[None])[0], around)
    for letter, (name, own) in zip("abc", found, strict=True):
        print(f"{letter} = {name}: {','.join(own)}")
    return options.save(drawn, "arithmetic", "a - b + c")


def choose(terms: Sequence[str], options: Arithmetic, artist: Artist) -> list[tuple[str, list[str]]]:
    """Each term with its latents, as SEED:INDEX: those given, or of samples that look most like its class."""
    from gans.generate import latents

    if all(":" in term for term in terms):
        return [(term, term.split(",")) for term in terms]
    if artist.prior.classes:
        raise InputError(
            f"{artist.name} gets the class separately from its latents, so they have no arithmetic; draw one with "
            "`gans sample --class`, or name latents in place of classes: --a 0:3,0:17"
        )
    classes, classify = classifier(artist.about)
    for term in terms:
        if ":" not in term and term not in classes:
            raise unknown("class", term, classes)
    logits = classify(artist.draw(latents.draw(options.among, artist.prior.latent, options.seed)))

    def like(name: str) -> list[str]:
        rows = latents.most_like(logits, classes.index(name), options.examples)
        if len(rows) < options.examples:
            raise InputError(
                f"only {len(rows)} of {options.among} samples look like class '{name}', {options.examples} are "
                "needed; raise --among or lower --examples"
            )
        return [f"{options.seed}:{row}" for row in rows]

    return [(term, term.split(",") if ":" in term else like(term)) for term in terms]


def classifier(about: dict[str, Any]) -> tuple[Sequence[str], Callable[[Tensor], Tensor]]:
    """The classes of a generator's data set, and what maps uint8 images (n, channels, side, side) to logits."""
    import torch

    from gans import fidelity
    from gans.data import datasets

    images = datasets.load(about["experiment"]["dataset"], resolution=about["shape"][1])
    name = fidelity.own_extractor(images)
    if name is None:
        raise InputError(
            f"{images.title} at {images.resolution}x{images.resolution} has no classifier to choose samples; "
            "name latents in place of classes: --a 0:3,0:17"
        )
    extractor = fidelity.require(name)
    network: Any = extractor.network()

    def classify(pixels: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([network(part)[1] for part in pixels.split(500)])

    return extractor.labels or tuple(map(str, range(network.classifier.head.out_features))), classify
