"""What a person sees while cells or trials run: the phase of each, how far it is, and how long all will take.

A forecast is made of what was measured: cells of the same model on the same data, in this invocation or in the
store, and the pace of those that run. Bars show it on a terminal, plain lines elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from statistics import fmean
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from gans import schema

LINE_SECONDS = 15.0  # between plain lines on the same cell


def summary(values: Mapping[str, float]) -> str:
    """Losses and score in a few words."""
    names = {schema.LOSS_D: "D", schema.LOSS_G: "G"}
    parts = [f"{label} {values[name]:.2f}" for name, label in names.items() if name in values]
    curves = {name.removeprefix(schema.CURVE): v for name, v in values.items() if name.startswith(schema.CURVE)}
    return joined(*parts, *(f"{name} {v:.4g}" for name, v in curves.items()))


def joined(*parts: str) -> str:
    return "  ".join(part for part in parts if part)


def duration(seconds: float) -> str:
    """As people say it: 40 s, 3 min, 2 h 10 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


@dataclass(frozen=True)
class Cost:
    """What a cell of a kind costs: seconds for each image that it trains on, and for all else."""

    image: float
    rest: float

    def seconds(self, images: int) -> float:
        return self.image * images + self.rest

    @classmethod
    def mean(cls, costs: Iterable[Cost]) -> Cost | None:
        """Of a cell of which nothing is known but what others cost; None if that is not known either."""
        known = list(costs)
        return cls(fmean(c.image for c in known), fmean(c.rest for c in known)) if known else None


def kind_of(name: str) -> str:
    """`model/dataset` of a cell's name, which ends in its seed: cells of a kind cost the same."""
    return name.rpartition("/")[0] or name


@dataclass
class Running:
    """A cell that is under way.

    Attributes:
        total: images of its budget; 0: it does not train.
        since: when it began here.
        images: seen so far, those of earlier sessions included.
        first: when the first metrics of this session came, and how many images had been seen by then.
        phase: what it does now, and since when.
        spent: seconds in phases that are over.
        values: the latest of each metric.
    """

    name: str
    total: int
    since: float
    phase_since: float
    images: int = 0
    first: tuple[float, int] | None = None
    phase: str = "starting"
    spent: dict[str, float] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)

    def update(self, now: float, images: int, values: Mapping[str, float]) -> None:
        """Take in a phase that begins, or metrics after so many images."""
        phases = [name.removeprefix(schema.PHASE) for name in values if name.startswith(schema.PHASE)]
        for phase in phases:
            self.enter(phase, now)
        if phases:
            return
        self.first = self.first or (now, images)
        self.images = max(self.images, images)
        self.values.update(values)

    def enter(self, phase: str, now: float) -> None:
        self.spent[self.phase] = self.spent.get(self.phase, 0.0) + now - self.phase_since
        self.phase, self.phase_since = phase, now

    @property
    def share(self) -> float:
        """Of its images, that it has seen."""
        return min(1.0, self.images / self.total) if self.total else 0.0

    def pace(self, now: float) -> float | None:
        """Seconds per image of this session; None if there is none yet."""
        if self.first is None or self.images <= self.first[1] or self.phase != schema.TRAINING_PHASE:
            return None
        return (now - self.first[0]) / (self.images - self.first[1])

    def in_other_phases(self, now: float) -> float:
        """Seconds that it did not train, so far."""
        over = sum(seconds for phase, seconds in self.spent.items() if phase != schema.TRAINING_PHASE)
        return over + (now - self.phase_since if self.phase != schema.TRAINING_PHASE else 0.0)

    def cost(self) -> Cost | None:
        """What it has cost, once it has ended; None if it did not train here."""
        seen = self.images - (self.first[1] if self.first else 0)
        if seen <= 0 or self.images < self.total:
            return None
        trained = self.spent.get(schema.TRAINING_PHASE, 0.0)
        return Cost(trained / seen, sum(self.spent.values()) - trained)


class Forecast:
    """How long cells will take, from those that were measured.

    Args:
        waiting: images of each cell that is to run, by name.
        known: costs by kind, of finished cells in the store.
    """

    def __init__(self, waiting: Mapping[str, int], known: Mapping[str, Cost] | None = None) -> None:
        self.waiting, self.known = dict(waiting), dict(known or {})
        self.abreast = 1  # cells that run at a time, as far as was seen

    def begin(self, name: str, running: int) -> None:
        self.waiting.pop(name, None)
        self.abreast = max(self.abreast, running)

    def end(self, running: Running) -> None:
        if (cost := running.cost()) is not None:
            self.known[kind_of(running.name)] = cost  # of now, and of this machine

    def left_of(self, running: Running, now: float) -> float | None:
        """Seconds that a running cell still takes; None if nothing is known of it."""
        cost = self.known.get(kind_of(running.name))
        image = running.pace(now) or (cost.image if cost else None)
        if not running.total or image is None:
            return None
        usual = cost or Cost.mean(self.known.values())
        rest = max(0.0, usual.rest - running.in_other_phases(now)) if usual else 0.0
        return image * max(0, running.total - running.images) + rest

    def left(self, running: Iterable[Running], now: float) -> float | None:
        """Seconds until the last cell ends; None as long as nothing is known."""
        going = {r.name: self.left_of(r, now) for r in running if r.total}
        seen = [seconds for seconds in going.values() if seconds is not None]
        paces = [Cost(pace, 0.0) for r in running if (pace := r.pace(now)) is not None]
        usual = Cost.mean(self.known.values()) or Cost.mean(paces)
        if usual is None:
            return None
        ahead = sum(self.known.get(kind_of(name), usual).seconds(images) for name, images in self.waiting.items())
        unknown = sum(usual.seconds(r.total) for r in running if r.total and going[r.name] is None)
        return max(*seen, 0.0, (ahead + unknown + sum(seen)) / self.abreast)


class Display:
    """A bar for all cells and one for every cell that runs; without a terminal, lines.

    A line is printed when a cell starts, changes phase after training, and ends, and every few seconds between.

    Args:
        forecast: of all of them.
        unit: what is counted.
        console: to print on.
        clock: seconds.
    """

    def __init__(
        self,
        forecast: Forecast,
        unit: str = "cells",
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.forecast, self.unit, self.clock = forecast, unit, clock
        self.console = console or Console(markup=False, emoji=False)
        self.running: dict[str, Running] = {}
        self.printed: dict[str, float] = {}
        self.total, self.done = len(forecast.waiting), 0
        self.tasks: dict[str, TaskID] = {}
        name, values = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[values]}"))
        bar = BarColumn(bar_width=24 if self.console.width > 100 else 8)
        columns = name, bar, Drawn(self.amount), Drawn(self.doing), values
        self.progress = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        # of a single cell its own bar shows everything
        self.all = self.progress.add_task("all", total=self.total, running=None, values="", visible=self.total > 1)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def start(self, name: str, images: int) -> None:
        """A cell begins, with this budget; 0: work that does not train."""
        now = self.clock()
        running = self.running[name] = Running(name, images, now, now)
        self.forecast.begin(name, sum(1 for r in self.running.values() if r.total))
        # a bar without an end moves to and fro
        self.tasks[name] = self.progress.add_task(name, total=images or None, running=running, values="")
        self.line(name, f"start     {name}")

    def update(self, name: str, images: int, values: Mapping[str, float]) -> None:
        """A phase of it begins, or it has metrics after so many images."""
        running, now = self.running[name], self.clock()
        running.update(now, images, values)
        seen, text = min(running.images, running.total), summary(running.values)
        self.progress.update(self.tasks[name], completed=seen, values=text)
        if now - self.printed[name] > LINE_SECONDS:
            share = f"{running.share:4.0%}" if running.phase == schema.TRAINING_PHASE else running.phase
            self.line(name, joined(f"running   {name}", share, text, self.left_of(running)))

    def wait(self, name: str, why: str) -> None:
        """It is waited for, since another process does it."""
        running, now = self.running[name], self.clock()
        begins = running.phase != schema.WAITING_PHASE
        if begins:
            running.enter(schema.WAITING_PHASE, now)
        self.progress.update(self.tasks[name], values=why)
        if begins or now - self.printed[name] > LINE_SECONDS:
            self.line(name, f"waiting   {name}  {why}")

    def end(self, name: str, status: str, reason: str, counts: bool = True) -> None:
        """It has ended; what does not count is no cell: a noise floor, say."""
        ended, now = self.running.pop(name), self.clock()
        ended.enter("", now)
        self.forecast.end(ended)
        self.done += counts
        self.progress.remove_task(self.tasks.pop(name))
        self.progress.update(self.all, completed=self.done)
        count = f"({self.done}/{self.total} {self.unit})" if counts else ""
        left = self.left() if self.done < self.total else ""
        self.print(
            joined(f"{status:<9} {name}", f"{now - ended.since:.0f} s", count, summary(ended.values), reason, left)
        )

    def line(self, name: str, text: str) -> None:
        """Where there are no bars, a line on a cell."""
        self.printed[name] = self.clock()
        if not self.console.is_terminal:
            self.print(text)

    def print(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def left(self) -> str:
        """Of everything, in words; empty as long as nothing is known."""
        seconds = self.forecast.left(list(self.running.values()), self.clock())
        return "" if seconds is None else f"about {duration(seconds)} left"

    def left_of(self, running: Running) -> str:
        seconds = self.forecast.left_of(running, self.clock())
        return "" if seconds is None else f"{duration(seconds)} left"

    def doing(self, task: Task) -> str:
        """The phase of a cell, and for how long unless its bar moves; of all cells, the time that is left."""
        running: Running | None = task.fields["running"]
        if running is None:
            return self.left() or "estimating"
        in_phase = duration(self.clock() - running.phase_since)
        phase = running.phase if running.phase == schema.TRAINING_PHASE else f"{running.phase} {in_phase}"
        return joined(phase, self.left_of(running))

    def amount(self, task: Task) -> str:
        """Thousands of images of a cell, cells of everything; nothing where nothing is counted."""
        if not task.total:
            return ""
        if task.fields["running"] is None:
            return f"{task.completed:.0f}/{task.total:.0f} {self.unit}"
        return f"{task.completed / 1000:.4g}/{task.total / 1000:.4g} kimg"


class Drawn(ProgressColumn):
    """A column of text on one line, drawn anew while nothing is reported."""

    def __init__(self, text: Callable[[Task], str]) -> None:
        super().__init__(Column(no_wrap=True))
        self.text = text

    def render(self, task: Task) -> Text:
        return Text(self.text(task))


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Say what is waited for before there is anything to count; on a terminal only, and gone afterwards."""
    console = Console(markup=False, emoji=False)
    shown: AbstractContextManager[object] = console.status(what) if console.is_terminal else nullcontext()
    with shown:
        yield
