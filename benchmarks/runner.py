"""Runs a matrix: what is finished is skipped, what was interrupted goes on, everything leaves a record."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Self

import torch

from benchmarks.cluster import require
from benchmarks.elsewhere import shared
from benchmarks.engine import Ended, Engine, Job, Moved, Result, Started
from benchmarks.engines import engine
from benchmarks.jobs import Floor, cell_job, floor_job, score_job
from benchmarks.matrix import Matrix, cells, kinds
from benchmarks.nodes import share_artifacts, share_data, wanted_by
from benchmarks.options import Bench, Machine, Report, Score, Selection
from benchmarks.progress import costs, show
from gans import fidelity, schema
from gans.commands import options, progress
from gans.compute import compiled, devices, graphs, precision
from gans.config import PROTOCOL_VERSION, ShardedConfig
from gans.errors import InputError
from gans.files import write_text
from gans.registry import MODELS, RULES
from gans.runs import living
from gans.runs.cell import Cell, Find, check_fit, check_scores, extractor
from gans.runs.cell import described as extractor_of
from gans.runs.courier import GRACE
from gans.runs.execute import Place, tags
from gans.runs.journal import journals, now
from gans.runs.live import LiveRun, invocation
from gans.runs.locks import LOCK, Holder, held, locked
from gans.runs.reader import Reader
from gans.runs.scores import ScoreKey, metric_names, records
from gans.runs.sync import Synced, keys, sync
from gans.runs.tracking import MlflowRun, Store
from gans.schema import FINAL, FINISHED
from gans.training.mdgan import cluster


@dataclass(frozen=True)
class Planned:
    """A cell of the matrix, whether this invocation wants it, and what the store knows of it.

    Attributes:
        run: its newest run, if there is one.
        wanted: what it is to be scored with.
        begun: whether it has a checkpoint to go on from.
    """

    cell: Cell
    selected: bool
    folder: Path
    run: MlflowRun | None
    wanted: tuple[ScoreKey, ...]
    begun: bool

    @property
    def status(self) -> str:
        return self.run.data.tags.get(schema.STATUS, "") if self.run else ""

    @property
    def trained(self) -> bool:
        return self.status in FINAL

    @property
    def unscored(self) -> tuple[ScoreKey, ...]:
        """The scores that a finished cell lacks; no others can be added without training."""
        if self.run is None or self.status != FINISHED:
            return ()
        known = records(self.run.data.tags)
        classes = self.cell.classes
        return tuple(
            key
            for key in self.wanted
            if not (key in known and known[key].complete(extractor_of(key.extractor), classes))
        )

    @property
    def state(self) -> str:
        """For people: finished, diverged, or what is still to be done."""
        if self.unscored:
            return f"{self.status}, to be scored by {', '.join(map(str, self.unscored))}"
        if self.trained:
            return self.status
        resumes = "resumes from its checkpoint" if self.begun else "to do"
        return f"{resumes} (was: {self.status})" if self.status else resumes


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
        told = json.loads(path.read_text(encoding="utf-8"))
        results = ({name: Result(**end) for name, end in told[part].items()} for part in ("cells", "floors"))
        return cls(told["experiment"], *results)


class MatrixPlan:
    """What an invocation is asked for: cells and floors, checked, with what is known of them; nothing has run.

    Args:
        matrix: of which cells.
        selection: which of them.
        machine: that is to run them.
        store: that knows what has run.
        find: gives extractors by name; with `gans.runs.cell.described` their weights need not be here.

    Raises:
        InputError: on construction, if anything asked for cannot be had.
    """

    def __init__(
        self, matrix: Matrix, selection: Selection, machine: Machine, store: Store, find: Find = extractor
    ) -> None:
        self.matrix, self.selection, self.machine, self.store = matrix, selection, machine, store
        self.find = find
        self.since = now()  # what is known is from then
        self.parent_key: str | None = None  # of the run above all runs of this invocation, once it runs
        self.device = devices.resolve(machine.device)
        graphs.wanted(machine.graph, self.device)
        if machine.compile:
            compiled.require(self.device)
        matrix.check_names(selection)
        self.experiment = matrix.experiment_name(selection.budget, selection.datasets, selection.precision)
        kinds = (schema.CELL, schema.FLOOR)
        self.folder = machine.runs / self.experiment
        self.reader = Reader(store, self.folder)
        self.runs = [run for run in self.reader.runs(self.experiment) if run.data.tags.get(schema.KIND) in kinds]
        # oldest first, so that the newest run of a cell is the one that stays
        self.known = {run.data.tags.get(schema.IDENTITY, ""): run for run in self.runs}
        self.planned = self.plan()
        self.spread = [p for p in self.untrained() if self.where(p.cell) == "ray"]
        if machine.cluster and machine.cluster.named:
            require(machine, self.side, workers_of(self.spread))
            asked = {wanted_by(p.cell): p.cell.images.hash for p in self.planned}
            share_data(machine.cluster, asked)
            share_artifacts(machine.cluster, store.artifacts(self.experiment))
        elif self.spread:
            check_cluster(self.spread, self.device)
        self.floors = self.list_floors()
        writable(machine.runs)

    def plan(self) -> list[Planned]:
        """All cells of the file and of the selection; only the selected ones run."""
        # in the file's order whatever was asked for, so that reports keep their order and colours
        seeds = dict.fromkeys((*self.matrix.file.seeds, *(self.selection.seeds or ())))
        asked = replace(self.selection, models=None, seeds=list(seeds))
        planned = [self.planned_of(cell) for cell in cells(self.matrix, asked, self.device, self.find)]
        for cell in kinds(p.cell for p in planned if p.selected).values():
            self.check(cell)
        return planned

    def planned_of(self, cell: Cell) -> Planned:
        """The cell with what is asked for and known of it."""
        folder, run = self.folder / cell.slug, self.known.get(cell.identity)
        return Planned(cell, self.selects(cell), folder, run, self.wanted(cell), self.begun(folder))

    def begun(self, folder: Path) -> bool:
        """Whether a cell has a checkpoint in its folder, here or at the URL that this is fetched from."""
        path = folder / schema.CHECKPOINT
        depot = self.machine.cluster.depot if self.machine.cluster else None
        return depot.had(path) if depot else path.exists()

    def wanted(self, cell: Cell) -> tuple[ScoreKey, ...]:
        """What a cell is to be scored with."""
        score = cell.experiment.score
        return tuple(ScoreKey(name, score.images) for name in score.extractors)

    @property
    def selected(self) -> list[Planned]:
        return [p for p in self.planned if p.selected]

    @property
    def side(self) -> int:
        """Of the largest images, in pixels."""
        return max(p.cell.experiment.resolution for p in self.planned)

    def untrained(self) -> list[Planned]:
        """The selected cells that this invocation trains."""
        return [p for p in self.selected if not p.trained]

    def selects(self, cell: Cell) -> bool:
        """Whether this invocation asks for the cell."""
        models = self.selection.models or self.matrix.file.models
        seeds = self.selection.seeds or self.matrix.file.seeds
        return cell.model in models and cell.experiment.seed in seeds

    def check(self, cell: Cell) -> None:
        """Refuse, before anything runs, a cell that could not train or be scored; no seed decides on that."""
        check_cell(cell, self.device)
        check_scores([key.extractor for key in self.wanted(cell)], cell.images)

    def where(self, cell: Cell) -> schema.Where:
        """Where the workers of a cell live; one that has none runs in its own process whatever was asked for."""
        asked = self.matrix.where(cell.model, self.machine.workers)
        return asked if RULES[cell.experiment.update.rule].distributed else "local"

    def remarks(self) -> list[str]:
        """What a person should know before anything runs."""
        asked = [p.cell for p in self.selected]
        whole = {cell.model for cell in asked if self.where(cell) == "local"}
        plain = {cell.model for cell in asked if self.where(cell) != "local"}
        remarks = old_runs(self.runs)
        if self.machine.workers == "ray" and whole:
            names = self.in_order(whole)
            remarks += [
                f"WORKERS=ray is for mdgan updates; each cell of these models runs in one process: {names}"
            ]
        unmeasured = {cell.model for cell in asked if self.unmeasured(cell)}
        if unmeasured:
            names = self.in_order(unmeasured)
            remarks += [f"these models train in float32, as no lower precision was measured on CUDA: {names}"]
        if self.machine.graph and plain:
            names = self.in_order(plain)
            remarks += [f"GRAPH=1 is for one process; over Ray these models train without graphs: {names}"]
        return remarks

    def lacking(self) -> list[str]:
        """Why the weights of an extractor cannot be had, of those that the selection needs."""
        names = {name for p in self.selected for name in p.cell.experiment.score.extractors}
        return [why for name in sorted(names) if (why := why_not(name))]

    def unmeasured(self, cell: Cell) -> bool:
        """Whether the cell trains in float32 for want of evidence that a lower precision does as well."""
        networks, asked = MODELS[cell.experiment.networks.name], self.selection.precision or "auto"
        return cell.experiment.precision == "float32" and precision.unmeasured(asked, self.device, networks)

    def in_order(self, models: set[str]) -> str:
        """The names of models as the file orders them."""
        return ", ".join(model for model in self.matrix.file.models if model in models)

    def list_floors(self) -> list[Floor]:
        """One noise floor per data set, extractor and number of images."""
        some = kinds(p.cell for p in self.planned).values()  # no training seed decides on a floor
        floors = [floor for cell in some for floor in floors_of(cell, self.wanted(cell))]
        found = {floor.identity: floor for floor in floors}
        # where some models have classes and others none, the one with classes says all that the other does
        return list((found | {floor.identity: floor for floor in floors if floor.classes}).values())

    def note(self) -> str:
        return (
            f"{self.matrix.file.description.strip()}\n\nOne invocation of `{self.command()}`. Its child runs are "
            "cells (`model/dataset/seed`) and noise floors (`real/dataset`); compare them against images seen "
            "(the step). The report is among the artifacts."
        )

    def listing(self) -> dict[str, object]:
        """Cells and floors of this matrix, by the identities their runs are found with."""
        return {
            "matrix": self.matrix.name,
            "experiment": self.experiment,
            "budget": self.selection.budget,
            "protocol": PROTOCOL_VERSION,
            "scoring": fidelity.SCORING_VERSION,
            "command": self.command(),
            **self.commands(),
            "description": self.matrix.file.description.strip(),
            "conclusion": self.matrix.file.conclusion.strip(),
            "cells": [
                {
                    "name": p.cell.name,
                    "model": p.cell.model,
                    "dataset": p.cell.experiment.dataset,
                    "seed": p.cell.experiment.seed,
                    "identity": p.cell.identity,
                    "metric": p.cell.metric,
                    "scores": {key.extractor: key.count for key in p.wanted},
                    "selected": p.selected,
                }
                for p in self.planned
            ],
            "floors": [asdict(floor) for floor in self.floors],
        }

    def command(self) -> str:
        """The command that runs this selection again."""
        asked = Bench(self.matrix.given, self.selection, self.matrix.preset, self.machine)
        return options.command("bench", asked)

    def commands(self) -> dict[str, str]:
        """What else can be asked of this experiment: its report, further scores, and all of the matrix."""
        matrix, preset = self.matrix.given, self.matrix.preset
        every_model = replace(self.selection, models=None)
        whole = replace(every_model, seeds=None)
        return {
            "report": options.command("report", Report(matrix, whole, preset)),
            "score": options.command("score", Score(matrix, selection=every_model, preset=preset)),
            "whole": options.command("bench", Bench(matrix, whole, preset, self.machine)),
        }


class MatrixRun(MatrixPlan):
    """One invocation: trains and scores what its plan lacks."""

    def run(self) -> MatrixOutcome:
        """Train and score what is left: cells that are trained already are scored only.

        Where nothing is left, no run is added: the last invocation's is told what was asked for now.
        """
        self.close_dead()
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
            self.close_dead()  # cells whose processes could not say that they ended
            self.parent.text(outcome.text(), schema.OUTCOME)
            self.parent.finish(FINISHED if outcome.exit_code == 0 else schema.FAILED)
        return outcome

    def again(self, last: LiveRun) -> MatrixOutcome:
        """What an invocation that finds everything done comes to."""
        self.parent, self.parent_key = last, last.key
        outcome = self.finish_all([])
        last.text(outcome.text(), schema.OUTCOME)
        status = FINISHED if outcome.exit_code == 0 else schema.FAILED
        if last.status() != status:  # else it keeps the time at which it ended
            last.finish(status)
        return outcome

    def lacks(self) -> bool:
        """Whether anything is to be trained, measured or scored."""
        return bool(self.untrained() or self.unmeasured_floors() or any(p.unscored for p in self.selected))

    def close_dead(self) -> None:
        """End the runs that dead processes left open; see `gans.runs.living.close_dead`."""
        if self.reader.alive:
            living.close_dead(self.store)

    def finish_all(self, untrained: list[Planned]) -> MatrixOutcome:
        """Run the jobs for these cells, and those for floors and scores that are missing."""
        jobs = [*self.floor_jobs(), *self.training_jobs(untrained), *self.scoring_jobs()]
        ended = self.execute(jobs, {p.cell.name: p for p in untrained})
        known = {p.cell.name: Result(p.status, reason_of(p.run)) for p in self.selected if p.trained}
        floors = {floor.name: Result(FINISHED) for floor in self.floors}
        told = floors | known | ended
        outcome = MatrixOutcome(
            experiment=self.experiment,
            cells={name: result for name, result in told.items() if name not in floors},
            floors={name: result for name, result in told.items() if name in floors},
        )
        write_text(self.folder / schema.OUTCOME, outcome.text())
        return outcome

    def open(self, folder: Path) -> LiveRun:
        """The parent run, with all that the report needs to know of this invocation, which holds its folder."""
        about = {schema.HOLDER: Holder.of(folder).text(), **self.about()}
        run = LiveRun.start(folder, self.store.uri, self.experiment, f"bench {self.experiment}", about)
        self.tell_plan(run)
        return run

    def last(self) -> LiveRun | None:
        """The parent run of the last invocation under this protocol, told what is asked for now."""
        tags = {schema.KIND: schema.MATRIX, schema.PROTOCOL: str(PROTOCOL_VERSION)}
        parents = [run for run in self.reader.runs(self.experiment) if tags.items() <= run.data.tags.items()]
        newest = parents[-1].data.tags if parents else {}
        # one that runs is another's; and a tag of another preset would stay
        if newest.get(schema.STATUS) not in (FINISHED, schema.FAILED):
            return None
        if newest.get(schema.PRESET) != (self.matrix.preset or None):
            return None
        key, _ = keys(parents[-1])
        known = [journal.folder for journal in journals(self.folder / schema.INVOCATIONS) if journal.key == key]
        folder = known[0] if known else invocation(self.folder)
        run = LiveRun.of(folder, self.store.uri, self.experiment, key)
        if run:
            run.tag(self.about())
            self.tell_plan(run)
        return run

    def about(self) -> dict[str, str]:
        """Tags of the parent run."""
        return {
            schema.KIND: schema.MATRIX,
            schema.MATRIX_NAME: self.matrix.name,
            schema.NOTE: self.note(),
            **({schema.PRESET: self.matrix.preset} if self.matrix.preset else {}),
        }

    def tell_plan(self, run: LiveRun) -> None:
        """What reports read of an invocation."""
        run.text(self.matrix.text, schema.MATRIX_FILE)
        run.text(json.dumps(self.listing(), indent=1), schema.PLAN)

    @cached_property
    def place(self) -> Place:
        """Where the jobs of this invocation run and are tracked."""
        return Place(
            experiment=self.experiment,
            parent=self.parent_key,
            uri=self.store.uri,
            device="cuda" if self.machine.cards else self.machine.device,  # a card's process sees no other
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
            run_id = run.info.run_id if run else None
            call = partial(
                floor_job, floor=floor, run_id=run_id, folder=folder, place=self.place, since=self.since
            )
            jobs.append(Job(floor.name, call, 0, folder / schema.LOG, self.limit, counts=False, folder=folder))
        return jobs

    def unmeasured_floors(self) -> list[Floor]:
        known = self.known
        return [f for f in self.floors if f.identity not in known or not measured(known[f.identity], f)]

    def training_jobs(self, untrained: list[Planned]) -> list[Job]:
        jobs = []
        for p in untrained:
            place = replace(self.place, workers=self.where(p.cell))
            call = partial(cell_job, cell=p.cell, folder=p.folder, place=place, since=self.since)
            images, log = p.cell.experiment.budget, p.folder / schema.LOG
            jobs.append(Job(p.cell.name, call, images, log, self.limit, folder=p.folder))
        return jobs

    def scoring_jobs(self) -> list[Job]:
        """Selected cells that are trained and lack scores."""
        jobs = []
        for p in self.selected:
            if p.run and (keys := p.unscored):
                seen = max(images for images, _ in self.reader.history(p.run.info.run_id, schema.TRAINING))
                call = partial(
                    score_job, cell=p.cell, run=p.run, seen=seen, folder=p.folder, place=self.place, keys=keys
                )
                jobs.append(Job(p.cell.name, call, 0, p.folder / schema.LOG, self.limit, folder=p.folder))
        return jobs

    def execute(self, jobs: list[Job], planned: dict[str, Planned]) -> dict[str, Result]:
        """Run the jobs; returns how each ended, by name. An interrupt leaves the running cells resumable."""
        results: dict[str, Result] = {}
        running: set[str] = set()
        moved: dict[str, str] = {}
        if not jobs:
            return results
        spread = workers_of([p for p in planned.values() if p in self.spread])
        events = shared(self.engine(jobs, spread), jobs)
        try:
            waiting = {job.name: job.images for job in jobs if job.counts}
            with progress.screen(waiting, costs(self.runs)) as screen, closing(events):
                for event in events:
                    show(screen, event)
                    if isinstance(event, Started):
                        running.add(event.job.name)
                    if isinstance(event, Moved):
                        moved[event.job.name] = event.record
                    if isinstance(event, Ended):
                        running.discard(event.job.name)
                        # floors of several extractors share a name: a failure of one is not forgotten
                        if results.get(event.job.name, Result(FINISHED)).status == FINISHED:
                            results[event.job.name] = event.result
                        self.record(event.result, planned.get(event.job.name), moved.get(event.job.name, ""))
        except KeyboardInterrupt:
            for name in sorted(running & planned.keys()):
                self.record(Result(schema.INTERRUPTED, "stopped by the user"), planned[name])
            raise
        return results

    def engine(self, jobs: Sequence[Job], spread: int) -> Engine:
        """What runs the jobs; `spread`: processes that the workers of one are, at most."""
        return engine(self.machine, len(jobs), self.side, spread)

    def record(self, result: Result, planned: Planned | None, moved: str = "") -> None:
        """Write down the end of a cell whose own process could not, and why it was taken up elsewhere."""
        if planned is None or result.status == schema.SKIPPED:
            return
        if moved and (known := LiveRun.of(planned.folder, self.place.uri, self.place.experiment)):
            known.tag({schema.MOVED: moved})
            known.close(GRACE)
        if result.status in FINAL:
            return
        if held(planned.folder / LOCK):
            return  # another process is at it, and writes down its end
        place = self.place
        run = LiveRun.of(planned.folder, place.uri, place.experiment)
        if run is None:
            told = tags(planned.cell)
            run = LiveRun.start(planned.folder, place.uri, place.experiment, planned.cell.name, told, place.parent)
        elif run.status() != schema.RUNNING:
            return  # its own process has written the end down
        if result.status == schema.INTERRUPTED:
            run.interrupt(result.reason)
        else:
            run.finish(result.status, result.reason)

    def catch_up(self) -> Synced:
        """Tell the store all that it does not know of this experiment; see `gans.runs.sync.sync`."""
        return sync(self.folder, self.store, GRACE)


def why_not(name: str) -> str:
    """Why an extractor's weights cannot be had; empty if they can."""
    try:
        extractor(name)
    except InputError as error:
        return str(error)
    return ""


def check_cluster(spread: Sequence[Planned], device: torch.device) -> None:
    """Refuse, before anything runs, a cluster without room for the largest cell."""
    cluster.require(workers_of(spread), device)


def workers_of(spread: Sequence[Planned]) -> int:
    """Those of the cell that has most, of cells whose workers are processes."""
    updates = [p.cell.experiment.update for p in spread]
    return max((update.workers for update in updates if isinstance(update, ShardedConfig)), default=0)


def check_cell(cell: Cell, device: torch.device) -> None:
    """Refuse, before anything runs, a cell that could not train."""
    experiment = cell.experiment
    try:
        precision.require(experiment.precision, device)
        check_fit(experiment, cell.images)
    except InputError as error:
        raise InputError(f"{cell.model} on {experiment.dataset}: {error}") from None


def writable(folder: Path) -> None:
    """Refuse a folder that nothing can be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}; name another with --runs") from None


def floors_of(cell: Cell, wanted: Sequence[ScoreKey]) -> list[Floor]:
    """The noise floors that these scores of a cell are read against: one each."""
    images = cell.images
    floors = []
    for key in wanted:
        extractor = extractor_of(key.extractor)
        known_by = f"{images.hash} {fidelity.identity(extractor, key.count)} {PROTOCOL_VERSION}"
        floors.append(
            Floor(
                dataset=cell.experiment.dataset,
                resolution=images.resolution,
                extractor=key.extractor,
                images=key.count,
                identity=hashlib.sha256(known_by.encode()).hexdigest()[:16],
                metric=extractor.prefix,
                title=images.title,
                classes=cell.classes,
            )
        )
    return floors


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


def old_runs(runs: Sequence[MlflowRun]) -> list[str]:
    """What to say of a store that knows a matrix's cells under earlier protocols only."""
    cells = [run.data.tags for run in runs if run.data.tags.get(schema.KIND) == schema.CELL]
    versions = {tags.get(schema.PROTOCOL, "unknown") for tags in cells}
    if not cells or str(PROTOCOL_VERSION) in versions:
        return []
    return [
        f"the store holds {len(cells)} cells of protocol {', '.join(sorted(versions))}, which protocol "
        f"{PROTOCOL_VERSION} knows by other identities and does not mix with: all are trained again, the old runs "
        "stay as they are"
    ]
