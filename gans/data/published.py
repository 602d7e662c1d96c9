"""The data sets with names: what is known of each before it is here, and the function that reads it.

A set of torchvision's is an entry here and a line in `gans.registry`; torchvision downloads and checks its files.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import ConcatDataset

from gans.data import stored
from gans.data.folders import CACHE_VERSION, FOLDER, load_folder
from gans.data.images import Source, Split, check_memory, enlarge_all, fit, fit_all, planes
from gans.errors import InputError
from gans.files import user_cache

Splits = tuple[Mapping[str, Any], Mapping[str, Any]]  # what a class of torchvision calls its two splits
BY_TRAIN: Splits = ({"train": True}, {"train": False})
BY_SPLIT: Splits = ({"split": "train"}, {"split": "test"})
NO_CLASS = "N/A"  # torchvision's name of the first class of EMNIST's letters, which has no images
CELEBA_SIDE = 64
CELEBA_SQUARE = (0, 20, 178, 198)  # the central one of 178 x 218


class Images(NamedTuple):
    """How many images a data set has, and of what kind."""

    train: int
    test: int
    channels: int
    width: int
    height: int
    classes: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.train + self.test, self.channels, self.height, self.width

    def __str__(self) -> str:
        kind, classes = "grey" if self.channels == 1 else "colour", f"{self.classes} classes"
        size = f"{self.width} x {self.height}, {classes if self.classes else 'without classes'}"
        return f"{self.train:,} + {self.test:,} {kind} images, {size}"


@dataclass(frozen=True)
class Published:
    """A published data set. Called with the data folder, it downloads what is missing, and returns the images.

    Attributes:
        title: for people.
        source: who published it, and where.
        licence: as its authors or archives state it.
        megabytes: on disk, with the archive that torchvision keeps.
        place: a file or folder in the data folder that the set ends with; empty: it is a part of a library.
        read: called with this, the data folder and the resolution, or None.
    """

    title: str
    images: Images
    source: str
    licence: str
    megabytes: int
    place: str
    read: Callable[[Published, Path, int | None], Source]

    def __call__(self, root: Path, resolution: int | None = None) -> Source:
        return self.read(self, root, resolution)

    def is_in(self, root: Path) -> bool:
        """Whether the data folder has it; nothing is read."""
        return (root / self.place).exists()


def read_digits(about: Published, root: Path, resolution: int | None) -> Source:
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
    return Source(about.title, whole[~test], whole[test], tuple(map(str, range(10))), resize=enlarge_all)


def read_cifar10_jpeg(about: Published, root: Path, resolution: int | None) -> Source:
    """CIFAR-10's images compressed as JPEG, from `root`/cifar10-jpeg.tar.xz (train/CLASS/*.jpg, test/CLASS/*.jpg).

    Compression changes pixels: its scores are not comparable with those on `cifar10`.
    """
    archive = root / "cifar10-jpeg.tar.xz"
    if not archive.is_file():
        raise InputError(
            f"{about.title} cannot be downloaded, and {archive} does not exist; put the archive there, set "
            f"GANS_DATA to a folder that has it, or use {FOLDER}PATH with your own copy"
        )
    found = load_folder(f"{FOLDER}{archive}", root, None)
    train, test = Split(found.train, found.train_labels), Split(found.test, found.test_labels)
    return Source(about.title, train, test, found.classes, resize=fit_all)


@contextmanager
def reading(title: str, root: Path) -> Iterator[None]:
    """One line for what fails within."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # torchvision parses without checks: damage shows as nearly any exception
        reason = (str(error).splitlines() or [repr(error)])[-1]  # below a list of failed attempts
        raise InputError(
            f"{title} cannot be downloaded to {root}, or is damaged there ({reason}); connect once, delete "
            f"its files, set GANS_DATA to a folder that has it, or use {FOLDER}PATH with your own copy"
        ) from None


def from_torchvision(dataset: str, splits: Splits, about: Published, root: Path, resolution: int | None) -> Source:
    """Both splits of a torchvision class that has all pixels in memory; unlabelled if an image has no label."""
    import torchvision

    check_memory(about.title, about.images.shape, "take a smaller data set")
    with reading(about.title, root):
        make = getattr(torchvision.datasets, dataset)
        parts = [make(root, download=True, **split) for split in splits]
        images = [channels_first(torch.as_tensor(part.data)) for part in parts]
        given = [part.targets if hasattr(part, "targets") else part.labels for part in parts]
        labels = [torch.as_tensor(one, dtype=torch.int64) for one in given]
    train, test = (Split(*pair) for pair in zip(images, labels, strict=True))
    if min(map(int, map(torch.min, labels))) < 0:
        return Source(about.title, Split(train.images, None), Split(test.images, None), (), resize=fit_all)
    names = getattr(parts[0], "classes", None) or map(str, range(int(labels[0].max()) + 1))
    classes = tuple(name.partition(" - ")[0] for name in names)  # MNIST's are "0 - zero"
    return Source(about.title, train, test, classes, resize=fit_all)


def channels_first(pixels: Tensor) -> Tensor:
    """uint8 (n, height, width), (n, height, width, 3) or (n, 3, height, width) as (n, channels, height, width)."""
    if pixels.ndim == 3:
        return pixels[:, None]
    return pixels if pixels.shape[1] == 3 else pixels.permute(0, 3, 1, 2)


def read_emnist(split: str, about: Published, root: Path, resolution: int | None) -> Source:
    """A split of EMNIST, whose files have columns where MNIST's have rows; letters are numbered from 1."""
    splits = {"train": True, "split": split}, {"train": False, "split": split}
    source = from_torchvision("EMNIST", splits, about, root, resolution)
    first = int(source.classes[0] == NO_CLASS)

    def mended(part: Split) -> Split:
        return Split(part.images.mT, None if part.labels is None else part.labels - first)

    return Source(about.title, mended(source.train), mended(source.test), source.classes[first:], resize=fit_all)


def read_celeba(about: Published, root: Path, resolution: int | None) -> Source:
    """CelebA's aligned faces, 178 x 218, cropped to the central 178 x 178 and resized (`fit`); without labels.

    Decoded images are kept in `root`/cache or the user's.
    """
    side = resolution or CELEBA_SIDE
    key = hashlib.sha256(json.dumps([CACHE_VERSION, PIL.__version__, str(root), side]).encode()).hexdigest()[:16]
    files = [place / f"celeba-{key}.images" for place in (root / "cache", user_cache())]
    if cached := stored.read(files):
        images, _, kept = cached
        splits = kept["splits"]
    else:
        import torchvision

        with reading(about.title, root):
            make = partial(torchvision.datasets.CelebA, root, target_type=[], download=True)
            parts = [make(**split) for split in BY_SPLIT]
            splits = [*map(len, parts)]
            squares = partial(central_squares, about.title, parts, side)
            images, place = stored.write("celeba", files, (sum(splits), 3, side, side), squares)
        stored.describe(place, images, {}, {"splits": splits})
    train, test = images.split(splits)
    return Source(about.title, Split(train, None), Split(test, None), (), resize=fit_all)


def central_squares(title: str, parts: list[Any], side: int) -> Iterator[tuple[int, np.ndarray]]:
    """The central squares of CelebA's images, uint8 (3, side, side), with their rows."""
    shown = Console(stderr=True)
    faces: ConcatDataset = ConcatDataset(parts)
    for row in track(range(len(faces)), f"decoding {title}", console=shown, disable=not shown.is_terminal):
        yield row, planes(fit(faces[row][0].convert("RGB").crop(CELEBA_SQUARE), side))


DIGITS = Published(
    "Digits",
    Images(1_438, 359, 1, 8, 8, 10),
    "Alpaydin and Kaynak 1998, https://archive.ics.uci.edu/dataset/80; a part of scikit-learn",
    "CC BY 4.0 (UCI, Alpaydin and Kaynak)",
    0,
    "",
    read_digits,
)
MNIST = Published(
    "MNIST",
    Images(60_000, 10_000, 1, 28, 28, 10),
    "LeCun et al. 1998, http://yann.lecun.com/exdb/mnist",
    "CC BY-SA 3.0 (LeCun and Cortes)",
    66,
    "MNIST/raw/t10k-labels-idx1-ubyte",
    partial(from_torchvision, "MNIST", BY_TRAIN),
)
FASHION_MNIST = Published(
    "Fashion-MNIST",
    Images(60_000, 10_000, 1, 28, 28, 10),
    "Xiao et al. 2017, arXiv 1708.07747",
    "MIT (Zalando)",
    86,
    "FashionMNIST/raw/t10k-labels-idx1-ubyte",
    partial(from_torchvision, "FashionMNIST", BY_TRAIN),
)
KMNIST = Published(
    "Kuzushiji-MNIST",
    Images(60_000, 10_000, 1, 28, 28, 10),
    "Clanuwat et al. 2018, arXiv 1812.01718",
    "CC BY-SA 4.0 (CODH)",
    76,
    "KMNIST/raw/t10k-labels-idx1-ubyte",
    partial(from_torchvision, "KMNIST", BY_TRAIN),
)


def _emnist(split: str, images: Images) -> Published:
    return Published(
        f"EMNIST ({split})",
        images,
        "Cohen et al. 2017, arXiv 1702.05373; of NIST Special Database 19; one download for all six",
        "not stated",
        2_330,
        f"EMNIST/raw/emnist-{split}-test-labels-idx1-ubyte",
        partial(read_emnist, split),
    )


EMNIST_BALANCED = _emnist("balanced", Images(112_800, 18_800, 1, 28, 28, 47))
EMNIST_BYCLASS = _emnist("byclass", Images(697_932, 116_323, 1, 28, 28, 62))
EMNIST_BYMERGE = _emnist("bymerge", Images(697_932, 116_323, 1, 28, 28, 47))
EMNIST_DIGITS = _emnist("digits", Images(240_000, 40_000, 1, 28, 28, 10))
EMNIST_LETTERS = _emnist("letters", Images(124_800, 20_800, 1, 28, 28, 26))
EMNIST_MNIST = _emnist("mnist", Images(60_000, 10_000, 1, 28, 28, 10))

CIFAR10 = Published(
    "CIFAR-10",
    Images(50_000, 10_000, 3, 32, 32, 10),
    "Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
    "not stated",
    357,
    "cifar-10-batches-py/test_batch",
    partial(from_torchvision, "CIFAR10", BY_TRAIN),
)
CIFAR10_JPEG = Published(
    "CIFAR-10 (JPEG)",
    CIFAR10.images,
    "CIFAR-10's images compressed as JPEG; not published, so your own archive",
    CIFAR10.licence,
    18,
    "cifar10-jpeg.tar.xz",
    read_cifar10_jpeg,
)
CIFAR100 = Published(
    "CIFAR-100",
    Images(50_000, 10_000, 3, 32, 32, 100),
    CIFAR10.source,
    CIFAR10.licence,
    355,
    "cifar-100-python/test",
    partial(from_torchvision, "CIFAR100", BY_TRAIN),
)
SVHN = Published(
    "SVHN",
    Images(73_257, 26_032, 3, 32, 32, 10),
    "Netzer et al. 2011, http://ufldl.stanford.edu/housenumbers",
    "non-commercial use only",
    246,
    "test_32x32.mat",
    partial(from_torchvision, "SVHN", BY_SPLIT),
)
STL10 = Published(
    "STL-10",
    Images(5_000, 8_000, 3, 96, 96, 10),
    "Coates et al. 2011, https://cs.stanford.edu/~acoates/stl10; of ImageNet",
    "not stated",
    5_760,
    "stl10_binary/test_X.bin",
    partial(from_torchvision, "STL10", BY_SPLIT),
)
STL10_UNLABELED = Published(
    "STL-10 (unlabeled)",
    Images(100_000, 8_000, 3, 96, 96, 0),
    STL10.source,
    STL10.licence,
    STL10.megabytes,
    STL10.place,
    partial(from_torchvision, "STL10", ({"split": "unlabeled"}, {"split": "test"})),
)
CELEBA = Published(
    "CelebA",
    Images(162_770, 19_962, 3, 178, 218, 0),
    "Liu et al. 2015, http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    "non-commercial research only (CUHK)",
    2_900,
    "celeba/img_align_celeba",
    read_celeba,
)
