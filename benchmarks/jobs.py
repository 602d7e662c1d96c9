"""The two kinds of work in a matrix, as functions that a worker process can run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.engine import Result, Tell
from gans import schema, seeds
from gans.compute import devices
from gans.data import datasets
from gans.errors import InputError
from gans.fidelity import SCORING_VERSION
from gans.fidelity.scorer import Scorer
from gans.pictures import grids
from gans.runs.cell import Cell
from gans.runs.cell import extractor as extractor_of
from gans.runs.execute import CellRun, Place
from gans.runs.locks import Holder, InUse, locked
from gans.runs.rescore import add_scores
from gans.runs.scores import ScoreKey, metric_names
from gans.runs.scoring import Scored
from gans.runs.tracking import MlflowRun, Store

GIVEN_UP = (schema.FAILED, schema.TIMED_OUT)


@dataclass(frozen=True)
class Floor:
    """The noise floor of a data set under an extractor: real images scored as if generated."""

    dataset: str
    resolution: int
    extractor: str
    images: int
    identity: str
    metric: str
    title: str

    @property
    def name(self) -> str:
        """For people; the floors of other extractors and numbers of images are told apart by their metrics."""
        return f"real/{self.dataset}"


class SharedCell(CellRun):
    """A cell that other invocations may run too: whoever comes second takes the result of the first.

    Args:
        since: when this invocation was planned, in seconds since 1970.
    """

    def __init__(self, cell: Cell, folder: Path, place: Place, tell: Tell, since: float) -> None:
        super().__init__(cell, folder, place, tell)
        self.since = since

    def ended(self, store: Store) -> Scored | None:
        run = store.newest(self.place.experiment, schema.CELL, self.cell.identity)
        if run is None:
            return None
        status = run.data.tags.get(schema.STATUS, "")
        if status in schema.FINAL or (status in GIVEN_UP and self.by_another(run)):
            return Scored(status, run.data.tags.get(schema.REASON, ""), {}, {})
        return None

    def by_another(self, run: MlflowRun) -> bool:
        """Whether another invocation has ended the run since this one was planned."""
        ended = (run.info.end_time or 0) / 1000
        return ended > self.since and run.data.tags.get(schema.PARENT) != self.place.parent


def cell_job(tell: Tell, cell: Cell, folder: Path, place: Place, since: float) -> Result:
    """Train and score a cell, unless another invocation has done so since this one was planned."""
    try:
        outcome = SharedCell(cell, folder, place, tell, since).execute()
    except InUse as other:
        return Result(schema.SKIPPED, str(other))
    return Result(outcome.status, outcome.reason)


def score_job(tell: Tell, cell: Cell, run_id: str, folder: Path, place: Place, keys: Sequence[ScoreKey]) -> Result:
    """Add scores to a cell that is trained."""
    try:
        add_scores(cell, run_id, folder, place, keys)
    except InUse as other:
        return Result(schema.SKIPPED, str(other))
    except InputError as error:
        return Result(schema.FAILED, f"not scored: {error}")
    return Result(schema.FINISHED)


def floor_job(tell: Tell, floor: Floor, folder: Path, place: Place) -> Result:
    """Score real images against real images, under the run that was begun or a new one, unless that is done."""
    store = Store(place.uri)
    try:
        with locked(folder) as lock:
            run = store.newest(place.experiment, schema.FLOOR, floor.identity)
            if run is None or not measured(run, floor):
                measure(floor, run, folder, place, lock.holder)
    except InUse as other:
        return Result(schema.SKIPPED, str(other))
    return Result(schema.FINISHED)


def measured(run: MlflowRun, floor: Floor) -> bool:
    """Whether a floor's run has all metrics in every comparison that could be made."""
    found = [
        {name.removeprefix(f"{kind}/") for name in run.data.metrics if name.startswith(f"{kind}/")}
        for kind in schema.FLOORS.values()
    ]
    needed = set(metric_names(extractor_of(floor.extractor)))
    finished = run.data.tags.get(schema.STATUS) == schema.FINISHED
    return finished and any(found) and all(needed <= names for names in found if names)


def measure(floor: Floor, known: MlflowRun | None, folder: Path, place: Place, holder: Holder) -> None:
    """Measure a floor; what an earlier invocation left is completed."""
    device = devices.resolve(place.device)
    devices.prepare(device, place.threads)
    images = datasets.load(floor.dataset, resolution=floor.resolution)
    real = Scorer(images, floor.extractor, floor.images, device)
    rows = real.noise_floor()
    store = Store(place.uri)
    tags = {
        schema.KIND: schema.FLOOR,
        schema.HOLDER: holder.text(),
        schema.IDENTITY: floor.identity,
        schema.DATASET: floor.dataset,
        schema.TITLE: floor.title,
        schema.METRIC: floor.metric,
        schema.COUNT: str(floor.images),
        schema.SCORING: str(SCORING_VERSION),
        schema.EXTRACTOR: floor.extractor,
        schema.EXTRACTOR_HASH: real.extractor.hash,
        schema.NOTE: f"Real images of **{floor.title}** scored against real images: the noise floor "
        "that no model can be expected to beat. `half/`: one half of the training images against the other. "
        "`test/`: the test images against the training images.",
    }
    run = store.resume(known.info.run_id, place.parent) if known else None
    if run is None:
        run = store.start(place.experiment, floor.name, tags, place.parent)
    else:
        run.tag({schema.HOLDER: holder.text()})
    for comparison, row in rows.items():
        run.log(0, {f"{schema.FLOORS[comparison]}/{name}": value for name, value in row.items()})
    run.dataset(images)
    picture = folder / schema.REAL
    some = torch.randperm(len(images.train), generator=seeds.generator(0, "real images"))[:64]
    grids.save_picture(grids.picture(images.train[some]), picture)
    run.artifact(picture)
    run.finish(schema.FINISHED)
