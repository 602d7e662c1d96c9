"""Files that survive a crash: whole or not there at all. And where what is fetched and made once is kept."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from gans.errors import InputError, first_line

if TYPE_CHECKING:  # names of files are wanted long before torch is
    import torch
    from torch import Tensor


def slug(name: str) -> str:
    """A name as part of a file's: what is no letter, digit, dash or dot becomes a dash."""
    return "".join(c if c.isalnum() or c in "-." else "-" for c in name)


def data_root() -> Path:
    """Where data sets are kept and downloaded to: the environment's GANS_DATA, by default `data`."""
    return Path(os.environ.get("GANS_DATA") or "data").expanduser()


def caches(kind: str) -> tuple[Path, Path]:
    """The folders for what can be made or fetched again: beside the data, and the user's. Nothing is created."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gans"
    return data_root() / "cache" / kind, user / kind


def cache(kind: str) -> Path:
    """The one to write to: beside the data, or the user's where those are read-only."""
    shared, user = caches(kind)
    return next((path for path in (shared, user) if _writable(path.parent)), user)


def _writable(path: Path) -> bool:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(path, os.W_OK)


def atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make a file beside `path`, then put it in place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # not tempfile's: its files are readable by their owner only, and the rename would keep that
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    atomically(path, write)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_bytes(path, text.encode())


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a training state: nested dicts and lists of tensors and plain values."""
    import torch

    atomically(path, lambda temporary: torch.save(dict(state), temporary))


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a training state; nothing but tensors and plain values is ever unpickled.

    Raises:
        InputError: the file is damaged.
    """
    import torch

    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise InputError(
            f"cannot go on from {path}: {first_line(error)}; delete it to start this cell again"
        ) from None


def save_weights(path: Path, state: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write weights as safetensors, with what they are (JSON) in the header."""
    from safetensors.torch import save as serialise

    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    metadata = {"about": json.dumps(about, sort_keys=True)}
    content = serialise(tensors, metadata)  # save_file would make the file its owner's only

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    atomically(path, write)


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights and what they are.

    Raises:
        InputError: no such file, or not one that `save_weights` wrote.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            return {key: file.get_tensor(key) for key in file.keys()}, about  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"no file {path}; name a generator.safetensors that training wrote") from None
    except (SafetensorError, KeyError, OSError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not a generator that training wrote: {error}") from None
