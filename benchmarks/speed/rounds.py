"""Timing by turns: every contender runs a little in every round, so that all meet the same machine."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial

import pandas as pd
import torch

from gans.compute import devices

Step = Callable[[], object]
Turn = Callable[[int], float]  # takes so many steps; seconds per step
LEAD_IN = 4  # steps before a turn: caches fill again, and a waiting data loader has four batches ready
PAUSE = 0.05  # seconds until threads of the last contender rest

_steps: dict[str, Step] = {}  # of contenders, in their process


def turn(step: Step, device: torch.device, count: int, lead_in: int = LEAD_IN) -> float:
    """Seconds per step. (torch.utils.benchmark leads in with two steps, too few for a data loader.)"""
    for _ in range(min(count, lead_in)):
        step()
    devices.wait(device)
    since = time.perf_counter()
    for _ in range(count):
        step()
    devices.wait(device)
    return (time.perf_counter() - since) / count


def interleave(turns: Mapping[str, Turn], rounds: int, seconds: float) -> pd.DataFrame:
    """Seconds per step: a row for each round, a column for each contender.

    Args:
        turns: of the contenders, by name.
        rounds: turns of each.
        seconds: what a turn should take; at least one step.
    """
    counts = {name: _count(take, seconds) for name, take in turns.items()}
    order, found = list(turns), []
    for _ in range(rounds):
        times = {}
        for name in order:
            times[name] = turns[name](counts[name])
            time.sleep(PAUSE)
        found.append(times)
        order.reverse()  # no contender always runs after the same neighbour
    return pd.DataFrame(found, columns=list(turns))


def _count(take: Turn, seconds: float) -> int:
    """How many steps fill a turn, after the first ones, which are slow."""
    one = take(1)
    if one * 4 < seconds:
        one = take(3)
    return max(1, round(seconds / one))


def ratio(slow: pd.Series, fast: pd.Series) -> str:
    """The median of the rounds' ratios, and the smallest and largest of them."""
    ratios = slow / fast
    return f"{ratios.median():.2f} ({ratios.min():.2f}–{ratios.max():.2f})"


@contextmanager
def contenders(make: Callable[[], Mapping[str, Step]], device: torch.device) -> Iterator[dict[str, Turn]]:
    """Turns of contenders that share a process of their own, apart from others' settings and memory.

    Args:
        make: a picklable function that builds their steps, by name, in that process.
        device: what they compute on.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as process:

        def take(name: str, count: int) -> float:
            return process.submit(_turn, name, device, count).result()

        yield {name: partial(take, name) for name in process.submit(_build, make).result()}


def _build(make: Callable[[], Mapping[str, Step]]) -> list[str]:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the command, which then ends this process
    _steps.update(make())
    return list(_steps)


def _turn(name: str, device: torch.device, count: int) -> float:
    return turn(_steps[name], device, count)
