"""Data sets from any directory, zip or tar archive of images: decoded, split, labelled and cached.

All images are decoded once into memory: there is no loader, no worker, no transform.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import logging
import posixpath
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.console import Console
from rich.progress import track
from torch import Tensor

from gans.data import listing
from gans.data.images import ImageData, check_memory, fit, planes, smallest_resolution
from gans.data.listing import UNREADABLE, File, LeftOut
from gans.errors import InputError, last_line
from gans.files import cache_read, cache_write, expand, user_cache
from gans.registry import FOLDER

log = logging.getLogger("gans")

LARGEST_DEFAULT = 128  # a folder of photographs; `resolution=` may be larger
CACHE_VERSION = 4  # raise with any change to how a folder is decoded, fitted, labelled, split or cached
KEPT = 8  # data sets that stay in a process's memory: those of one matrix

# Pillow would also try formats that run other programs (EPS), are no pictures, or cannot be recognised (TGA).
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000", "QOI", "SGI")
MAGIC = 32  # first bytes of a file, by which its format is recognised
MOST_NAMED = 10  # broken images with a line in the log; all are counted
ORIENTATION = 0x0112  # EXIF's tag for how a camera was held
HELD_OUT = ("test", "val", "valid", "validation")  # names of the test split's folder, best first

T = TypeVar("T")


def load_folder(name: str, root: Path, resolution: int | None) -> ImageData:
    """The images of `name`, "folder:PATH", as squares; see `gans.data.datasets.load` for the rules and the errors.

    A folder whose files have not changed (names, sizes, times) comes from this process's memory, or else
    from the cache in `root`/cache or the user's. `resolution` is in pixels and valid, or None.
    """
    path = _resolved(name)
    try:
        return cached_folder(name, path, _fingerprint(path), root, resolution)
    except PermissionError as error:
        raise InputError(f"{name}: no permission to read {error.filename}; change its mode or owner") from None
    except UNREADABLE as error:
        raise InputError(
            f"{name} is no directory, zip or tar, or is damaged ({last_line(error)}); check it or fetch it again"
        ) from None


def _resolved(name: str) -> Path:
    given = name.removeprefix(FOLDER)
    if not given:
        raise InputError(f"'{name}' names no folder: write {FOLDER}PATH, a directory, .zip or .tar of images")
    path = expand(given)
    try:
        return path.resolve(strict=True)
    except FileNotFoundError as error:
        raise InputError(f"{name}: {error.filename} does not exist; check the path") from None
    except (OSError, RuntimeError, ValueError) as error:  # no permission, a loop of links, a null byte
        raise InputError(f"{name!r} is no path that can be followed ({last_line(error)}); check it") from None


@functools.lru_cache(maxsize=KEPT)
def cached_folder(name: str, path: Path, fingerprint: tuple, root: Path, resolution: int | None) -> ImageData:
    """`load_folder` for files with a known fingerprint; `cached_folder.cache_clear` empties the memory."""
    title = re.sub(r"(\.tar)?\.(zip|tar|t?gz|t?xz|t?bz2?)$", "", path.name, flags=re.IGNORECASE)
    key = [CACHE_VERSION, PIL.__version__, str(path), resolution, *fingerprint]
    file = f"{title}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.safetensors"
    files = [place / file for place in (root / "cache", user_cache())]
    if cached := cache_read(files, "the images are decoded again"):
        data = _unpacked(name, title, *cached)
    else:
        data = _decode_folder(name, title, path, resolution)
        cache_write(files, *_packed(data))
    for remark in data.remarks:
        log.warning("%s: %s", name, remark)
    return data


def _packed(data: ImageData) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {key: value for key, value in vars(data).items() if isinstance(value, Tensor)}
    return tensors, {key: getattr(data, key) for key in ("hash", "classes", "skipped", "sizes", "remarks")}


def _unpacked(name: str, title: str, tensors: dict[str, Tensor], about: dict[str, Any]) -> ImageData:
    labels = {"train_labels": None, "test_labels": None}
    return ImageData(name=name, title=title, **labels | tensors | {k: _tuples(v) for k, v in about.items()})


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _fingerprint(path: Path) -> tuple:
    """What changes when the files do."""
    if path.is_dir():
        left: LeftOut = defaultdict(set)
        found = sorted((file.name, file.size, file.modified) for file in listing.files(path, left))
        return (*found, *((reason, *sorted(names)) for reason, names in sorted(left.items())))
    status = path.stat()
    return status.st_size, status.st_mtime_ns


# --- decoding


def _decode_folder(name: str, title: str, path: Path, resolution: int | None) -> ImageData:
    """Two passes: over the headers, which decide on size and channels, then over the pixels.

    A tar is streamed twice. The first pass adds about half to the time, once; a single pass would have to hold
    every file in memory until the most common size is known.
    """
    left: LeftOut = defaultdict(set)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        headers = dict(_visit(path, _header, left, "looking through", None))
        channels = _common_channels(name, [channels for _, channels in headers.values()], left)
        side = resolution or _default_resolution([min(size) for size, _ in headers.values()])
        shape = (len(headers), channels, side, side)
        check_memory(name, shape)
        images = np.zeros(shape, np.uint8)
        place = {file: index for index, file in enumerate(headers)}
        changes = {}
        decode = functools.partial(_decoded, resolution=side)
        for file, (pixels, changed) in _visit(path, decode, left, "decoding", len(headers)):
            images[place[file]] = pixels
            changes[file] = changed
    train, test, outside = _split(name, sorted(changes))
    classes = _classes([*train.values(), *test.values()])

    def rows(files: dict[str, str]) -> Tensor:
        return torch.from_numpy(images[[place[file] for file in files]])

    def labels(files: dict[str, str]) -> Tensor | None:
        return torch.tensor([classes.index(_class_of(path)) for path in files.values()]) if classes else None

    used = (*train, *test)
    counts = Counter(change for file in used for change in changes[file])
    converted = ", ".join(f"{count:,} {change}" for change, count in sorted(counts.items()))
    remarks = [
        f"{what}: {text}"
        for what, text in (("converted", converted), ("left out", listing.describe(left)))
        if text
    ]
    sizes = {headers[file][0] for file in used}
    return ImageData(
        name,
        title,
        rows(train),
        rows(test),
        labels(train),
        labels(test),
        classes,
        skipped=listing.faults(left),
        sizes=tuple(sorted(sizes)),
        remarks=tuple(remarks + outside),
    )


def _visit(
    path: Path, look: Callable[[Image.Image], T], left: LeftOut, phase: str, total: int | None
) -> Iterator[tuple[str, T]]:
    """(name, look(image)) of every sound image; others are added to `left`, broken ones named in the log."""
    console = Console(stderr=True)
    for file in track(
        listing.files(path, left),
        description=f"{phase} {path.name}",
        total=total,
        console=console,
        disable=not console.is_terminal,
    ):
        content = _content(path, file)
        try:
            if content is None:
                raise UnidentifiedImageError
            with Image.open(io.BytesIO(content), formats=formats()) as image:
                found = look(image)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise InputError(
                f"{path}: {file.name} has more than {Image.MAX_IMAGE_PIXELS:,} pixels; remove or shrink it"
            ) from None
        except Exception as error:  # Pillow answers damage with nearly any exception
            if isinstance(error, UnidentifiedImageError) and not _is_named_image(file.name):
                left[listing.UNKNOWN].add(file.name)
                continue
            if file.name not in (broken := left[listing.BROKEN]) and len(broken) < MOST_NAMED:
                log.warning("%s: %s is broken and left out: %s", path, file.name, str(error).partition(" <")[0])
            broken.add(file.name)
        else:
            yield file.name, found


def _content(path: Path, file: File) -> bytes | None:
    """A file's bytes; None if neither its first ones nor its name are an image's: it is read no further."""
    with file.open() as opened:
        start = opened.read(MAGIC)
        if not (_is_image(start) or _is_named_image(file.name)):
            return None
        listing.check_size(path, file.name, file.size)
        parts, left = [start], file.size - len(start)
        # no more than declared, whatever has been written to it since
        while left > 0 and (part := opened.read(min(left, listing.PIECE))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


@functools.cache
def formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@functools.cache
def suffixes() -> frozenset[str]:
    """The endings of names by which an image of these formats is known, in lower case."""
    known = formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in (*known, "MPO"))


def _is_image(start: bytes) -> bool:
    """Whether these first bytes may be an image's, whatever its name."""
    start = start.ljust(MAGIC, b"\0")
    return any(accept is None or accept(start) for _, accept in (Image.OPEN[name] for name in formats()))


def _is_named_image(name: str) -> bool:
    return posixpath.splitext(name)[1].lower() in suffixes()


# --- what a folder's images have in common


def _header(image: Image.Image) -> tuple[tuple[int, int], int]:
    """Width and height as stored, in pixels; channels."""
    _check_range(image)
    return image.size, 1 if _is_grey(image) else 3


def _check_range(image: Image.Image) -> None:
    """Refuse pixels whose white is unknown: to scale them would be a guess.

    Raises:
        ValueError: floats, or integers other than unsigned ones of 16 bits.
    """
    if image.mode == "F":
        raise ValueError("float pixels have no fixed range; store 8 bits")
    tags = getattr(image, "tag_v2", {})
    bits, kind = tags.get(258, (16,)), tags.get(339, (1,))  # of a TIFF: BitsPerSample, SampleFormat (1: unsigned)
    if image.mode.startswith("I") and (bits[0], kind[0]) != (16, 1):
        raise ValueError(f"{bits[0]}-bit integers have no fixed range; store 8 bits, or 16 unsigned ones")


def _is_grey(image: Image.Image) -> bool:
    if image.mode != "P":
        return image.mode in ("1", "L", "LA") or image.mode.startswith("I")
    red, green, blue = np.reshape(image.getpalette() or [0, 0, 0], (-1, 3)).T
    return bool((red == green).all() and (green == blue).all())


def _decoded(image: Image.Image, resolution: int) -> tuple[np.ndarray, list[str]]:
    """uint8 (channels, resolution, resolution) of an image as opened, and how it was converted to that."""
    _check_range(image)
    changes = _changes(image)
    if image.getexif().get(ORIENTATION, 1) != 1:
        changes.append("turned as their EXIF says")
    ImageOps.exif_transpose(image, in_place=True)
    return planes(fit(_plain(image), resolution)), changes


def _changes(image: Image.Image) -> list[str]:
    """What `_plain` will do to the image, in words that follow a number."""
    found = []
    tiles = getattr(image, "tile", [])  # how a file stores its pixels
    stored = str(tiles[0].args) if tiles else ""
    if image.mode.startswith("I") or "16" in stored:
        found.append("of 16 bits to 8")
    if image.mode == "1":
        found.append("of 1 bit to black and white")
    elif image.mode in ("P", "PA"):
        found.append("by palette")
    elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        found.append(f"{image.mode} to RGB")
    if image.has_transparency_data:
        found.append("with transparency, laid on black")
    if getattr(image, "is_animated", False):
        found.append("of several frames, of which the first is taken")
    return found


def _plain(image: Image.Image) -> Image.Image:
    """The image as 8-bit grey or colour, transparent pixels composited on black."""
    mode = "L" if _is_grey(image) else "RGB"
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255 instead of scaling
        return Image.fromarray(np.rint(np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert(mode)
    # black, as in padding: what a file stores under full transparency is often rubbish
    black = Image.new("RGBA", image.size, "black")
    return Image.alpha_composite(black, image.convert("RGBA")).convert(mode)


def _common_channels(name: str, channels: list[int], left: LeftOut) -> int:
    if not channels:
        why = f": {listing.describe(left)}" if left else ""
        raise InputError(f"{name} has no image that can be read{why}; known: {', '.join(sorted(suffixes()))}")
    grey, colour = channels.count(1), channels.count(3)
    if grey and colour:
        raise InputError(
            f"{name} has {grey} grey and {colour} colour images; convert them to one kind or use two folders"
        )
    return channels[0]


def _default_resolution(sides: list[int]) -> int:
    count = Counter(sides)
    common = max(count, key=lambda side: (count[side], side))  # a tie must not depend on the order of files
    return min(LARGEST_DEFAULT, smallest_resolution(common))


def _split(name: str, files: list[str]) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Train and test files, each with its path inside the split, and remarks on others; `files` are sorted."""
    if len(files) < 2:
        raise InputError(
            f"{name} has {len(files)} sound images; add some: one to train and one to test are needed"
        )
    leading = posixpath.commonpath([posixpath.dirname(file) for file in files])
    inside = {file: file.removeprefix(leading).lstrip("/") for file in files}
    return _split_by_folder(inside) or (*_split_by_hash(inside), [])


def _split_by_folder(inside: dict[str, str]) -> tuple[dict[str, str], dict[str, str], list[str]] | None:
    splits: dict[str, dict[str, str]] = {}
    for file, path in inside.items():
        top, _, rest = path.partition("/")
        splits.setdefault(top.lower(), {})[file] = rest
    held_out = next((folder for folder in HELD_OUT if folder in splits), None)
    if "train" not in splits or held_out is None:
        return None
    others = len(inside) - len(splits["train"]) - len(splits[held_out])
    remark = [f"{others} images are in neither train nor {held_out} and left out"] if others else []
    return splits["train"], splits[held_out], remark


def _split_by_hash(inside: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    def rank(file: str) -> bytes:
        return hashlib.sha256(inside[file].encode(errors="surrogateescape")).digest()

    held_out = set(sorted(inside, key=rank)[: max(1, round(len(inside) / 10))])
    train = {file: path for file, path in inside.items() if file not in held_out}
    return train, {file: path for file, path in inside.items() if file in held_out}


def _class_of(path: str) -> str:
    return posixpath.basename(posixpath.dirname(path))


def _classes(paths: list[str]) -> tuple[str, ...]:
    folders = sorted({_class_of(path) for path in paths})
    return tuple(folders) if len(folders) > 1 and "" not in folders else ()
