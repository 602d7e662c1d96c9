"""Networks through torch.compile: fewer and larger kernels in a recorded step, for a minute of compiling.

Off by default. On an H200 it made sagan's step 1.6 times as fast (5.57 to 3.44 ms) and, by older code, dcgan's
1.16 times; gan, dcgan and dcgan-nobn by today's code are not measured on a GPU. On a CPU they took 1.1 to 1.4
times as long.
"""

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
        raise InputError("COMPILE=1 needs a CUDA device; omit it on a CPU")


def keep(folder: Path) -> None:
    """Keep compiled code in this folder, which all cells of a matrix share; the environment may name another."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def compiled(network: nn.Module, backend: str = "inductor") -> Forward:
    """The network's compiled code. Its parameters may change in place, but not move; `backend` is torch's."""
    # shapes are static; each (a discriminator's two batches, with and without gradients) has code of its own
    return torch.compile(own(network), dynamic=False, backend=backend)


def own(network: nn.Module) -> Forward:
    """A call of the network as a function with a code object of its own.

    Torch counts compilations by code object, and stops at eight. The networks of one class, such as MD-GAN's
    discriminators, share the code object of its forward pass.
    """

    def compute(*given: Tensor) -> Tensor:
        result: Tensor = network(*given)
        return result

    code = compute.__code__.replace(co_name=f"compute_{next(NUMBERS)}")
    return types.FunctionType(code, compute.__globals__, code.co_name, None, compute.__closure__)
