"""Scores of generated images against the training images of a data set."""

from __future__ import annotations

import copy
import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from gans.compute import devices, precision
from gans.data.images import Split
from gans.errors import InputError
from gans.fidelity import statistics
from gans.fidelity.comparison import Comparison, Features, Labelled, Real, class_shares, sample
from gans.fidelity.extractors.extractor import Extractor, identity
from gans.fidelity.extractors.find import check_images, require
from gans.fidelity.metric import Metric, error_of, spread_of, within
from gans.fidelity.metrics import frechet
from gans.fidelity.metrics.neighbours import nearest
from gans.fidelity.protocol import MINIMUM_IMAGES, PREPROCESSING_VERSION, SPLIT
from gans.fidelity.statistics import Statistics
from gans.files import cache, cache_read, cache_write

if TYPE_CHECKING:
    from gans.data.images import ImageData

CPU_BATCH = 64
# on a GPU: cells that share it score at the same time, and larger batches are no faster
LARGEST_BATCH = 2_048
SHARE_OF_MEMORY = 16  # a batch takes no more than one part in so many

# metrics that need no features of real images
OF_STATISTICS = (frechet.FRECHET.name, frechet.FRECHET_INFINITE.name)

Scores = dict[str, float]

FORMAT = 2  # of files of real images' features
Key = dict[str, str | int]

# cells that share a process need the same features at once: one computes them, the others wait and read them
_COMPUTING = threading.RLock()


@dataclass(frozen=True)
class Assessment:
    """The scores of generated images by their names."""

    scores: Scores
    classes: Tensor | None  # shares among the generated and the training images, (2, classes), by the classifier


class Scorer:
    """Scores `n` generated images against all training images of a data set.

    The training images' features are computed once, kept on the device, and kept on disk for other processes. An
    InputError if the extractor or a metric is unavailable, or the extractor does not take such images.

    Args:
        extractor: one of `extractors.find.names()`, or `package.module:Name`.
        batch: images per call of the extractor; None: `batch_size`.
        further: metrics besides the registered ones, `package.module:Name`.
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
        device = devices.exact(device)
        self.data = data
        self.extractor = require(extractor)
        self.n = n
        self.device = device
        self.batch = batch or batch_size(self.extractor, device)
        check_images(self.extractor, data, n)
        further = tuple(further)
        # by their names in tables; `class_metrics` also has those of images that have a class
        self.metrics: dict[str, Metric] = self.extractor.metrics(further)
        self.class_metrics: dict[str, Metric] = self.extractor.metrics(further, data.classes)
        self._network: Any = self.extractor.network().eval().to(device)
        self._train, self._test = Split(data.train, data.train_labels), Split(data.test, data.test_labels)
        with _plain_arithmetic(device):
            features = cached(self._key(), lambda: self._extract(data.train).features.cpu()).to(device)
            self._real = self._as_real(features, self._train, self._test, self._measure_held_out)

    def at(self, n: int) -> Scorer:
        """The same scorer for another number of generated images; network and reference are shared."""
        other = copy.copy(self)
        other.n = n
        check_images(self.extractor, self.data, n)
        return other

    @property
    def metric(self) -> str:
        """The name of the Frechet distance."""
        return self.extractor.prefix

    @property
    def names(self) -> list[str]:
        return list(self.metrics)

    @property
    def identity(self) -> str:
        return identity(self.extractor, self.n)

    def distance(self, images: Tensor) -> float:
        """The Frechet distance alone of uint8 images (n, channels, side, side), for curves during training."""
        self._check_images(images, self.n)
        with _plain_arithmetic(self.device):
            return frechet.distance(self._extract(images), self._real)

    def score(self, images: Tensor, labels: Tensor | None = None) -> Scores:
        """All metrics of uint8 images, (n, channels, side, side), by their names in tables; see `metrics`.

        `<name>_se` is a metric's standard error over draws of the generated images; `<name>_std`, of the kernel
        distance and the Inception score, the standard deviation over subsets or splits of the images.

        With labels, int64 (n,), the class of each image as generated, come `class_metrics`, and `<name>/3`,
        `<name>_se/3`: what some of them are within the class of index 3.
        """
        return self.assess(images, labels).scores

    def assess(self, images: Tensor, labels: Tensor | None = None) -> Assessment:
        """`score`, with the class shares behind the class distance."""
        self._check_images(images, self.n)
        with _plain_arithmetic(self.device):
            compared = self._compared(Split(images, labels), self._real)
            scores, classes = self._measured(compared), self._real.classes
            both = None if classes is None else torch.stack([compared.classes, classes]).cpu()
        return Assessment(scores, both)

    def nearest(self, images: Tensor, count: int) -> Tensor:
        """Indices (k, count), on the CPU, of the training images closest in feature space to k uint8 images."""
        self._check_images(images, len(images))
        with _plain_arithmetic(self.device):
            distances = torch.cdist(self._extract(images).features, self._real.features)
        return distances.topk(count, largest=False).indices.cpu()

    def noise_floor(self, labelled: bool = False) -> dict[str, Scores]:
        """Scores of real images in place of generated ones: no generator can be expected to be better.

        Every row states its `n_generated` (`n`, or as many as there are) and `n_reference`. A row whose split has
        fewer than 10 images is left out. Held-out images are those of the test split, so in the row that scores
        them memorisation is 0.5 by definition. If `labelled`, the images carry their own labels.
        """
        train, test, features = self._train, self._test, self._real.features
        first = torch.zeros(len(train.images), dtype=torch.bool)
        first[sample(len(first), len(first) // 2)] = True
        with _plain_arithmetic(self.device):
            held_out = self._extract(test.images).features

            def real(features: Tensor, images: Split, others: Split) -> Real:
                return self._as_real(features, images, others, lambda: nearest(held_out, features)[0])

            rows = {
                "train half vs train half": (train[first], real(features[~first], train[~first], test)),
                "train vs test": (test, real(features, train, train)),
            }
            return {
                name: self._floor(images if labelled else Split(images.images, None), real)
                for name, (images, real) in rows.items()
                if len(images.images) >= MINIMUM_IMAGES
            }

    def _floor(self, images: Split, real: Real) -> Scores:
        compared = self._compared(images[sample(len(images.images), self.n)], real)
        counts = {"n_generated": len(compared.generated), "n_reference": len(real)}
        return self._measured(compared) | counts

    def _compared(self, images: Split, real: Real) -> Comparison:
        generated = self._extract(images.images)
        size = self.extractor.subset_size(len(generated), len(real))
        return Comparison(generated, real, size, Labelled.of(images.images, images.labels))

    def _measured(self, compared: Comparison) -> Scores:
        return measured(compared, self.class_metrics if compared.labelled else self.metrics)

    def _measure_held_out(self) -> Tensor:
        def compute() -> Tensor:
            return nearest(self._extract(self.data.test).features, self._real.features)[0].cpu()

        key = self._key() | {"distances from": "test", "test images": len(self.data.test)}
        return cached(key, compute).to(self.device)

    def _as_real(
        self, features: Tensor, images: Split, others: Split, measure_held_out: Callable[[], Tensor]
    ) -> Real:
        labels = None if images.labels is None else images.labels.to(features.device)
        return Real(
            features,
            measure_held_out=measure_held_out,
            classes=class_shares(self._network.head(features)) if "classes" in self.extractor.gives else None,
            labels=labels,
            others=Labelled.of(others.images, others.labels),
        )

    def save_reference(self, path: Path) -> None:
        """Write the reference's statistics, those of the training images, as `statistics.write` does."""
        statistics.write(path, self._real, self.extractor, self.data.title, self.data.hash)

    def _extract(self, images: Tensor) -> Features:
        return extracted(self.extractor, self._network, images, self.batch, self.device)

    def _key(self) -> Key:
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

    def _check_images(self, images: Tensor, count: int) -> None:
        if images.dtype != torch.uint8:
            raise TypeError(
                f"scoring takes uint8 images, not {images.dtype}; convert them with gans.data.datasets.to_uint8"
            )
        expected = (count, *self.data.train.shape[1:])
        if images.shape != expected:
            raise InputError(f"scoring takes images of shape {expected}, not {tuple(images.shape)}")


def extracted(extractor: Extractor, network: Any, images: Tensor, batch: int, device: torch.device) -> Features:
    """An extractor's features, and logits if it gives them, of uint8 images."""
    features, logits = zip(*(network(part.to(device)) for part in images.split(batch)), strict=True)
    return Features(torch.cat(features), torch.cat(logits) if "logits" in extractor.gives else None)


def score_against(real: Statistics, images: Tensor, device: torch.device) -> tuple[dict[str, Metric], Scores]:
    """The metrics of uint8 images (n, channels, side, side) that statistics suffice for, and their scores."""
    extractor, device = require(real.extractor), devices.exact(device)
    real.check(extractor)
    if len(images) < MINIMUM_IMAGES:
        raise InputError(f"scoring {len(images)} images; at least {MINIMUM_IMAGES} are needed")
    if (extractor.channels or images.shape[1], extractor.resolution or images.shape[2]) != images.shape[1:3]:
        taken = f"{extractor.channels}-channel images of side {extractor.resolution}"
        raise InputError(f"extractor '{extractor.name}' takes {taken}, not {tuple(images.shape[1:])}")
    metrics = {name: one for name, one in extractor.metrics().items() if one.name in OF_STATISTICS}
    with _plain_arithmetic(device):
        network = extractor.network().eval().to(device)
        generated = extracted(extractor, network, images, batch_size(extractor, device), device)
        if generated.features.shape[1:] != real.mean.shape:
            found = f"{len(real.mean)} features, '{extractor.name}' gives {generated.features.shape[1]}"
            raise InputError(f"{real.name} has {found}; name its extractor with --extractor")
        return metrics, measured(Comparison(generated, cast("Real", real), 0), metrics)


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
    """Images per call of an extractor; the last digits of features depend on it."""
    if device.type != "cuda":
        return CPU_BATCH
    # by the GPU's total memory: the number must not depend on other processes
    share = torch.cuda.get_device_properties(device).total_memory // SHARE_OF_MEMORY
    return max(CPU_BATCH, min(LARGEST_BATCH, share // extractor.image_bytes))


@contextmanager
def _plain_arithmetic(device: torch.device) -> Iterator[None]:
    """No gradients, autocast or TF32: the training around a score must not change it.

    NumPy's BLAS gets as many threads as torch has, or cells that run at once would fight for the cores.
    """
    with (
        precision.products("float32", device),
        torch.no_grad(),
        torch.autocast(device.type, enabled=False),
        threadpool_limits(torch.get_num_threads(), user_api="blas"),
    ):
        yield


# --- features of real images, computed once and kept on disk


def cached(key: Key, compute: Callable[[], Tensor]) -> Tensor:
    """The float tensor kept under `key`, or that of `compute()`, which is then kept.

    Every entry of `key` must be able to change the features. A damaged file is written again; a full or read-only
    disk costs time, not the run.
    """
    name = json.dumps(key | {"format": FORMAT}, sort_keys=True)
    path = cache("reference") / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.safetensors"
    with _COMPUTING:
        found = cache_read([path], "the real images' features are computed again")
        if found and found[1]["key"] == name:
            return found[0]["features"].clone()  # the tensor of an open file follows changes of the file
        features = compute().contiguous()
        cache_write([path], {"features": features}, {"key": name})
    return features
