"""How good generated images are: feature extractors, and scores by torch-fidelity.

This package is the only place that imports torch_fidelity, and it does so when scoring begins: asking for
extractors by name stays cheap.
"""

from typing import TYPE_CHECKING, Any

from gans.fidelity.extractors.known import INCEPTION, Extractor, MetricNames, default_extractor, names, require
from gans.fidelity.protocol import SCORING_VERSION, ScoreInfo, identity

if TYPE_CHECKING:
    from gans.fidelity.scorer import Scorer

__all__ = [
    "INCEPTION",
    "SCORING_VERSION",
    "Extractor",
    "MetricNames",
    "ScoreInfo",
    "Scorer",
    "default_extractor",
    "identity",
    "names",
    "require",
]


def __getattr__(name: str) -> Any:
    if name != "Scorer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gans.fidelity.scorer import Scorer

    return Scorer
