"""What a person sees while a study runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Self

from optuna.study import Study
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from benchmarks.job import Ended, Event, Progressed
from gans import schema
from gans.commands.progress import summary
from sweeps.study import Tally

LINE_SECONDS = 15.0


class Pace:
    """Time left, from the trials that ended since this process began."""

    def __init__(self, study: Study, trials: int) -> None:
        self.trials = trials
        self.since, self.first = time.monotonic(), Tally.of(study).counted

    def left(self, tally: Tally) -> str:
        done = tally.counted - self.first
        if not done:
            return ""
        seconds = (time.monotonic() - self.since) / done * max(0, self.trials - tally.counted)
        return f"{seconds / 60:.0f} min left" if seconds > 90 else f"{seconds:.0f} s left"


def phase_of(event: Progressed) -> str:
    """What a trial begins with; empty if it tells metrics."""
    return next((name.removeprefix(schema.PHASE) for name in event.values if name.startswith(schema.PHASE)), "")


class Lines:
    """One line when a trial starts and ends, and every few seconds between."""

    def __init__(self, study: Study, trials: int, console: Console) -> None:
        self.study, self.trials, self.console = study, trials, console
        self.pace = Pace(study, trials)
        self.names: dict[str, str] = {}
        self.values: dict[str, dict[str, float]] = {}
        self.spoken: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, event: Event) -> None:
        job = event.job.name
        match event:
            case Progressed(values=values) if "trial" in values:
                self.names[job] = f"trial {values['trial']:.0f}"
                self.spoken[job] = time.monotonic()
                self.say(f"start     {self.names[job]}")
            case Progressed():
                self.values.setdefault(job, {}).update(event.values)
                if event.images and time.monotonic() - self.spoken[job] > LINE_SECONDS:
                    self.spoken[job] = time.monotonic()
                    share = min(1.0, event.images / max(1, event.job.images))
                    self.say(f"running   {self.names[job]}  {share:4.0%}  {summary(self.values[job])}")
            case Ended(result=result) if result.status != "surplus":
                name = self.names.get(job, "a trial")
                told = summary(self.values.get(job, {}))
                self.say("  ".join(part for part in (f"{result.status:<8}", name, told, result.reason) if part))
                self.total()

    def total(self) -> None:
        tally = Tally.of(self.study)
        left = self.pace.left(tally)
        self.say(f"          {tally.counted} of {self.trials}: {tally}{f'; {left}' if left else ''}")

    def wait(self, tally: Tally) -> None:
        """Other processes have the last trials."""
        if time.monotonic() - self.spoken.get("", -math.inf) > LINE_SECONDS:
            self.spoken[""] = time.monotonic()
            self.say(f"waiting   for the trials of other processes: {tally}")

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)


class Bars:
    """A bar for the study and one for every running trial of this process."""

    def __init__(self, study: Study, trials: int, console: Console) -> None:
        self.study, self.pace = study, Pace(study, trials)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", markup=False),
            TextColumn("{task.fields[values]}", markup=False),
            console=console,
        )
        self.all = self.progress.add_task("study", total=trials, unit="trials", values="")
        self.tasks: dict[str, TaskID] = {}
        self.values: dict[str, dict[str, float]] = {}

    def __enter__(self) -> Self:
        self.progress.start()
        self.total()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def show(self, event: Event) -> None:
        job = event.job.name
        match event:
            case Progressed(values=values) if "trial" in values:
                name, kimg = f"trial {values['trial']:.0f}", event.job.images // 1000 or None
                self.tasks[job] = self.progress.add_task(name, total=kimg, unit="kimg", values="")
                self.total()
            case Progressed() if phase := phase_of(event):
                self.progress.update(self.tasks[job], unit=f"kimg  {phase}")
            case Progressed():
                values = self.values.setdefault(job, {})
                values.update(event.values)
                done = min(event.images, event.job.images) // 1000
                self.progress.update(self.tasks[job], completed=done, values=summary(values))
            case Ended(result=result) if result.status != "surplus":
                self.end(event)

    def end(self, event: Ended) -> None:
        job, result = event.job.name, event.result
        task = self.tasks.pop(job, None)
        name = "a trial"
        if task is not None:
            name = self.progress.tasks[self.progress.task_ids.index(task)].description
            self.progress.remove_task(task)
        line = f"{result.status:<9} {name}  {summary(self.values.get(job, {}))}  {result.reason}"
        self.progress.console.print(line.rstrip(), highlight=False, markup=False)
        self.total()

    def total(self) -> None:
        tally = Tally.of(self.study)
        self.progress.update(self.all, completed=tally.counted, values=f"{tally}  {self.pace.left(tally)}")

    def wait(self, tally: Tally) -> None:
        self.progress.update(self.all, completed=tally.counted, values=f"waiting for other processes: {tally}")


def progress(study: Study, trials: int) -> Bars | Lines:
    """Bars if standard output is a terminal, else lines."""
    console = Console(markup=False, emoji=False)
    return Bars(study, trials, console) if console.is_terminal else Lines(study, trials, console)
