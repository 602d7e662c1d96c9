"""Scores of generated images against the training images of a data set."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from gans.errors import InputError
from gans.fidelity import reference
from gans.fidelity.extractors.backend import PinnedClassifier, load
from gans.fidelity.extractors.known import require
from gans.fidelity.metrics import (
    MINIMUM_IMAGES,
    Features,
    Real,
    Scores,
    class_shares,
    compare,
    frechet,
    sample,
    statistics,
)
from gans.fidelity.neighbours import nearest
from gans.fidelity.protocol import PREPROCESSING_VERSION, SPLIT, ScoreInfo, identity

if TYPE_CHECKING:
    from gans.data.images import ImageData


@dataclass(frozen=True)
class Assessment:
    """All that is found out about generated images.

    Attributes:
        scores: every metric by its name, and its standard error as `<name>_se`.
        classes: share of each class among the generated and among the training images, (2, classes), as the
            classifier sees both; None if the extractor does not know the data's classes.
    """

    scores: Scores
    classes: Tensor | None


class Scorer:
    """Scores `n` generated images against all training images of a data set.

    `extractor` is one of `extractors.names()`; `batch` is how many images pass through it at once. The
    training images' features are computed once, kept in memory, and kept on disk for other processes.
    Raises `InputError` if the extractor cannot be had or does not take images like these.
    """

    def __init__(self, data: ImageData, extractor: str, n: int, device: torch.device, batch: int = 64):
        self.data = data
        self.extractor = require(extractor)
        self.n = n
        self.device = device
        self.batch = batch
        self._check_sizes()
        self._network = load(self.extractor).to(device)
        with _plain_arithmetic(device):
            self._reference = reference.cached(self._key(), lambda: self._extract(data.train).features)
            self._statistics = statistics(self._reference)

    def at(self, n: int) -> Scorer:
        """The same scorer for another number of generated images; network and reference are shared."""
        other = copy.copy(self)
        other.n = n
        other._check_sizes()
        return other

    @property
    def metric(self) -> str:
        """The name of the Frechet distance: `fid` for Inception, else `fd_<extractor>`."""
        return self.extractor.prefix

    @property
    def identity(self) -> str:
        """What scoring adds to a cell's identity; see `protocol.identity`."""
        return identity(self.extractor, self.n)

    @property
    def info(self) -> ScoreInfo:
        """What this scorer's numbers depend on."""
        return ScoreInfo(
            n_generated=self.n,
            n_reference=len(self._reference),
            reference_split=SPLIT,
            extractor=self.extractor.name,
            weights_hash=self.extractor.hash,
            published=self.extractor.published,
        )

    def distance(self, images: Tensor) -> float:
        """The Frechet distance alone, for curves during training; lower is better.

        `images` are uint8, (n, channels, side, side), on any device.
        """
        self._check_images(images, self.n)
        with _plain_arithmetic(self.device):
            return frechet(self._extract(images).features, self._statistics)

    def score(self, images: Tensor) -> Scores:
        """All metrics of uint8 images, (n, channels, side, side), by the names in `extractor.metrics`.

        Lower is better for the Frechet distance, as it is and extrapolated to infinitely many images
        (unbiased, so it may fall slightly below 0), for the kernel distance (Bińkowski et al. 2018: mean and
        standard deviation over 100 subsets; unbiased too) and for the class distance (in [0, 1]). Higher is
        better for the Inception score (Salimans et al. 2016: mean and standard deviation over 10 splits, at
        most the number of classes), precision, recall, coverage (in [0, 1]) and density. Memorisation is 0.5
        for fresh real images and 1 for copies. `<name>_se` is a metric's standard error over draws of the
        generated images.
        """
        return self.assess(images).scores

    def assess(self, images: Tensor) -> Assessment:
        """`score`, with the class shares behind the class distance."""
        self._check_images(images, self.n)
        with _plain_arithmetic(self.device):
            generated, real = self._extract(images), self._real
            scores = compare(self.extractor, generated, real)
        classes = None if real.classes is None else torch.stack([class_shares(generated.logits), real.classes])
        return Assessment(scores, classes)

    def nearest(self, images: Tensor, count: int) -> Tensor:
        """Indices (k, count) of the training images closest in feature space to each of k uint8 images."""
        self._check_images(images, len(images))
        with _plain_arithmetic(self.device):
            distances = torch.cdist(self._extract(images).features, self._reference)
        return distances.topk(count, largest=False).indices

    def noise_floor(self) -> dict[str, Scores]:
        """Scores of real images in the place of generated ones: what no generator can be expected to beat.

        Every row states its `n_generated` (`n`, or as many as there are) and `n_reference`. The halves
        are a seeded random split. A row whose split has fewer than 10 images is left out. Held-out images
        are those of the test split, so in the row that scores them memorisation is 0.5 by definition.
        """
        train, test = self.data.train, self.data.test
        first = torch.zeros(len(train), dtype=torch.bool)
        first[sample(len(train), len(train) // 2)] = True
        with _plain_arithmetic(self.device):
            held_out = self._extract(test).features
            rows = {
                "train half vs train half": (train[first], self._reference[~first]),
                "train vs test": (test, self._reference),
            }
            return {
                name: self._floor(images, self._as_real(real, nearest(held_out, real)[0]))
                for name, (images, real) in rows.items()
                if len(images) >= MINIMUM_IMAGES
            }

    def _floor(self, images: Tensor, real: Real) -> Scores:
        generated = self._extract(images[sample(len(images), self.n)])
        counts = {"n_generated": len(generated.features), "n_reference": len(real.features)}
        return compare(self.extractor, generated, real) | counts

    @cached_property
    def _real(self) -> Real:
        """The training images, with what only final scores need: curves do without."""

        def distances() -> Tensor:
            return nearest(self._extract(self.data.test).features, self._reference)[0]

        key = self._key() | {"distances from": "test", "test images": len(self.data.test)}
        return self._as_real(self._reference, reference.cached(key, distances))

    def _as_real(self, features: Tensor, held_out: Tensor) -> Real:
        whole = features is self._reference
        return Real(
            features=features,
            statistics=self._statistics if whole else statistics(features),
            held_out=held_out,
            classes=self._classes(features),
        )

    def _classes(self, features: Tensor) -> Tensor | None:
        if not isinstance(self._network, PinnedClassifier):
            return None
        return class_shares(self._network.classifier.head(features.to(self.device)).cpu())

    def _extract(self, images: Tensor) -> Features:
        parts = ((layer.cpu() for layer in self._network(self._prepared(p))) for p in images.split(self.batch))
        features, logits = (torch.cat(layer) for layer in zip(*parts, strict=True))
        return Features(features, logits)

    def _prepared(self, images: Tensor) -> Tensor:
        images = images.to(self.device)
        return images if self.extractor.channels else images.expand(-1, 3, -1, -1)

    def _key(self) -> reference.Key:
        return {
            "data": self.data.hash,
            "split": SPLIT,
            "n": len(self.data.train),
            "extractor": self.extractor.hash,
            "layer": self.extractor.features_layer,
            "preprocessing": PREPROCESSING_VERSION,
            # these move the last digits
            "device": self.device.type,
            "batch": self.batch,
            "torch": torch.__version__,
        }

    def _check_sizes(self) -> None:
        shape, taken = (
            (self.data.channels, self.data.resolution),
            (self.extractor.channels, self.extractor.resolution),
        )
        if any(want not in (None, got) for got, want in zip(shape, taken, strict=True)):
            raise InputError(
                f"extractor '{self.extractor.name}' takes {taken[0]}-channel images of side {taken[1]}, but "
                f"'{self.data.name}' has {shape[0]} and {shape[1]}; use 'inception' or train one for it"
            )
        if min(self.n, len(self.data.train)) < MINIMUM_IMAGES:
            raise InputError(
                f"scoring '{self.data.name}' with {self.n} generated and {len(self.data.train)} real images; "
                f"at least {MINIMUM_IMAGES} of each are needed"
            )

    def _check_images(self, images: Tensor, count: int) -> None:
        if images.dtype != torch.uint8:
            raise TypeError(
                f"scoring takes uint8 images, not {images.dtype}; convert them with gans.data.datasets.to_uint8"
            )
        expected = (count, *self.data.train.shape[1:])
        if images.shape != expected:
            raise InputError(f"scoring takes images of shape {expected}, not {tuple(images.shape)}")


@contextmanager
def _plain_arithmetic(device: torch.device) -> Iterator[None]:
    """No gradients, autocast or TF32: the training around a score must not move it.

    NumPy's BLAS gets as many threads as torch has, or cells that run at once would fight for the cores.
    """
    units: tuple[Any, ...] = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    precisions = [unit.fp32_precision for unit in units]
    for unit in units:
        unit.fp32_precision = "ieee"
    try:
        with (
            torch.no_grad(),
            torch.autocast(device.type, enabled=False),
            threadpool_limits(torch.get_num_threads(), user_api="blas"),
        ):
            yield
    finally:
        for unit, precision in zip(units, precisions, strict=True):
            unit.fp32_precision = precision
