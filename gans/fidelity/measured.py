"""What a metric finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """A metric's value and its standard error over draws of generated images.

    `spread` is the standard deviation over parts of the images, where the metric is a mean over such.
    """

    value: float
    error: float
    spread: float | None = None
