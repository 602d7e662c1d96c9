"""Constants of the scoring protocol. Does not import torch, so that planning is fast."""

STATISTICS = ".npz"  # how files of reference statistics end
# raised by any change that can move a score
SCORING_VERSION = 3
# raised by any change of the extractor's input: type, range, grey to colour
PREPROCESSING_VERSION = 1
SPLIT = "train"

SEED = 2020  # torch-fidelity's own, too
ISC_SPLITS = 10
KID_SUBSETS = 100
# time of precision, recall, density and coverage grows with the square of this
PRC_IMAGES = 10_000
# below it a split of the Inception score would be empty
MINIMUM_IMAGES = ISC_SPLITS
