"""What a metric finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Measured:
    """A metric's value and its standard error over draws of generated images.

    `spread` is the standard deviation over parts of the images, where the metric is a mean over such; `classes`
    holds the values within each class, by its index, where there are such.
    """

    value: float
    error: float
    spread: float | None = None
    classes: Mapping[int, Measured] = field(default_factory=dict)
