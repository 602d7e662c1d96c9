"""Runs a matrix: what is finished is skipped, what was interrupted goes on, everything leaves a record."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.engine import Ended, Job, LocalEngine, Result, Started
from benchmarks.jobs import Floor, cell_job, floor_job
from benchmarks.matrix import Matrix, cells
from benchmarks.options import Bench, Machine, Selection
from benchmarks.progress import progress
from gans import fidelity, schema
from gans.commands import options
from gans.compute import devices, precision
from gans.config import PROTOCOL_VERSION, ShardedConfig
from gans.errors import InputError
from gans.registry import RULES
from gans.runs.cell import Cell, check_fit
from gans.runs.cell import extractor as extractor_of
from gans.runs.execute import Place, tags
from gans.runs.tracking import Run, Store
from gans.schema import FINAL, FINISHED
from gans.training import graphs
from gans.training.mdgan import cluster
from gans.training.mdgan.workers import Where


@dataclass(frozen=True)
class Planned:
    """A cell of the matrix, whether this invocation wants it, and what the store knows of it."""

    cell: Cell
    selected: bool
    folder: Path
    status: str

    @property
    def state(self) -> str:
        """For people: finished, diverged, or what is still to be done."""
        if self.status in FINAL:
            return self.status
        resumes = "resumes from its checkpoint" if (self.folder / schema.CHECKPOINT).exists() else "to do"
        return f"{resumes} (was: {self.status})" if self.status else resumes


class MatrixRun:
    """One invocation.

    Raises:
        InputError: on construction, if anything asked for cannot be had; nothing has run by then.
    """

    def __init__(self, matrix: Matrix, selection: Selection, machine: Machine, store: Store) -> None:
        self.matrix, self.selection, self.machine, self.store = matrix, selection, machine, store
        self.device = devices.resolve(machine.device)
        if machine.graph:
            graphs.check(self.device)
        matrix.check_names(selection)
        self.experiment = matrix.experiment_name(selection.budget, selection.datasets, selection.precision)
        self.known = {
            run.data.tags.get(schema.IDENTITY, ""): run.data.tags.get(schema.STATUS, "")
            for run in store.runs(self.experiment)
            if run.data.tags.get(schema.KIND) in (schema.CELL, schema.FLOOR)
        }
        self.planned = self.plan()
        left = [p for p in self.planned if p.selected and p.status not in FINAL]
        self.spread = [p for p in left if self.where(p.cell) == "ray"]
        if self.spread:
            check_cluster(self.spread, self.device)
        self.floors = self.list_floors()
        writable(machine.runs)

    def plan(self) -> list[Planned]:
        """All cells of the file and of the selection; only the selected ones run."""
        # in the file's order whatever was asked for, so that reports keep their order and colours
        seeds = dict.fromkeys((*self.matrix.file.seeds, *(self.selection.seeds or ())))
        everything = cells(self.matrix, replace(self.selection, models=None, seeds=list(seeds)), self.device)
        folder = self.machine.runs / self.experiment
        return [
            Planned(cell, self.selects(cell), folder / cell.slug, self.known.get(cell.identity, ""))
            for cell in everything
        ]

    def selects(self, cell: Cell) -> bool:
        """Whether this invocation asks for the cell; if so, it is checked."""
        models = self.selection.models or self.matrix.file.models
        seeds = self.selection.seeds or self.matrix.file.seeds
        selected = cell.model in models and cell.experiment.seed in seeds
        if selected:
            check_cell(cell, self.device)
        return selected

    def where(self, cell: Cell) -> Where:
        """Where the workers of a cell live; one that has none runs in its own process whatever was asked for."""
        asked = self.matrix.where(cell.model, self.machine.workers)
        return asked if RULES[cell.experiment.update.rule].distributed else "local"

    def remarks(self) -> list[str]:
        """What a person should know before anything runs."""
        asked = [p.cell for p in self.planned if p.selected]
        whole = {cell.model for cell in asked if self.where(cell) == "local"}
        plain = {cell.model for cell in asked if not graphs.fits(RULES[cell.experiment.update.rule])}
        remarks = []
        if self.machine.workers == "ray" and whole:
            names = self.in_order(whole)
            remarks += [
                f"WORKERS=ray is for mdgan updates; each cell of these models runs in one process: {names}"
            ]
        if self.machine.graph and plain:
            names = self.in_order(plain)
            remarks += [f"GRAPH=1 is for two-player updates; these models train without graphs: {names}"]
        return remarks

    def in_order(self, models: set[str]) -> str:
        """The names of models as the file orders them."""
        return ", ".join(model for model in self.matrix.file.models if model in models)

    def list_floors(self) -> list[Floor]:
        """One noise floor per data set and extractor."""
        found = {floor.identity: floor for planned in self.planned for floor in floors_of(planned.cell)}
        return list(found.values())

    def run(self) -> int:
        """Run what is left; returns the exit code: 0 only if every selected cell is finished."""
        results = {p.cell.name: p.status for p in self.planned if p.selected and p.status in FINAL}
        left = [p for p in self.planned if p.selected and p.status not in FINAL]
        floors = [floor for floor in self.floors if self.known.get(floor.identity) != FINISHED]
        self.parent = self.open()
        try:
            results |= self.execute(self.jobs(left, floors), {p.cell.name: p for p in left})
        except BaseException:
            self.parent.interrupt("stopped before its end")
            raise
        self.parent.finish(FINISHED if set(results.values()) <= {FINISHED} else schema.FAILED)
        return 0 if all(status == FINISHED for status in results.values()) else 1

    def open(self) -> Run:
        """The parent run, with all that the report needs to know of this invocation."""
        about = {
            schema.KIND: schema.MATRIX,
            schema.MATRIX_NAME: self.matrix.name,
            schema.NOTE: self.note(),
        }
        run = self.store.start(self.experiment, f"bench {self.experiment}", about)
        run.text(self.matrix.text, schema.MATRIX_FILE)
        run.text(json.dumps(self.listing(), indent=1), schema.PLAN)
        return run

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
            "command": self.command(),
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
                    "selected": p.selected,
                }
                for p in self.planned
            ],
            "floors": [asdict(floor) for floor in self.floors],
        }

    def command(self) -> str:
        """The command that runs this selection again."""
        asked = Bench(self.matrix.name, self.selection, self.matrix.preset, self.machine)
        return options.command("bench", asked)

    def jobs(self, left: list[Planned], floors: list[Floor]) -> list[Job]:
        place = Place(
            experiment=self.experiment,
            parent=self.parent.id,
            uri=self.store.uri,
            device=self.machine.device,
            threads=self.machine.threads(),
            matrix_file=self.matrix.text,
            graph=self.machine.graph,
        )
        limit = 60 * self.matrix.file.time_limit_minutes
        folder = self.machine.runs / self.experiment
        jobs = []
        for floor in floors:
            here = folder / f"real-{floor.identity[:8]}"
            call = partial(floor_job, floor=floor, folder=here, place=place)
            jobs.append(Job(f"real/{floor.dataset}", call, 0, here / schema.LOG, limit))
        for p in left:
            there = replace(place, workers=self.where(p.cell))
            call = partial(cell_job, cell=p.cell, folder=p.folder, place=there)
            jobs.append(Job(p.cell.name, call, p.cell.experiment.budget, p.folder / schema.LOG, limit))
        return jobs

    def execute(self, jobs: list[Job], planned: dict[str, Planned]) -> dict[str, str]:
        """Run the jobs; returns status by cell name. An interrupt leaves the running cells resumable."""
        results: dict[str, str] = {}
        running: set[str] = set()
        if not jobs:
            return results
        # cells whose workers are processes already fill the machine one by one
        alone = self.machine.jobs is None and any(p in self.spread for p in planned.values())
        engine = LocalEngine(1 if alone else self.machine.parallel(len(jobs)))
        try:
            with progress(len(jobs)) as screen, closing(engine.run(jobs)) as events:
                for event in events:
                    screen.show(event)
                    if isinstance(event, Started):
                        running.add(event.job.name)
                    if isinstance(event, Ended):
                        running.discard(event.job.name)
                        results[event.job.name] = event.result.status
                        self.record(event.result, planned.get(event.job.name))
        except KeyboardInterrupt:
            for name in sorted(running & planned.keys()):
                self.record(Result(schema.INTERRUPTED, "stopped by the user"), planned[name])
            raise
        return results

    def record(self, result: Result, planned: Planned | None) -> None:
        """Write down the end of a cell whose own process could not."""
        if planned is None or result.status in FINAL or result.status == schema.SKIPPED:
            return
        file = planned.folder / schema.RUN_FILE
        run = self.store.find(json.loads(file.read_text())["run"]) if file.exists() else None
        if run is None:
            run = self.store.start(self.experiment, planned.cell.name, tags(planned.cell), self.parent.id)
        elif run.status() != schema.RUNNING:
            return  # its own process has written the end down
        if result.status == schema.INTERRUPTED:
            run.interrupt(result.reason)
        else:
            run.finish(result.status, result.reason)


def check_cluster(spread: Sequence[Planned], device: torch.device) -> None:
    """Refuse, before anything runs, a cluster without room for the largest cell."""
    updates = [p.cell.experiment.update for p in spread]
    cluster.check(max(update.workers for update in updates if isinstance(update, ShardedConfig)), device)


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


def floors_of(cell: Cell) -> list[Floor]:
    """The noise floors that this cell's scores are read against: one per extractor."""
    experiment = cell.experiment
    images, floors = cell.images, []
    for name in experiment.score.extractors:
        extractor = extractor_of(name)
        key = f"{images.hash} {fidelity.identity(extractor, experiment.score.images)} {PROTOCOL_VERSION}"
        floors.append(
            Floor(
                dataset=experiment.dataset,
                resolution=images.resolution,
                extractor=name,
                images=experiment.score.images,
                identity=hashlib.sha256(key.encode()).hexdigest()[:16],
                metric=extractor.prefix,
                title=images.title,
            )
        )
    return floors
