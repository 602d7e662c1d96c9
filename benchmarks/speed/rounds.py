"""Timing by turns: every contender runs a little in every round, so that all meet the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from gans import devices

Steps = Callable[[int], object]  # takes so many steps


@dataclass(frozen=True)
class Times:
    """Seconds per step, one figure for each round, by wall clock and by this process's CPU clock."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.wall)


@dataclass(frozen=True)
class Ratio:
    """The median of ratios taken round by round, and the smallest and largest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, slow: Sequence[float], fast: Sequence[float]) -> Ratio:
        """How many times longer `slow` takes than `fast`."""
        ratios = [one / other for one, other in zip(slow, fast, strict=True)]
        return cls(statistics.median(ratios), min(ratios), max(ratios))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


def interleave(
    contenders: Mapping[str, Steps], device: torch.device, rounds: int, seconds: float
) -> dict[str, Times]:
    """Time the contenders by turns.

    Args:
        contenders: by name.
        device: waited for at the end of each turn.
        rounds: turns of each contender.
        seconds: what a turn should take; at least one step.
    """
    counts = {name: _count(steps, device, seconds) for name, steps in contenders.items()}
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for _ in range(rounds):
        for name in order:
            taken, busy = _turn(contenders[name], counts[name], device)
            wall[name].append(taken)
            cpu[name].append(busy)
        order.reverse()  # nobody always runs after the same neighbour
    return {name: Times(tuple(wall[name]), tuple(cpu[name])) for name in contenders}


def _count(steps: Steps, device: torch.device, seconds: float) -> int:
    """Warm up; returns how many steps fill a turn."""
    steps(1)
    one, _ = _turn(steps, 1, device)
    if one * 4 < seconds:
        one, _ = _turn(steps, 3, device)
    return max(1, round(seconds / one))


def _turn(steps: Steps, count: int, device: torch.device) -> tuple[float, float]:
    devices.wait(device)
    start, busy = time.perf_counter(), time.process_time()
    steps(count)
    devices.wait(device)
    return (time.perf_counter() - start) / count, (time.process_time() - busy) / count
