"""Scores of generated images against the training images of a data set."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from gans.compute import precision
from gans.errors import InputError
from gans.fidelity import reference
from gans.fidelity.comparison import Comparison, Features, Labelled, Real, class_shares, sample
from gans.fidelity.extractors.extractor import Extractor, identity
from gans.fidelity.extractors.find import check_images, require
from gans.fidelity.metric import Metric, error_of, spread_of, within
from gans.fidelity.metrics import frechet
from gans.fidelity.metrics.neighbours import nearest
from gans.fidelity.protocol import MINIMUM_IMAGES, PREPROCESSING_VERSION, SPLIT, ScoreInfo

if TYPE_CHECKING:
    from gans.data.images import ImageData

CPU_BATCH = 64
# on a GPU: cells that share it score at the same time, and larger batches are no faster
LARGEST_BATCH = 2_048
SHARE_OF_MEMORY = 16  # a batch takes no more than one part in so many

Scores = dict[str, float]


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
    """Scores generated images against all training images of a data set.

    The training images' features are computed once, kept on the device, and kept on disk for other processes.

    Args:
        data: the data set.
        extractor: one of `extractors.find.names()`, or `package.module:Name`.
        n: number of images that are scored.
        device: where features are computed and all that is measured on them.
        batch: images that pass through the extractor at once; None: as many as `batch_size` says.
        further: metrics beside the registered ones, `package.module:Name`.

    Raises:
        InputError: the extractor or a metric cannot be had, or the extractor does not take images like these.
    """

    def __init__(
        self,
        data: ImageData,
        extractor: str,
        n: int,
        device: torch.device,
        batch: int | None = None,
        further: Iterable[str] = (),
    ):
        self.data = data
        self.extractor = require(extractor)
        self.further = tuple(further)
        self.n = n
        self.device = device
        self.batch = batch or batch_size(self.extractor, device)
        self._check_sizes()
        self._network: Any = self.extractor.network().eval().to(device)
        with _plain_arithmetic(device):
            features = reference.cached(self._key(), lambda: self._extract(data.train).features.cpu())
            others = _labelled(data.test, data.test_labels)
            self._real = self._as_real(features.to(device), self._measure_held_out, data.train_labels, others)

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
    def metrics(self) -> dict[str, Metric]:
        """The metrics that an assessment gives, by their names in tables; nothing is computed."""
        return self.extractor.metrics(self.further)

    @property
    def class_metrics(self) -> dict[str, Metric]:
        """Those of images that carry the class that they were generated for: these, and what needs labels."""
        return self.extractor.metrics(self.further, self.data.classes)

    @property
    def names(self) -> list[str]:
        """The names of `metrics`."""
        return list(self.metrics)

    @property
    def identity(self) -> str:
        """What its scores depend on beside the images; see `fidelity.identity`."""
        return identity(self.extractor, self.n)

    @property
    def info(self) -> ScoreInfo:
        """What this scorer's numbers depend on."""
        return ScoreInfo(
            n_generated=self.n,
            n_reference=len(self._real),
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
            return frechet.distance(self._extract(images), self._real)

    def score(self, images: Tensor, labels: Tensor | None = None) -> Scores:
        """All metrics of uint8 images, (n, channels, side, side), by their names in tables; see `metrics`.

        `<name>_se` is a metric's standard error over draws of the generated images; `<name>_std`, of the kernel
        distance and the Inception score, the standard deviation over subsets or splits of the images.

        Args:
            images: that are scored.
            labels: int64 (n,), the class of each as generated, on any device. With them come `class_metrics`,
                and `<name>/3`, `<name>_se/3`: what some of them are within the class of index 3. A class of which
                there are fewer than 20 images on either side has no Frechet distance.
        """
        return self.assess(images, labels).scores

    def assess(self, images: Tensor, labels: Tensor | None = None) -> Assessment:
        """`score`, with the class shares behind the class distance."""
        self._check_images(images, self.n)
        labelled = _labelled(images, labels)
        with _plain_arithmetic(self.device):
            compared = self._compared(self._extract(images), self._real, labelled)
            scores = measured(compared, self.metrics if labelled is None else self.class_metrics)
            classes = self._real.classes
            both = None if classes is None else torch.stack([compared.classes, classes]).cpu()
        return Assessment(scores, both)

    def nearest(self, images: Tensor, count: int) -> Tensor:
        """Indices (k, count), on the CPU, of the training images closest in feature space to k uint8 images."""
        self._check_images(images, len(images))
        with _plain_arithmetic(self.device):
            distances = torch.cdist(self._extract(images).features, self._real.features)
        return distances.topk(count, largest=False).indices.cpu()

    def noise_floor(self, labelled: bool = False) -> dict[str, Scores]:
        """Scores of real images in the place of generated ones: what no generator can be expected to beat.

        Every row states its `n_generated` (`n`, or as many as there are) and `n_reference`. The halves
        are a seeded random split. A row whose split has fewer than 10 images is left out. Held-out images
        are those of the test split, so in the row that scores them memorisation is 0.5 by definition.

        Args:
            labelled: whether the images carry their own labels, as if they were generated images. Classifiers that
                see test images are then tested on training images, the others on test images.
        """
        data, whole = self.data, self._real.features
        train, test = data.train_labels, data.test_labels
        first = torch.zeros(len(data.train), dtype=torch.bool)
        first[sample(len(data.train), len(data.train) // 2)] = True
        with _plain_arithmetic(self.device):
            held_out = self._extract(data.test).features
            half = partial(_to_nearest, held_out, whole[~first])
            second = self._as_real(whole[~first], half, _some(train, ~first), _labelled(data.test, test))
            every = self._as_real(
                whole, partial(_to_nearest, held_out, whole), train, _labelled(data.train, train)
            )
            rows = {
                "train half vs train half": (data.train[first], _some(train, first), second),
                "train vs test": (data.test, test, every),
            }
            return {
                name: self._floor(images, labels if labelled else None, real)
                for name, (images, labels, real) in rows.items()
                if len(images) >= MINIMUM_IMAGES
            }

    def _floor(self, images: Tensor, labels: Tensor | None, real: Real) -> Scores:
        some = sample(len(images), self.n)
        labelled = _labelled(images[some], _some(labels, some))
        generated = self._extract(images[some])
        counts = {"n_generated": len(generated), "n_reference": len(real)}
        metrics = self.metrics if labelled is None else self.class_metrics
        return measured(self._compared(generated, real, labelled), metrics) | counts

    def _compared(self, generated: Features, real: Real, labelled: Labelled | None) -> Comparison:
        return Comparison(generated, real, self.extractor.subset_size(len(generated), len(real)), labelled)

    def _measure_held_out(self) -> Tensor:
        """Distances from the test images to the training images: for final scores, curves do without."""

        def compute() -> Tensor:
            return _to_nearest(self._extract(self.data.test).features, self._real.features).cpu()

        key = self._key() | {"distances from": "test", "test images": len(self.data.test)}
        return reference.cached(key, compute).to(self.device)

    def _as_real(
        self,
        features: Tensor,
        measure_held_out: Callable[[], Tensor],
        labels: Tensor | None,
        others: Labelled | None,
    ) -> Real:
        known = "classes" in self.extractor.gives
        shares = class_shares(self._network.head(features)) if known else None
        labels = None if labels is None else labels.to(features.device)
        return Real(features, measure_held_out=measure_held_out, classes=shares, labels=labels, others=others)

    def _extract(self, images: Tensor) -> Features:
        found = [self._network(part.to(self.device)) for part in images.split(self.batch)]
        features, logits = zip(*found, strict=True)
        return Features(torch.cat(features), torch.cat(logits) if "logits" in self.extractor.gives else None)

    def _key(self) -> reference.Key:
        return {
            "data": self.data.hash,
            "split": SPLIT,
            "n": len(self.data.train),
            "extractor": self.extractor.hash,
            "preprocessing": PREPROCESSING_VERSION,
            # these move the last digits
            "device": self.device.type,
            "batch": self.batch,
            "torch": torch.__version__,
        }

    def _check_sizes(self) -> None:
        check_images(self.extractor, self.data, self.n)

    def _check_images(self, images: Tensor, count: int) -> None:
        if images.dtype != torch.uint8:
            raise TypeError(
                f"scoring takes uint8 images, not {images.dtype}; convert them with gans.data.datasets.to_uint8"
            )
        expected = (count, *self.data.train.shape[1:])
        if images.shape != expected:
            raise InputError(f"scoring takes images of shape {expected}, not {tuple(images.shape)}")


def measured(compared: Comparison, metrics: Mapping[str, Metric]) -> Scores:
    """Every metric's value by its name, then spreads, standard errors, and both within classes."""
    found = {name: metric.measure(compared) for name, metric in metrics.items()}
    values = {name: one.value for name, one in found.items()}
    spreads = {spread_of(name): one.spread for name, one in found.items() if one.spread is not None}
    errors = {error_of(name): one.error for name, one in found.items()}
    classes = [(name, label, part) for name, one in found.items() for label, part in one.classes.items()]
    values_within = {within(name, label): part.value for name, label, part in classes}
    errors_within = {within(error_of(name), label): part.error for name, label, part in classes}
    return values | spreads | errors | values_within | errors_within


def batch_size(extractor: Extractor, device: torch.device) -> int:
    """How many images pass through an extractor at once; the last digits of features hang on it."""
    if device.type != "cuda":
        return CPU_BATCH
    # of the card's whole memory: what others leave free would make every run another number
    return fitting(torch.cuda.get_device_properties(device).total_memory, extractor.image_bytes)


def fitting(memory: int, image_bytes: int) -> int:
    """The batch whose images take no more than their share of a GPU's memory, both in bytes."""
    return max(CPU_BATCH, min(LARGEST_BATCH, memory // SHARE_OF_MEMORY // image_bytes))


def _some(labels: Tensor | None, which: Tensor) -> Tensor | None:
    return None if labels is None else labels[which]


def _labelled(images: Tensor, labels: Tensor | None) -> Labelled | None:
    return None if labels is None else Labelled(images, labels.cpu())


def _to_nearest(points: Tensor, others: Tensor) -> Tensor:
    return nearest(points, others)[0]


@contextmanager
def _plain_arithmetic(device: torch.device) -> Iterator[None]:
    """No gradients, autocast or TF32: the training around a score must not move it.

    NumPy's BLAS gets as many threads as torch has, or cells that run at once would fight for the cores.
    """
    with (
        precision.tf32(False),
        torch.no_grad(),
        torch.autocast(device.type, enabled=False),
        threadpool_limits(torch.get_num_threads(), user_api="blas"),
    ):
        yield
