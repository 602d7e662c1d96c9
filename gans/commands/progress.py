"""What a person sees while cells run: which phase each is in, how far it is, and how long all of it will take.

A forecast (`Forecast`) is made of what was measured: cells of the same model on the same data, in this invocation
or in the store, and the pace of those that run. Bars show it on a terminal, plain lines elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from gans import schema

LINE_SECONDS = 15.0
Clock = Callable[[], float]


def summary(values: Mapping[str, float]) -> str:
    """Losses and score in a few words."""
    names = {schema.LOSS_D: "D", schema.LOSS_G: "G"}
    parts = [f"{label} {values[name]:.2f}" for name, label in names.items() if name in values]
    curves = {name.removeprefix(schema.CURVE): v for name, v in values.items() if name.startswith(schema.CURVE)}
    parts += [f"{name} {v:.4g}" for name, v in curves.items()]
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """As people say it: 40 s, 3 min, 2 h 10 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


@dataclass(frozen=True)
class Cost:
    """What a cell of a kind costs.

    Attributes:
        image: seconds for each image that it trains on.
        rest: seconds for all else: data, reference features, scores, pictures.
    """

    image: float
    rest: float

    def seconds(self, images: int) -> float:
        """Of a whole cell."""
        return self.image * images + self.rest

    @classmethod
    def mean(cls, costs: Iterable[Cost]) -> Cost | None:
        """Of a cell of which nothing is known but what others cost; None if that is not known either."""
        known = list(costs)
        if not known:
            return None
        return cls(sum(c.image for c in known) / len(known), sum(c.rest for c in known) / len(known))


@dataclass
class Ahead:
    """Cells of a kind that wait, and images of all of them."""

    cells: int = 0
    images: int = 0

    def add(self, images: int) -> None:
        self.cells, self.images = self.cells + 1, self.images + images

    def remove(self, images: int) -> None:
        self.cells, self.images = self.cells - 1, self.images - images

    def seconds(self, cost: Cost) -> float:
        """Of all of them."""
        return cost.image * self.images + cost.rest * self.cells


@dataclass
class Running:
    """A cell that is under way.

    Attributes:
        total: images of its budget; 0: it does not train.
        since: when it began here.
        images: seen so far, those of earlier sessions included.
        first: when the first of this session were told, and how many had been seen by then.
        phase: what it does now, and since when.
        spent: seconds in phases that are over.
        values: what it told last, by metric.
    """

    name: str
    total: int
    since: float
    images: int = 0
    first: tuple[float, int] | None = None
    phase: str = "starting"
    phase_since: float = 0.0
    spent: dict[str, float] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What cells of the same cost have in common: model and data, not the seed."""
        return kind_of(self.name)

    def tell(self, now: float, images: int, values: Mapping[str, float]) -> None:
        """Take in news: a phase that begins, or metrics after so many images."""
        phases = [name.removeprefix(schema.PHASE) for name in values if name.startswith(schema.PHASE)]
        for phase in phases:
            self.enter(phase, now)
        if phases:
            return
        if self.first is None:
            self.first = (now, images)
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

    def beside_training(self, now: float) -> float:
        """Seconds in other phases, so far."""
        over = sum(seconds for phase, seconds in self.spent.items() if phase != schema.TRAINING_PHASE)
        return over + (now - self.phase_since if self.phase != schema.TRAINING_PHASE else 0.0)

    def cost(self) -> Cost | None:
        """What it has cost, once it has ended; None if it did not train here."""
        seen = self.images - (self.first[1] if self.first else 0)
        if seen <= 0 or self.images < self.total:
            return None
        trained = self.spent.get(schema.TRAINING_PHASE, 0.0)
        return Cost(trained / seen, sum(self.spent.values()) - trained)


def kind_of(name: str) -> str:
    """`model/dataset` of a cell's name, which ends in its seed."""
    return name.rpartition("/")[0] or name


class Forecast:
    """How long cells will take, from those that were measured.

    Args:
        waiting: images of each cell that is to run, by name.
        known: costs by kind, of finished cells in the store.
    """

    def __init__(self, waiting: Mapping[str, int], known: Mapping[str, Cost] | None = None) -> None:
        self.waiting = dict(waiting)
        # cells and images that wait, by kind: ten thousand are not added up again whenever one ends
        self.ahead: dict[str, Ahead] = {}
        for name, images in waiting.items():
            self.ahead.setdefault(kind_of(name), Ahead()).add(images)
        self.known = dict(known or {})
        self.abreast = 1  # cells that run at a time, as far as was seen

    def begin(self, name: str, running: int) -> None:
        images = self.waiting.pop(name, None)
        if images is not None:
            self.ahead[kind_of(name)].remove(images)
        self.abreast = max(self.abreast, running)

    def end(self, running: Running) -> None:
        if (cost := running.cost()) is not None:
            self.known[running.kind] = cost  # of now, and of this machine

    def left_of(self, running: Running, now: float) -> float | None:
        """Seconds that a running cell still takes; None if nothing is known of it."""
        cost = self.known.get(running.kind)
        others = Cost.mean(self.known.values())
        image = running.pace(now) or (cost.image if cost else None)
        if not running.total or image is None:
            return None
        usual = cost or others
        rest = max(0.0, usual.rest - running.beside_training(now)) if usual else 0.0
        return image * max(0, running.total - running.images) + rest

    def left(self, running: Iterable[Running], now: float) -> float | None:
        """Seconds until the last cell ends; None as long as nothing is known."""
        going = {r.name: self.left_of(r, now) for r in running if r.total}
        seen = [seconds for seconds in going.values() if seconds is not None]
        paces = [Cost(pace, 0.0) for r in running if (pace := r.pace(now)) is not None]
        usual = Cost.mean(self.known.values()) or Cost.mean(paces)
        if usual is None:
            return None
        ahead = sum(waiting.seconds(self.known.get(kind) or usual) for kind, waiting in self.ahead.items())
        unknown = sum(usual.seconds(r.total) for r in running if r.total and going[r.name] is None)
        return max(*seen, 0.0, (ahead + unknown + sum(seen)) / self.abreast)


class Watch:
    """Cells and what is known of them; what shows it asks here.

    Args:
        forecast: of all of them.
        clock: seconds.
        unit: what is counted.
    """

    def __init__(self, forecast: Forecast, clock: Clock = time.monotonic, unit: str = "cells") -> None:
        self.forecast, self.clock, self.unit = forecast, clock, unit
        self.running: dict[str, Running] = {}
        self.total, self.done = len(forecast.waiting), 0

    def start(self, name: str, images: int) -> Running:
        now = self.clock()
        self.running[name] = Running(name, images, now, phase_since=now)
        self.forecast.begin(name, sum(1 for r in self.running.values() if r.total))
        return self.running[name]

    def tell(self, name: str, images: int, values: Mapping[str, float]) -> Running:
        self.running[name].tell(self.clock(), images, values)
        return self.running[name]

    def wait(self, name: str) -> bool:
        """It is waited for; whether that begins now."""
        running = self.running[name]
        begins = running.phase != schema.WAITING_PHASE
        if begins:
            running.enter(schema.WAITING_PHASE, self.clock())
        return begins

    def end(self, name: str, counts: bool) -> Running:
        ended = self.running.pop(name)
        ended.enter("", self.clock())
        self.forecast.end(ended)
        self.done += counts
        return ended

    def left(self) -> str:
        """Of everything, in words; empty as long as nothing is known."""
        seconds = self.forecast.left(list(self.running.values()), self.clock())
        return "" if seconds is None else f"about {duration(seconds)} left"

    def left_of(self, running: Running) -> str:
        seconds = self.forecast.left_of(running, self.clock())
        return "" if seconds is None else f"{duration(seconds)} left"

    def doing(self, running: Running) -> str:
        """The phase, and since when unless it is training, where a bar moves."""
        if running.phase == schema.TRAINING_PHASE:
            return running.phase
        return f"{running.phase} {duration(self.clock() - running.phase_since)}"


class Screen(Protocol):
    """Shows cells while they run."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def start(self, name: str, images: int) -> None:
        """A cell begins, with this budget; 0: work that does not train."""

    def tell(self, name: str, images: int, values: Mapping[str, float]) -> None:
        """It tells of its phase, or metrics after so many images."""

    def wait(self, name: str, why: str) -> None:
        """It is waited for, since another process does it."""

    def end(self, name: str, status: str, reason: str, counts: bool = True) -> None:
        """It has ended; what does not count is no cell: a noise floor, say."""


class Lines:
    """One line when a cell starts, changes phase after training, and ends, and every few seconds between."""

    def __init__(self, watch: Watch, console: Console) -> None:
        self.watch, self.console = watch, console
        self.spoken: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def start(self, name: str, images: int) -> None:
        self.watch.start(name, images)
        self.spoken[name] = self.watch.clock()
        self.say(f"start     {name}")

    def tell(self, name: str, images: int, values: Mapping[str, float]) -> None:
        running = self.watch.tell(name, images, values)
        if self.watch.clock() - self.spoken[name] > LINE_SECONDS:
            self.spoken[name] = self.watch.clock()
            self.say(self.state(running))

    def wait(self, name: str, why: str) -> None:
        now, begins = self.watch.clock(), self.watch.wait(name)
        if begins or now - self.spoken[name] > LINE_SECONDS:
            self.spoken[name] = now
            self.say(f"waiting   {name}  {why}")

    def state(self, running: Running) -> str:
        told = (summary(running.values), self.watch.left_of(running))
        share = f"{running.share:4.0%}" if running.phase == schema.TRAINING_PHASE else running.phase
        return "  ".join(part for part in (f"running   {running.name}", share, *told) if part)

    def end(self, name: str, status: str, reason: str, counts: bool = True) -> None:
        ended = self.watch.end(name, counts)
        count = f"({self.watch.done}/{self.watch.total} {self.watch.unit})" if counts else ""
        seconds = f"{self.watch.clock() - ended.since:.0f} s"
        left = self.watch.left() if self.watch.done < self.watch.total else ""
        parts = (f"{status:<9} {name}", seconds, count, summary(ended.values), reason, left)
        self.say("  ".join(part for part in parts if part))

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


class Doing(ProgressColumn):
    """The phase of a cell, or how long everything will take; drawn anew while nothing is told."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def render(self, task: Task) -> Text:
        running = task.fields["running"]
        if running is None:
            return Text(self.watch.left() or "estimating")
        return Text("  ".join(part for part in (self.watch.doing(running), self.watch.left_of(running)) if part))


class Amount(ProgressColumn):
    """Thousands of images of a cell, cells of everything; nothing where nothing is counted."""

    def render(self, task: Task) -> Text:
        if not task.total:
            return Text("")
        if task.fields["running"] is None:
            return Text(f"{task.completed:.0f}/{task.total:.0f} {task.fields['unit']}")
        return Text(f"{task.completed / 1000:.4g}/{task.total / 1000:.4g} kimg")


class Bars:
    """A bar for everything and one for every cell that runs."""

    def __init__(self, watch: Watch, console: Console, title: str = "matrix") -> None:
        self.watch = watch
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            Amount(),
            Doing(watch),
            TextColumn("{task.fields[values]}", markup=False),
            console=console,
        )
        self.tasks: dict[str, TaskID] = {}
        self.all: TaskID | None = None
        if watch.total > 1:  # of a single cell its own bar says it all
            self.all = self.progress.add_task(title, total=watch.total, running=None, values="", unit=watch.unit)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def start(self, name: str, images: int) -> None:
        running = self.watch.start(name, images)
        # a bar without an end moves to and fro
        self.tasks[name] = self.progress.add_task(name, total=images or None, running=running, values="")

    def tell(self, name: str, images: int, values: Mapping[str, float]) -> None:
        running = self.watch.tell(name, images, values)
        seen = min(running.images, running.total)
        self.progress.update(self.tasks[name], completed=seen, values=summary(running.values))

    def wait(self, name: str, why: str) -> None:
        self.watch.wait(name)
        self.progress.update(self.tasks[name], values=why)

    def end(self, name: str, status: str, reason: str, counts: bool = True) -> None:
        ended = self.watch.end(name, counts)
        self.progress.remove_task(self.tasks.pop(name))
        if self.all is not None:
            self.progress.update(self.all, completed=self.watch.done)
        parts = (f"{status:<9} {name}", summary(ended.values), reason)
        line = "  ".join(part for part in parts if part)
        self.progress.console.print(line, highlight=False, markup=False)


def screen(
    waiting: Mapping[str, int], known: Mapping[str, Cost] | None = None, unit: str = "cells"
) -> Bars | Lines:
    """Bars if standard output is a terminal, else lines.

    Args:
        waiting: images of each cell that is to run, by name.
        known: what cells cost, by kind (`kind_of`).
        unit: what is counted.
    """
    console, watch = Console(markup=False, emoji=False), Watch(Forecast(waiting, known), unit=unit)
    return Bars(watch, console) if console.is_terminal else Lines(watch, console)


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Say what is waited for before there is anything to count; on a terminal only, and gone afterwards."""
    console = Console()
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield
