"""What an invocation of a matrix would do: its cells and floors, and what is known of each; nothing runs here."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from benchmarks.jobs import Floor
from benchmarks.matrix import Matrix, cells, kinds
from benchmarks.options import Bench, Machine, Report, Rescore, Selection
from gans import fidelity, schema
from gans.commands import options
from gans.compute import compiled, devices, graphs, precision
from gans.config import PROTOCOL_VERSION, ShardedConfig
from gans.errors import InputError
from gans.registry import MODELS, RULES
from gans.runs.cell import Cell, Find, check_fit, check_scores, extractor
from gans.runs.cell import described as extractor_of
from gans.runs.events import now
from gans.runs.scores import ScoreKey, records
from gans.runs.store import MlflowRun, Reader, Store
from gans.schema import FINAL, FINISHED
from gans.training.mdgan import cluster


@dataclass(frozen=True)
class Planned:
    """A cell of the matrix, whether this invocation wants it, and its newest run.

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


class MatrixPlan:
    """The cells and floors of an invocation, checked, with what the store has of them; nothing has run.

    Args:
        matrix: of which cells.
        selection: which of them.
        machine: that is to run them.
        store: of the runs.
        find: gives extractors by name; with `gans.runs.cell.described` their weights need not be here.

    Raises:
        InputError: on construction, if anything that is wanted cannot be had.
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
            cells = [p.cell for p in self.planned]
            machine.cluster.check_cells(cells, machine.threads(self.side), workers_of(self.spread))
        elif self.spread:
            cluster.require(workers_of(self.spread), self.device)
        self.floors = self.list_floors()
        writable(machine.runs)

    def plan(self) -> list[Planned]:
        """All cells of the file and of the selection; only the selected ones run."""
        # in the file's order whatever was selected, so that reports keep their order and colours
        seeds = dict.fromkeys((*self.matrix.file.seeds, *(self.selection.seeds or ())))
        every = replace(self.selection, models=None, seeds=list(seeds))
        planned = [self.planned_of(cell) for cell in cells(self.matrix, every, self.device, self.find)]
        for cell in kinds(p.cell for p in planned if p.selected).values():
            self.check(cell)
        return planned

    def planned_of(self, cell: Cell) -> Planned:
        """The cell with what is wanted and known of it."""
        folder, run = self.folder / cell.slug, self.known.get(cell.identity)
        return Planned(cell, self.selects(cell), folder, run, self.wanted(cell), self.begun(folder))

    def begun(self, folder: Path) -> bool:
        """Whether a cell has a checkpoint in its folder, here or at the URL of the runs."""
        mirror = self.machine.cluster.mirror if self.machine.cluster else None
        return mirror.begun(folder) if mirror else (folder / schema.CHECKPOINT).exists()

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
        """Whether this invocation selects the cell."""
        models = self.selection.models or self.matrix.file.models
        seeds = self.selection.seeds or self.matrix.file.seeds
        return cell.model in models and cell.experiment.seed in seeds

    def check(self, cell: Cell) -> None:
        """Refuse, before anything runs, a cell that could not train or be scored; no seed decides on that."""
        check_cell(cell, self.device)
        check_scores([key.extractor for key in self.wanted(cell)], cell.images)

    def where(self, cell: Cell) -> schema.Where:
        """Where the workers of a cell run; one that has none is local whatever WORKERS says."""
        where = self.matrix.where(cell.model, self.machine.workers)
        return where if RULES[cell.experiment.update.rule].distributed else "local"

    def remarks(self) -> list[str]:
        """What a person should know before anything runs."""
        selected = [p.cell for p in self.selected]
        whole = {cell.model for cell in selected if self.where(cell) == "local"}
        plain = {cell.model for cell in selected if self.where(cell) != "local"}
        remarks = old_runs(self.runs)
        if self.machine.workers == "ray" and whole:
            names = self.in_order(whole)
            remarks += [
                f"WORKERS=ray is for mdgan updates; each cell of these models runs in one process: {names}"
            ]
        unmeasured = {cell.model for cell in selected if self.unmeasured(cell)}
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
        networks, wanted = MODELS[cell.experiment.networks.name], self.selection.precision or "auto"
        return cell.experiment.precision == "float32" and precision.unmeasured(wanted, self.device, networks)

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
        bench = Bench(self.matrix.given, selection=self.selection, preset=self.matrix.preset, machine=self.machine)
        return options.command_line("gans bench", bench)

    def commands(self) -> dict[str, str]:
        """Further commands for this experiment: its report, further scores, and all of the matrix."""
        matrix, preset = self.matrix.given, self.matrix.preset
        every_model = replace(self.selection, models=None)
        whole = replace(every_model, seeds=None)
        report = Report(
            matrix, datasets=whole.datasets, budget=whole.budget, precision=whole.precision, preset=preset
        )
        rescore = Rescore(matrix, selection=every_model, preset=preset)
        bench = Bench(matrix, selection=whole, preset=preset, machine=self.machine)
        return {
            "report": options.command_line("gans report", report),
            "score": options.command_line("gans rescore", rescore),
            "whole": options.command_line("gans bench", bench),
        }


def why_not(name: str) -> str:
    """Why an extractor's weights cannot be had; empty if they can."""
    try:
        extractor(name)
    except InputError as error:
        return str(error)
    return ""


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


def old_runs(runs: Sequence[MlflowRun]) -> list[str]:
    """A remark on a store that has a matrix's cells under earlier protocols only."""
    cells = [run.data.tags for run in runs if run.data.tags.get(schema.KIND) == schema.CELL]
    versions = {tags.get(schema.PROTOCOL, "unknown") for tags in cells}
    if not cells or str(PROTOCOL_VERSION) in versions:
        return []
    return [
        f"the store holds {len(cells)} cells of protocol {', '.join(sorted(versions))}, which protocol "
        f"{PROTOCOL_VERSION} knows by other identities and does not mix with: all are trained again, the old runs "
        "stay as they are"
    ]
