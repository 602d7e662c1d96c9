"""Decoded images in files of the cache, memory-mapped: they may exceed the memory, and processes share them.

Next to NAME.images, the pixels alone, NAME.safetensors has labels, a description and the checksum of both.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gans.errors import InputError
from gans.files import atomically, cache_read, cache_write

log = logging.getLogger("gans")

Shape = tuple[int, int, int, int]  # of images: n, channels, height, width


def read(places: Iterable[Path]) -> tuple[Tensor, dict[str, Tensor], dict[str, Any]] | None:
    """Images uint8 (n, c, h, w), tensors and description of the first undamaged cache, or None."""
    for place in places:
        if cached := cache_read([place.with_suffix(".safetensors")], "the images are decoded again"):
            tensors, about = cached
            if place.is_file() and checksum(place) == about.pop("pixels"):
                return mapped(place, about.pop("shape")), tensors, about
            log.warning("the cache %s is damaged; the images are decoded again", place)
    return None


def write(
    name: str, places: Sequence[Path], shape: Shape, decode: Callable[[], Iterator[tuple[int, np.ndarray]]]
) -> tuple[Tensor, Path]:
    """Write images, each with its row, to the first of these files with space; memory-mapped, and its path.

    Without any, the file is a temporary one. An InputError if no disk has the space.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a mapped file is there until the end
        size, all_places = math.prod(shape), [*places, Path(folder) / "images"]
        place = next((place for place in all_places if has_space(place, size)), None)
        if place is None:
            images = f"{shape[0]:,} images of {shape[-1]} x {shape[-1]} need {size / 1e9:.1f} GB of disk space"
            raise InputError(f"{name}: {images} in {places[0].parent}; free some, or ask for a smaller resolution")

        def fill(temporary: Path) -> None:
            with temporary.open("wb") as file:
                for row, pixels in decode():
                    file.seek(row * pixels.nbytes)
                    file.write(pixels.tobytes())
                file.truncate(size)

        atomically(place, fill)
        return mapped(place, shape), place


def describe(place: Path, images: Tensor, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write what belongs to the images at a place."""
    if place.is_file():  # else it was a temporary one
        kept = {**about, "shape": list(images.shape), "pixels": checksum(place)}
        cache_write([place.with_suffix(".safetensors")], tensors, kept)


def mapped(place: Path, shape: Sequence[int]) -> Tensor:
    """The images in a file; never write to them."""
    with warnings.catch_warnings(action="ignore"):  # torch warns of memory that cannot be written
        return torch.from_numpy(np.memmap(place, np.uint8, "r", shape=tuple(shape)))


def checksum(place: Path) -> str:
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_space(place: Path, size: int) -> bool:
    """Whether a file of this many bytes can be written."""
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        return os.access(place.parent, os.W_OK) and shutil.disk_usage(place.parent).free > size
    return False
