"""The files of a directory, zip or tar archive that may be images, and those that are left out with the reason.

Only regular files are opened. A file's size, and the size of all that an archive unpacks to, have limits.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
import os
import posixpath
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

from PIL import Image

from gans.errors import InputError

UNREADABLE = (
    OSError,
    EOFError,
    NotImplementedError,
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
)
DECOMPRESSORS: dict[bytes, Callable] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
PIECE = 2**20  # bytes that are read from a tar at once, and that the header of a file may have
# bytes that an archive may unpack to: as many times its own size, or these if they are more
UNPACKED_TIMES, UNPACKED = 1_000, 2**32

# why a file is left out
BROKEN = "broken"
UNKNOWN = "of no known kind of image"
HIDDEN = "hidden"
IRREGULAR = "no regular file"
OUTSIDE = "leading out of the folder by a link"
NOWHERE = "leading nowhere by a link"
TWICE = "of a name that is there already"
FAULTS = (BROKEN, IRREGULAR, OUTSIDE, NOWHERE, TWICE)  # the other two reasons are no damage


LeftOut = dict[str, set[str]]  # names of files that are left out, by reason: a `defaultdict(set)`


def faults(left: LeftOut) -> int:
    """The number of files that are broken or cannot be read."""
    return sum(len(left.get(reason, ())) for reason in FAULTS)


def describe(left: LeftOut) -> str:
    """`2 broken (a.png, b.png), 1 hidden (.DS_Store)`; empty if nothing is left out."""
    found = [(reason, sorted(left[reason])) for reason in (*FAULTS, UNKNOWN, HIDDEN) if reason in left]
    return ", ".join(f"{len(names):,} {reason} ({_some(names)})" for reason, names in found)


def _some(names: list[str]) -> str:
    """Up to four names, else the first three, with characters that a terminal can print."""
    printable = [name.encode(errors="replace").decode().replace("\n", " ") for name in names]
    return ", ".join(printable if len(names) <= 4 else [*printable[:3], f"{len(names) - 3:,} more"])


class File(NamedTuple):
    """A file of a directory or archive; a tar's must be read before the next one is taken."""

    name: str  # relative, parts joined by "/"
    size: int  # bytes, as declared
    open: Callable[[], IO[bytes]]
    modified: int = 0  # nanoseconds


def files(path: Path, left: LeftOut) -> Iterator[File]:
    """The files of a directory or archive, in any order, each name once; what is left out is added to `left`.

    Raises:
        InputError: `path` is neither a folder nor a regular file, or an archive that cannot be unpacked.
        OSError, or another of `UNREADABLE`: it cannot be read.
    """
    seen: set[str] = set()
    for file in _listed(path)(path, left):
        if file.name in seen:
            left[TWICE].add(file.name)
        else:
            seen.add(file.name)
            yield file


def _listed(path: Path) -> Callable[[Path, LeftOut], Iterator[File]]:
    if path.is_dir():
        return _directory
    if not path.is_file():  # opening a pipe blocks, and a device may never end
        raise InputError(f"{path} is neither a folder nor a file; name a directory, .zip or .tar of images")
    return _zip if zipfile.is_zipfile(path) else _tar


# --- directories


def _directory(path: Path, left: LeftOut) -> Iterator[File]:
    """Regular files below a folder; links are followed if they stay inside, and each folder is entered once."""
    root, entered = os.path.realpath(path).rstrip("/"), set()
    for folder, subfolders, names in os.walk(root or "/", onerror=_fail, followlinks=True):
        here = os.path.realpath(folder)
        if here in entered:
            subfolders.clear()
            continue
        entered.add(here)
        # sorted: which of two links to one folder comes first must not depend on the file system
        subfolders[:] = [name for name in sorted(subfolders) if _status(root, f"{folder}/{name}", left)]
        for full in (f"{folder}/{name}" for name in sorted(names)):
            if status := _status(root, full, left):
                opened = functools.partial(_open, full)
                yield File(_clean(full.removeprefix(root)), status.st_size, opened, status.st_mtime_ns)


def _open(full: str) -> BinaryIO:
    return Path(full).open("rb")


def _fail(error: OSError) -> None:
    raise error


def _status(root: str, full: str, left: LeftOut) -> os.stat_result | None:
    """Of a regular file or a folder, or of a link to one inside; None, with the reason noted, of others."""
    path, status = Path(full), None
    if _is_hidden(path.name):
        reason = HIDDEN
    elif path.is_symlink() and not path.exists():
        reason = NOWHERE
    elif (
        path.is_symlink() and not os.path.realpath(full).startswith(f"{root}/") and os.path.realpath(full) != root
    ):
        reason = OUTSIDE
    else:
        status, reason = path.stat(), IRREGULAR
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            return status
    left[reason].add(_clean(full.removeprefix(root)))
    return None


# --- archives


def _zip(path: Path, left: LeftOut) -> Iterator[File]:
    with zipfile.ZipFile(path) as archive:
        check_unpacked(path, sum(entry.file_size for entry in archive.infolist()))
        for entry in archive.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            name = _member(entry.filename, kind in (0, stat.S_IFREG), left)
            if name is None:
                continue
            if entry.flag_bits & 1:
                raise InputError(f"{path} is encrypted; pack it again without a password")
            yield File(name, entry.file_size, functools.partial(archive.open, entry))


def _tar(path: Path, left: LeftOut) -> Iterator[File]:
    with _decompressed(path) as content:
        bounded = _Bounded(path, content)
        with tarfile.open(fileobj=bounded, mode="r:") as archive:  # type: ignore[call-overload]
            for entry in archive:
                # links are not regular files: following them would go back in the stream
                name = None if entry.isdir() else _member(entry.name, entry.isfile(), left)
                check_size(path, entry.name, entry.size)  # of all: to skip one, it is decompressed
                if name is not None:
                    yield File(name, entry.size, functools.partial(_extracted, archive, entry))
        _check_end(bounded)


def _decompressed(path: Path) -> BinaryIO:
    # not by tarfile, which looks neither at the checksum nor at the end of what it decompresses
    with path.open("rb") as file:
        start = file.read(8)
    open_ = next((open_ for magic, open_ in DECOMPRESSORS.items() if start.startswith(magic)), Path.open)
    return open_(path, "rb")


def _extracted(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    found = archive.extractfile(entry)
    assert found is not None  # only for folders, links and devices
    return found


class _Bounded:
    """The content of a tar, up to a limit. tarfile reads headers at once, whatever size they declare."""

    def __init__(self, path: Path, content: BinaryIO) -> None:
        self.path, self.content = path, content
        self.seek, self.tell = content.seek, content.tell

    def read(self, size: int) -> bytes:
        if size > PIECE:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        found = self.content.read(size)
        check_unpacked(self.path, self.tell())
        return found


def _check_end(content: _Bounded) -> None:
    """tarfile takes a damaged or cut header for the end; after the true one there is only padding."""
    while block := content.read(PIECE):
        if block.strip(b"\0"):
            raise tarfile.ReadError("a damaged header, or data after the end")
    if content.tell() % tarfile.BLOCKSIZE:
        raise tarfile.ReadError("cut off")


def check_unpacked(path: Path, size: int) -> None:
    """Refuse an archive that unpacks to more bytes than images, which are compressed, need."""
    limit = max(UNPACKED, UNPACKED_TIMES * path.stat().st_size)
    if size > limit:
        raise InputError(
            f"{path} unpacks to more than {limit:,} bytes, as no images do; if it should, unpack it and name its "
            "folder"
        )


def check_size(path: Path, name: str, size: int) -> None:
    """Refuse a file with more bytes than any image within Pillow's limit on pixels."""
    if size > 4 * (Image.MAX_IMAGE_PIXELS or 2**32):
        raise InputError(f"{path}: {name} has {size:,} bytes, too many for an image; remove it")


# --- names


def _member(name: str, regular: bool, left: LeftOut) -> str | None:
    """The name of an archive's file; None for a folder and, with the reason noted, for what is left out."""
    if name.endswith(("/", "\\")):
        return None
    name = _clean(name.replace("\\", "/"))  # Windows may separate by backslashes
    hidden = any(map(_is_hidden, name.split("/")))
    if hidden or not regular:
        left[HIDDEN if hidden else IRREGULAR].add(name)
        return None
    return name


def _clean(name: str) -> str:
    """One spelling for one name: no leading "/" or "./", and composed letters, which macOS decomposes."""
    return unicodedata.normalize("NFC", posixpath.normpath(name).lstrip("/"))


def _is_hidden(part: str) -> bool:
    """Whether a name begins with a dot or is macOS's; names that lead out of an archive begin with dots, too."""
    return part.startswith(".") or part == "__MACOSX"
