"""Runs a matrix: what is finished is skipped, what was interrupted goes on, everything leaves a record."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Self

from benchmarks import executors
from benchmarks.job import Ended, Event, Job, Restarted, Result, Started
from benchmarks.jobs import Floor, cell_job, floor_job, score_job
from benchmarks.plan import MatrixPlan, Planned, workers_of
from benchmarks.progress import show
from gans import schema
from gans.commands.progress import Display
from gans.config import PROTOCOL_VERSION
from gans.files import write_text
from gans.runs.cell import described as extractor_of
from gans.runs.events import run_folders, run_paths
from gans.runs.execute import Place, tags
from gans.runs.export import Exporter, Synced, sync
from gans.runs.locks import LOCK, Holder, held, locked
from gans.runs.run import Run, invocation
from gans.runs.scores import metric_names
from gans.runs.scoring import whole
from gans.runs.stale import close_stale
from gans.runs.store import MlflowRun, keys
from gans.schema import FINAL, FINISHED


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

    def count(self, status: str) -> int:
        """Cells that ended like this."""
        return sum(result.status == status for result in self.cells.values())

    def text(self) -> str:
        """As JSON, in the file `outcome.json` of the matrix's folder and of its run."""
        return json.dumps(asdict(self) | {"exit_code": self.exit_code}, indent=1)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The outcome that an invocation wrote."""
        outcome = json.loads(path.read_text(encoding="utf-8"))
        results = ({name: Result(**end) for name, end in outcome[part].items()} for part in ("cells", "floors"))
        return cls(outcome["experiment"], *results)


class MatrixRun(MatrixPlan):
    """One invocation: trains and scores what its plan lacks."""

    def run(self) -> MatrixOutcome:
        """Train and score what is left: cells that are trained already are scored only.

        Where nothing is left, no run is added: the last invocation's gets what is wanted now.
        """
        self.close_stale()
        with Exporter(self.folder, self.store):
            return self.tracked()

    def tracked(self) -> MatrixOutcome:
        """As `run`, while runs are exported to the store."""
        last = None if self.lacks() else self.last()
        if last:
            return self.again(last)
        folder = invocation(self.folder)
        with locked(folder):
            self.parent = self.open(folder)
            self.parent_key = self.parent.key
            try:
                outcome = self.finish_all(self.untrained())
            except BaseException:
                self.parent.interrupt("stopped before its end")
                raise
            self.close_stale()  # cells whose processes could not write down that they ended
            self.parent.text(outcome.text(), schema.OUTCOME)
            self.parent.finish(FINISHED if outcome.exit_code == 0 else schema.FAILED)
        return outcome

    def again(self, last: Run) -> MatrixOutcome:
        """What an invocation that finds everything done comes to."""
        self.parent, self.parent_key = last, last.key
        outcome = self.finish_all([])
        last.text(outcome.text(), schema.OUTCOME)
        status = FINISHED if outcome.exit_code == 0 else schema.FAILED
        if last.state().result != status:  # else it keeps the time at which it ended
            last.finish(status)
        return outcome

    def lacks(self) -> bool:
        """Whether anything is to be trained, measured or scored."""
        return bool(self.untrained() or self.unmeasured_floors() or any(p.unscored for p in self.selected))

    def close_stale(self) -> None:
        """End the runs that dead processes left open; see `gans.runs.stale.close_stale`."""
        close_stale(self.folder, self.store)

    def finish_all(self, untrained: list[Planned]) -> MatrixOutcome:
        """Run the jobs for these cells, and those for floors and scores that are missing."""
        jobs = [*self.floor_jobs(), *self.training_jobs(untrained), *self.scoring_jobs()]
        ended = self.execute(jobs, {p.cell.name: p for p in untrained})
        known = {p.cell.name: Result(p.status, reason_of(p.run)) for p in self.selected if p.trained}
        floors = {floor.name: Result(FINISHED) for floor in self.floors}
        results = floors | known | ended
        outcome = MatrixOutcome(
            experiment=self.experiment,
            cells={name: result for name, result in results.items() if name not in floors},
            floors={name: result for name, result in results.items() if name in floors},
        )
        write_text(self.folder / schema.OUTCOME, outcome.text())
        return outcome

    def open(self, folder: Path) -> Run:
        """The parent run, with all that the report needs to know of this invocation, which holds its folder."""
        about = {schema.HOLDER: Holder.of(folder).text(), **self.about()}
        run = Run.start(folder, self.experiment, f"bench {self.experiment}", about)
        self.write_plan(run)
        return run

    def last(self) -> Run | None:
        """The parent run of the last invocation under this protocol, with what is wanted now."""
        tags = {schema.KIND: schema.MATRIX, schema.PROTOCOL: str(PROTOCOL_VERSION)}
        parents = [run for run in self.reader.runs(self.experiment) if tags.items() <= run.data.tags.items()]
        newest = parents[-1].data.tags if parents else {}
        # one that runs is another's; and a tag of another preset would stay
        if newest.get(schema.STATUS) not in (FINISHED, schema.FAILED):
            return None
        if newest.get(schema.PRESET) != (self.matrix.preset or None):
            return None
        key, _ = keys(parents[-1])
        known = [one.path for one in run_folders(run_paths(self.folder / schema.INVOCATIONS)) if one.key == key]
        run = Run.take(known[0] if known else invocation(self.folder), self.experiment, key)
        run.tag(self.about())
        self.write_plan(run)
        return run

    def about(self) -> dict[str, str]:
        """Tags of the parent run."""
        return {
            schema.KIND: schema.MATRIX,
            schema.MATRIX_NAME: self.matrix.name,
            schema.NOTE: self.note(),
            **({schema.PRESET: self.matrix.preset} if self.matrix.preset else {}),
        }

    def write_plan(self, run: Run) -> None:
        """What reports read of an invocation."""
        run.text(self.matrix.text, schema.MATRIX_FILE)
        run.text(json.dumps(self.listing(), indent=1), schema.PLAN)

    @cached_property
    def place(self) -> Place:
        """Where the jobs of this invocation run and are tracked."""
        return Place(
            experiment=self.experiment,
            parent=self.parent_key,
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
            run = self.known.get(floor.identity)
            folder = self.folder / f"real-{floor.identity[:8]}"
            key = keys(run)[0] if run else None
            call = partial(floor_job, floor=floor, key=key, place=self.place, since=self.since)
            jobs.append(Job(floor.name, call, folder, 0, self.limit, counts=False))
        return jobs

    def unmeasured_floors(self) -> list[Floor]:
        known = self.known
        return [f for f in self.floors if f.identity not in known or not measured(known[f.identity], f)]

    def training_jobs(self, untrained: list[Planned]) -> list[Job]:
        jobs = []
        for p in untrained:
            place = replace(self.place, workers=self.where(p.cell))
            call = partial(cell_job, cell=p.cell, place=place, since=self.since)
            jobs.append(Job(p.cell.name, call, p.folder, p.cell.experiment.budget, self.limit))
        return jobs

    def scoring_jobs(self) -> list[Job]:
        """Selected cells that are trained and lack scores."""
        jobs = []
        for p in self.selected:
            if p.run and (wanted := p.unscored):
                seen = max(images for images, _ in self.reader.history(p.run.info.run_id, schema.TRAINING))
                copy = self.copy(p.run, p.folder / schema.GENERATOR)
                call = partial(
                    score_job, cell=p.cell, run=p.run, seen=seen, place=self.place, keys=wanted, copy=copy
                )
                jobs.append(Job(p.cell.name, call, p.folder, 0, self.limit))
        return jobs

    def copy(self, run: MlflowRun, generator: Path) -> Path | None:
        """The store's copy of a generator that is not whole in its folder."""
        return None if whole(generator) else self.reader.artifact(run, f"{schema.NETWORKS}/{schema.GENERATOR}")

    def execute(self, jobs: list[Job], planned: dict[str, Planned]) -> dict[str, Result]:
        """Run the jobs; returns how each ended, by name. An interrupt leaves the running cells resumable."""
        results: dict[str, Result] = {}
        running: set[str] = set()
        restarted: dict[str, str] = {}
        if not jobs:
            return results
        spread = workers_of([p for p in planned.values() if p in self.spread])
        events = self.events(jobs, spread)
        try:
            waiting = {job.name: job.images for job in jobs if job.counts}
            with Display(waiting) as screen, closing(events):
                for event in events:
                    show(screen, event)
                    if isinstance(event, Started):
                        running.add(event.job.name)
                    if isinstance(event, Restarted):
                        restarted[event.job.name] = event.record
                    if isinstance(event, Ended):
                        running.discard(event.job.name)
                        # floors of several extractors share a name: a failure of one is not forgotten
                        if results.get(event.job.name, Result(FINISHED)).status == FINISHED:
                            results[event.job.name] = event.result
                        self.record(event.result, planned.get(event.job.name), restarted.get(event.job.name, ""))
        except KeyboardInterrupt:
            for name in sorted(running & planned.keys()):
                self.record(Result(schema.INTERRUPTED, "stopped by the user"), planned[name])
            raise
        return results

    def events(self, jobs: list[Job], spread: int) -> Generator[Event]:
        """Run the jobs; `spread`: processes that the workers of one are, at most."""
        return executors.run(self.machine, jobs, self.side, spread)

    def record(self, result: Result, planned: Planned | None, restarted: str = "") -> None:
        """Write down the end of a cell whose own process could not, and why it was started again."""
        if planned is None or result.status == schema.SKIPPED:
            return
        if restarted and (known := Run.open(planned.folder)):
            known.tag({schema.MOVED: restarted})
        if result.status in FINAL:
            return
        if held(planned.folder / LOCK):
            return  # another process is at it, and writes down its end
        place = self.place
        run = Run.open(planned.folder)
        if run is None:
            run = Run.start(planned.folder, place.experiment, planned.cell.name, tags(planned.cell), place.parent)
        elif run.state().result != schema.RUNNING:
            return  # its own process has written the end down
        if result.status == schema.INTERRUPTED:
            run.interrupt(result.reason)
        else:
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
    needed = set(metric_names(extractor_of(floor.extractor), floor.classes))
    finished = run.data.tags.get(schema.STATUS) == FINISHED
    return finished and any(found) and all(needed <= names for names in found if names)


def reason_of(run: MlflowRun | None) -> str:
    return run.data.tags.get(schema.REASON, "") if run else ""
