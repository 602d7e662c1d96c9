"""Timing by turns: every contender runs a little in every round, so that all meet the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from gans.compute import devices

Steps = Callable[[int], object]  # takes so many steps
# a loader that was idle has this many batches ready: two workers, two batches each
LEAD_IN = 4
PAUSE = 0.05  # seconds until helpers of the last contender have come to rest


class Turn(NamedTuple):
    """Seconds per step, by wall clock and by the CPU clock of the process that took the steps."""

    wall: float
    cpu: float


Contender = Callable[[int], Turn]  # takes so many steps and says how long they took


@dataclass(frozen=True)
class Times:
    """Seconds per step, one figure for each round, by wall clock and by the process's CPU clock."""

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


def here(steps: Steps, device: torch.device) -> Contender:
    """A contender in this process; the device is waited for before the clock is read."""

    def turn(count: int) -> Turn:
        devices.wait(device)
        start, busy = time.perf_counter(), time.process_time()
        steps(count)
        devices.wait(device)
        return Turn((time.perf_counter() - start) / count, (time.process_time() - busy) / count)

    return turn


def interleave(
    contenders: Mapping[str, Contender], rounds: int, seconds: float, lead_in: int = LEAD_IN
) -> dict[str, Times]:
    """Time the contenders by turns.

    Args:
        contenders: by name.
        rounds: turns of each contender.
        seconds: what a turn should take; at least one step.
        lead_in: steps before each turn, at most as many as in it, that are not timed: caches fill again, and a
            data loader loses the batches that it made ready while it waited.
    """
    counts = {name: _count(turn, seconds) for name, turn in contenders.items()}
    found: dict[str, list[Turn]] = {name: [] for name in contenders}
    order = list(contenders)
    for _ in range(rounds):
        for name in order:
            turn, count = contenders[name], counts[name]
            if lead_in:
                turn(min(count, lead_in))
            found[name].append(turn(count))
            time.sleep(PAUSE)
        order.reverse()  # nobody always runs after the same neighbour
    return {
        name: Times(tuple(turn.wall for turn in turns), tuple(turn.cpu for turn in turns))
        for name, turns in found.items()
    }


def _count(turn: Contender, seconds: float) -> int:
    """Warm up; returns how many steps fill a turn."""
    turn(1)
    one = turn(1).wall
    if one * 4 < seconds:
        one = turn(3).wall
    return max(1, round(seconds / one))
