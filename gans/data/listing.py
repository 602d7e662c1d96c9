"""The files of a directory, zip or tar archive: which may be images, and which are left out and why.

Nothing here waits or grows without bounds: only regular files are opened, and the size that a file declares has a
limit, as has all that an archive unpacks to.
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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO, Self

from PIL import Image

from gans.errors import InputError

UNREADABLE = (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error)
DECOMPRESSORS: dict[bytes, Callable] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
# long names and extended headers of a tar, and how many bytes of each are read into memory
EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"X")
HEADER_LIMIT = 2**20
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
FAULTS = (BROKEN, IRREGULAR, OUTSIDE, NOWHERE, TWICE)  # what nobody leaves in a folder on purpose


@dataclass
class LeftOut:
    """The names of files that are left out, by reason; each name once, however often it is met."""

    names: dict[str, set[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> bool:
        """Note a file; whether it is new."""
        known = self.names.setdefault(reason, set())
        new = name not in known
        known.add(name)
        return new

    def faults(self) -> int:
        """Files that are broken, or cannot be had."""
        return sum(len(self.names.get(reason, ())) for reason in FAULTS)

    def text(self) -> str:
        """`2 broken (a.png, b.png), 1 hidden (.DS_Store)`; empty if nothing is left out."""
        return ", ".join(f"{len(names):,} {reason} ({_some(names)})" for reason, names in self._sorted())

    def as_key(self) -> tuple[tuple[str, ...], ...]:
        """Differs where anything differs."""
        return tuple((reason, *sorted(names)) for reason, names in self._sorted())

    def _sorted(self) -> list[tuple[str, set[str]]]:
        """Faults first."""
        return [(reason, self.names[reason]) for reason in (*FAULTS, UNKNOWN, HIDDEN) if reason in self.names]


def _some(names: Iterable[str]) -> str:
    """All of a few names, else the first three; as a terminal can show them."""
    shown = [name.encode(errors="replace").decode().replace("\n", " ") for name in sorted(names)]
    return ", ".join(shown if len(shown) <= 4 else [*shown[:3], f"{len(shown) - 3:,} more"])


@dataclass(frozen=True)
class File:
    """A file of a directory or archive; a tar's must be read before the next one is asked for."""

    name: str  # relative, parts joined by "/"
    size: int  # bytes, as declared
    open: Callable[[], IO[bytes]]
    modified: int = 0  # nanoseconds


def size_limit() -> int:
    """Bytes of a file that may be an image: no image within Pillow's limit on pixels needs more."""
    return 4 * (Image.MAX_IMAGE_PIXELS or 2**32)


def files(path: Path, left: LeftOut) -> Iterator[File]:
    """The files of a directory or archive, in any order, each name once; what is left out is added to `left`.

    Raises:
        InputError: `path` is neither a folder nor a regular file, or an archive that cannot be unpacked.
        OSError, or another of `UNREADABLE`: it cannot be read.
    """
    seen: set[str] = set()
    for file in _listed(path)(path, left):
        if file.name in seen:
            left.add(TWICE, file.name)
            continue
        seen.add(file.name)
        yield file


def count(path: Path) -> int | None:
    """Files of a directory or zip archive, for a progress bar; None: a tar must be read to its end to know."""
    listed = _listed(path)
    return None if listed is _tar else sum(1 for _ in listed(path, LeftOut()))


def _listed(path: Path) -> Callable[[Path, LeftOut], Iterator[File]]:
    if path.is_dir():
        return _directory
    if not path.is_file():  # a pipe would be waited for, and a device may never end
        raise InputError(f"{path} is neither a folder nor a file; name a directory, .zip or .tar of images")
    return _zip if zipfile.is_zipfile(path) else _tar


# --- directories


def _directory(path: Path, left: LeftOut) -> Iterator[File]:
    """Regular files below a folder; links are followed while they stay inside, each folder is entered once."""
    root = os.path.realpath(path)
    pending, entered = [root], set()
    while pending:
        folder = pending.pop()
        here = os.path.realpath(folder)
        if here in entered:
            continue
        entered.add(here)
        with os.scandir(folder) as found:
            # which of two links to one folder comes first must not depend on the file system
            entries = sorted(found, key=lambda entry: entry.name)
        subfolders = []
        for entry in entries:
            name = _clean(entry.path[len(root.rstrip("/")) + 1 :])
            status = _status(entry, root, name, left)
            if status is None:
                continue
            if stat.S_ISDIR(status.st_mode):
                subfolders.append(entry.path)
            else:
                opened = functools.partial(open_regular, entry.path)
                yield File(name, status.st_size, opened, status.st_mtime_ns)
        pending += reversed(subfolders)


def _status(entry: os.DirEntry[str], root: str, name: str, left: LeftOut) -> os.stat_result | None:
    """Of a regular file or a folder, or of a link to one inside; None, with the reason noted, of others."""
    if _is_hidden(entry.name):
        left.add(HIDDEN, name)
        return None
    if entry.is_symlink():
        try:
            status = entry.stat()
        except OSError:  # it dangles, or leads to itself
            left.add(NOWHERE, name)
            return None
        if not f"{os.path.realpath(entry.path)}/".startswith(f"{root.rstrip('/')}/"):
            left.add(OUTSIDE, name)
            return None
    else:
        status = entry.stat(follow_symlinks=False)
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return status
    left.add(IRREGULAR, name)
    return None


def open_regular(path: str) -> BinaryIO:
    """A regular file, open; whatever else has come to lie there since it was listed is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no regular file any more")
    return os.fdopen(descriptor, "rb")


# --- archives


def _zip(path: Path, left: LeftOut) -> Iterator[File]:
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > unpacked_limit(path):
            raise swollen(path)
        for entry in archive.infolist():
            mode = entry.external_attr >> 16
            name = _member(entry.filename, stat.S_IFMT(mode) in (0, stat.S_IFREG), left)
            if name is None:
                continue
            if entry.flag_bits & 1:
                raise InputError(f"{path} is encrypted; pack it again without a password")
            yield File(name, entry.file_size, functools.partial(_open_entry, archive, entry))


def _open_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> IO[bytes]:
    try:
        return archive.open(entry)
    except NotImplementedError as error:  # a method of compression that Python lacks
        raise zipfile.BadZipFile(f"{entry.filename}: {error}") from None


class _TarInfo(tarfile.TarInfo):
    """A header whose extensions have a limit: tarfile takes them into memory whole."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in EXTENSIONS and self.size > HEADER_LIMIT:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def _tar(path: Path, left: LeftOut) -> Iterator[File]:
    with (
        _Bounded(path) as content,
        tarfile.open(fileobj=content, mode="r|", tarinfo=_TarInfo) as archive,  # type: ignore[call-overload]
    ):
        for entry in archive:
            archive.members = []  # a stream never goes back to them
            if entry.isdir():
                continue
            # nor are links regular files: a stream cannot go back to what they point to
            name = _member(entry.name, entry.isfile(), left)
            if name is None:
                continue
            if entry.size > size_limit():  # a stream must be read to get past it
                raise too_large(path, name, entry.size)
            yield File(name, entry.size, functools.partial(_extracted, archive, entry))
        _check_end(archive, content)


def _extracted(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    found = archive.extractfile(entry)
    assert found is not None  # only of folders, links and devices
    return found


class _Bounded:
    """What a tar is unpacked from, as a stream that has an end."""

    def __init__(self, path: Path) -> None:
        self.path, self.limit, self.content = path, unpacked_limit(path), _decompressed(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.content.close()

    def read(self, size: int) -> bytes:
        found = self.content.read(size)
        if self.tell() > self.limit:
            raise swollen(self.path)
        return found

    def tell(self) -> int:
        return self.content.tell()


def unpacked_limit(path: Path) -> int:
    """Bytes that all of an archive may have once it is unpacked; images, which are compressed, have fewer."""
    return max(UNPACKED, UNPACKED_TIMES * path.stat().st_size)


def swollen(path: Path) -> InputError:
    return InputError(
        f"{path} unpacks to more than {unpacked_limit(path):,} bytes, as no images do; if it should, unpack it "
        "and name its folder"
    )


def too_large(path: Path, name: str, size: int) -> InputError:
    return InputError(f"{path}: {name} has {size:,} bytes, too many for an image; remove it")


def _decompressed(path: Path) -> BinaryIO:
    # not by tarfile, which does not look at the checksum or the end of what it decompresses
    with path.open("rb") as file:
        start = file.read(8)
    open_ = next((open_ for magic, open_ in DECOMPRESSORS.items() if start.startswith(magic)), Path.open)
    return open_(path, "rb")


def _check_end(archive: tarfile.TarFile, content: _Bounded) -> None:
    """tarfile takes a damaged or cut header for the end; after the true one there is only padding."""
    rest = archive.fileobj
    while rest and (block := rest.read(2**20)):
        if block.strip(b"\0"):
            raise tarfile.ReadError("a damaged header, or data after the end")
    if content.tell() % tarfile.BLOCKSIZE:
        raise tarfile.ReadError("cut off")


# --- names


def _member(name: str, regular: bool, left: LeftOut) -> str | None:
    """The name of an archive's file; None for a folder and, with the reason noted, for what is left out."""
    name = name.replace("\\", "/")  # as archives made on Windows may have it
    if name.endswith("/"):
        return None
    name = _clean(name)
    if any(map(_is_hidden, name.split("/"))):
        left.add(HIDDEN, name)
        return None
    if not regular:
        left.add(IRREGULAR, name)
        return None
    return name


def _clean(name: str) -> str:
    """One spelling for one name: no leading "/" or "./", and composed letters, which macOS takes apart."""
    return unicodedata.normalize("NFC", posixpath.normpath(name).lstrip("/"))


def _is_hidden(part: str) -> bool:
    """By a dot, or macOS's; names that lead out of an archive begin with dots, too."""
    return part.startswith(".") or part == "__MACOSX"
