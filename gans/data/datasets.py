"""Data sets by name: a function here and a line in `gans.registry`, or `folder:PATH` (`gans.data.folders`)."""

from __future__ import annotations

import functools
import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from gans.data.folders import FOLDER, KEPT, load_folder
from gans.data.images import (
    ImageData,
    Source,
    Split,
    check_memory,
    check_resolution,
    check_source,
    enlarge_all,
    fit_all,
    smallest_resolution,
)
from gans.errors import InputError, unknown
from gans.files import data_root
from gans.registry import DATASETS


def digits(root: Path) -> Source:
    """1,797 handwritten digits, 8 x 8, that are part of scikit-learn (UCI, Alpaydin and Kaynak 1998): no files.

    Values 0..16 are scaled to 0..255; the images are enlarged, not padded. Test split: within each class,
    in scikit-learn's order, the third of every five (359 images).
    """
    # not by scikit-learn's `load_digits`, whose import takes two seconds
    sklearn = importlib.util.find_spec("sklearn")
    assert sklearn is not None and sklearn.origin is not None
    table = np.loadtxt(Path(sklearn.origin).with_name("datasets") / "data" / "digits.csv.gz", delimiter=",")
    pixels = table[:, :-1].reshape(-1, 8, 8)
    images = torch.from_numpy(np.rint(pixels * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(table[:, -1].astype(np.int64))
    # by rank, not by a random generator: the same split under every version of every library
    rank = F.one_hot(labels).cumsum(0).gather(1, labels[:, None]).squeeze(1) - 1
    test, whole = rank % 5 == 2, Split(images, labels)
    return Source("Digits", whole[~test], whole[test], tuple(map(str, range(10))), resize=enlarge_all)


def from_torchvision(title: str, dataset: str, root: Path) -> Source:
    """Both splits of a torchvision data set; it downloads what `root` lacks and checks what it downloads."""
    import torchvision

    try:
        make = getattr(torchvision.datasets, dataset)
        train, test = (make(root, train=train, download=True) for train in (True, False))
    except Exception as error:  # torchvision parses without checks: damage shows as nearly any exception
        reason = (str(error).splitlines() or [repr(error)])[-1]  # below a list of failed attempts
        raise InputError(
            f"{title} is damaged in {root}, or cannot be downloaded to it ({reason}); delete its files, "
            f"connect once, set GANS_DATA to a folder that has it, or use {FOLDER}PATH with your own copy"
        ) from None
    classes = tuple(name.partition(" - ")[0] for name in train.classes)  # MNIST's are "0 - zero"
    splits = []
    for part in (train, test):
        pixels = torch.as_tensor(part.data)  # uint8 (n, height, width) or (n, height, width, 3)
        images = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
        splits.append(Split(images, torch.as_tensor(part.targets, dtype=torch.int64)))
    return Source(title, splits[0], splits[1], classes, resize=fit_all)


# 60,000 + 10,000 grey images, 28 x 28: LeCun et al. 1998, from `root`/MNIST/raw, and arXiv 1708.07747
mnist = functools.partial(from_torchvision, "MNIST", "MNIST")
fashion_mnist = functools.partial(from_torchvision, "Fashion-MNIST", "FashionMNIST")
# 50,000 + 10,000 colour images, 32 x 32: Krizhevsky 2009, from `root`/cifar-10-batches-py
cifar10 = functools.partial(from_torchvision, "CIFAR-10", "CIFAR10")


def cifar10_jpeg(root: Path) -> Source:
    """CIFAR-10's images compressed as JPEG, from `root`/cifar10-jpeg.tar.xz (train/CLASS/*.jpg, test/CLASS/*.jpg).

    Compression changes pixels: its scores are not comparable with those on `cifar10`.
    """
    archive = root / "cifar10-jpeg.tar.xz"
    if not archive.is_file():
        raise InputError(
            f"CIFAR-10 (JPEG) cannot be downloaded, and {archive} does not exist; put the archive there, set "
            f"GANS_DATA to a folder that has it, or use {FOLDER}PATH with your own copy"
        )
    found = load_folder(f"{FOLDER}{archive}", root, None)
    train, test = Split(found.train, found.train_labels), Split(found.test, found.test_labels)
    return Source("CIFAR-10 (JPEG)", train, test, found.classes, resize=fit_all)


# cells that share a process load the same data at once: one loads, the others find it in memory
_LOADING = threading.RLock()


def load(name: str, root: Path | None = None, resolution: int | None = None) -> ImageData:
    """A data set of `DATASETS`, or `folder:PATH`, as square images.

    The last ones stay in memory; a folder is decoded again if its files' sizes or times have changed. Its
    splits and classes are what `layout.understand` says; they are logged, with conversions and what is left out.
    Named data sets and the cache are in `root`, by default `data_root()`. `resolution` is the side in pixels, a
    power of two from 16 up; None: the smallest that holds the native images or, for a folder, its most common
    shorter side, but 128 at most.
    """
    root = (data_root() if root is None else Path(root)).absolute()
    if resolution is not None:
        check_resolution(resolution)
    with _LOADING:
        if name.startswith(FOLDER):
            return load_folder(name, root, resolution)
        if name not in DATASETS:
            raise unknown("data set", name, [*DATASETS, f"{FOLDER}PATH"])
        return _load_named(name, DATASETS[name], root, resolution)


@functools.lru_cache(maxsize=KEPT)
def _load_named(name: str, dataset: Callable[[Path], Source], root: Path, resolution: int | None) -> ImageData:
    with DATASETS.calling(name):
        source = dataset(root)
        check_source(name, source)
    count, channels, height, width = source.train.images.shape
    side = resolution or smallest_resolution(max(height, width))
    check_memory(name, (count + len(source.test.images), channels, side, side))
    train, test = (source.resize(split.images, side).contiguous() for split in (source.train, source.test))
    sizes = ((width, height),) if source.resize is fit_all else ()
    labels = source.train.labels, source.test.labels
    return ImageData(name, source.title, train, test, *labels, source.classes, sizes=sizes)
