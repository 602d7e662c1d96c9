"""Networks through torch.compile: fewer and larger kernels within a recorded step, for a minute of compiling."""

from __future__ import annotations

import os
import types
from collections.abc import Callable
from itertools import count
from pathlib import Path

import torch
from torch import Tensor, nn

from gans.errors import InputError

Forward = Callable[..., Tensor]  # of latents or images and, in a conditional network, labels
NUMBERS = count()


def require(device: torch.device) -> None:
    """Refuse a device that compiled networks were not made for.

    Raises:
        InputError: it is no CUDA device.
    """
    if device.type != "cuda":
        raise InputError("COMPILE=1 needs a CUDA device; leave it away on a CPU")


def keep(folder: Path) -> None:
    """Keep compiled code in this folder, so that no cell of a matrix compiles what another one has.

    A folder that the environment names wins.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
    os.environ.setdefault("TORCHINDUCTOR_FX_GRAPH_CACHE", "1")
    os.environ.setdefault("TORCHINDUCTOR_AUTOGRAD_CACHE", "1")


def compiled(network: nn.Module, backend: str = "inductor") -> Forward:
    """What computes a network by compiled code.

    Args:
        network: with parameters that may be replaced in place, but not moved.
        backend: torch's.
    """
    # shapes are static; each (a discriminator's two batches, with and without gradients) has code of its own
    return torch.compile(own(network), dynamic=False, backend=backend)


def own(network: nn.Module) -> Forward:
    """A call of the network, as a function whose code is no other network's.

    Torch counts how often it compiled by code object, and gives up at eight. The forward pass of a class is one
    object for all networks of that class, as MD-GAN's discriminators are.
    """

    def compute(*given: Tensor) -> Tensor:
        result: Tensor = network(*given)
        return result

    code = compute.__code__.replace(co_name=f"compute_{next(NUMBERS)}")
    return types.FunctionType(code, compute.__globals__, code.co_name, None, compute.__closure__)
