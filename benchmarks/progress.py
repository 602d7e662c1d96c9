"""What a person sees while a matrix runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from benchmarks.engine import Ended, Event, Job, Progressed, Started, Waiting
from gans import schema

LINE_SECONDS = 15.0


def summary(values: Mapping[str, float]) -> str:
    """Losses and score in a few words."""
    names = {schema.LOSS_D: "D", schema.LOSS_G: "G"}
    parts = [f"{label} {values[name]:.2f}" for name, label in names.items() if name in values]
    curves = {name.removeprefix(schema.CURVE): v for name, v in values.items() if name.startswith(schema.CURVE)}
    parts += [f"{name} {v:.4g}" for name, v in curves.items()]
    return "  ".join(parts)


def awaited(event: Waiting) -> str:
    """Who is waited for, and how far that is."""
    return f"{event.who} does it{share(event.job, event.images)}"


def share(job: Job, images: int) -> str:
    return f", {min(1.0, images / job.images):.0%}" if job.images and images else ""


class Lines:
    """One line when a job starts and ends, and every few seconds between."""

    def __init__(self, total: int, console: Console) -> None:
        self.total, self.console = total, console
        self.done = 0
        self.started: dict[str, float] = {}
        self.spoken: dict[str, float] = {}
        self.first: dict[str, tuple[float, int]] = {}  # when the first news came, and of how many images
        self.values: dict[str, dict[str, float]] = {}
        self.waiting: set[str] = set()  # for other processes, and told so

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, event: Event) -> None:
        name, now = event.job.name, time.monotonic()
        match event:
            case Started():
                self.started[name] = self.spoken[name] = now
                self.say(f"start     {name}")
            case Progressed():
                self.values.setdefault(name, {}).update(event.values)
                self.first.setdefault(name, (now, event.images))
                if now - self.spoken[name] > LINE_SECONDS and event.images:
                    self.spoken[name] = now
                    self.say(self.running(event, now))
            case Waiting() if name not in self.waiting or now - self.spoken[name] > LINE_SECONDS:
                self.waiting.add(name)
                self.spoken[name] = now
                self.say(f"waiting   {name}  {awaited(event)}")
            case Ended():
                self.done += 1
                seconds = now - self.started[name]
                reason = f"  {event.result.reason}" if event.result.reason else ""
                self.say(
                    f"{event.result.status:<9} {name}  {seconds:.0f} s  ({self.done}/{self.total})  "
                    f"{summary(self.values.get(name, {}))}{reason}"
                )

    def running(self, event: Progressed, now: float) -> str:
        share = min(1.0, event.images / max(1, event.job.images))
        since, before = self.first[event.job.name]
        seen = event.images - before  # in this session: a resumed cell has seen others
        left = f"  {(now - since) * max(0, event.job.images - event.images) / seen:.0f} s left" if seen > 0 else ""
        return f"running   {event.job.name}  {share:4.0%}  {summary(self.values[event.job.name])}{left}"

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


class Bars:
    """A bar for the matrix and one for every running job."""

    def __init__(self, total: int, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[values]}"),
            console=console,
        )
        self.all = self.progress.add_task("matrix", total=total, unit="cells", values="")
        self.tasks: dict[str, TaskID] = {}
        self.values: dict[str, dict[str, float]] = {}

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def show(self, event: Event) -> None:
        name = event.job.name
        match event:
            case Started():
                total = event.job.images // 1000 or None
                self.tasks[name] = self.progress.add_task(name, total=total, unit="kimg", values="")
            case Progressed():
                values = self.values.setdefault(name, {})
                values.update(event.values)
                done = min(event.images, event.job.images) // 1000
                self.progress.update(self.tasks[name], completed=done, values=summary(values))
            case Waiting():
                done = min(event.images, event.job.images) // 1000
                self.progress.update(self.tasks[name], completed=done, values=awaited(event))
            case Ended():
                self.progress.remove_task(self.tasks.pop(name))
                self.progress.advance(self.all)
                reason = f"  {event.result.reason}" if event.result.reason else ""
                line = f"{event.result.status:<9} {name}  {summary(self.values.get(name, {}))}{reason}"
                self.progress.console.print(line, highlight=False, markup=False)


def progress(total: int) -> Bars | Lines:
    """Bars if standard output is a terminal, else lines."""
    console = Console()
    return Bars(total, console) if console.is_terminal else Lines(total, console)
