"""What each metric says and which way is better, in one line. Free of torch, for tables and help."""

from __future__ import annotations

from dataclasses import dataclass, fields

from gans.fidelity.extractors.known import MetricNames


@dataclass(frozen=True)
class Meaning:
    """`best` is ↓, ↑ or → with the value to come close to; `text` is for people."""

    best: str
    text: str


# by the fields of `MetricNames`
MEANINGS = {
    "frechet": Meaning("↓", "Fréchet distance of the features' Gaussians; few images bias it upward"),
    "frechet_infinite": Meaning("↓", "the same, extrapolated to infinitely many images; may fall below 0"),
    "kernel": Meaning("↓", "kernel distance: cubic kernel, unbiased, so it may fall below 0"),
    "inception_score": Meaning("↑", "Inception score: classes sure and even; at most their number"),
    "precision": Meaning("↑", "share of generated images that lie among real ones"),
    "recall": Meaning("↑", "share of real images that lie among generated ones"),
    "density": Meaning("↑", "real neighbourhoods a generated image lies in; about 1 for real images"),
    "coverage": Meaning("↑", "share of real images with a generated one in their neighbourhood"),
    "memorisation": Meaning(
        "→ 0.5", "chance to be closer to the training images than held-out ones are; copies: 1"
    ),
    "class_distance": Meaning("↓", "share of images that would have to change class for the data's balance"),
}


def meanings(names: MetricNames) -> dict[str, Meaning]:
    """The meaning of every metric by its name in tables, in their order."""
    return {getattr(names, field.name): MEANINGS[field.name] for field in fields(MetricNames)}
