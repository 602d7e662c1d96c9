"""The files of a directory or archive that may be images, and why others are left out.

Only regular files are opened. A file's size, and the size of all that an archive unpacks to, have limits.
"""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import lzma
import os
import posixpath
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from gans.data import packed
from gans.data.packed import CLS, File, check_unpacked, largest
from gans.errors import InputError, printable

DAMAGE = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error)
UNREADABLE = (OSError, EOFError, NotImplementedError, *DAMAGE)
DECOMPRESSORS: dict[bytes, Callable] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
ENCRYPTED, UTF8 = 0x1, 0x800  # flags of a zip's entries
UNDECODED = re.compile("[\udc80-\udcff]")  # in a name that is not UTF-8, as by `surrogateescape`
BACKSLASH = re.compile(rf"(?<!{UNDECODED.pattern})\\")  # after such a byte it is half a letter
ENCODINGS = ("gb2312", "cp932", "gb18030")  # of such names; nearly any bytes are text in the last two
# what shows that it is another one: ASCII letters in one word with others, half katakana, private letters
UNLIKELY = re.compile("[a-zA-Z][^\0-\x7f]|[^\0-\x7f][a-zA-Z]|[\uff61-\uff9f\ue000-\uf8ff]")

# names of a split's folder, best first: those of Hugging Face's loader
TRAIN = ("train", "training")
TEST = ("test", "val", "valid", "validation", "testing", "eval", "evaluation", "dev")
SPLITS = {*TRAIN, *TEST}
SHARDS = {".tar", ".parquet"}

# why a file is left out
IRREGULAR = "links, pipes or devices"
UNKNOWN = "of no known kind of image"
LeftOut = dict[str, str]  # the reason by the file's name


def files(path: Path, **columns: str) -> Iterator[File]:
    """The files of a directory, archive or other package of images, in any order, also those to leave out.

    `columns` are those of `packed.parquet`. An InputError if `path` is none of them, or must not be unpacked; an
    error of `UNREADABLE` if it cannot be read.
    """
    if not (path.is_dir() or path.is_file()):  # opening a pipe blocks, and a device may never end
        raise InputError(f"{path} is neither a folder nor a file; name a directory, .zip or .tar of images")
    seen: set[str] = set()
    for file in _inside(path, **columns):
        # Windows may separate the names in an archive by backslashes
        name = clean(file.name if path.is_dir() else BACKSLASH.sub("/", file.name))
        large = "with too many bytes for an image" if file.size > largest() else ""
        further = "of a name that is there already" if name in seen else UNKNOWN if name.endswith(CLS) else large
        reason = "hidden" if any(map(_is_hidden, name.split("/"))) else file.reason or further
        seen.add(name)
        yield file._replace(name=name, reason=reason)


def _inside(path: Path, **columns: str) -> Iterator[File]:
    if path.is_dir():
        return packed.lmdb(path) if (path / "data.mdb").is_file() else _shards(path, **columns)
    if reader := packed.READERS.get(path.suffix.lower()):
        return reader(path, **columns)
    return _zip(path) if zipfile.is_zipfile(path) else _tar(path)


def _shards(path: Path, **columns: str) -> Iterator[File]:
    """The files of a directory or, if it has no images, those in its tars and parquet files, by split."""
    found = sorted(directory(path))
    kinds = {Path(file.name).suffix.lower() for file in found if not file.reason}
    packs = set() if kinds & Image.registered_extensions().keys() else SHARDS
    for file in found:
        shard = Path(file.name)
        if file.reason or _is_hidden(shard.name) or shard.suffix.lower() not in packs:
            yield file
            continue
        stem = "-".join(shard.with_suffix("").parts)
        words = [word for word in re.split("[^a-z]+", stem.lower()) if word in SPLITS]
        for inner in files(path / shard, **columns):
            above, name = posixpath.split(inner.name)
            yield inner._replace(name=posixpath.join(*words[-1:], above, f"{stem}-{name}"))


def clean(name: str) -> str:
    """One spelling for one name: no leading "/" or "./", and composed letters, which macOS decomposes."""
    return unicodedata.normalize("NFC", posixpath.normpath(name).lstrip("/"))


def _is_hidden(part: str) -> bool:
    """Whether a name begins with a dot or is macOS's; names that lead out of an archive begin with dots, too."""
    return part.startswith(".") or part == "__MACOSX"


def directory(root: Path) -> Iterator[File]:
    for folder, subfolders, names in os.walk(root, onerror=_fail):
        subfolders[:] = [name for name in subfolders if not _is_hidden(name)]
        for path in map(Path(folder).joinpath, subfolders + names):
            status = path.lstat()
            if not stat.S_ISDIR(status.st_mode):
                reason = "" if stat.S_ISREG(status.st_mode) else IRREGULAR
                name, opened = path.relative_to(root).as_posix(), functools.partial(path.open, "rb")
                yield File(name, status.st_size, opened, reason, status.st_mtime_ns)


def _fail(error: OSError) -> None:
    raise error


def _zip(path: Path) -> Iterator[File]:
    with zipfile.ZipFile(path) as archive:
        check_unpacked(path, sum(entry.file_size for entry in archive.infolist()))
        for entry in archive.infolist():
            name = entry.filename
            if not entry.flag_bits & UTF8:  # zipfile takes the bytes for DOS's code page
                with contextlib.suppress(UnicodeEncodeError):  # no such bytes: an extra field has the name
                    name = name.encode("cp437").decode(errors="surrogateescape")
            if name.endswith(("/", "\\")):
                continue
            if entry.flag_bits & ENCRYPTED:
                raise InputError(f"{path} is encrypted; pack it again without a password")
            reason = "" if stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG) else IRREGULAR
            yield File(name, entry.file_size, functools.partial(archive.open, entry), reason)


def _tar(path: Path) -> Iterator[File]:
    # not decompressed by tarfile, which looks neither at the checksum nor at the end
    with path.open("rb") as file:
        start = file.read(8)
    unpack = next((unpack for magic, unpack in DECOMPRESSORS.items() if start.startswith(magic)), Path.open)
    with unpack(path, "rb") as content:
        bounded = _Bounded(path, content)
        with tarfile.open(fileobj=bounded, mode="r:") as archive:  # type: ignore[call-overload]
            for entry in archive:
                if entry.size > largest():  # to skip one, it would be decompressed
                    raise InputError(f"{path}: {entry.name} has {entry.size:,} bytes; remove it")
                if not entry.isdir():  # links would go back in the stream
                    opened = functools.partial(archive.extractfile, entry)
                    yield File(entry.name, entry.size, opened, "" if entry.isfile() else IRREGULAR)
        bounded.check_end()


class _Bounded:
    """The content of a tar, up to a limit. tarfile reads a header at once, whatever size it declares."""

    def __init__(self, path: Path, content: BinaryIO) -> None:
        self.path, self.content = path, content
        self.seek, self.tell = content.seek, content.tell

    def read(self, size: int) -> bytes:
        if size > largest():
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        found = self.content.read(size)
        check_unpacked(self.path, self.tell())
        return found

    def check_end(self) -> None:
        """tarfile takes a damaged or cut header for the end; after the true one there is only padding."""
        while block := self.read(2**20):
            if block.strip(b"\0"):
                raise tarfile.ReadError("a damaged header, or data after the end")
        if self.tell() % tarfile.BLOCKSIZE:
            raise tarfile.ReadError("cut off")


def describe(left: LeftOut) -> str:
    """`1 hidden (.DS_Store), 2 of no known kind of image (a.txt, b.txt)`; empty if nothing is left out."""
    found = {reason: sorted(name for name in left if left[name] == reason) for reason in sorted({*left.values()})}
    return ", ".join(f"{len(names):,} {reason} ({some(names)})" for reason, names in found.items())


def some(names: Sequence[str]) -> str:
    """Up to four names, else the first three, with characters that a terminal can print."""
    shown = list(map(printable, names if len(names) <= 4 else names[:3]))
    return ", ".join(shown if len(names) <= 4 else [*shown, f"{len(names) - 3:,} more"])


def decoded(names: Iterable[str], other: str) -> list[str]:
    """Names as text: of those that are not UTF-8 (`surrogateescape`), the encoding is guessed, or else `other`."""
    names = [*names]
    raw = {name: name.encode(errors="surrogateescape") for name in names if UNDECODED.search(name)}
    found = {name: content.decode(other) for name, content in raw.items()}
    for encoding in ENCODINGS:
        with contextlib.suppress(UnicodeDecodeError):
            guess = {name: content.decode(encoding) for name, content in raw.items()}
            if not any(map(UNLIKELY.search, guess.values())):
                found = guess
                break
    return [found.get(name, name) for name in names]
