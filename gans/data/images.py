"""Images as uint8 tensors: data sets, pixel ranges and sizes."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image, ImageOps
from torch import Tensor

from gans import seeds
from gans.errors import InputError
from gans.registry import folder, kind_of

SMALLEST, LARGEST = 16, 4096  # no network here is built for less, and no memory holds many that are larger
STEP = 8  # of sides: networks halve them two times or more
PADDED = "padded with black"


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 (n, channels, height, width) of any size, and their labels int64 (n,)."""

    images: Tensor
    labels: Tensor | None

    def __getitem__(self, which: Tensor) -> Split:
        return Split(self.images[which], None if self.labels is None else self.labels[which])


@dataclass(frozen=True, eq=False)
class ImageData:
    """Square images in two disjoint splits, on the CPU, contiguous; shared, so never write to the tensors."""

    name: str  # as given: "digits", "folder:/path"
    title: str  # for people: "MNIST"
    train: Tensor  # uint8 (n, channels, height, width), n >= 1
    test: Tensor  # uint8 (m, channels, height, width), m >= 1
    train_labels: Tensor | None  # int64 (n,), indices into `classes`
    test_labels: Tensor | None  # int64 (m,)
    classes: tuple[str, ...]  # () when unlabelled
    hash: str = ""  # sha256, hex, over shapes, pixels and labels of both splits; computed if not given
    sizes: tuple[tuple[int, int], ...] = ()  # (width, height) of all that `fit` made square; () by another rule
    understood: str = ""  # the layout of a folder: classes and splits
    remarks: tuple[str, ...] = ()  # what was left out and why, and what was converted, with counts

    def __post_init__(self) -> None:
        if not self.hash:
            object.__setattr__(self, "hash", _hash(self.train, self.train_labels, self.test, self.test_labels))

    @property
    def about(self) -> tuple[str, ...]:
        """What is to be known of a folder: its layout, how sizes were changed, what was left out or converted."""
        side, sizes = self.resolution, [f"{width} x {height}" for width, height in self.sizes]
        native = " to ".join(dict.fromkeys((sizes[0], sizes[-1]))) if sizes else ""
        how = ", ".join(dict.fromkeys(change for size in self.sizes for change in self._changes(size)))
        changed = f"images of {native} pixels made {side} x {side}: {how}" if how else ""
        return tuple(filter(None, (self.understood, changed, *self.remarks))) if self.understood else ()

    def _changes(self, size: tuple[int, int]) -> tuple[str, ...]:
        """What `fit` does with images of a size, in words."""
        if max(size) <= self.resolution:
            return () if size == (self.resolution, self.resolution) else (PADDED,)
        if folder(self.name)[1].get("fit") == "pad":
            return ("resized",) if size[0] == size[1] else ("resized", PADDED)
        resized = () if min(size) == self.resolution else ("resized",)
        return resized if size[0] == size[1] else (*resized, "cropped at the centre")

    @property
    def resolution(self) -> int:
        """Side of the square images, in pixels."""
        return self.train.shape[-1]

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (red, green, blue)."""
        return self.train.shape[1]

    def part(self, share: float) -> Split:
        """A share of the training images, the same of each class; smaller shares are subsets of larger ones."""
        whole = Split(self.train, self.train_labels)
        if share == 1:
            return whole
        order = torch.randperm(len(self.train), generator=seeds.generator(0, "share of the data"))
        if self.train_labels is not None:
            order = order[_places_in_class(self.train_labels[order]).argsort(stable=True)]
        return whole[order[: max(1, round(share * len(order)))].sort().values]


def _places_in_class(labels: Tensor) -> Tensor:
    """Where each image comes among those of its class, from 0 to 1: float64 (n,)."""
    places = torch.zeros(len(labels), dtype=torch.float64)
    for label in labels.unique():
        own = labels == label
        places[own] = (torch.arange(int(own.sum()), dtype=torch.float64) + 0.5) / own.sum()
    return places


@dataclass(frozen=True, eq=False)
class Source:
    """The result of a data set function: both splits at native size, and how to resize them."""

    title: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    resize: Callable[[Tensor, int], Tensor]


def check_source(name: str, source: object) -> None:
    """Refuse other types, shapes or labels than `Source` says."""
    if not isinstance(source, Source):
        raise InputError(f"{name} gives {kind_of(source)}, not a gans.data.images.Source")
    for what, split in {"training": source.train, "test": source.test}.items():
        images, labels, count = split.images, split.labels, len(source.classes)
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3) or not len(images):
            wanted = "uint8 (n, 1 or 3, height, width)"
            raise InputError(f"{name} has {what} images of {kind_of(images)}, not {wanted}")
        if labels is None:
            continue
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise InputError(f"{name} has {what} labels of {kind_of(labels)}, not int64 ({len(images)},)")
        if labels.min() < 0 or labels.max() >= count:
            raise InputError(f"{name} has labels {int(labels.min())} .. {int(labels.max())} for {count} classes")
    if source.train.images.shape[1] != source.test.images.shape[1]:
        raise InputError(f"{name} has grey and colour images; give both splits as many channels")


def _hash(*tensors: Tensor | None) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(repr(None if tensor is None else tuple(tensor.shape)).encode())
        digest.update(b"" if tensor is None else tensor.numpy().data)
    return digest.hexdigest()


def to_float(images: Tensor) -> Tensor:
    """uint8 pixels as float32 in [-1, 1], on the same device: x / 127.5 - 1. TypeError for another type."""
    if images.dtype != torch.uint8:
        raise TypeError(f"to_float takes uint8 pixels, not {images.dtype}")
    return images.div(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Float pixels as uint8, the inverse of `to_float`: rounded to the nearest level, clamped to [-1, 1].

    Raises TypeError for integers, and FloatingPointError for NaN, which a cast would make black.
    """
    if not images.is_floating_point():
        raise TypeError(f"to_uint8 takes float pixels, not {images.dtype}")
    if images.isnan().any():
        raise FloatingPointError("NaN among the pixels: the network that made them has diverged")
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def check_resolution(resolution: int) -> None:
    """Raises InputError unless `resolution`, in pixels, is a multiple of 8 from 16 to 4096."""
    if not SMALLEST <= resolution <= LARGEST or resolution % STEP:
        taken = f"a multiple of {STEP} from {SMALLEST} to {LARGEST}"
        raise InputError(f"resolution {resolution} does not work: take {taken}")


def check_memory(
    name: str, shape: tuple[int, int, int, int], remedy: str = "ask for a smaller resolution"
) -> None:
    """Raises InputError unless memory holds images of this shape twice: once as decoded, once as split."""
    needed, free = 2 * math.prod(shape), psutil.virtual_memory().available
    if needed > free:
        images = f"{shape[0]:,} images of {shape[-1]} x {shape[-1]}"
        short = f"need {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
        raise InputError(f"{name}: {images} {short}; {remedy}")


def smallest_resolution(side: int) -> int:
    """The resolution that images of `side` pixels have by default: their own, or the next power of two."""
    return side if side >= SMALLEST and side % STEP == 0 else max(SMALLEST, 1 << (side - 1).bit_length())


def fit(image: Image.Image, resolution: int, pad: bool = False) -> Image.Image:
    """The rule for sizes: a square of `resolution` pixels, never distorted.

    Smaller images are centre-padded with black (28 -> 32: 2 pixels a side). Others have their shorter side resized
    (Lanczos, antialiased) and are cropped at the centre; with `pad`, their longer side, and are padded with black.
    """
    if max(image.size) <= resolution:
        return _padded(image, resolution)
    if pad:
        return ImageOps.pad(image, (resolution, resolution), Image.Resampling.LANCZOS, color=0)
    # crops before it resizes: a strip of 1 x 100,000 pixels never becomes a square's worth of them
    return ImageOps.fit(image, (resolution, resolution), Image.Resampling.LANCZOS)


def fit_all(images: Tensor, resolution: int) -> Tensor:
    """`fit` for a batch uint8 (n, channels, height, width)."""
    if max(images.shape[-2:]) <= resolution:
        return _padded(images, resolution)
    return _each_image(images, functools.partial(fit, resolution=resolution))


def _padded(images: Any, resolution: int) -> Any:
    from torchvision.transforms.functional import center_crop  # a second to import, so only when used

    return center_crop(images, [resolution, resolution])


def enlarge_all(images: Tensor, resolution: int) -> Tensor:
    """A batch uint8 (n, channels, side, side) resized to `resolution` without padding.

    Bilinear, because it neither overshoots (black stays black) nor leaves blocks; by Pillow, whose
    integer arithmetic gives the same pixels, and so the same hash, on every machine.
    """
    return _each_image(images, lambda image: image.resize((resolution,) * 2, Image.Resampling.BILINEAR))


def _each_image(images: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    pictures = (Image.fromarray(image.squeeze(-1).numpy()) for image in images.permute(0, 2, 3, 1))
    return torch.from_numpy(np.stack([planes(change(picture)) for picture in pictures]))


def planes(image: Image.Image) -> np.ndarray:
    """A grey or colour image of Pillow (modes L and RGB) as uint8 (channels, height, width)."""
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
