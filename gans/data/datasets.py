"""Data sets by name: real images as uint8 tensors.

A named data set is one function here and one line in `gans.registry`; `folder:PATH` is any directory, zip or tar
archive of images (`gans.data.folders`).
"""

from __future__ import annotations

import functools
import importlib.util
import re
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

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
from gans.errors import InputError, last_line, unknown
from gans.files import data_root
from gans.registry import DATASETS


def digits(root: Path) -> Source:
    """1,797 handwritten digits, 8 x 8, that scikit-learn carries (UCI, Alpaydin and Kaynak 1998): no files.

    Values 0..16 are scaled to 0..255; the images are enlarged, not padded. Test split: within each class,
    in scikit-learn's order, the third of every five (359 images).
    """
    table = _digits()
    pixels = table[:, :-1].reshape(-1, 8, 8)
    images = torch.from_numpy(np.rint(pixels * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(table[:, -1].astype(np.int64))
    # by rank, not by a random generator: the same split under every version of every library
    rank = F.one_hot(labels).cumsum(0).gather(1, labels[:, None]).squeeze(1) - 1
    test = rank % 5 == 2
    return Source(
        title="Digits",
        train=Split(images[~test], labels[~test]),
        test=Split(images[test], labels[test]),
        classes=tuple(map(str, range(10))),
        resize=enlarge_all,
    )


def _digits() -> np.ndarray:
    """A row of 64 pixels and the label for each image, float64 (1797, 65).

    The same as scikit-learn's `load_digits`, whose import takes every process two seconds: its file is read
    instead, and `load_digits` is the fallback where the file has moved.
    """
    found = importlib.util.find_spec("sklearn")
    file = Path(found.origin).with_name("datasets") / "data" / "digits.csv.gz" if found and found.origin else None
    if file and file.is_file():
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])


def mnist(root: Path) -> Source:
    """MNIST (LeCun et al. 1998): 60,000 + 10,000 grey digits, 28 x 28, from `root`/MNIST/raw."""
    from torchvision.datasets import MNIST

    return _from_torchvision(MNIST, "MNIST", root)


def fashion_mnist(root: Path) -> Source:
    """Fashion-MNIST (arXiv 1708.07747): 60,000 + 10,000 grey images, 28 x 28, `root`/FashionMNIST/raw."""
    from torchvision.datasets import FashionMNIST

    return _from_torchvision(FashionMNIST, "Fashion-MNIST", root)


def cifar10(root: Path) -> Source:
    """CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 colour images, 32 x 32, from `root`/cifar-10-batches-py."""
    from torchvision.datasets import CIFAR10

    return _from_torchvision(CIFAR10, "CIFAR-10", root)


def cifar10_jpeg(root: Path) -> Source:
    """CIFAR-10's 50,000 + 10,000 images compressed as JPEG, from `root`/cifar10-jpeg.tar.xz.

    The archive holds train/<class>/*.jpg and test/<class>/*.jpg. Compression moves pixels: its scores do not
    compare with those on `cifar10`.
    """
    archive = root / "cifar10-jpeg.tar.xz"
    if not archive.is_file():
        raise InputError(
            f"CIFAR-10 (JPEG) cannot be downloaded, and {archive} does not exist; put the archive there, set "
            f"GANS_DATA to a folder that has it, or use {FOLDER}PATH with your own copy"
        )
    images = load_folder(f"{FOLDER}{archive}", root, None)
    return Source(
        title="CIFAR-10 (JPEG)",
        train=Split(images.train, images.train_labels),
        test=Split(images.test, images.test_labels),
        classes=images.classes,
        resize=fit_all,
    )


def _from_torchvision(dataset: Callable, title: str, root: Path) -> Source:
    """Both splits of a torchvision data set; it downloads what `root` lacks and checks what it downloads."""
    try:
        train, test = (dataset(root, train=train, download=True) for train in (True, False))
    except Exception as error:  # torchvision parses without checks: damage shows as nearly any exception
        raise _unavailable(title, root, error) from None
    return Source(
        title=title,
        train=_split(train.data, train.targets),
        test=_split(test.data, test.targets),
        classes=tuple(name.partition(" - ")[0] for name in train.classes),  # MNIST's are "0 - zero"
        resize=fit_all,
    )


def _unavailable(title: str, root: Path, error: Exception) -> InputError:
    reason = last_line(error)
    if isinstance(error, OSError) or re.search("download|corrupted", str(error)):
        return InputError(
            f"{title} is not in {root} and cannot be downloaded to it ({reason}); connect once, "
            f"set GANS_DATA to a folder that has it, or use {FOLDER}PATH with your own copy"
        )
    return InputError(f"{title} in {root} is damaged ({reason}); delete its files and load again")


def _split(pixels: Tensor | np.ndarray, labels: Tensor | list[int]) -> Split:
    """From pixels uint8 (n, height, width) or (n, height, width, 3)."""
    pixels = torch.as_tensor(pixels)
    images = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return Split(images, torch.as_tensor(labels, dtype=torch.int64))


# Loading


def load(name: str, root: Path | None = None, resolution: int | None = None) -> ImageData:
    """A data set of `DATASETS`, or `folder:PATH`, as square images.

    `root` is where named data sets and the cache live (default: `data_root()`). `resolution`, a power of
    two from 16 up, is the side in pixels; by default the smallest such number that holds the native images
    or, for a folder, its most common shorter side, but 128 at most. `fit` says how images get there.

    A folder's images are split by top-level folders `train` and `test` (or else `val`, `valid`), where it
    has both; images outside these are left out, with a warning. Any other folder gives the tenth of its
    images with the smallest sha256 of their relative path to the test split (not stratified). The labels
    are the names of the folders that hold the images, where every image has one and at least two differ.
    Images are known by their content, whatever their names. Transparent pixels are composited on black, EXIF
    orientation is applied, 16-bit grey is scaled to 8; floats and other integers have no fixed range and count as
    broken.

    The data sets loaded last stay in memory: the second load of one costs nothing or, for a folder, a look
    at its files' sizes and times; if these have changed it is decoded again.

    Raises InputError, one line with the remedy, for an unknown name, a bad resolution, files that are
    missing, unreadable or damaged, grey and colour images in one folder, or a decompression bomb. Every file of
    a folder is used, or left out and counted with the reason in `remarks`, with every
    conversion; both are logged. Only regular files within the folder are opened; a broken image, and what else
    cannot be had, is counted in `skipped`.
    """
    root = data_root() if root is None else Path(root)
    if resolution is not None:
        check_resolution(resolution)
    with _LOADING:
        return _load(name, root.absolute(), resolution)


def _load(name: str, root: Path, resolution: int | None) -> ImageData:
    if name.startswith(FOLDER):
        return load_folder(name, root, resolution)
    if name not in DATASETS:
        raise unknown("data set", name, [*DATASETS, f"{FOLDER}PATH"])
    return _load_named(name, DATASETS[name], root, resolution)


# cells that share a process load the same data at once: one loads, the others find it in memory
_LOADING = threading.RLock()


@functools.lru_cache(maxsize=KEPT)
def _load_named(name: str, dataset: Callable[[Path], Source], root: Path, resolution: int | None) -> ImageData:
    with DATASETS.calling(name):
        source = dataset(root)
        check_source(name, source)
    height, width = source.train.images.shape[-2:]
    side = resolution or smallest_resolution(max(height, width))
    count = len(source.train.images) + len(source.test.images)
    check_memory(name, (count, source.train.images.shape[1], side, side))
    train, test = (
        Split(source.resize(s.images, side).contiguous(), s.labels) for s in (source.train, source.test)
    )
    return ImageData(
        name,
        source.title,
        train.images,
        test.images,
        train.labels,
        test.labels,
        source.classes,
        sizes=((width, height),) if source.resize is fit_all else (),
    )
