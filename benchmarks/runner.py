"""Runs a matrix: skips finished cells, resumes interrupted ones, and records everything."""

import math
from collections import Counter
from contextlib import closing
from dataclasses import replace
from functools import cached_property, partial

from benchmarks import executors
from benchmarks.job import Begun, Job, Progress, Restarted, Result, Waiting
from benchmarks.jobs import Floor, cell_job, floor_job, score_job
from benchmarks.matrix import Matrix
from benchmarks.options import Machine, Rescore
from benchmarks.plan import MatrixPlan, Planned
from gans import schema
from gans.commands.progress import Display
from gans.errors import InputError
from gans.runs.cell import Cell, extractor
from gans.runs.cell import described as extractor_of
from gans.runs.events import State, run_folders
from gans.runs.execute import Place, tags
from gans.runs.locks import held
from gans.runs.run import Run, close_stale, invocation
from gans.runs.scores import ScoreKey
from gans.runs.store import Store
from gans.schema import FAILED, FINAL, FINISHED


class MatrixRun(MatrixPlan):
    """One invocation: trains and scores what is missing."""

    parent: Run | None = None  # of this invocation, once it runs

    def run(self) -> int:
        """Train and score what is left; 0 if each selected cell is finished and scored, each floor measured."""
        if not self.repeats():
            return self.tracked()
        close_stale(self.folder)  # as an invocation with a run does
        return self.finish_all()

    def repeats(self) -> bool:
        """Whether nothing is left to do since the last invocation, which had the same plan."""
        last = [run.state() for run in run_folders(self.folder / schema.INVOCATIONS)[-1:]]
        plans = [state.artifact(schema.PLAN) for state in last if state.result in (FINISHED, FAILED)]
        same = [path.read_text() for path in plans if path] == [self.text()]
        return same and not self.unmeasured_floors() and all(p.done for p in self.selected)

    def tracked(self) -> int:
        """As `run`, under the run of this invocation."""
        about = {
            schema.KIND: schema.MATRIX,
            schema.MATRIX_NAME: self.matrix.name,
            schema.NOTE: self.note(),
            **({schema.PRESET: self.matrix.preset} if self.matrix.preset else {}),
        }
        with invocation(self.folder, self.experiment, f"bench {self.experiment}", about) as parent:
            self.parent = parent
            parent.text(self.matrix.text, schema.MATRIX_FILE)
            parent.text(self.text(), schema.PLAN)  # all that reports need to know of it
            code = self.finish_all()
            parent.finish(FAILED if code else FINISHED)
        return code

    def finish_all(self) -> int:
        """Run the jobs for cells that are to be trained, and for floors and scores that are missing."""
        jobs = [*self.floor_jobs(), *self.training_jobs(), *self.scoring_jobs()]
        if not jobs:
            print(f"nothing to do: all {len(self.selected)} cells are complete; the report is written again")
        ended = self.execute(jobs)
        names = {job.name for job in ended}
        statuses = [result.status for result in ended.values()]
        statuses += [p.status for p in self.selected if p.cell.name not in names]
        return int(any(status != FINISHED for status in statuses))

    # --- jobs

    @cached_property
    def place(self) -> Place:
        return place(self.machine, self.experiment, self.side, self.parent, self.since)

    @property
    def limit(self) -> float:
        """Seconds that a job may take."""
        return 60 * self.matrix.file.time_limit_minutes

    def floor_jobs(self) -> list[Job]:
        """Noise floors that are not measured, or not by all metrics."""
        jobs = []
        floors = self.unmeasured_floors()
        names = Counter(floor.name for floor in floors)
        for floor in floors:
            call = partial(floor_job, floor=floor, place=self.place)
            folder = self.folder / f"real-{floor.identity[:8]}"
            apart = "" if names[floor.name] == 1 else f" by {floor.metric} at {floor.images:,}"
            name = f"noise floor of {floor.dataset}{apart}"
            jobs.append(Job(name, call, folder, 0, self.limit, counts=False))
        return jobs

    def unmeasured_floors(self) -> list[Floor]:
        known = self.known
        return [f for f in self.floors if f.identity not in known or not measured(known[f.identity], f)]

    def training_jobs(self) -> list[Job]:
        jobs = []
        for p in self.untrained():
            place = replace(self.place, workers=self.where(p.cell))
            call = partial(cell_job, cell=p.cell, place=place)
            jobs.append(Job(p.cell.name, call, p.folder, p.cell.experiment.budget, self.limit))
        return jobs

    def scoring_jobs(self) -> list[Job]:
        """Selected cells that are trained and lack scores."""
        jobs = []
        for p in self.selected:
            if p.run and (wanted := p.unscored):
                call = partial(score_job, cell=p.cell, place=self.place, wanted=wanted)
                jobs.append(Job(p.cell.name, call, p.folder, 0, self.limit))
        return jobs

    def execute(self, jobs: list[Job]) -> dict[Job, Result]:
        """Run the jobs; returns how each ended."""
        ended: dict[Job, Result] = {}
        if not jobs:
            return ended
        planned = {p.cell.name: p for p in self.untrained()}
        events = executors.run(self.machine, jobs, self.side, self.spread)
        try:
            with Display({job.name: job.images for job in jobs if job.counts}) as screen, closing(events):
                for job, what in events:
                    show(screen, job, what)
                    if isinstance(what, Result):
                        ended[job] = what
                    if job.name in planned:
                        self.record(planned[job.name], what)
        except KeyboardInterrupt:  # all jobs have been killed
            for cell in planned.values():
                if (cell.folder / schema.EVENTS).exists():
                    self.record(cell, Result(schema.INTERRUPTED, "stopped by the user"))
            raise
        return ended

    def record(self, planned: Planned, what: object) -> None:
        """Record what a cell's dead process could not: the restart, and the end."""
        match what:
            case Restarted(why):
                if run := Run.open(planned.folder):
                    run.tag({schema.MOVED: why})
            case Result(status, reason) if status not in FINAL and not held(planned.folder):
                self.end(planned, status, reason)

    def end(self, planned: Planned, status: str, reason: str) -> None:
        """End the run of a cell, unless its own process has done so."""
        run, place, cell = Run.open(planned.folder), self.place, planned.cell
        if run is None:
            run = Run.start(planned.folder, place.experiment, cell.name, tags(cell), place.parent)
        elif run.state().result != schema.RUNNING:
            return
        run.finish(status, reason)


def place(machine: Machine, experiment: str, side: int, parent: Run | None, since: float = math.inf) -> Place:
    """Where jobs of an invocation (`parent`) run, and where they are tracked."""
    return Place(
        experiment=experiment,
        parent=parent.key if parent else None,
        device="cuda" if machine.gpus else machine.device,  # the process of a GPU sees no other
        threads=machine.threads(side),
        since=since,
        graph=machine.graph,
        compile=machine.compile,
    )


def measured(run: State, floor: Floor) -> bool:
    """Whether a floor's run has all metrics in every comparison that could be made."""
    found = [
        {name.removeprefix(f"{kind}/") for name in run.metrics if name.startswith(f"{kind}/")}
        for kind in schema.FLOORS.values()
    ]
    needed = set(extractor_of(floor.extractor).metrics(classes=floor.classes))
    finished = run.tags.get(schema.STATUS) == FINISHED
    return finished and any(found) and all(needed <= names for names in found if names)


def show(display: Display, job: Job, what: object) -> None:
    match what:
        case Begun():
            display.start(job.name, job.images)
        case Progress(images, values):
            display.update(job.name, images, values)
        case Waiting(why) | Restarted(why):
            display.wait(job.name, why)
        case Result(status, reason):
            display.end(job.name, status, reason, job.counts)


class ScoreRun(MatrixRun):
    """An invocation that adds scores to what is trained; it trains nothing, and has no run of its own.

    Scores on the matrix's own number of images join those that training ended with (`score/fid`); those on another
    number are next to them under its name (`score-50000/fid`). An InputError if no selected cell is finished.
    """

    def __init__(self, matrix: Matrix, options: Rescore, machine: Machine, store: Store) -> None:
        self.options = options
        for name in options.extractors or ():
            extractor(name)
        super().__init__(matrix, options.selection, machine, store)
        if not self.selected:
            where = f"{matrix.path} is finished in '{self.experiment}'"
            raise InputError(f"no cell of {where}; run `gans bench` first")
        if rest := len(super().selected) - len(self.selected):
            print(f"not finished, so not scored: {rest} of the selected cells; `gans bench` trains them")

    def wanted(self, cell: Cell) -> tuple[ScoreKey, ...]:
        own = cell.experiment.score
        names = dict.fromkeys(self.options.extractors or own.extractors)
        return tuple(ScoreKey(name, self.options.count or own.images) for name in names)

    @property
    def selected(self) -> list[Planned]:
        return [p for p in super().selected if p.status == FINISHED]

    def tracked(self) -> int:
        return self.finish_all()
