"""The plan of an invocation: the cells and floors of a matrix, their state, and what is left of time and disk."""

import hashlib
import io
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.jobs import Floor
from benchmarks.matrix import Matrix, cells, kind_of, kinds
from benchmarks.options import Bench, Machine, Report, Rescore, Selection
from gans import fidelity, schema
from gans.commands import options
from gans.commands.progress import duration
from gans.compute import compiled, devices, graphs, precision
from gans.config import PROTOCOL_VERSION, ShardedConfig
from gans.errors import InputError
from gans.registry import MODELS, RULES
from gans.runs.cell import Cell, Find, check_cell, extractor
from gans.runs.cell import described as extractor_of
from gans.runs.events import State, now
from gans.runs.scores import ScoreKey, missing
from gans.runs.store import Store, Tracked
from gans.schema import FINAL, FINISHED
from gans.training.mdgan import cluster
from gans.training.state import Training

ENOUGH = 0.2  # seconds of steps that are timed
CHECKPOINTS = 3  # of a cell: the last, the one before it until the cell has ended, and the last in the store
GENERATORS = 2  # in the cell's folder and in the store
PICTURES = 3 * 2**20  # grids, curves and films, twice; what cells of 32x32 images leave


@dataclass(frozen=True)
class Planned:
    """A cell of the matrix.

    Attributes:
        selected: whether this invocation runs it.
        run: its newest run, if there is one.
        wanted: its planned scores.
    """

    cell: Cell
    selected: bool
    folder: Path
    run: State | None
    wanted: tuple[ScoreKey, ...]

    @property
    def tags(self) -> dict[str, str]:
        return self.run.tags if self.run else {}

    @property
    def status(self) -> str:
        return self.tags.get(schema.STATUS, "")

    @property
    def trained(self) -> bool:
        return self.status in FINAL

    @property
    def unscored(self) -> tuple[ScoreKey, ...]:
        """The scores that a finished cell lacks; no others can be added without training."""
        if self.status != FINISHED:
            return ()
        return missing(self.wanted, self.tags, self.cell.classes, extractor_of)

    @property
    def done(self) -> bool:
        return self.trained and not self.unscored

    @property
    def state(self) -> str:
        """Its state as text: finished, diverged, or the remaining work."""
        if self.unscored:
            return f"{self.status}, to be scored by {', '.join(map(str, self.unscored))}"
        if self.trained:
            return self.status
        return f"to do (was: {self.status})" if self.status else "to do"


class MatrixPlan:
    """The cells and floors of an invocation, checked, with what the store has of them; nothing has run.

    An InputError if anything is unavailable. With `find` = `gans.runs.cell.described` weights need not be here.

    Attributes:
        since: when the store was read.
        known: the newest run of each cell and floor, by identity.
        spread: most processes of a cell's workers; 0 if they run in the process of their cell.
    """

    def __init__(
        self, matrix: Matrix, selection: Selection, machine: Machine, store: Store, find: Find = extractor
    ) -> None:
        self.matrix, self.selection, self.machine, self.store = matrix, selection, machine, store
        self.since = now()
        self.device = devices.resolve(machine.device)
        graphs.wanted(machine.graph, self.device)
        if machine.compile:
            compiled.require(self.device)
        self.experiment = matrix.experiment_name(selection.budget, selection.datasets, selection.precision)
        self.folder = machine.runs / self.experiment
        of_cells, tracked = (schema.CELL, schema.FLOOR), Tracked(store, self.folder).runs(self.experiment)
        self.runs = [run for run in tracked if run.tags.get(schema.KIND) in of_cells]
        self.known = {run.tags.get(schema.IDENTITY, ""): run for run in self.runs}  # oldest first
        self.planned = self.plan(find)
        apart = [p.cell.experiment.update for p in self.untrained() if self.where(p.cell) == "ray"]
        self.spread = max((update.workers for update in apart if isinstance(update, ShardedConfig)), default=0)
        if machine.cluster:
            machine.cluster.check_cells([p.cell for p in self.planned], machine.threads(self.side), self.spread)
        elif self.spread:
            cluster.require(self.spread, self.device)
        self.floors = self.list_floors()
        machine.runs.mkdir(parents=True, exist_ok=True)  # or fail now

    def plan(self, find: Find) -> list[Planned]:
        """All cells of the file and of the selection; only the selected ones run."""
        file, chosen = self.matrix.file, self.selection
        models, seeds = chosen.models or file.models, chosen.seeds or file.seeds
        # in the file's order whatever was selected, so that reports keep their order and colours
        every = replace(chosen, models=None, seeds=list(dict.fromkeys((*file.seeds, *seeds))))
        planned = []
        for cell in cells(self.matrix, every, self.device, find):
            selected = cell.model in models and cell.experiment.seed in seeds
            run = self.known.get(cell.identity)
            planned.append(Planned(cell, selected, self.folder / cell.slug, run, self.wanted(cell)))
        for cell in kinds(p.cell for p in planned if p.selected).values():  # no seed decides on that
            check_cell(cell, self.device, [key.extractor for key in self.wanted(cell)])
        return planned

    def wanted(self, cell: Cell) -> tuple[ScoreKey, ...]:
        score = cell.experiment.score
        return tuple(ScoreKey(name, score.images) for name in score.extractors)

    @property
    def selected(self) -> list[Planned]:
        return [p for p in self.planned if p.selected]

    def untrained(self) -> list[Planned]:
        """The selected cells that this invocation trains."""
        return [p for p in self.selected if not p.trained]

    @property
    def side(self) -> int:
        """The side of the largest images, in pixels."""
        return max(p.cell.experiment.resolution for p in self.planned)

    def where(self, cell: Cell) -> schema.Where:
        """Where the workers of a cell run; one that has none is local whatever WORKERS says."""
        where = self.matrix.where(cell.model, self.machine.workers)
        return where if RULES[cell.experiment.update.rule].distributed else "local"

    def list_floors(self) -> list[Floor]:
        """One noise floor per data set, extractor and number of images."""
        some = kinds(p.cell for p in self.planned).values()  # no training seed decides on a floor
        floors = [floor_of(cell, key) for cell in some for key in self.wanted(cell)]
        found = {floor.identity: floor for floor in floors}
        # where some models have classes and others none, the one with classes says all that the other does
        return list((found | {floor.identity: floor for floor in floors if floor.classes}).values())

    # --- output

    def remarks(self) -> list[str]:
        """Remarks for the user before anything runs."""
        plain = [p.cell for p in self.selected if p.cell.experiment.precision == "float32"]
        networks = {cell.model: MODELS[cell.experiment.networks.name] for cell in plain}
        wanted = self.selection.precision or "auto"
        names = [name for name, kind in networks.items() if precision.unmeasured(wanted, self.device, kind)]
        what = "these models train in float32: no lower precision was measured for them on CUDA"
        found = [f"{what}: {', '.join(names)}"] if names else []
        name = self.matrix.experiment_name(1, self.selection.datasets, self.selection.precision)
        folders = [self.machine.runs / name, *sorted(self.machine.runs.glob(f"{name}-budget*"))]
        others = [folder.name for folder in folders if folder != self.folder and folder.is_dir()]
        if others and not self.runs:
            kept = f"cells of {', '.join(others)} are kept, but of another budget"
            found.append(f"{kept}: the cells of {self.experiment} train from their first image")
        return found

    def lines(self) -> list[str]:
        """The selected cells with their states, what is lacking, and how many are to be done."""
        listed = [f"{p.cell.identity}  {p.cell.name:<40} {p.state}" for p in self.selected]
        left = sum(not p.done for p in self.selected)
        return [*listed, *self.lacking(), f"{left} of {len(listed)} cells to do"]

    def lacking(self) -> list[str]:
        """The extractors whose weights cannot be had, of those that the selection needs."""
        found = []
        for name in sorted({key.extractor for p in self.selected for key in p.wanted}):
            try:
                extractor(name)
            except InputError as error:
                found.append(f"first needed: {error}")
        return found

    def note(self) -> str:
        return (
            f"{self.matrix.file.description.strip()}\n\n"
            f"One invocation of `{self.commands()['command']}`. Its child runs are "
            "cells (`model/dataset/seed`) and noise floors (`real/dataset`); compare them against images seen "
            "(the step). The report is among the artifacts."
        )

    def text(self) -> str:
        """Cells and floors of this matrix, by the identities their runs are found with, as JSON."""
        listing = {
            "matrix": self.matrix.name,
            "experiment": self.experiment,
            "budget": self.selection.budget,
            "protocol": PROTOCOL_VERSION,
            "scoring": fidelity.SCORING_VERSION,
            **self.commands(),
            **self.about(),
            # what a shipped file concludes is about the page that ships: `gans publish` puts it there
            "conclusion": "" if self.matrix.given == self.matrix.name else self.matrix.file.conclusion.strip(),
            "first_picture": self.matrix.file.first_picture,
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
        return json.dumps(listing, indent=1)

    def about(self) -> dict[str, Any]:
        """Title and description of the report, which follow the data; the data's facts, the extractors' cards."""
        matrix, chosen = self.matrix, self.selection.datasets
        some = kinds(p.cell for p in self.planned).values()
        images = list({cell.experiment.dataset: cell.images for cell in some}.values())
        title, description = matrix.name, matrix.file.description.strip()
        if matrix.experiment_name(1, chosen) != matrix.name:
            title = f"{', '.join(one.title for one in images)}, by the models of {matrix.name}"
            description = f"The models of the matrix {matrix.name}, with its settings, on other data than its own."
        names = dict.fromkeys(key.extractor for p in self.planned for key in p.wanted)
        return {
            "title": title,
            "description": description,
            "data": [f"{one.title}: {'; '.join(one.about)}" for one in images if one.about],
            "extractors": [f"{name}: {text}" for name in names if (text := fidelity.card_of(name))],
        }

    def commands(self) -> dict[str, str]:
        """Commands that give this selection again, its report, further scores, and all of the matrix."""
        matrix, preset, own = self.matrix.given, self.matrix.preset, self.selection
        every_model = replace(own, models=None)
        whole = replace(every_model, seeds=None)
        report = Report(matrix, datasets=own.datasets, budget=own.budget, precision=own.precision)
        found = {
            "command": ("gans bench", Bench(matrix, selection=own, preset=preset, machine=self.machine)),
            "report": ("gans report", report),
            "score": ("gans rescore", Rescore(matrix, selection=every_model, preset=preset)),
            "whole": ("gans bench", Bench(matrix, selection=whole, preset=preset, machine=self.machine)),
        }
        return {name: options.command_line(*given) for name, given in found.items()}


def floor_of(cell: Cell, key: ScoreKey) -> Floor:
    """The noise floor that a score of a cell is read against."""
    images, extractor = cell.images, extractor_of(key.extractor)
    known_by = f"{images.hash} {fidelity.identity(extractor, key.count)} {PROTOCOL_VERSION}"
    return Floor(
        dataset=cell.experiment.dataset,
        resolution=images.resolution,
        extractor=key.extractor,
        images=key.count,
        identity=hashlib.sha256(known_by.encode()).hexdigest()[:16],
        metric=extractor.prefix,
        title=images.title,
        classes=cell.classes,
    )


# --- estimates, from some steps of each model


def estimate(cells: Sequence[Cell], device: torch.device, parallel: int) -> str:
    """What cells that are to be trained will take, so many at a time."""
    tried = {kind: attempt(cell, device) for kind, cell in kinds(cells).items()}
    found = [(cell.experiment.budget, *tried[kind_of(cell.name)]) for cell in cells]
    seconds = sum(budget * pace for budget, pace, _ in found) / parallel
    disk = sum(size for _, _, size in found) / 2**20
    training = f"{duration(seconds)} of training, without scores"
    return f"estimated from some steps of each model: {training}; {disk:,.0f} MiB of disk"


def attempt(cell: Cell, device: torch.device) -> tuple[float, int]:
    """Seconds per image of some steps of a cell, and its bytes on disk at most; nothing is kept."""
    training = Training(cell.experiment, cell.images, device, graph=False)
    training.step()  # the first one takes longer
    devices.wait(device)
    since, before, seconds = time.perf_counter(), training.images, 0.0
    while seconds < ENOUGH:
        training.step()
        devices.wait(device)
        seconds = time.perf_counter() - since
    generator = bytes_of(training.ema.state())
    checkpoint = bytes_of(training.state()) + generator  # with the best generator so far
    disk = CHECKPOINTS * checkpoint + GENERATORS * generator + PICTURES
    return seconds / (training.images - before), disk


def bytes_of(state: object) -> int:
    """Of a state in a file."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.tell()
