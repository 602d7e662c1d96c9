"""How good generated images are: feature extractors, metrics, and the scorer.

This package is the only one that imports torch_fidelity, and it does so when images are scored. What is imported
here is light: which extractors there are, and what their scores are called. `Scorer` is in `gans.fidelity.scorer`.
"""

from gans.fidelity.extractors.extractor import Extractor, identity
from gans.fidelity.extractors.find import (
    check_images,
    default_extractor,
    names,
    own_extractor,
    published,
    require,
)
from gans.fidelity.measured import Measured
from gans.fidelity.metric import INCEPTION, Metric
from gans.fidelity.protocol import SCORING_VERSION, ScoreInfo

__all__ = [
    "INCEPTION",
    "SCORING_VERSION",
    "Extractor",
    "Measured",
    "Metric",
    "ScoreInfo",
    "check_images",
    "default_extractor",
    "identity",
    "names",
    "own_extractor",
    "published",
    "require",
]
