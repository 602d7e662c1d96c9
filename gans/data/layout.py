"""What the folders of images mean: which images train and which test, and their classes."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gans.data.listing import decoded, some

# names of a split's folder, best first: those of Hugging Face's loader
TRAIN = ("train", "training")
TEST = ("test", "val", "valid", "validation", "testing", "eval", "evaluation", "dev")
LABELS = "dataset.json"  # of StyleGAN's archives: their folders are numbers, the labels are in this file
IMAGES = "images"  # of ImageNet's kind: train/CLASS/images

Paths = dict[str, str]  # by the file's name the path that a class is found by


class Layout(NamedTuple):
    """The files of both splits, sorted; the class of each that has one, an index of `classes`; all in a line."""

    train: list[str]
    test: list[str]
    labels: dict[str, int]
    classes: tuple[str, ...]
    text: str


def understand(files: Sequence[str], given: Mapping[str, int] | None) -> Layout:
    """What two or more files, sorted, are taken for.

    Splits are folders named `train` and `test`, or by other words: at the top or, if all images are in such,
    further down. Without them the tenth of the files with the smallest SHA-256 of their path tests. A class is
    the folder of an image, if all have one and at least two differ. The labels of `LABELS`, if `given`, count in
    place of folders.
    """
    leading = posixpath.commonpath([posixpath.dirname(file) for file in files])
    paths = {file: file.removeprefix(leading).lstrip("/") for file in files}
    train, test, how = _by_folder(paths) or _by_hash(paths)
    named = _by_parent(train, test) if given is None else given
    keys = sorted({named[file] for file in (*train, *test) if file in named})
    if len(keys) < 2 or not named.keys() >= train.keys():
        keys = []
    places = {key: place for place, key in enumerate(keys)}
    labels = {file: places[named[file]] for file in (*train, *test) if keys and file in named}
    classes = tuple(decoded(map(str, keys))) if keys else ()
    what = f"{len(classes):,} classes ({some(list(classes))})" if classes else "no classes"
    text = f"{what}, {len(train):,} train and {len(test):,} test images {how}"
    return Layout([*train], [*test], labels, classes, text)


def _by_folder(paths: Paths) -> tuple[Paths, Paths, str] | None:
    folders = {file: path.split("/")[:-1] for file, path in paths.items()}
    for depth in range(max(map(len, folders.values()))):
        words = {file: "".join(above[depth : depth + 1]).lower() for file, above in folders.items()}
        there = {*words.values()}
        train, test = (next((word for word in split if word in there), None) for split in (TRAIN, TEST))
        if train and test and (depth == 0 or there <= {*TRAIN, *TEST}):
            inside = {file: "/".join((*above[:depth], *above[depth + 1 :], "")) for file, above in folders.items()}
            one, other = (
                {file: inside[file] for file in paths if words[file] == split} for split in (train, test)
            )
            return one, other, "by folder"
    return None


def _by_hash(paths: Paths) -> tuple[Paths, Paths, str]:
    def rank(file: str) -> bytes:
        return hashlib.sha256(paths[file].encode(errors="surrogateescape")).digest()

    held_out = {*sorted(paths, key=rank)[: max(1, round(len(paths) / 10))]}
    one, other = ({file: path for file, path in paths.items() if (file in held_out) == tests} for tests in (0, 1))
    return one, other, "by a hash of their names"


def _by_parent(train: Paths, test: Paths) -> Paths:
    """The folder of each image; none if one has none, but that of held-out images of ImageNet's kind."""
    nested = all(posixpath.dirname(path).endswith(f"/{IMAGES}") for path in train.values())
    parents = {}
    for file, path in (train | test).items():
        folder = posixpath.dirname(path)
        if nested and posixpath.basename(folder) == IMAGES:
            folder = posixpath.dirname(folder)
        parents[file] = posixpath.basename(folder)
    if nested:
        return {file: name for file, name in parents.items() if name}
    return {} if "" in parents.values() else parents


def read_labels(name: str, content: bytes) -> dict[str, int] | None:
    """The labels in a `LABELS` file by the names of its images, empty if it has none; None if it is none."""
    try:
        pairs = json.loads(content)["labels"] or []
        labels = {posixpath.join(posixpath.dirname(name), file): label for file, label in pairs}
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return labels if all(type(label) is int for label in labels.values()) else {}
