"""What a score depends on besides the images and the extractor. Free of torch, so that planning stays quick."""

from __future__ import annotations

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
