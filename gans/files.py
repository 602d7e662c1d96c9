"""Where data, caches and results are; atomic writes and checksums."""

from __future__ import annotations

import glob
import hashlib
import io
import json
import logging
import os
import pickle
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from safetensors import SafetensorError, safe_open

from gans.errors import InputError, first_line

if TYPE_CHECKING:  # commands need names of files long before torch
    import torch
    from torch import Tensor

log = logging.getLogger("gans")

# where results go: in the user's folder existing files are never overwritten
VARIABLE = "GANS_OUTPUTS"
DEFAULT_URI = "sqlite:///mlflow.db"
# its parts
REPORTS, PRESETS, SAMPLES, EXPORTS, HUB = "reports", "presets", "samples", "exports", "hub"
SPEED, EXTRACTORS = "speed", "extractors"

STALE = 2.0  # seconds after which a temporary file that does not change has no writer any more


def file_name(name: str, what: str, most: int = 100) -> str:
    """A name that becomes a part of a path, as it is; an InputError if it could lead elsewhere."""
    size = len(name.encode(errors="surrogateescape"))
    if not 0 < size <= most or name.startswith(".") or set(name) & set("/\\") or not name.isprintable():
        short = name if len(name) <= 40 else f"{name[:40]}..."
        raise InputError(
            f"{what} '{short}' cannot name a file; take 1 to {most} bytes without '/', '\\' or control "
            "characters, and no dot at the start"
        )
    return name


def data_root() -> Path:
    """Where data sets are kept and downloaded to: the environment's GANS_DATA, by default `data`."""
    return expand(os.environ.get("GANS_DATA") or "data")


def expand(path: str | Path) -> Path:
    """A path whose `~` is the user's home; an InputError if the user has none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{path}: there is no such home directory; write the whole path") from None


def user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gans"


def caches(kind: str) -> tuple[Path, Path]:
    """The cache folders: with the data, and the user's."""
    return data_root() / "cache" / kind, user_cache() / kind


def cache(kind: str) -> Path:
    """The cache folder to write to: with the data, or the user's where the data are read-only."""
    shared, user = caches(kind)
    with suppress(OSError):
        shared.mkdir(parents=True, exist_ok=True)
    return shared if os.access(shared, os.W_OK) else user


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else a SQLite file in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def outputs() -> Path:
    """The folder of results: `outputs` in the working directory, or what GANS_OUTPUTS names."""
    return Path(os.environ.get(VARIABLE) or "outputs").expanduser()


def free(folder: Path, stem: str, *suffixes: str) -> tuple[Path, ...]:
    """New files of a folder: `stem.suffix`, or else `stem-2.suffix` and so on, one number for all.

    They are created empty, so that no other process uses the same names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number, name = 1, stem
    while True:
        paths = tuple(folder / f"{name}{suffix}" for suffix in suffixes)
        with suppress(FileExistsError):  # another process may be faster
            if not any(map(os.path.lexists, paths)):
                for path in paths:
                    path.touch(exist_ok=False)
                return paths
        number += 1
        name = f"{stem}-{number}"


def taken(path: Path) -> InputError:
    """The error for a file that must not be written over."""
    return InputError(f"{path} exists; name another file, or overwrite it with --force")


def atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a temporary file in the folder of `path`, then rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # not tempfile's: its files are readable by their owner only, and the rename would keep that
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    sweep(path)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename in (None, str(temporary)):  # a full disk does not say where
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Remove what processes left that were killed while they wrote this file."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.[0-9]*"):
        pid = part.name.rpartition(".")[2]
        with suppress(FileNotFoundError):  # another process was faster
            # a process of another machine is unknown here, but writes no file for that long
            if pid.isdigit() and not psutil.pid_exists(int(pid)) and time.time() - part.stat().st_mtime > STALE:
                part.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    atomically(path, lambda temporary: temporary.write_bytes(content))


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_bytes(path, text.encode())


class Damaged(InputError):
    """A damaged file: truncated, changed, or of another kind."""


# after a training state: the SHA-256 of all before it, as torch does not look at its own checksums
SEAL = struct.Struct("8s32s")
SEALED = b"gans-sum"
CHECKSUM = "sha256"  # the key, in the description of weights, of the checksum of both


def save(path: Path, state: Mapping[str, Any], before: Path | None = None) -> None:
    """Write a training state, sealed: nested dicts and lists of tensors and plain values.

    `before` is a file that keeps what `path` held until now; None: that is given up.
    """
    import torch

    def write(temporary: Path) -> None:
        torch.save(dict(state), temporary)
        with temporary.open("r+b") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
            file.seek(0, os.SEEK_END)
            file.write(SEAL.pack(SEALED, digest))
        if before and path.exists():
            before.unlink(missing_ok=True)
            try:
                os.link(path, before)  # so that the file always exists
            except OSError:  # a file system without links
                path.replace(before)

    atomically(path, write)


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a training state: nothing but tensors and plain values; `Damaged` if it is not as it was written."""
    import torch

    content = path.read_bytes()
    mark, digest = SEAL.unpack(content[-SEAL.size :].rjust(SEAL.size))
    if mark != SEALED or hashlib.sha256(memoryview(content)[: -SEAL.size]).digest() != digest:
        raise Damaged(f"{path} is damaged or no checkpoint of this suite")
    try:
        return dict(torch.load(io.BytesIO(content), map_location=device, weights_only=True))
    except pickle.UnpicklingError as error:  # code, which is not run
        raise Damaged(f"{path} is no checkpoint of this suite ({first_line(error)})") from None


def save_weights(path: Path, state: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write weights as safetensors, with a description (JSON) and a checksum of both in the header."""
    from safetensors.torch import save_file

    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    # one entry: safetensors writes several in an order that changes from call to call
    header = {**about, CHECKSUM: _fingerprint(tensors, about)}

    def write(temporary: Path) -> None:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(tensors, temporary, {"about": json.dumps(header, sort_keys=True)})
        temporary.chmod(mode)  # safetensors makes the file its owner's only

    atomically(path, write)


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights and their description; InputError without the file, `Damaged` if it is not of this kind."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        about = dict(json.loads(metadata["about"]))
    except FileNotFoundError:
        raise InputError(f"no file {path}; name a generator.safetensors that training wrote") from None
    except (SafetensorError, KeyError, OSError, TypeError, ValueError) as error:
        raise Damaged(f"{path} is not a generator that training wrote: {first_line(error)}") from None
    # files of earlier versions have no checksum
    if about.pop(CHECKSUM, None) not in (None, _fingerprint(tensors, about)):
        raise Damaged(f"{path} is damaged (its checksum is another); train again, or take another copy")
    return tensors, about


def cache_read(files: Iterable[Path], remedy: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and description of the first undamaged cache, or None; the log names damaged ones with `remedy`."""
    for path in files:
        if path.is_file():
            try:
                return load_weights(path)
            except InputError:
                log.warning("the cache %s is damaged; %s", path, remedy)
    return None


def cache_write(files: Iterable[Path], tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write to the first of these files that can be written; without any, the next process computes again."""
    for path in files:
        try:
            save_weights(path, tensors, about)
            return
        except (OSError, SafetensorError) as error:
            log.info("no cache at %s: %s", path, error)


def _fingerprint(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """SHA-256 of weights, with their names, types and shapes, and of their description."""
    import torch

    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
