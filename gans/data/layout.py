"""The layout of image folders: splits and classes, by folders or by a file with labels."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gans.data.listing import SPLITS, TEST, TRAIN, clean, decoded, some
from gans.errors import InputError, first_line

STYLEGAN = "dataset.json"  # of its archives: {"labels": [["00000/0.png", 3], ...]}
HEADLESS = "labels.csv"
LABELS = (STYLEGAN, "metadata.csv", "metadata.jsonl", HEADLESS)  # files with labels; the second and third are HF's
FILE, LABEL = "file_name", "label"  # their columns
BY_FOLDER = ("none", "first", "last")  # settings that make folders count in place of such a file
IMAGES = ("images",)  # of ImageNet's kind: train/CLASS/images
REMEDY = "correct it, or write ,labels=none behind the path to do without labels"

Split = dict[str, tuple[str, ...]]  # by the name of a file the folders above it


class Layout(NamedTuple):
    """The files of both splits, sorted; the class of each, an index of `classes`; all in a line."""

    train: list[str]
    test: list[str]
    labels: dict[str, int]
    classes: tuple[str, ...]
    text: str


def check(labels: str = "", splits: str = "", fit: str = "crop", images: str = "") -> None:
    """Refuse settings of other values than `understand` takes; `labels` may also be a column of a table."""
    if fit not in ("crop", "pad"):
        raise InputError(f"fit={fit} is not valid: take crop, or pad")
    words = splits.lower().split("/")
    if splits not in ("", "hash") and not (len(words) == len({*words}) == 2 and all(words)):
        raise InputError(f"splits={splits} is not valid: take hash, or the names of two folders, as train/test")


def understand(
    files: Sequence[str],
    given: Mapping[str, int] | None,
    other: str = "latin_1",
    labels: str = "",
    splits: str = "",
) -> Layout:
    """The layout of two or more sorted files.

    Splits are folders named `train` and `test`, or by other words: at the top or, if all images are in such,
    further down. Without them, test files are the tenth with the smallest SHA-256 of their path. The class of an
    image is its folder, if all have one and at least two differ; of ImageNet's kind the one above `images`, and
    held-out images without one are left out. Labels from files, if `given`, replace folders; {}: no classes.
    `other` is the encoding of names by `listing.decoded`.

    `labels` is the folder that is the class, `first` or `last`, or `none`; `splits` are the names of two folders,
    `train/test`, or `hash`: folders count for classes only.
    """
    leading = posixpath.commonpath([posixpath.dirname(file) for file in files])
    folders = {file: tuple(file.removeprefix(leading).lstrip("/").split("/")[:-1]) for file in files}
    words = [(word.lower(),) for word in splits.split("/")] if splits else (TRAIN, TEST)
    found = None if splits == "hash" else _by_folder(folders, *words)
    if splits not in ("", "hash") and not found:
        raise InputError(f"splits={splits}: no two folders with images have these names; correct them")
    train, test = found or _by_hash(folders)
    how = "by folder" if found else "by a hash of their names"
    several = len({*train.values()}) > 1
    nested = several and all(len(above) > 1 and above[-1:] == IMAGES for above in train.values())
    if nested and {(), IMAGES} & {*test.values()}:
        (train, test), how = _by_hash(train), "by a hash of their names"
    both = train | test
    if nested:
        both = {file: above[:-1] if above[-1:] == IMAGES else above for file, above in both.items()}
    which = 0 if labels == "first" else -1
    named: Mapping[str, Any] = {file: above[which] for file, above in both.items() if above}
    if given is not None and labels not in BY_FOLDER:
        named = given
        if given and (bare := sorted(both.keys() - given.keys())):
            raise InputError(f"images are not in the file of labels ({some(bare)}); {REMEDY}")
    if labels in ("first", "last") and (bare := sorted(both.keys() - named.keys())):
        raise InputError(f"labels={labels}: {bare[0]} is in no folder that could be its class; move it to one")
    complete = named.keys() >= both.keys() and labels != "none"
    keys = sorted({named[file] for file in both}, key=lambda key: (str(type(key)), key)) if complete else []
    places = {key: place for place, key in enumerate(keys)} if len(keys) > 1 else {}
    classes = tuple(decoded(map(str, places), other))
    what = f"{len(classes):,} classes ({some(classes)})" if classes else "no classes"
    text = f"{what}, {len(train):,} train and {len(test):,} test images {how}"
    return Layout([*train], [*test], {file: places[named[file]] for file in both if places}, classes, text)


def _by_folder(folders: Split, *splits: Sequence[str]) -> tuple[Split, Split] | None:
    for depth in range(max(map(len, folders.values()))):
        own = {file: above[depth].lower() if depth < len(above) else "" for file, above in folders.items()}
        there = {*own.values()}
        train, test = (next((word for word in words if word in there), None) for words in splits)
        if train and test and (depth == 0 or splits != (TRAIN, TEST) or there <= SPLITS):
            inside = {file: above[:depth] + above[depth + 1 :] for file, above in folders.items()}
            return _those(inside, own, train), _those(inside, own, test)
    return None


def _those(folders: Split, words: Mapping[str, str], word: str) -> Split:
    return {file: above for file, above in folders.items() if words[file] == word}


def _by_hash(folders: Split) -> tuple[Split, Split]:
    def rank(file: str) -> bytes:
        path = posixpath.join(*folders[file], posixpath.basename(file))
        return hashlib.sha256(path.encode(errors="surrogateescape")).digest()

    held_out = sorted(folders, key=rank)[: max(1, round(len(folders) / 10))]
    words = dict.fromkeys(folders, "train") | dict.fromkeys(held_out, "test")
    return _those(folders, words, "train"), _those(folders, words, "test")


def read_labels(name: str, content: bytes, column: str = LABEL) -> dict[str, Any] | None:
    """The labels, numbers or names, in a `LABELS` file by the names of its images; None if it has no labels.

    Tables have a column `file_name`, relative to their own folder, and one with labels; `labels.csv` may begin
    without their names. StyleGAN's file gives {} if it has none, or vectors: its folders are no classes.
    """
    kind = posixpath.basename(name)
    try:
        if kind == STYLEGAN:
            pairs = json.loads(content)["labels"] or []
        elif not (pairs := _pairs(kind, content.decode("utf-8-sig"), column)):
            return None
        labels = {clean(posixpath.join(posixpath.dirname(name), file)): label for file, label in pairs}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, csv.Error) as error:
        if kind == STYLEGAN:
            return None
        raise InputError(f"{name} cannot be read ({first_line(error)}); {REMEDY}") from None
    if {*map(type, labels.values())} not in (set(), {int}, {str}):
        if kind == STYLEGAN:
            return {}
        raise InputError(f"{name} has labels that are neither whole numbers nor names; {REMEDY}")
    if len(labels) < len(pairs):
        raise InputError(f"{name} has images twice ({len(pairs) - len(labels):,} of them); {REMEDY}")
    return labels


def sample_of(name: str) -> str:
    """The sample of webdataset that a file belongs to: its name up to the first dot."""
    above, base = posixpath.split(name)
    return posixpath.join(above, base.partition(".")[0])


def of_one_type(labels: Mapping[str, Any]) -> dict[str, Any]:
    """The labels of all files as whole numbers, if all are such, else as text: `01` is another class than `1`."""
    texts = {file: str(label) for file, label in labels.items()}
    whole = all(text.lstrip("-").isdecimal() and text == str(int(text)) for text in texts.values())
    return {file: int(text) for file, text in texts.items()} if whole else texts


def _pairs(kind: str, text: str, column: str) -> list[tuple[str, Any]]:
    """Images with their labels, of those rows of a table that have both."""
    if kind.endswith(".csv"):
        named = kind != HEADLESS or FILE in text.partition("\n")[0]
        rows = [*csv.DictReader(io.StringIO(text), None if named else (FILE, LABEL))]
    else:
        rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    if rows and not any(FILE in row for row in rows):
        raise ValueError(f"it has no column {FILE}")
    return [(row[FILE], row[column]) for row in rows if row.get(FILE) and row.get(column) not in (None, "")]
