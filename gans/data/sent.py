"""Data sets that this machine lacks and was sent: the nodes of a cluster and its runner help each other out.

They lie as files in the folder that the environment names, as long as that cluster is used, decoded.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import torch

from gans.data.images import ImageData
from gans.files import slug, write_bytes

PLACE = "GANS_SENT"  # the variable that names the folder


def nobody(name: str, resolution: int | None) -> bool:
    """That nobody sends a data set."""
    return False


# has a data set sent here that cannot be had otherwise, and says whether it was; a cluster that is joined may
fetch: Callable[[str, int | None], bool] = nobody


def pack(images: ImageData) -> bytes:
    """A data set on its way."""
    buffer = io.BytesIO()
    torch.save({field.name: getattr(images, field.name) for field in fields(images)}, buffer)
    return buffer.getvalue()


def keep(name: str, resolution: int | None, packed: bytes) -> None:
    """Put a data set where this machine's processes find it, as it was asked for."""
    path = _file(name, resolution)
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, packed)


def find(name: str, resolution: int | None) -> ImageData | None:
    """A data set that was sent; None if it was not."""
    path = _file(name, resolution)
    return _read(path) if path and path.exists() else None


def _file(name: str, resolution: int | None) -> Path | None:
    folder = os.environ.get(PLACE)
    return Path(folder) / f"{slug(name)}-{resolution or 'native'}.pt" if folder else None


@functools.lru_cache(maxsize=2)
def _read(path: Path) -> ImageData:
    # mapped: the processes of a machine share its memory
    return ImageData(**torch.load(path, weights_only=True, mmap=True))
