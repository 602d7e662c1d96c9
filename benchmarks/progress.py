"""What a person sees while a matrix runs; `gans.commands.progress` shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmarks.engine import Ended, Event, Progressed, Started, Waiting
from gans import schema
from gans.commands.progress import Bars, Cost, Lines, Screen, kind_of, screen
from gans.runs.tracking import MlflowRun

__all__ = ["costs", "progress", "show"]


def show(screen: Screen, event: Event) -> None:
    """Pass on what an engine tells."""
    job = event.job
    match event:
        case Started():
            screen.start(job.name, job.images)
        case Progressed(images=images, values=values):
            screen.tell(job.name, images, values)
        case Waiting(who=who, images=images):
            screen.wait(job.name, f"{who} does it" + (f", {images / job.images:.0%}" if job.images else ""))
        case Ended(result=result):
            screen.end(job.name, result.status, result.reason, job.counts)


def progress(waiting: Mapping[str, int], known: Mapping[str, Cost]) -> Bars | Lines:
    """Bars if standard output is a terminal, else lines.

    Args:
        waiting: images of each cell that is to run, by name; 0: it is scored only.
        known: what cells cost, by kind.
    """
    return screen(waiting, known)


def costs(runs: Iterable[MlflowRun]) -> dict[str, Cost]:
    """What finished cells cost, by kind; of several of a kind the newest, which is the last."""
    found = {}
    for run in runs:
        told, tags = run.data.metrics, run.data.tags
        images = float(run.data.params.get("kimg", 0)) * 1000
        if tags.get(schema.STATUS) == schema.FINISHED and images and schema.TRAINING in told:
            rest = told.get(schema.EVALUATION, 0.0) + told.get(schema.OVERHEAD, 0.0)
            found[kind_of(run.info.run_name)] = Cost(told[schema.TRAINING] / images, rest)
    return found
