"""What a person sees while a matrix runs; `gans.commands.progress` shows it."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.job import Ended, Event, Progressed, Restarted, Started, Waiting
from gans import schema
from gans.commands.progress import Cost, Display, kind_of
from gans.runs.store import MlflowRun


def show(display: Display, event: Event) -> None:
    """Pass on what happens to jobs."""
    job = event.job
    match event:
        case Started():
            display.start(job.name, job.images)
        case Progressed(images=images, values=values):
            display.update(job.name, images, values)
        case Waiting(who=who, images=images):
            display.wait(job.name, f"{who} does it" + (f", {images / job.images:.0%}" if job.images else ""))
        case Restarted(why=why, anew=anew):
            display.wait(job.name, f"{why}; it {'begins anew' if anew else 'goes on'}")
        case Ended(result=result):
            display.end(job.name, result.status, result.reason, job.counts)


def costs(runs: Iterable[MlflowRun]) -> dict[str, Cost]:
    """What finished cells cost, by kind; of several of a kind the newest, which is the last."""
    found = {}
    for run in runs:
        metrics, tags = run.data.metrics, run.data.tags
        images = float(run.data.params.get("kimg", 0)) * 1000
        if tags.get(schema.STATUS) == schema.FINISHED and images and schema.TRAINING in metrics:
            rest = metrics.get(schema.EVALUATION, 0.0) + metrics.get(schema.OVERHEAD, 0.0)
            found[kind_of(run.info.run_name)] = Cost(metrics[schema.TRAINING] / images, rest)
    return found
