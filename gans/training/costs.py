"""What a run costs: wall seconds by part, the device's joules, memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from gans import schema
from gans.compute import devices

PARTS = ("training", "evaluation", "overhead")
EVERY = 1.0  # seconds between reads of memory and energy, which take milliseconds


@dataclass
class Clock:
    """Wall seconds by part; time outside of `of` is overhead."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    part: str = "overhead"
    since: float = field(default_factory=lambda: time.perf_counter())

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        outer = self.switch(part)
        try:
            yield
        finally:
            self.switch(outer)

    def switch(self, part: str) -> str:
        """Count the time so far and go on in `part`; returns the part before."""
        now = time.perf_counter()
        self.seconds[self.part] += now - self.since
        outer, self.part, self.since = self.part, part, now
        return outer


class Costs:
    """The clock, and the energy meter where the device has one, over all sessions of a run."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.clock = Clock()
        self.meter, self.earlier = devices.energy(device), 0.0
        self.used: dict[str, float] = {}  # memory and energy as they were at `read_at`
        self.read_at = -EVERY

    def carry(self, seconds: Mapping[str, float], joules: float) -> None:
        """Add the costs of earlier sessions."""
        for part, spent in seconds.items():
            self.clock.seconds[part] += spent
        self.earlier += joules
        self.read_at = -EVERY

    @property
    def seconds(self) -> dict[str, float]:
        """Wall seconds by part, up to the end of the last one or the last call of `metrics`."""
        return dict(self.clock.seconds)

    @property
    def joules(self) -> float:
        """Used by the whole device, its other work included."""
        now = devices.energy(self.device)
        return self.earlier + (now - self.meter if now is not None and self.meter is not None else 0.0)

    def metrics(self, most: float = EVERY) -> dict[str, float]:
        """Seconds by part, peak memory, and joules where the device counts them, by the names that are tracked.

        Memory and energy are at most `most` seconds old.
        """
        self.clock.switch(self.clock.part)
        if self.clock.since - self.read_at >= most:
            self.read_at, self.used = self.clock.since, self.usage()
        return {f"seconds/{part}": seconds for part, seconds in self.seconds.items()} | self.used

    def usage(self) -> dict[str, float]:
        joules = {} if self.meter is None else {schema.JOULES: self.joules}
        return joules | {schema.PEAK: devices.peak_memory(self.device)}
