"""bfloat16 on this CPU: whether the hardware supports it, and whether it is faster, by a trial."""

from __future__ import annotations

import platform
import time
from contextlib import ExitStack
from functools import cache

import torch
from torch import Tensor, nn

from gans import files
from gans.compute.convolutions import Halve
from gans.schema import slug

ROUNDS = 5  # of each, by turns; the fastest counts
LEAST = 1.1  # times as fast as float32
BATCH, SIDE, WIDTH = 32, 32, 32  # of a small DCGAN's discriminator


def here() -> bool:
    """Whether the CPU has bfloat16 arithmetic."""
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


@cache
def faster() -> bool:
    """Whether networks train faster in bfloat16 than in float32.

    By a trial of a fraction of a second; it is kept with the data, for this processor and version of torch.
    """
    if not here():
        return False
    processor = torch.cpu.get_capabilities().get("cpu_name", platform.machine())
    name = f"{slug(f'{processor}-torch-{torch.__version__}')}.safetensors"
    paths = [folder / name for folder in files.caches("precision")]
    kept = files.cache_read(paths, "the trial is repeated")
    seconds = kept[0] if kept else tried()
    if not kept:
        files.cache_write(paths, seconds, {})
    return bool(seconds["float32"] > LEAST * seconds["bf16"])


@torch.random.fork_rng(devices=())
def tried() -> dict[str, Tensor]:
    """Seconds that the gradients of some convolutions take, by precision: ().

    Of one thread, by its own clock: other work on the machine does not count.
    """
    stages = [nn.Sequential(Halve(n, 2 * n, bias=False), nn.ReLU()) for n in (WIDTH, 2 * WIDTH, 4 * WIDTH)]
    network = nn.Sequential(*stages)
    network.to(memory_format=torch.channels_last)
    images = torch.randn(BATCH, WIDTH, SIDE, SIDE).to(memory_format=torch.channels_last)
    found: dict[str, list[float]] = {"float32": [], "bf16": []}
    with ExitStack() as after:
        after.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
        for kind, seconds in [*found.items()] * (1 + ROUNDS):
            since = time.thread_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16"):
                score = network(images).float().sum()
            torch.autograd.grad(score, list(network.parameters()))
            seconds.append(time.thread_time() - since)
    return {kind: torch.tensor(min(seconds[1:])) for kind, seconds in found.items()}
