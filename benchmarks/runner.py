"""Runs a matrix: what is finished is skipped, what was interrupted goes on, everything leaves a record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from benchmarks import executors
from benchmarks.job import Ended, Event, Job, Progressed, Restarted, Result, Started, Waiting
from benchmarks.jobs import Floor, cell_job, floor_job, score_job
from benchmarks.matrix import Matrix
from benchmarks.options import Machine, Rescore
from benchmarks.plan import MatrixPlan, Planned
from gans import schema
from gans.commands.progress import Display
from gans.config import PROTOCOL_VERSION
from gans.errors import InputError
from gans.files import write_text
from gans.runs.cell import Cell, extractor
from gans.runs.cell import described as extractor_of
from gans.runs.events import run_folders
from gans.runs.execute import Place, bring_back, tags
from gans.runs.export import Exporter, Synced, sync
from gans.runs.locks import LOCK, Holder, InUse, held, locked
from gans.runs.run import Run, close_stale, invocation
from gans.runs.scores import ScoreKey
from gans.runs.store import MlflowRun, Store
from gans.schema import FAILED, FINAL, FINISHED


@dataclass(frozen=True)
class MatrixOutcome:
    """How an invocation ended.

    Attributes:
        experiment: the MLflow experiment.
        cells: how each selected cell ended, by name; one that is trained but could not be scored has failed.
        floors: likewise, the noise floors.
    """

    experiment: str
    cells: Mapping[str, Result]
    floors: Mapping[str, Result] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 only if every selected cell is finished and scored, and every floor measured."""
        return int(any(result.status != FINISHED for result in (*self.cells.values(), *self.floors.values())))

    def text(self) -> str:
        """As JSON, in the file `outcome.json` of the matrix's folder and of its run."""
        return json.dumps(asdict(self) | {"exit_code": self.exit_code}, indent=1)


class MatrixRun(MatrixPlan):
    """One invocation: trains and scores what its plan lacks."""

    parent: Run | None = None  # of this invocation, once it runs

    def run(self) -> MatrixOutcome:
        """Train and score what is left, while runs are exported to the store."""
        close_stale(self.folder)
        with Exporter(self.folder, self.store):
            return self.tracked()

    def tracked(self) -> MatrixOutcome:
        """As `run`, under the run of this invocation: a new one, or where nothing is left that of the last one."""
        folder = (None if self.lacks() else self.last()) or invocation(self.folder)
        with locked(folder):
            self.parent = parent = self.open(folder)
            try:
                outcome = self.finish_all()
            except BaseException:
                parent.finish(schema.INTERRUPTED, "stopped before its end")
                raise
            finally:
                close_stale(self.folder)  # cells whose processes could not write down that they ended
            parent.text(outcome.text(), schema.OUTCOME)
            status = FINISHED if outcome.exit_code == 0 else FAILED
            if parent.state().result != status:  # else it keeps the time at which it ended
                parent.finish(status)
        return outcome

    def lacks(self) -> bool:
        """Whether anything is to be trained, measured or scored."""
        return bool(self.unmeasured_floors()) or not all(p.done for p in self.selected)

    def last(self) -> Path | None:
        """The folder of the last invocation, if that has ended, under this protocol and with this preset."""
        folders = run_folders(self.folder / schema.INVOCATIONS)
        state = folders[-1].state() if folders else None
        if state is None or state.result not in (FINISHED, FAILED) or held(state.folder / LOCK):
            return None
        same = state.tags.get(schema.PROTOCOL) == str(PROTOCOL_VERSION)
        return state.folder if same and state.tags.get(schema.PRESET) == self.matrix.preset else None

    def open(self, folder: Path) -> Run:
        """The parent run, with all that reports need to know of this invocation."""
        about = {
            schema.HOLDER: Holder.of(folder).text(),
            schema.KIND: schema.MATRIX,
            schema.MATRIX_NAME: self.matrix.name,
            schema.NOTE: self.note(),
            **({schema.PRESET: self.matrix.preset} if self.matrix.preset else {}),
        }
        run = Run.open(folder)
        if run:
            run.tag(about)
        else:
            run = Run.start(folder, self.experiment, f"bench {self.experiment}", about)
        run.text(self.matrix.text, schema.MATRIX_FILE)
        run.text(json.dumps(self.listing(), indent=1), schema.PLAN)
        return run

    def finish_all(self) -> MatrixOutcome:
        """Run the jobs for cells that are to be trained, and for floors and scores that are missing."""
        ended = self.execute([*self.floor_jobs(), *self.training_jobs(), *self.scoring_jobs()])
        cells = {p.cell.name: Result(p.status, p.tags.get(schema.REASON, "")) for p in self.selected}
        floors = {floor.name: Result(FINISHED) for floor in self.floors}
        outcome = MatrixOutcome(
            experiment=self.experiment,
            cells={name: ended.get(name, known) for name, known in cells.items()},
            floors={name: ended.get(name, known) for name, known in floors.items()},
        )
        write_text(self.folder / schema.OUTCOME, outcome.text())
        return outcome

    # --- jobs

    @cached_property
    def place(self) -> Place:
        """Where the jobs of this invocation run and are tracked."""
        return Place(
            experiment=self.experiment,
            parent=self.parent.key if self.parent else None,
            device="cuda" if self.machine.gpus else self.machine.device,  # the process of a GPU sees no other
            threads=self.machine.threads(self.side),
            matrix_file=self.matrix.text,
            graph=self.machine.graph,
            compile=self.machine.compile,
        )

    @property
    def limit(self) -> float:
        """Seconds that a job may take."""
        return 60 * self.matrix.file.time_limit_minutes

    def floor_jobs(self) -> list[Job]:
        """Noise floors that are not measured, or not by all metrics."""
        jobs = []
        for floor in self.unmeasured_floors():
            call = partial(floor_job, floor=floor, place=self.place, since=self.since)
            folder = self.folder / f"real-{floor.identity[:8]}"
            jobs.append(Job(floor.name, call, folder, 0, self.limit, counts=False))
        return jobs

    def unmeasured_floors(self) -> list[Floor]:
        known = self.known
        return [f for f in self.floors if f.identity not in known or not measured(known[f.identity], f)]

    def training_jobs(self) -> list[Job]:
        jobs = []
        for p in self.untrained():
            place = replace(self.place, workers=self.where(p.cell))
            call = partial(cell_job, cell=p.cell, place=place, since=self.since)
            jobs.append(Job(p.cell.name, call, p.folder, p.cell.experiment.budget, self.limit))
        return jobs

    def scoring_jobs(self) -> list[Job]:
        """Selected cells that are trained and lack scores."""
        jobs = []
        for p in self.selected:
            if p.run and (wanted := p.unscored):
                with suppress(InUse):  # the job will say so
                    bring_back(p.run, p.folder, self.experiment, self.store)
                call = partial(score_job, cell=p.cell, place=self.place, wanted=wanted)
                jobs.append(Job(p.cell.name, call, p.folder, 0, self.limit))
        return jobs

    def execute(self, jobs: list[Job]) -> dict[str, Result]:
        """Run the jobs; returns how each ended, by name."""
        results: dict[str, Result] = {}
        restarted: dict[str, str] = {}
        planned = {p.cell.name: p for p in self.untrained()}
        waiting = {job.name: job.images for job in jobs if job.counts}
        if not jobs:
            return results
        events = executors.run(self.machine, jobs, self.side, self.spread)
        running: set[str] = set()
        with Display(waiting) as screen, self.interruptible(running, planned), closing(events):
            for event in events:
                name = event.job.name
                show(screen, event)
                if isinstance(event, Started):
                    running.add(name)
                if isinstance(event, Restarted):
                    restarted[name] = event.why
                if isinstance(event, Ended):
                    running.discard(name)
                    # floors of several extractors share a name: a failure of one is not forgotten
                    if results.get(name, Result(FINISHED)).status == FINISHED:
                        results[name] = event.result
                    self.record(event.result, planned.get(name), restarted.get(name, ""))
        return results

    @contextmanager
    def interruptible(self, running: set[str], planned: Mapping[str, Planned]) -> Iterator[None]:
        """After Ctrl-C, the cells that were running are recorded as interrupted, wherever they ran."""
        try:
            yield
        except KeyboardInterrupt:
            for name in running & planned.keys():
                self.record(Result(schema.INTERRUPTED, "stopped by the user"), planned[name])
            raise

    def record(self, result: Result, planned: Planned | None, restarted: str = "") -> None:
        """Write down the end of a cell whose own process could not, and why it was started again."""
        if planned is None or result.status == schema.SKIPPED:
            return
        if restarted and (known := Run.open(planned.folder)):
            known.tag({schema.MOVED: restarted})
        if result.status in FINAL or held(planned.folder / LOCK):  # another process is at it
            return
        run, place = Run.open(planned.folder), self.place
        if run is None:
            run = Run.start(planned.folder, place.experiment, planned.cell.name, tags(planned.cell), place.parent)
        elif run.state().result != schema.RUNNING:
            return  # its own process has written the end down
        run.finish(result.status, result.reason)

    def catch_up(self) -> Synced:
        """Export all that the store lacks of this experiment; see `gans.runs.export.sync`."""
        return sync(self.folder, self.store)


def measured(run: MlflowRun, floor: Floor) -> bool:
    """Whether a floor's run has all metrics in every comparison that could be made."""
    found = [
        {name.removeprefix(f"{kind}/") for name in run.data.metrics if name.startswith(f"{kind}/")}
        for kind in schema.FLOORS.values()
    ]
    needed = set(extractor_of(floor.extractor).metrics(classes=floor.classes))
    finished = run.data.tags.get(schema.STATUS) == FINISHED
    return finished and any(found) and all(needed <= names for names in found if names)


def show(display: Display, event: Event) -> None:
    """Show what happens to jobs."""
    job = event.job
    match event:
        case Started():
            display.start(job.name, job.images)
        case Progressed(images=images, values=values):
            display.update(job.name, images, values)
        case Waiting(who=who, images=images):
            display.wait(job.name, f"{who} does it" + (f", {images / job.images:.0%}" if job.images else ""))
        case Restarted(why=why):
            display.wait(job.name, why)
        case Ended(result=result):
            display.end(job.name, result.status, result.reason, job.counts)


class ScoreRun(MatrixRun):
    """An invocation that adds scores to what is trained; it trains nothing, and has no run of its own.

    Scores on the matrix's own number of images join those that training ended with (`score/fid`); those on another
    number stand beside them under its name (`score-50000/fid`).

    Raises:
        InputError: no selected cell is finished, an extractor cannot be had, or the count is too small.
    """

    def __init__(self, matrix: Matrix, options: Rescore, machine: Machine, store: Store) -> None:
        self.options = options
        for name in options.extractors or ():
            extractor(name)
        super().__init__(matrix, options.selection, machine, store)
        if not self.selected:
            where = f"{matrix.path} is finished in '{self.experiment}'"
            raise InputError(f"no cell of {where}; run `gans bench` first")

    def wanted(self, cell: Cell) -> tuple[ScoreKey, ...]:
        own = cell.experiment.score
        names = dict.fromkeys(self.options.extractors or own.extractors)
        return tuple(ScoreKey(name, self.options.count or own.images) for name in names)

    @property
    def selected(self) -> list[Planned]:
        return [p for p in super().selected if p.status == FINISHED]

    def tracked(self) -> MatrixOutcome:
        return self.finish_all()
