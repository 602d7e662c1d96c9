"""The progress display of cells or trials: phase and progress of each, and the estimated time left.

Bars show it on a terminal, plain lines elsewhere.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.status import Status
from rich.table import Column

from gans import schema

LINE_SECONDS = 15.0  # between plain lines on the same cell


def summary(values: Mapping[str, float]) -> str:
    """Losses and score in a few words; once it is there the final score, in place of the curve's last point."""
    names = {schema.LOSS_D: "D", schema.LOSS_G: "G"}
    parts = [f"{label} {values[name]:.2f}" for name, label in names.items() if name in values]
    curves = {name.removeprefix(schema.CURVE): v for name, v in values.items() if name.startswith(schema.CURVE)}
    scores = {name: values.get(schema.score(name), value) for name, value in curves.items()}
    return joined(*parts, *(f"{name} {value:.4g}" for name, value in scores.items()))


def joined(*parts: str) -> str:
    return "  ".join(part for part in parts if part)


def duration(seconds: float) -> str:
    """As people say it: 40 s, 3 min, 2 h 10 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


@dataclass
class Running:
    """A cell that is under way."""

    bar: TaskID
    total: int  # images of its budget; 0: it does not train
    since: float
    phase: str = "starting"
    printed: float = 0.0  # when there was a line on it
    images: int | None = None  # seen so far, those of earlier sessions included; None: none is reported yet
    values: dict[str, float] = field(default_factory=dict)  # the latest of each metric

    def text(self) -> str:
        """Its progress, losses and score."""
        trains = self.total and self.phase == schema.TRAINING_PHASE
        return joined(f"{(self.images or 0) / self.total:4.0%}" if trains else self.phase, summary(self.values))


class Display:
    """A bar for all cells and one for every cell that runs; without a terminal, lines.

    `waiting` holds the images of each cell that is to run, by name; `unit` is what is counted.
    """

    def __init__(
        self,
        waiting: Mapping[str, int],
        unit: str = "cells",
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.unit, self.clock = unit, clock
        self.console = console or Console(markup=False, emoji=False)
        self.running: dict[str, Running] = {}
        self.total, self.done = len(waiting), 0
        self.since, self.seen, self.unseen = clock(), 0, sum(waiting.values())  # images, in this session
        name, text = (
            TextColumn(field, markup=False, table_column=Column(no_wrap=True))
            for field in ("{task.description}", "{task.fields[text]}")
        )
        columns = name, BarColumn(24 if self.console.width > 100 else 8), TimeElapsedColumn(), text
        quiet = not self.console.is_terminal
        self.progress = Progress(*columns, console=self.console, disable=quiet, get_time=clock)
        self.all = self.progress.add_task("all", total=self.total, text=self.text())

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def start(self, name: str, images: int) -> None:
        """A cell begins, with this budget; 0: work that does not train."""
        # a bar without an end moves to and fro; a full one has no time, and scores come after the last image
        bar = self.progress.add_task(name, total=images + 1 if images else None, text="starting")
        self.running[name] = Running(bar, images, self.clock())
        self.line(name, f"start     {name}")

    def update(self, name: str, images: int, values: Mapping[str, float]) -> None:
        """A phase of it begins, or it has metrics after so many images."""
        running = self.running[name]
        if phase := next((one for one in values if one.startswith(schema.PHASE)), ""):
            running.phase = phase.removeprefix(schema.PHASE)
        else:
            self.count(running, min(images, running.total))
            running.values.update(values)
        text = running.text()
        self.progress.update(running.bar, completed=running.images, text=text)
        self.progress.update(self.all, completed=self.done, text=self.text())
        self.line(name, f"running   {name}  {text}  ({self.text()})", at_once=False)

    def count(self, running: Running, images: int) -> None:
        """Count what a cell has seen; the images of an earlier session do not belong to the pace of this one."""
        before, running.images = running.images, images
        self.seen += 0 if before is None else images - before
        self.unseen -= images - (before or 0)

    def wait(self, name: str, why: str) -> None:
        """It is waited for, since another process does it."""
        running = self.running[name]
        begins, running.phase = running.phase != schema.WAITING_PHASE, schema.WAITING_PHASE
        self.progress.update(running.bar, text=f"waiting  {why}")
        self.line(name, f"waiting   {name}  {why}", at_once=begins)

    def end(self, name: str, status: str, reason: str, counts: bool = True) -> None:
        """It has ended; what does not count is no cell: a noise floor, say."""
        ended = self.running.pop(name)
        self.unseen -= ended.total - (ended.images or 0)
        self.done += counts
        self.progress.remove_task(ended.bar)
        self.progress.update(self.all, completed=self.done, text=self.text())
        count = f"({self.text()})" if counts else ""
        seconds = f"{self.clock() - ended.since:.0f} s"
        self.print(joined(f"{status:<9} {name}", seconds, summary(ended.values), reason, count))

    def line(self, name: str, text: str, at_once: bool = True) -> None:
        """Where there are no bars, a line on a cell: at once, or if the last one is some seconds old."""
        running, now = self.running[name], self.clock()
        if at_once or now - running.printed > LINE_SECONDS:
            running.printed = now
            if not self.console.is_terminal:
                self.print(text)

    def print(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def text(self) -> str:
        """Overall progress, and the estimated time left."""
        text = f"{self.done}/{self.total} {self.unit}"
        if self.done == self.total or self.seen <= 0 or self.unseen <= 0:
            return text
        left = (self.clock() - self.since) / self.seen * self.unseen
        return f"{text}, about {duration(left)} left"


def busy(what: str) -> Status:
    """Shows what is waited for before there is anything to count; on a terminal only, and gone afterwards."""
    return Console(markup=False, emoji=False).status(what)
