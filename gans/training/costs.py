"""Costs of a run: wall seconds by part, the device's joules, memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from gans import schema
from gans.compute import devices

PARTS = ("training", "evaluation", "overhead")


class Costs:
    """The clock, and the energy meter where the device has one, over all sessions of a run.

    Attributes:
        seconds: wall seconds by part, up to the last change of the part; time outside of `of` is overhead.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.part, self.since = "overhead", time.perf_counter()
        self.meter, self.earlier = devices.energy(device), 0.0

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        outer = self.part
        self.switch(part)
        try:
            yield
        finally:
            self.switch(outer)

    def switch(self, part: str) -> None:
        """Count the time so far and switch to `part`."""
        now = time.perf_counter()
        self.seconds[self.part] += now - self.since
        self.part, self.since = part, now

    def carry(self, seconds: Mapping[str, float], joules: float) -> None:
        """Add the costs of earlier sessions."""
        for part, spent in seconds.items():
            self.seconds[part] += spent
        self.earlier += joules

    @property
    def joules(self) -> float:
        """Used by the whole device, its other work included."""
        now = devices.energy(self.device)
        return self.earlier + (now - self.meter if now is not None and self.meter is not None else 0.0)

    def timing(self) -> dict[str, float]:
        """Seconds by part, by the names that are tracked."""
        self.switch(self.part)
        return {f"seconds/{part}": seconds for part, seconds in self.seconds.items()}

    def usage(self) -> dict[str, float]:
        """Peak memory, and joules where the device counts them; reading them takes milliseconds."""
        joules = {} if self.meter is None else {schema.JOULES: self.joules}
        return {**joules, schema.PEAK: devices.peak_memory(self.device)}

    def metrics(self) -> dict[str, float]:
        return self.timing() | self.usage()
