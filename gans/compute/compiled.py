"""Networks through torch.compile: fewer and larger kernels in a recorded step, for a minute of compiling."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from gans.errors import InputError

Forward = Callable[..., Tensor]  # of latents or images and, in a conditional network, labels


def require(device: torch.device) -> None:
    """Refuse a device that compiled networks were not made for.

    Raises:
        InputError: it is no CUDA device.
    """
    if device.type != "cuda":
        raise InputError("COMPILE=1 needs a CUDA device; leave it away on a CPU")


def keep(folder: Path) -> None:
    """Keep compiled code in this folder, which all cells of a matrix share; the environment may name another."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    os.environ.setdefault("TORCHINDUCTOR_FX_GRAPH_CACHE", "1")
    os.environ.setdefault("TORCHINDUCTOR_AUTOGRAD_CACHE", "1")


def compiled(network: nn.Module, backend: str = "inductor") -> Forward:
    """The network's compiled code. Its parameters may change in place, but not move; `backend` is torch's."""
    # shapes are static, so each batch of a discriminator, with and without gradients, has code of its own. Torch
    # keeps eight of a function; networks of one class, such as MD-GAN's discriminators, would share them
    found: Forward = torch.compile(network, dynamic=False, backend=backend, isolate_recompiles=True)  # type: ignore[call-overload]
    return found
