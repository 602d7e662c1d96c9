"""Data sets from any directory, zip or tar archive of images: listed, decoded, split, labelled and cached.

Everything is decoded once into memory: there is no loader, no worker, no transform.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import hashlib
import io
import json
import logging
import lzma
import os
import posixpath
import re
import tarfile
import unicodedata
import uuid
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import PIL
import psutil
import torch
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from gans.data.images import ImageData, Split, fit, planes, smallest_resolution
from gans.errors import InputError
from gans.files import expand, user_cache

log = logging.getLogger("gans")

FOLDER = "folder:"
LARGEST_DEFAULT = 128  # a folder of photographs; `resolution=` may ask for more
CACHE_VERSION = 2  # raise with any change to how a folder is decoded, fitted, labelled or split
KEPT = 8  # data sets that a process holds on to: those of one matrix

# Pillow would also try formats that run other programs (EPS) or are no pictures.
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
HELD_OUT = ("test", "val", "valid", "validation")  # names of the test split's folder, best first
UNREADABLE = (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error)

DECOMPRESSORS: dict[bytes, Callable] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}

T = TypeVar("T")


def load_folder(name: str, root: Path, resolution: int | None) -> ImageData:
    """The images of `name`, "folder:PATH", as squares; see `gans.data.datasets.load` for the rules and the errors.

    A folder whose files have not changed (names, sizes, times) comes from this process's memory, or else
    from the cache in `root`/cache or the user's. `resolution` is in pixels and sound, or None.
    """
    asked = name.removeprefix(FOLDER)
    if not asked:
        raise InputError(f"'{name}' names no folder: write {FOLDER}PATH, a directory, .zip or .tar of images")
    try:
        path = expand(asked).resolve(strict=True)
        return cached_folder(name, path, _fingerprint(path), root, resolution)
    except FileNotFoundError as error:
        raise InputError(f"{name}: {error.filename} does not exist; check the path") from None
    except PermissionError as error:
        raise InputError(f"{name}: no permission to read {error.filename}; change its mode or owner") from None
    except UNREADABLE as error:
        raise InputError(
            f"{name} is no directory, zip or tar, or is damaged ({last_line(error)}); check it or fetch it again"
        ) from None


@functools.lru_cache(maxsize=KEPT)
def cached_folder(name: str, path: Path, fingerprint: tuple, root: Path, resolution: int | None) -> ImageData:
    """`load_folder` for files with a known fingerprint; `cached_folder.cache_clear` empties the memory."""
    title = re.sub(r"(\.tar)?\.(zip|tar|t?gz|t?xz|t?bz2?)$", "", path.name, flags=re.IGNORECASE)
    key = [CACHE_VERSION, PIL.__version__, str(path), resolution, *fingerprint]
    file = f"{title}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.safetensors"
    files = [place / file for place in (root / "cache", user_cache())]
    cached = (_read_cache(file, name, title) for file in files if file.is_file())
    found = next((data for data in cached if data), None)
    if found:
        return found
    data = _decode_folder(name, title, path, resolution)
    _write_cache(data, files)
    return data


def _fingerprint(path: Path) -> tuple:
    """What changes when the files do."""
    if path.is_dir():
        return tuple(sorted((file.name, file.size, file.modified) for file in _files(path)))
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def last_line(error: Exception) -> str:
    """The last line of a message: libraries end their lists of failed attempts with the reason."""
    return (str(error).strip().splitlines() or [repr(error)])[-1]


def _decode_folder(name: str, title: str, path: Path, resolution: int | None) -> ImageData:
    """Two passes: over the headers, which decide on size and channels, then over the pixels.

    For a tar each is one streaming pass. The first adds about half to the time, once; a single pass would
    have to hold every file in memory until the last has told the most common size.
    """
    broken: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        headers = dict(_visit(path, _header, broken))
        channels = _common_channels(name, [header.channels for header in headers.values()])
        side = resolution or _default_resolution([min(header.size) for header in headers.values()])
        images = _room(name, (len(headers), channels, side, side))
        place = {file: index for index, file in enumerate(headers)}
        decode = functools.partial(_pixels, resolution=side)
        for file, pixels in _visit(path, decode, broken, len(headers)):
            images[place[file]] = pixels
    train, test = _split(name, sorted(headers.keys() - broken))
    classes = _classes([*train.values(), *test.values()])
    number = {folder: index for index, folder in enumerate(classes)}

    def split(files: dict[str, str]) -> Split:
        rows = torch.from_numpy(images[[place[file] for file in files]])
        labels = [number[_class_of(inside)] for inside in files.values()] if classes else None
        return Split(rows, None if labels is None else torch.tensor(labels))

    sizes = (headers[file].size for file in (*train, *test))
    return ImageData.of(name, title, split(train), split(test), classes, len(broken), sizes)


def _visit(
    path: Path, look: Callable[[Image.Image], T], broken: set[str], total: int | None = None
) -> Iterator[tuple[str, T]]:
    """(name, look(image)) of every sound image; a broken one is named in the log and added to `broken`."""
    console = Console(stderr=True)
    files = track(
        _files(path),
        description=f"{'looking through' if total is None else 'decoding'} {path.name}",
        total=total,
        console=console,
        disable=not console.is_terminal,
    )
    for file in files:
        content = file.read()
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                seen = look(image)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise InputError(
                f"{path}: {file.name} has more than {Image.MAX_IMAGE_PIXELS:,} pixels; remove or shrink it"
            ) from None
        except Exception as error:  # Pillow answers damage with nearly any exception
            _note_broken(path, file.name, error, broken)
            continue
        yield file.name, seen


def _note_broken(path: Path, file: str, error: Exception, broken: set[str]) -> None:
    if file not in broken:
        log.warning("%s: %s is broken and left out: %s", path, file, str(error).partition(" <")[0])
    broken.add(file)


# Files of directories and archives


@dataclass(frozen=True)
class _File:
    """An image file of a directory or archive; a tar's must be read before the next one is asked for."""

    name: str  # relative, parts joined by "/"
    size: int  # bytes, as declared
    read: Callable[[], bytes]
    modified: int = 0  # nanoseconds


def _files(path: Path) -> Iterator[_File]:
    """The image files of a directory or archive, in any order; without macOS's and other hidden files."""
    files = _directory(path) if path.is_dir() else _zip(path) if zipfile.is_zipfile(path) else _tar(path)
    # no image within Pillow's limit on pixels needs more, so a declared size beyond it is not even read
    limit = 4 * (Image.MAX_IMAGE_PIXELS or 2**32)
    for file in files:
        if file.size > limit:
            raise InputError(f"{path}: {file.name} has {file.size:,} bytes, too many for an image; remove it")
        yield file


def _directory(path: Path) -> Iterator[_File]:
    for file in _walk(path):
        name = _clean(file.relative_to(path).as_posix())
        if not _is_image(name):
            continue
        status = file.stat()
        yield _File(name, status.st_size, file.read_bytes, status.st_mtime_ns)


def _walk(path: Path) -> Iterator[Path]:
    """All files below `path`; links to folders are followed, but each folder is entered once."""
    entered = set()
    for folder, subfolders, names in os.walk(path, onerror=_raise, followlinks=True):
        subfolders.sort()  # which of two links to one folder comes first must not depend on the file system
        here = Path(folder).resolve()
        if here in entered:
            subfolders.clear()
            continue
        entered.add(here)
        yield from (Path(folder, name) for name in names)


def _raise(error: OSError) -> None:
    raise error


def _zip(path: Path) -> Iterator[_File]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = _clean(entry.filename)
            if entry.is_dir() or not _is_image(name):
                continue
            if entry.flag_bits & 1:
                raise InputError(f"{path} is encrypted; pack it again without a password")
            yield _File(name, entry.file_size, functools.partial(archive.read, entry))


def _tar(path: Path) -> Iterator[_File]:
    with _decompressed(path) as content, tarfile.open(fileobj=content, mode="r|") as archive:
        for entry in archive:
            name = _clean(entry.name)
            if entry.isdir() or not _is_image(name):
                continue
            yield _File(name, entry.size, functools.partial(_read_entry, archive, entry))
        _check_end(archive, content)


def _decompressed(path: Path) -> BinaryIO:
    # not by tarfile, which does not look at the checksum or the end of what it decompresses
    with path.open("rb") as file:
        start = file.read(8)
    open_ = next((open_ for magic, open_ in DECOMPRESSORS.items() if start.startswith(magic)), Path.open)
    return open_(path, "rb")


def _check_end(archive: tarfile.TarFile, content: BinaryIO) -> None:
    """tarfile takes a damaged or cut header for the end; after the true one there is only padding."""
    rest = archive.fileobj
    while rest and (block := rest.read(2**20)):
        if block.strip(b"\0"):
            raise tarfile.ReadError("a damaged header, or data after the end")
    if content.tell() % tarfile.BLOCKSIZE:
        raise tarfile.ReadError("cut off")


def _read_entry(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    # a stream cannot go back to what a link points to: no bytes, so it is named as broken
    file = archive.extractfile(entry) if entry.isfile() else None
    return file.read() if file else b""


def _clean(name: str) -> str:
    """One spelling for one name: no leading "/" or "./", and composed letters, which macOS takes apart."""
    return unicodedata.normalize("NFC", posixpath.normpath(name).lstrip("/"))


def _is_image(name: str) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
    return not hidden and name.lower().endswith(SUFFIXES)


# What a folder's images have in common


@dataclass(frozen=True)
class _Header:
    size: tuple[int, int]  # width and height as stored, pixels
    channels: int  # 1 or 3


def _header(image: Image.Image) -> _Header:
    return _Header(image.size, 1 if _is_grey(image) else 3)


def _is_grey(image: Image.Image) -> bool:
    if image.mode == "F":
        raise ValueError("float pixels have no fixed range")
    if image.mode != "P":
        return image.mode in ("1", "L", "LA") or image.mode.startswith("I")
    red, green, blue = np.reshape(image.getpalette() or [0, 0, 0], (-1, 3)).T
    return bool((red == green).all() and (green == blue).all())


def _pixels(image: Image.Image, resolution: int) -> np.ndarray:
    """uint8 (channels, resolution, resolution) of an image as opened."""
    ImageOps.exif_transpose(image, in_place=True)
    return planes(fit(_plain(image), resolution))


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


def _common_channels(name: str, channels: list[int]) -> int:
    if not channels:
        raise InputError(f"{name} has no image that can be read; known: {', '.join(SUFFIXES)}")
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


def _room(name: str, shape: tuple[int, int, int, int]) -> np.ndarray:
    """An array for all images, if memory holds it twice: once as decoded, once as split."""
    needed, free = 2 * int(np.prod(shape)), psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{name}: {shape[0]:,} images of {shape[-1]} x {shape[-1]} need {needed / 1e9:.1f} GB of memory, "
            f"{free / 1e9:.1f} GB are free; ask for a smaller resolution"
        )
    return np.zeros(shape, np.uint8)


def _split(name: str, files: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Train and test files, each with its path inside the split; `files` are sorted."""
    if len(files) < 2:
        raise InputError(
            f"{name} has {len(files)} sound images; add some: one to train and one to test are needed"
        )
    leading = posixpath.commonpath([posixpath.dirname(file) for file in files])
    inside = {file: file.removeprefix(leading).lstrip("/") for file in files}
    return _split_by_folder(name, inside) or _split_by_hash(inside)


def _split_by_folder(name: str, inside: dict[str, str]) -> tuple[dict[str, str], dict[str, str]] | None:
    splits: dict[str, dict[str, str]] = {}
    for file, path in inside.items():
        top, _, rest = path.partition("/")
        splits.setdefault(top.lower(), {})[file] = rest
    held_out = next((folder for folder in HELD_OUT if folder in splits), None)
    if "train" not in splits or held_out is None:
        return None
    others = len(inside) - len(splits["train"]) - len(splits[held_out])
    if others:
        log.warning("%s: %d images are in neither train nor %s and left out", name, others, held_out)
    return splits["train"], splits[held_out]


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


# The cache of decoded folders: deleting it only costs time


def _read_cache(file: Path, name: str, title: str) -> ImageData | None:
    """The data set in `file`; None, with a warning, if anything in it is not as it was written."""
    try:
        with safe_open(file, "pt") as archive:
            tensors = {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118 (no dict)
            stored = archive.metadata()
        about = json.loads(stored["about"])
        train, test = (Split(tensors[part], tensors.get(f"{part}_labels")) for part in ("train", "test"))
        sizes = map(tuple, about["sizes"])
        data = ImageData.of(name, title, train, test, tuple(about["classes"]), about["skipped"], sizes)
        intact = stored["seal"] == _seal(stored["about"]) and about["hash"] == data.hash
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        intact = False
    if intact:
        return data
    log.warning("the cache %s is damaged; the images are decoded again", file)
    return None


def _write_cache(data: ImageData, files: list[Path]) -> None:
    """Write to the first of `files` that can be written; without any the next load decodes again."""
    parts = {"hash": data.hash, "classes": data.classes, "skipped": data.skipped, "sizes": data.sizes}
    about = json.dumps(parts)
    tensors = {"train": data.train, "test": data.test}
    if data.train_labels is not None and data.test_labels is not None:
        tensors |= {"train_labels": data.train_labels, "test_labels": data.test_labels}
    for file in files:
        # beside the target, under a name of its own: replacing is then atomic, also between processes
        part = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, part, {"about": about, "seal": _seal(about)})
            part.chmod(0o644)  # safetensors makes it private, but a data folder may be shared
            part.replace(file)
            return
        except (OSError, SafetensorError) as error:
            log.info("no cache at %s: %s", file, error)
            _remove(part)


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError:  # its folder is no folder, or read-only: there is nothing to remove
        return


def _seal(about: str) -> str:
    return hashlib.sha256(about.encode()).hexdigest()
