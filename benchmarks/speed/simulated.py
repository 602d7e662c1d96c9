"""Cells that train nothing: each opens its run, tells what a cell tells, sleeps, and ends.

All around them is what runs real ones: the plan, journals, couriers and the store, the screen, the report. So what
thousands of cells cost beside their training is known in minutes (`benchmarks.speed.scale`).
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from PIL import Image

from benchmarks.job import Ended, Event, Job, Progressed, Report, Result, Started
from benchmarks.jobs import cell_job
from benchmarks.matrix import select_matrix
from benchmarks.options import Machine, Selection
from benchmarks.runner import MatrixRun
from gans import schema
from gans.data import datasets
from gans.files import write_text
from gans.pictures import grids
from gans.runs.cell import Cell, extractor
from gans.runs.execute import CellRun, Place, phase
from gans.runs.live import LiveRun
from gans.runs.scores import ScoreKey, metric_names, record
from gans.runs.scoring import Scored
from gans.runs.tracking import Store
from gans.training.costs import PARTS
from gans.training.loop import GRID_IMAGES, Outcome

TOLD = (schema.LOSS_D, schema.LOSS_G, schema.D_REAL, schema.D_FAKE, *map("seconds/{}".format, PARTS))


@dataclass(frozen=True)
class Pretence:
    """What simulated cells do.

    Attributes:
        points: moments at which each tells losses and times; a real one has `schedule.logs` of them, 100.
        seconds: that each sleeps.
    """

    points: int
    seconds: float


class SimulatedCell(CellRun):
    """A cell that learns nothing: its scores are random numbers, for a store that is thrown away."""

    def __init__(self, cell: Cell, folder: Path, place: Place, tell: Report, pretence: Pretence) -> None:
        super().__init__(cell, folder, place, tell)
        self.pretence = pretence

    def train(self, run: LiveRun) -> tuple[Outcome, Scored]:
        self.tell(0, phase(schema.TRAINING_PHASE))
        time.sleep(self.pretence.seconds)
        rng, tracker = random.Random(self.cell.identity), self.tracker(run)
        budget, points = self.cell.experiment.budget, self.pretence.points
        for point in range(1, points + 1):
            tracker.log(budget * point // points, moment(self.cell, rng))
        scored = scores(self.cell, rng)
        tracker.log(budget, {schema.score(name): value for name, value in scored.scores.items()})
        run.tag(scored.records)
        history = {schema.TRAINING: [(budget, 1.0)]}
        return Outcome(schema.FINISHED, "", budget, scored.seconds, history), scored

    def keep(self, run: LiveRun, trained: Outcome) -> None:
        run.tag({schema.CHOSEN: str(trained.chosen)})
        path = self.folder / schema.SAMPLES / schema.FINAL_GRID
        path.parent.mkdir(parents=True, exist_ok=True)
        grids.save_picture(grid(self.cell.experiment.dataset, self.cell.experiment.resolution), path)
        self.tracker(run).picture(path)


def moment(cell: Cell, rng: random.Random) -> dict[str, float]:
    """What a cell tells of itself once in a while."""
    return {name: rng.random() for name in (schema.curve(cell.metric), *TOLD)}


def scores(cell: Cell, rng: random.Random) -> Scored:
    """All that a cell would be scored by."""
    score = cell.experiment.score
    own = extractor(score.extractors[0])
    found = {name: 1 + rng.random() for name in metric_names(own)}
    records = {ScoreKey(own.name, score.images).tag: record(own, found).text()}
    return Scored(schema.FINISHED, "", found, dict.fromkeys(PARTS, 1.0), records)


@cache
def grid(dataset: str, resolution: int) -> Image.Image:
    """What all cells on a data set draw: some of it."""
    return grids.picture(datasets.load(dataset, resolution=resolution).train[:GRID_IMAGES])


class News:
    """Keeps what a job tells until it has ended."""

    def __init__(self) -> None:
        self.told: list[tuple[int, Mapping[str, float]]] = []

    def __call__(self, images: int, values: Mapping[str, float]) -> None:
        self.told.append((images, values))


class SimulatedEngine:
    """Runs simulated cells one after the other in this process, and other jobs as they are.

    Attributes:
        spent: seconds on the clock, and of this process's CPU time, of each simulated cell and what is told of it.
    """

    def __init__(self, pretence: Pretence) -> None:
        self.pretence = pretence
        self.spent: list[tuple[float, float]] = []

    def run(self, jobs: list[Job]) -> Generator[Event]:
        """Run all jobs in order."""
        for job in jobs:
            wall, cpu = time.perf_counter(), time.process_time()
            yield Started(job)
            news = News()
            result = self.call(job)(news, job.folder)
            for images, values in news.told:
                yield Progressed(job, images, values)
            yield Ended(job, result)
            if job.counts:
                self.spent.append((time.perf_counter() - wall, time.process_time() - cpu))

    def call(self, job: Job) -> Callable[[Report, Path], Result]:
        """What is done in the place of a job."""
        assert isinstance(job.call, partial)
        return partial(self.simulate, **job.call.keywords) if job.call.func is cell_job else job.call

    def simulate(self, tell: Report, folder: Path, cell: Cell, place: Place, since: int) -> Result:
        """In the place of `cell_job`."""
        ended = SimulatedCell(cell, folder, place, tell, self.pretence).execute()
        return Result(ended.status, ended.reason)


class SimulatedRun(MatrixRun):
    """An invocation whose cells are simulated."""

    pretence: Pretence
    simulated: SimulatedEngine

    def events(self, jobs: list[Job], spread: int) -> Generator[Event]:
        self.simulated = SimulatedEngine(self.pretence)
        return self.simulated.run(jobs)


def run(matrix: str, first: int, last: int, pretence: Pretence) -> int:
    """As `make bench` for some seeds, but that nothing is trained and no report written; returns the exit code.

    What a cell took goes to `told.json`.
    """
    seeds = Selection(seeds=list(range(first, last + 1)))
    asked = SimulatedRun(select_matrix(matrix), seeds, Machine(device="cpu"), Store())
    asked.pretence = pretence
    outcome = asked.run()
    write_text(Path("told.json"), json.dumps(asked.simulated.spent))
    return outcome.exit_code


if __name__ == "__main__":
    matrix, first, last, points = sys.argv[1:]
    sys.exit(run(matrix, int(first), int(last), Pretence(int(points), 0.0)))
