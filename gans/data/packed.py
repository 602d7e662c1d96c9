"""Images packed in parquet files, NumPy arrays and LMDB, as the files that a directory of them would have."""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from gans.errors import InputError, first_line

# bytes that an archive may unpack to: as many times its own size, or these if they are more
UNPACKED_TIMES, UNPACKED = 1_000, 2**32
ROWS = 16  # of a parquet file decoded at once: a few bytes may stand for large images
CLS = ".cls"  # of webdataset: 0001.cls holds the class of 0001.jpg
IMAGES = re.compile(
    r"(?:(\w+)_)?images|arr_0"
)  # arrays of an .npz: NumPy's own name, or MedMNIST's `train_images`


class File(NamedTuple):
    """A file of a directory or archive; a tar's must be read before the next one is taken."""

    name: str  # relative, parts joined by "/"; bytes that are not UTF-8 as by `surrogateescape`
    size: int  # bytes, as declared
    open: Callable[[], Any]  # for reading bytes
    reason: str  # why it is left out; empty: it is not
    modified: int = 0  # nanoseconds

    def content(self) -> bytes:
        """No more than declared, whatever has been written to it since."""
        with self.open() as opened:
            return bytes(opened.read(self.size))


def check_unpacked(path: Path, size: int) -> None:
    """Refuse an archive that unpacks to more bytes than images, which are compressed, need."""
    limit = max(UNPACKED, UNPACKED_TIMES * path.stat().st_size)
    if size > limit:
        raise InputError(
            f"{path} unpacks to more than {limit:,} bytes; if that is right, unpack it and name its folder"
        )


def largest() -> int:
    """Bytes of the largest file that may be an image within Pillow's limit on pixels."""
    return 4 * (Image.MAX_IMAGE_PIXELS or 2**32)


def in_memory(name: str, content: bytes) -> File:
    return File(name, len(content), partial(io.BytesIO, content), "")


def sample(name: str, content: bytes, label: Any = None) -> Iterator[File]:
    """An image and, if it has a label, the file with it, as webdataset has them."""
    yield in_memory(name, content)
    if label is not None:
        yield in_memory(f"{name}{CLS}", str(label).encode())


def parquet(path: Path, images: str = "", labels: str = "") -> Iterator[File]:
    """The rows of a parquet file of Hugging Face's `datasets`.

    Images are the column `images`, or the first of its type Image, or of structs with `bytes`; classes the column
    `labels`, or the first of its type ClassLabel, or `label`. A file that a row merely names is never opened.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
            check_unpacked(
                path, sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
            )
            features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {})
            kinds = {name: about.get("_type") for name, about in features.get("features", {}).items()}
            structs = [field.name for field in schema if pa.types.is_struct(field.type)]
            image = images or next((name for name in kinds if kinds[name] == "Image"), (structs or [""])[0])
            label = labels or next((name for name in kinds if kinds[name] == "ClassLabel"), "label")
            if image not in schema.names:
                wanted = f"no column {image}" if image else "no column of images"
                raise InputError(f"{path} has {wanted}; name one of {', '.join(schema.names)}: ,images=COLUMN")
            names = (features.get("features", {}).get(label) or {}).get("names")
            columns, unpacked, row = [name for name in (image, label) if name in schema.names], 0, 0
            for batch in file.iter_batches(ROWS, columns=columns):
                for found in batch.to_pylist():
                    cell, value = found[image], found.get(label)
                    content = (cell.get("bytes") if isinstance(cell, dict) else cell) or b""
                    if not isinstance(content, bytes):
                        raise TypeError(f"column {image} has no images")
                    unpacked += len(content)
                    check_unpacked(path, unpacked)
                    named = names[value] if names and value is not None and 0 <= value < len(names) else value
                    yield from sample(f"{row:08}", content, named)
                    row += 1
    except InputError:
        raise
    except (pa.ArrowException, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged, or no parquet file of images: {first_line(error)}") from None


def npz(path: Path, **columns: str) -> Iterator[File]:
    """The arrays `images`, with `labels`, or `train_images` and `test_images` of an .npz."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        check_unpacked(path, sum(entry.file_size for entry in entries.values()))
        if not (found := [*filter(None, map(IMAGES.fullmatch, entries))]):
            raise InputError(f"{path} holds {', '.join(entries)}; name its array of images 'images'")
        for name, split in ((match[0], match[1]) for match in found):
            labels: Sequence[Any] = ()
            if given := entries.get("labels" if name == "arr_0" else name.replace("images", "labels")):
                with archive.open(given) as file:
                    labels = numbers(path, file)
            with archive.open(entries[name]) as file:
                yield from array(path, file, f"{split}/" if split else "", labels)


def npy(path: Path, **columns: str) -> Iterator[File]:
    """The array of an .npy."""
    with path.open("rb") as file:
        yield from array(path, file)


def header(path: Path, file: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array, by NumPy; nothing is ever unpickled."""
    try:
        version = np.lib.format.read_magic(file)
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
        shape, fortran, dtype = read(file)
    except (ValueError, KeyError) as error:
        raise InputError(f"{path} is damaged, or no array of NumPy: {first_line(error)}") from None
    if fortran or dtype.hasobject:
        raise InputError(f"{path} has an array in Fortran's order, or of objects; save a plain one")
    return shape, dtype


def numbers(path: Path, file: Any) -> Sequence[Any]:
    """An array of whole numbers or names; of another kind none."""
    shape, dtype = header(path, file)
    content = file.read(math.prod(shape[:1]) * dtype.itemsize)
    plain = dtype.kind in "iuU" and dtype.itemsize and len(content) % dtype.itemsize == 0
    return np.frombuffer(content, dtype).tolist() if plain else ()


def array(path: Path, file: BinaryIO | Any, folder: str = "", labels: Sequence[Any] = ()) -> Iterator[File]:
    """Images uint8 (n, height, width), with 1 or 3 channels behind or before these, read one by one."""
    (count, *shape), dtype = header(path, file)
    last = shape[-1:] if len(shape) == 3 and shape[-1] in (1, 3) else []
    first = shape[:1] if len(shape) == 3 and shape[0] in (1, 3) and not last else []
    if dtype != np.uint8 or not (len(shape) == 2 or last or first) or not 0 < math.prod(shape) <= largest():
        what = f"{dtype} {(count, *shape)}"
        raise InputError(f"{path} holds {what}; save images as uint8 (n, height, width, 1 or 3), 0 to 255")
    if labels and len(labels) != count:
        raise InputError(f"{path} has {len(labels):,} labels for {count:,} images; correct it")
    height, width = shape[1:] if first else shape[:2]
    for row in range(count):
        content = file.read(math.prod(shape))
        if len(content) < math.prod(shape):
            raise EOFError(f"image {row:,} of {count:,} is cut off")
        if first:
            content = np.frombuffer(content, np.uint8).reshape(shape).transpose(1, 2, 0).tobytes()
        kind = 6 if [*last, *first] == [3] else 5
        yield from sample(
            f"{folder}{row:08}", b"P%d %d %d 255\n" % (kind, width, height) + content, *labels[row : row + 1]
        )


def lmdb(path: Path, **columns: str) -> Iterator[File]:
    """The values of an LMDB, encoded images by key, as LSUN's are."""
    try:
        import lmdb as library
    except ImportError:
        raise InputError(f"{path} is an LMDB, which needs a library: pip install lmdb") from None
    try:
        with library.open(str(path), readonly=True, lock=False) as environment, environment.begin() as transaction:
            for key, value in transaction.cursor():
                yield in_memory(key.decode(errors="surrogateescape"), value)
    except library.Error as error:
        raise InputError(f"{path} is damaged, or no LMDB: {first_line(error)}") from None


READERS: dict[str, Callable[..., Iterator[File]]] = {".parquet": parquet, ".npz": npz, ".npy": npy}
