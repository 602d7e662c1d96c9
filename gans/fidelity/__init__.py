"""Scores of generated images: feature extractors, metrics, and the scorer.

Only this package imports torch_fidelity, and only when images are scored. This module imports only the names of
extractors and scores. `Scorer` is in `gans.fidelity.scorer`.
"""

from gans.fidelity.extractors.extractor import Extractor, identity
from gans.fidelity.extractors.find import (
    card_of,
    check_images,
    default_extractor,
    names,
    own_extractor,
    published,
    require,
)
from gans.fidelity.metric import INCEPTION, Measured, Metric
from gans.fidelity.protocol import SCORING_VERSION
