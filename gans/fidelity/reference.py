"""Features of real images, computed once and kept on disk.

Features of generated images are not kept.
"""

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from gans.files import cache, cache_read, cache_write

FORMAT = 2  # of the file
Key = dict[str, str | int]

# cells that share a process need the same features at once: one computes them, the others wait and read them
_COMPUTING = threading.RLock()


def directory() -> Path:
    """The folder of reference features: with the data (`GANS_DATA`), else in the user's cache."""
    return cache("reference")


def cached(key: Key, compute: Callable[[], Tensor]) -> Tensor:
    """The float tensor kept under `key`, or that of `compute()`, which is then kept.

    Every entry of `key` must be able to change the features. A damaged file is written again; a full or read-only
    disk costs time, not the run.
    """
    name = json.dumps(key | {"format": FORMAT}, sort_keys=True)
    path = directory() / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.safetensors"
    with _COMPUTING:
        found = cache_read([path], "the real images' features are computed again")
        if found and found[1]["key"] == name:
            return found[0]["features"].clone()  # the tensor of an open file follows changes of the file
        features = compute().contiguous()
        cache_write([path], {"features": features}, {"key": name})
    return features
