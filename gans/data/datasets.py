"""Data sets by name: of `gans.data.published`, parts from outside, folders and the hub (`gans.data.folders`)."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from pathlib import Path

from gans.data.folders import FOLDER, KEPT, load_folder
from gans.data.images import (
    ImageData,
    Source,
    check_memory,
    check_resolution,
    check_source,
    fit_all,
    smallest_resolution,
)
from gans.data.published import Published
from gans.errors import unknown
from gans.files import data_root
from gans.registry import DATASETS, HUB

# cells that share a process load the same data at once: one loads, the others find it in memory
_LOADING = threading.RLock()


def load(name: str, root: Path | None = None, resolution: int | None = None) -> ImageData:
    """A data set of `DATASETS`, `folder:PATH` or `hf:OWNER/NAME`, as square images.

    The last ones stay in memory; a folder is decoded again if its files' sizes or times have changed. Its
    splits and classes are what `layout.understand` says; they are logged, with conversions and what is left out.
    Named data sets and the cache are in `root`, by default `data_root()`. `resolution` is the side in pixels, a
    multiple of 8 from 16 up; None: that of the native images if it is one, else the next power of two. That of a
    folder is its most common shorter side (longer with `fit=pad`), or 128 if that is less.
    """
    root = (data_root() if root is None else Path(root)).absolute()
    if resolution is not None:
        check_resolution(resolution)
    with _LOADING:
        if name.startswith((FOLDER, HUB)):
            return load_folder(name, root, resolution)
        if name not in DATASETS:
            raise unknown("data set", name, [*DATASETS, f"{FOLDER}PATH", f"{HUB}OWNER/NAME"])
        return _load_named(name, DATASETS[name], root, resolution)


@functools.lru_cache(maxsize=KEPT)
def _load_named(name: str, dataset: Callable[[Path], Source], root: Path, resolution: int | None) -> ImageData:
    with DATASETS.calling(name):
        source = dataset(root, resolution) if isinstance(dataset, Published) else dataset(root)
        check_source(name, source)
    count, channels, height, width = source.train.images.shape
    side = resolution or smallest_resolution(max(height, width))
    check_memory(name, (count + len(source.test.images), channels, side, side))
    train, test = (source.resize(split.images, side).contiguous() for split in (source.train, source.test))
    sizes = ((width, height),) if source.resize is fit_all else ()
    labels = source.train.labels, source.test.labels
    return ImageData(name, source.title, train, test, *labels, source.classes, sizes=sizes)
