"""Feature extractors. Does not import torch, so that planning is fast."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gans.fidelity.metric import Metric, Need, choosing, metrics
from gans.fidelity.protocol import SCORING_VERSION

if TYPE_CHECKING:
    from torch import nn

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Extractor:
    """A feature extractor; `find.require` returns it by name.

    Attributes:
        name: as users write it; `require` fills it in.
        hash: of all that its features depend on: SHA-256 of the file of weights, if there is one.
        network: returns a module on the CPU, in eval mode, that maps uint8 images (n, channels, side, side) to a
            pair of float32 tensors: features (n, dimensions), and logits (n, classes) or None.
        channels: of the images it takes; None: any.
        resolution: side of the images it takes; None: any.
        labels: names of the classes of its logits, if these are the data's.
        gives: its outputs besides features. With "classes" its logits are of the data's own classes, and the
            network has a method `head` that maps features (n, dimensions) to them.
        kid_subset_size: largest subset in the kernel distance; torch-fidelity's own default is 1000.
        published: False for Inception weights from another file than the published one.
        image_bytes: peak GPU memory per image of a batch.
    """

    name: str
    hash: str
    network: Callable[[], nn.Module]
    channels: int | None = None
    resolution: int | None = None
    labels: tuple[str, ...] = ()
    gives: frozenset[Need] = frozenset({"logits"})
    kid_subset_size: int = 1000
    published: bool = True
    image_bytes: int = 32 * MEBIBYTE

    @property
    def label(self) -> str:
        """The suffix of its metrics' names: `fashion_mnist`; `inception` is the published Inception alone."""
        name = self.name if self.published else f"unpublished_{self.name}"
        return re.sub(r"\W+", "_", name)

    @property
    def prefix(self) -> str:
        """The name of its Frechet distance: `fid` for Inception only, else `fd_<label>`."""
        return choosing().called(self.label)

    def metrics(self, further: Iterable[str] = (), classes: Sequence[str] = ()) -> dict[str, Metric]:
        """The metrics of an assessment by their names in tables, in order; the first one chooses among
        checkpoints.

        `further` are not registered, `package.module:Name`. Images that have labels add those of the data's
        `classes`.
        """
        given: set[Need] = {*self.gives}
        if classes:
            given.add("labels")
        if classes and self.labels == tuple(classes):
            given.add("labels of its classes")
        return {metric.called(self.label): metric for metric in metrics(further).values() if metric.needs <= given}

    def subset_size(self, generated: int, real: int) -> int:
        """Images in a subset of the kernel distance, of so many generated and real ones."""
        return min(self.kid_subset_size, generated, real)


def identity(extractor: Extractor, n: int) -> str:
    """The identity of a score besides the images: extractor, weights, number of images, version."""
    return f"{extractor.name}-{extractor.hash}-n{n}-v{SCORING_VERSION}"
