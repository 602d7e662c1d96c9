"""What a score depends on besides the images and the extractor. Free of torch, so that planning stays quick."""

from __future__ import annotations

from dataclasses import dataclass

# raised by any change that can move a score
SCORING_VERSION = 3
# raised by any change to what reaches the extractor: type, range, grey to colour
PREPROCESSING_VERSION = 1
SPLIT = "train"

SEED = 2020  # torch-fidelity's own, too
ISC_SPLITS = 10
KID_SUBSETS = 100
# time of precision, recall, density and coverage grows with the square of this
PRC_IMAGES = 10_000
# below it a split of the Inception score would be empty
MINIMUM_IMAGES = ISC_SPLITS


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
