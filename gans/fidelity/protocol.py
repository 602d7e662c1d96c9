"""What a score depends on besides the images. Free of torch, so that planning a matrix stays quick."""

from __future__ import annotations

from dataclasses import dataclass

from gans.fidelity.extractors.known import Extractor

# raised by any change that can move a score
SCORING_VERSION = 2
# raised by any change to what reaches the extractor: type, range, grey to colour
PREPROCESSING_VERSION = 1
SPLIT = "train"


@dataclass(frozen=True)
class ScoreInfo:
    """What a table states once, above its rows.

    The reference is `n_reference` images of the data set's split `reference_split`. `published` is False
    only for Inception weights that are not the published file.
    """

    n_generated: int
    n_reference: int
    reference_split: str
    extractor: str
    weights_hash: str
    published: bool
    scoring_version: int = SCORING_VERSION


def identity(extractor: Extractor, n: int) -> str:
    """The part of a cell's identity that scoring decides: extractor, weights, number of images, version."""
    return f"{extractor.name}-{extractor.hash}-n{n}-v{SCORING_VERSION}"
