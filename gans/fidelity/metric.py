"""Metrics and the names of their values. Does not import torch, for tables and help.

A new metric is one file and one line in `gans.registry.METRICS`:

    def measure(compared: Comparison) -> Measured: ...

    CONTRAST = Metric("contrast", "↓", "difference of the features' spread", measure)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from gans.errors import InputError
from gans.registry import METRICS, kind_of

if TYPE_CHECKING:
    from gans.fidelity.comparison import Comparison

INCEPTION = "inception"
ERROR = "_se"
SPREAD = "_std"

# optional outputs of an extractor, besides features; and optional properties of images: labels, and labels of the
# same classes as the extractor's logits
Need = Literal["logits", "classes", "labels", "labels of its classes"]
# the range of a metric's values, which intervals respect: above 0, from 0 to 1, or on either side of 0
Scale = Literal["ratio", "share", "signed"]


def error_of(metric: str) -> str:
    """The name of a metric's standard error: over draws of generated images."""
    return f"{metric}{ERROR}"


def spread_of(metric: str) -> str:
    """The name of a metric's standard deviation over parts of the images."""
    return f"{metric}{SPREAD}"


def within(metric: str, label: int) -> str:
    """The name of a metric's value, or error, within one class, by the index of that: `intra_fd_digits/3`."""
    return f"{metric}/{label}"


def whole(metric: str) -> str:
    """The name of a metric without its class; other names are unchanged."""
    return metric.partition("/")[0]


@dataclass(frozen=True)
class Measured:
    """A metric's value and its standard error over draws of generated images."""

    value: float
    error: float
    spread: float | None = None  # the deviation over parts of the images, where the value is a mean over such
    classes: Mapping[int, Measured] = field(default_factory=dict)  # the values within each class, by its index


@dataclass(frozen=True)
class Metric:
    """A measure of the quality of generated images.

    Attributes:
        name: in tables, with the extractor behind it: `fd` is `fd_digits` in the features of `digits`.
        best: ↓, ↑ or → with the value to come close to.
        meaning: in one line, for tables.
        measure: value and standard error of a comparison.
        published: its name in papers, used with the published Inception weights; empty: the name as with any
            other extractor.
        needs: inputs besides features; it is left out for extractors or images without them.
        scale: `ratio` if above 0, `share` if from 0 to 1, `signed` if it can be negative.
    """

    name: str
    best: str
    meaning: str
    measure: Callable[[Comparison], Measured]
    published: str = ""
    needs: frozenset[Need] = frozenset()
    scale: Scale = "signed"

    def called(self, label: str) -> str:
        """Its name in tables, logs and reports, by the label of an extractor."""
        return self.published if self.published and label == INCEPTION else f"{self.name}_{label}"


def metrics(further: Iterable[str] = ()) -> dict[str, Metric]:
    """The metrics of every assessment, in the order of tables; the first, the Frechet distance, picks checkpoints.

    This repository's, those of installed packages, and `further` ones, `package.module:Name`.
    """
    return {name: _checked(name) for name in dict.fromkeys([*METRICS.names(), *further])}


def scale_of(score: str) -> Scale:
    """The range of a score's values, by its name in tables: `fd_digits`; `signed` for an unknown one."""
    for metric in metrics().values():
        if score.startswith(f"{metric.name}_") or score == metric.published:
            return metric.scale
    return "signed"


def _checked(name: str) -> Metric:
    """The metric; the result of one from outside is checked."""
    found: Metric = METRICS[name]
    return found if name in METRICS.entries else replace(found, measure=partial(_measure, name, found.measure))


def _measure(name: str, measure: Callable[[Comparison], Measured], compared: Comparison) -> Measured:
    with METRICS.calling(name):
        found = measure(compared)
    if not isinstance(found, Measured):
        raise InputError(f"{name} gives {kind_of(found)}, not a gans.fidelity.Measured")
    return found


def choosing() -> Metric:
    """The Frechet distance: the first metric, by which checkpoints are chosen and models ranked."""
    return _checked(next(iter(METRICS)))


def label_of(distance: str) -> str | None:
    """The label of the extractor whose Frechet distance has this name; None for the name of another metric.

    `fid` is that of Inception, `fd_digits` that of `digits`.
    """
    first = choosing()
    if distance == first.published:
        return INCEPTION
    label = distance.removeprefix(f"{first.name}_")
    return None if label == distance or label.endswith(ERROR) else label
