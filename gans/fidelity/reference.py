"""Features of real images, computed once and kept on disk.

Only a data set's own images are ever kept here: generated images have no name that could go stale.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gans.files import cache

log = logging.getLogger("gans")

Key = dict[str, str | int]

# cells that share a process want the same features at once: one computes them, the others find them kept
_COMPUTING = threading.RLock()


def directory() -> Path:
    """Where reference features are kept: beside the data (`GANS_DATA`), else in the user's cache."""
    return cache("reference")


def cached(key: Key, compute: Callable[[], Tensor]) -> Tensor:
    """The float tensor kept under `key`, or that of `compute()`, which is then kept.

    Every entry of `key` must be able to change the features. A file that is damaged, was changed, or holds
    another key is written again; a full or read-only disk costs time, not the run.
    """
    name = json.dumps(key, sort_keys=True)
    path = directory() / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.safetensors"
    with _COMPUTING:
        found = _read(path, name) if path.exists() else None
        if found is not None:
            return found
        features = compute().contiguous()
        _write(path, features, name)
    return features


def _read(path: Path, name: str) -> Tensor | None:
    try:
        with safe_open(path, framework="pt") as file:
            # a copy: the tensor of an open file follows what others do to the file
            metadata, features = file.metadata() or {}, file.get_tensor("features").clone()
    except (OSError, SafetensorError):
        metadata = {}
    if metadata.get("key") == name and metadata.get("sha256") == _sha256(features):
        return features
    log.warning("the cache %s is damaged; the real images' features are computed again", path)
    return None


def _write(path: Path, features: Tensor, name: str) -> None:
    content = save({"features": features}, metadata={"key": name, "sha256": _sha256(features)})
    # beside the target, under a name of its own: cells that run at once never read half a file
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        log.info("no cache at %s: %s", path, error)
        with contextlib.suppress(OSError):
            part.unlink()


def _sha256(features: Tensor) -> str:
    return hashlib.sha256(features.numpy().data).hexdigest()
