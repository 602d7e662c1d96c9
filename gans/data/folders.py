"""Data sets from any directory, archive or package of images, decoded once into the cache."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import logging
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.console import Console
from rich.progress import track
from torch import Tensor

from gans.data import hub, layout, listing, stored
from gans.data.images import ImageData, fit, planes, smallest_resolution
from gans.data.listing import UNKNOWN, UNREADABLE, LeftOut
from gans.data.packed import CLS, File
from gans.errors import InputError, first_line
from gans.files import cache_read, cache_write, expand, user_cache
from gans.registry import FOLDER, HUB, folder

log = logging.getLogger("gans")

LARGEST_DEFAULT = 128  # a folder of photographs; `resolution=` may be larger
CACHE_VERSION = 8  # raise with any change to how a folder is decoded, fitted, labelled, split or cached
KEPT = 8  # data sets that stay in a process's memory: those of one matrix

# Pillow would also try formats that run other programs (EPS), are no pictures, or cannot be recognised (TGA).
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000", "QOI", "SGI")
ORIENTATION = 0x0112  # EXIF's tag for how a camera was held
BITS, SAMPLES = 258, 339  # TIFF's tags BitsPerSample and SampleFormat (1: unsigned)

T = TypeVar("T")


def load_folder(name: str, root: Path, resolution: int | None) -> ImageData:
    """The images of "folder:PATH" or "hf:OWNER/NAME", as squares; `gans.data.datasets.load` has rules and errors.

    A folder whose files have not changed (names, sizes, times) comes from this process's memory, or else
    from the cache in `root`/cache or the user's.
    """
    given, settings = folder(name)
    if not given:
        raise InputError(f"'{name}' lacks a path: write {FOLDER}PATH, a directory, .zip or .tar of images")
    layout.check(**settings)
    where = hub.fetch(given, root) if name.startswith(HUB) else given
    try:
        path = expand(where).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:  # not there, no permission, a loop of links, a null byte
        raise InputError(f"{name!r} cannot be found ({first_line(error)}); check the path") from None
    try:
        return cached_folder(name, path, _fingerprint(path), root, resolution)
    except PermissionError as error:
        raise InputError(f"{name}: no permission to read {error.filename}; change its mode or owner") from None
    except UNREADABLE as error:
        taken = "a directory, .zip or .tar (.gz, .xz, .bz2) of images"
        raise InputError(f"{name} is damaged, or is not {taken}: {first_line(error)}; name another") from None


@functools.lru_cache(maxsize=KEPT)
def cached_folder(name: str, path: Path, fingerprint: tuple, root: Path, resolution: int | None) -> ImageData:
    """`load_folder` for files with a known fingerprint; `cached_folder.cache_clear` empties the memory."""
    title = re.sub(r"(\.tar)?\.(zip|tar|t?gz|t?xz|t?bz2?|parquet|npz|npy)$", "", path.name, flags=re.IGNORECASE)
    key = [CACHE_VERSION, PIL.__version__, str(path), *fingerprint, *folder(name)[1].items()]
    stem = f"{title}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}"
    defaults = [place / f"{stem}.safetensors" for place in (root / "cache", user_cache())]

    def places(side: int) -> list[Path]:
        return [file.with_name(f"{stem}-{side}.images") for file in defaults]

    if resolution is None and (default := cache_read(defaults, "the images are decoded again")):
        return cached_folder(name, path, fingerprint, root, default[1]["side"])
    data = _kept(name, title, places(resolution)) if resolution else None
    if data is None:
        data = _decode_folder(name, title, path, resolution, places)
        data = _kept(name, title, places(data.resolution)) or data  # whose pages the hash has read into memory
    if resolution is None:
        cache_write(defaults, {}, {"side": data.resolution})
    for line in data.about:
        say(f"{name}: {line}")
    return data


def _kept(name: str, title: str, places: Sequence[Path]) -> ImageData | None:
    """The images and all about them in the first undamaged cache."""
    if not (cached := stored.read(places)):
        return None
    images, labels, about = cached
    train, test = images.split(about.pop("splits"))
    values: dict[str, Any] = {"train_labels": None, "test_labels": None, **labels}
    values |= {key: _tuples(value) for key, value in about.items()}
    return ImageData(name, title, train, test, **values)


@functools.cache
def say(line: str) -> None:
    """Log a line, once: a folder is loaded for a plan, and then at the size that the plan decides on."""
    log.warning("%s", line)


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _fingerprint(path: Path) -> tuple:
    """A value that changes with the files."""
    if path.is_dir():
        return tuple(
            sorted((file.name, file.size, file.modified, file.reason) for file in listing.directory(path))
        )
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _decode_folder(
    name: str, title: str, path: Path, resolution: int | None, places: Callable[[int], Sequence[Path]]
) -> ImageData:
    """Passes over the headers, which decide on size, channels and splits, and over the pixels.

    Pixels are written to the first of the `places` for their side, in final order; again, if some are damaged.
    """
    left: LeftOut = {}
    settings = folder(name)[1]
    pad = settings.pop("fit", "crop") == "pad"
    column = "" if settings.get("labels", "") in layout.BY_FOLDER else settings.get("labels", "")
    files = functools.partial(listing.files, path, images=settings.pop("images", ""), labels=column)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        headers = dict(_visit(path, files(), _header, left, "looking through"))
        channels = _common_channels(name, [channels for _, channels in headers.values()], listing.describe(left))
        side = resolution or _default_resolution([(max if pad else min)(size) for size, _ in headers.values()])
        other = "cp437" if zipfile.is_zipfile(path) else "latin_1"  # as the specification of zip has it
        given, source = _given_labels(path, files, left, {*headers}, settings.get("labels", ""))
        decode = functools.partial(_decoded, resolution=side, pad=pad)
        while True:
            if len(headers) < 2:
                raise InputError(f"{name} has {len(headers)} undamaged images; training and testing need one each")
            found = layout.understand(sorted(headers), given, other, **settings)
            used = [*found.train, *found.test]
            changes: dict[str, list[str]] = {}
            rows = functools.partial(_rows, path, files, decode, left, used, changes)
            images, place = stored.write(name, places(side), (len(used), channels, side, side), rows)
            if not (damaged := {*used} - changes.keys()):
                break
            headers = {file: header for file, header in headers.items() if file not in damaged}
    left |= dict.fromkeys(headers.keys() - {*used}, "in neither split")

    def labels(part: list[str]) -> Tensor | None:
        return torch.tensor([found.labels[file] for file in part]) if found.labels else None

    counts = Counter(change for file in used for change in changes[file])
    converted = ", ".join(f"{count:,} {change}" for change, count in sorted(counts.items()))
    remarks = {"converted": converted, "left out": listing.describe(left)}
    splits = len(found.train), len(found.test)
    train, test = images.split(splits)
    data = ImageData(
        name,
        title,
        train,
        test,
        labels(found.train),
        labels(found.test),
        found.classes,
        sizes=tuple(sorted({headers[file][0] for file in used})),
        understood=found.text + source,
        remarks=tuple(f"{what}: {text}" for what, text in remarks.items() if text),
    )
    tensors = {key: value for key in ("train_labels", "test_labels") if (value := getattr(data, key)) is not None}
    kept = {key: getattr(data, key) for key in ("hash", "classes", "sizes", "understood", "remarks")}
    stored.describe(place, images, tensors, {**kept, "splits": splits})
    return data


def _rows(
    path: Path,
    files: Callable[[], Iterable[File]],
    decode: Callable[[Image.Image], tuple[np.ndarray, list[str]]],
    left: LeftOut,
    used: list[str],
    changes: dict[str, list[str]],
) -> Iterator[tuple[int, np.ndarray]]:
    """The row and the pixels of each of these images; how it was converted is added to `changes`."""
    rows = {file: row for row, file in enumerate(used)}
    for file, (pixels, changes[file]) in _visit(path, files(), decode, left, "decoding", rows):
        yield rows[file], pixels


def _visit(
    path: Path,
    files: Iterable[File],
    look: Callable[[Image.Image], T],
    left: LeftOut,
    phase: str,
    only: Mapping[str, int] | None = None,
) -> Iterator[tuple[str, T]]:
    """(name, look(image)) of every undamaged image, or of those in `only`; others are added to `left`."""
    shown = Console(stderr=True)
    phase, count = f"{phase} {path.name}", None if only is None else len(only)
    for file in track(files, phase, count, console=shown, disable=not shown.is_terminal):
        if file.reason and only is None:
            left[file.name] = file.reason
        if file.reason or (only is not None and file.name not in only):
            continue
        content = file.content()  # damage of an archive is an error, damage of an image is not
        try:
            with Image.open(io.BytesIO(content), formats=formats()) as image:
                found = look(image)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            limit = f"{Image.MAX_IMAGE_PIXELS:,} pixels"
            raise InputError(f"{path}: {file.name} has more than {limit}; remove or shrink it") from None
        except UnidentifiedImageError:
            left[file.name] = UNKNOWN
        except Exception as error:  # Pillow raises nearly any exception on damage
            left[file.name] = f"broken, {first_line(error).partition(' (')[0]}"
        else:
            yield file.name, found


def _given_labels(
    path: Path, files: Callable[[], Iterable[File]], left: LeftOut, used: set[str], setting: str
) -> tuple[dict[str, Any] | None, str]:
    """The labels of the files with labels beside the images, None without one, and which files these are."""
    column = "" if setting in layout.BY_FOLDER else setting
    known = () if column != setting else layout.LABELS[1:] if column else layout.LABELS
    ends = tuple(f"/{name}" for name in known) + ((CLS,) if known else ())
    names = {name for name, why in left.items() if f"/{name}".endswith(ends) and why == UNKNOWN}
    for name in [name for name in left if name.endswith(CLS)]:
        del left[name]
    found: dict[str, dict[str, Any]] = {}
    of_sample: dict[str, str] = {}
    for file in files() if names else ():
        if file.name in names and file.name.endswith(CLS):
            of_sample[layout.sample_of(file.name)] = file.content().decode(errors="replace").strip()
        elif file.name in names:
            read = layout.read_labels(file.name, file.content(), column or layout.LABEL)
            found |= {} if read is None else {file.name: read}
    if of_sample:
        found[f"{len(of_sample):,} samples"] = {
            name: of_sample[key] for name in used if (key := layout.sample_of(name)) in of_sample
        }
    if column and not found:
        taken = f"none, first or last, or a column of {', '.join(layout.LABELS[1:])}"
        raise InputError(f"labels={column} is not valid: there are no such labels; take {taken}")
    labels: dict[str, Any] = {}
    for name, read in found.items():
        if absent := sorted(read.keys() - used - left.keys()):
            raise InputError(
                f"{path}: {name} lists images that are not there ({listing.some(absent)}); {layout.REMEDY}"
            )
        if other := [file for file in read if labels.get(file, read[file]) != read[file]]:
            raise InputError(
                f"{path}: {name} and another file have other labels ({listing.some(other)}); {layout.REMEDY}"
            )
        labels |= read
        left.pop(name, None)
    labels = layout.of_one_type(labels)
    return labels if found else None, f", labels of {listing.some(sorted(found))}" if labels else ""


@functools.cache
def formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _header(image: Image.Image) -> tuple[tuple[int, int], int]:
    """Width and height as stored, in pixels; channels. A ValueError if white would be a guess."""
    if image.mode == "F":
        raise ValueError("float pixels have no fixed range; store 8 bits")
    tags = getattr(image, "tag_v2", {})
    bits, kind = tags.get(BITS, (16,))[0], tags.get(SAMPLES, (1,))[0]
    if image.mode.startswith("I") and (bits, kind) != (16, 1):
        raise ValueError(f"{bits}-bit integers have no fixed range; store 8 bits, or 16 unsigned ones")
    return image.size, 1 if _is_grey(image) else 3


def _is_grey(image: Image.Image) -> bool:
    if image.mode != "P":
        return image.mode in ("1", "L", "LA") or image.mode.startswith("I")
    red, green, blue = np.reshape(image.getpalette() or [0, 0, 0], (-1, 3)).T
    return bool((red == green).all() and (green == blue).all())


def _decoded(image: Image.Image, resolution: int, pad: bool) -> tuple[np.ndarray, list[str]]:
    """uint8 (channels, resolution, resolution) of an image as opened, and how it was converted to that."""
    stored = str([tile.args for tile in getattr(image, "tile", [])])  # how; of a BMP of 16 bits 5 are a channel's
    deep, clear = image.mode.startswith("I"), image.has_transparency_data
    changes = {
        "of 16 bits to 8": deep or (";16" in stored and "BGR;16" not in stored),
        "of 1 bit to black and white": image.mode == "1",
        "by palette": image.mode in ("P", "PA"),
        f"{image.mode} to RGB": image.mode in ("CMYK", "YCbCr", "LAB", "HSV"),
        "with transparency, laid on black": clear,
        "of several frames, of which the first is taken": getattr(image, "is_animated", False),
        "turned as their EXIF says": image.getexif().get(ORIENTATION, 1) != 1,
    }
    ImageOps.exif_transpose(image, in_place=True)
    mode = "L" if _is_grey(image) else "RGB"
    if deep:  # Pillow would clip at 255 instead of scaling
        image = Image.fromarray(np.rint(np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
    elif clear:  # black, as in padding: pixels under full transparency are often arbitrary
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    return planes(fit(image.convert(mode), resolution, pad)), [change for change, made in changes.items() if made]


def _common_channels(name: str, channels: list[int], left: str) -> int:
    if not channels:
        why = f": {left}" if left else ""
        raise InputError(f"{name} has no readable image{why}; known formats are {', '.join(formats())}")
    grey, colour = channels.count(1), channels.count(3)
    if grey and colour:
        remedy = "convert them to one kind or use two folders"
        raise InputError(f"{name} has {grey} grey and {colour} colour images; {remedy}")
    return channels[0]


def _default_resolution(sides: list[int]) -> int:
    count = Counter(sides)
    common = max(count, key=lambda side: (count[side], side))  # a tie must not depend on the order of files
    return min(LARGEST_DEFAULT, smallest_resolution(common))
