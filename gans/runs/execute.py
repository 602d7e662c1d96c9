"""Runs a cell under its MLflow run: cells of a matrix, single trainings and trials of sweeps.

It is trained and scored; other scores are added later.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gans import schema
from gans.compute import compiled, devices, graphs, precision
from gans.config import Resolved, ShardedConfig
from gans.data import datasets
from gans.data.images import ImageData
from gans.errors import InputError, Stopped, brief, masked
from gans.fidelity.scorer import Scorer
from gans.generate import load_generator
from gans.models.inputs import PURPOSES, GeneratorInput, Prior, generate
from gans.pictures import film, grids, panels
from gans.pictures.curves import draw_curves
from gans.pictures.grids import decorating
from gans.registry import RULES
from gans.runs.cell import Cell, extractor
from gans.runs.events import state_of
from gans.runs.locks import locked
from gans.runs.run import Run, foreign
from gans.runs.scores import ScoreKey, metric, missing, record
from gans.training.checkpoints import Checkpoints
from gans.training.costs import Costs
from gans.training.loop import GRID_IMAGES, Outcome, train
from gans.training.mdgan import cluster
from gans.training.recorder import History, Observer

if TYPE_CHECKING:
    from gans.fidelity.scorer import Assessment

MOST_LETTERS = 200  # of a class's name in a tag, for which MLflow takes 5,000

# images with their nearest training images: the first of the grid, so that they are not picked
NEIGHBOURS_OF = 10
NEIGHBOURS = 5
# of the tag with names of classes, and of the picture with a row for each: classes at most, and images of a row
CLASSES, OF_A_CLASS = 20, 10

# called with images seen and metrics during training
Report = Callable[[int, Mapping[str, float]], None]


def phase(name: str) -> dict[str, float]:
    """Announces the next part of a cell to a listener; not tracked."""
    return {schema.PHASE + name: 1.0}


@dataclass(frozen=True)
class Place:
    """Where a cell runs and is tracked."""

    experiment: str  # of MLflow
    device: str  # auto, cpu, cuda or cuda:1
    threads: int  # on the CPU
    parent: str | None = None  # key of the invocation's run, if there is one
    since: float = float("inf")  # when it was planned, in ms since 1970: a cell that ends later is not run again
    graph: bool | None = None  # record training steps and replay them; None: where the device has graphs
    compile: bool = False  # compute networks by compiled code, which is kept with the data
    workers: schema.Where = "local"  # where an update rule with workers runs them; results agree to rounding


@dataclass(frozen=True)
class Scored:
    """A trained cell with its scores."""

    status: str  # `finished` or `diverged`
    reason: str  # why it diverged, or what is remarkable about a finished one; mostly empty
    scores: dict[str, float]  # of the chosen checkpoint on the report latents, by metric; empty if it diverged
    seconds: dict[str, float]  # wall seconds by part, over all sessions of the run: training, evaluation, overhead
    records: dict[str, str] = field(default_factory=dict)  # what it was scored with, as tags of its run


class Tracker(Observer):
    """The observer of a tracked training: writes to its run, and reports to a listener."""

    def __init__(self, run: Run, report: Report, experiment: Resolved) -> None:
        self.run, self.report, self.experiment = run, report, experiment

    def log(self, images: int, values: Mapping[str, float]) -> None:
        self.run.log(images, values)
        self.report(images, values)

    def picture(self, path: Path) -> None:
        self.run.artifact(path, schema.SAMPLES)
        if path.name == schema.FINAL_GRID:
            self.run.picture(path, schema.BEST, 0)
        count, budget = self.experiment.schedule.grids, self.experiment.budget
        for kimg in film.grids({path.name: path}):
            # a batch may end beyond the moment of the schedule, which models with other batches share in the UI
            moment = min(round(1000 * kimg), budget) * count // budget * budget // count
            self.run.picture(path, schema.GRIDS, moment)

    def flush(self) -> None:
        self.run.flush()

    def resumed(self, history: History) -> None:
        for name, points in history.items():
            for images, value in points:  # those that are recorded are not recorded again
                self.run.log(images, {name: value})


class CellRun:
    """A cell and the MLflow run that it is trained under. What a sweep's trial does otherwise, it overrides.

    What an interrupted run left in the folder is taken up. `report`: a listener for progress.
    """

    keeps_networks = True  # in the store, too

    def __init__(self, cell: Cell, folder: Path, place: Place, report: Report) -> None:
        self.cell, self.folder, self.place, self.report = cell, folder, place, report
        self.device = devices.resolve(place.device)

    @property
    def name(self) -> str:
        return self.cell.name

    def tags(self) -> dict[str, str]:
        """What the run is found by, and a description for the UI."""
        return tags(self.cell)

    def tracker(self, run: Run) -> Tracker:
        return Tracker(run, self.report, self.cell.experiment)

    def ended(self) -> Scored | None:
        """How another invocation has ended the cell since this one was planned: then nothing is done."""
        last = state_of(self.folder)
        if last and last.ended >= self.place.since and last.result in schema.FINAL:
            return Scored(last.result, last.tags.get(schema.REASON, ""), {}, {})
        return None

    def conclude(self, run: Run, trained: Outcome) -> None:
        """What is done before the run of a trained cell ends."""

    def execute(self) -> Scored:
        """Train or resume the cell and score it; an exception ends its run as failed.

        There is no run after `InUse`, if another process runs the cell, and after another InputError: the device
        does not have the precision, graphs or compiled code.
        """
        precision.require(self.cell.experiment.precision, self.device)
        graphs.wanted(self.place.graph, self.device)
        if self.place.compile:
            compiled.require(self.device)
            compiled.keep(datasets.data_root().absolute() / "cache" / "compiled")
        devices.prepare(self.device, self.place.threads)
        with locked(self.folder):
            if ended := self.ended():
                return ended
            run = self.open()
            with self.ending(run):
                trained, scored = self.train(run)
                self.keep(run, trained)
                self.conclude(run, trained)
            run.finish(scored.status, scored.reason)
            Checkpoints(self.folder).settle()
        return scored

    def open(self) -> Run:
        """The run that an interrupted invocation left, or a new one."""
        place, experiment = self.place, self.cell.experiment
        about = self.tags() | foreign(experiment) | self.session()
        run = Run.begin(self.folder, place.experiment, self.name, about, place.parent)
        if not run.state().params:
            run.params({"model": self.cell.model, **experiment.flat()})
        return run

    def session(self) -> dict[str, str]:
        """Tags that say on what the cell runs."""
        place = self.place
        # workers in processes of their own are in no recording
        graph = graphs.wanted(place.graph, self.device) and place.workers == "local"
        return {
            schema.DEVICE: devices.describe(self.device),
            schema.THREADS: str(place.threads),
            schema.WORKERS: place.workers,
            schema.COMPILED: str(place.compile).lower(),
            schema.GRAPH: str(graph).lower(),
        }

    @contextmanager
    def ending(self, run: Run) -> Iterator[None]:
        """Record the end of a training that raised an exception."""
        try:
            yield
        except KeyboardInterrupt:
            run.finish(schema.INTERRUPTED, "stopped by the user")
            raise
        except Stopped as stop:
            run.finish(stop.status, str(stop))
            raise
        except (Exception, SystemExit) as error:
            run.text(masked(traceback.format_exc()), schema.TRACEBACK)
            self.keep_networks(run)
            run.finish(schema.FAILED, reason(error))
            raise

    def train(self, run: Run) -> tuple[Outcome, Scored]:
        self.report(0, phase(schema.DATA_PHASE))
        experiment, images, place = self.cell.experiment, self.cell.images, self.place
        run.watch_system()
        run.dataset(images)
        self.keep_shards(run)
        tracker = self.tracker(run)
        self.report(0, phase(schema.REFERENCE_PHASE))
        scoring = Scoring(experiment, images, self.folder, self.device)
        self.report(0, phase(schema.TRAINING_PHASE))

        def lost(n: int, why: str) -> None:
            run.tag({f"{schema.LOST}{n}": why})

        judge, where = scoring.evaluator, (self.folder, self.device)
        with cluster.team_factory(place.workers, experiment, lost) as workers:
            trained = train(experiment, images, *where, judge, tracker, place.graph, workers, place.compile)
        self.report(0, phase(schema.SCORING_PHASE))
        scored = scoring.finish(trained, tracker)
        run.tag(scored.records)
        return trained, scored

    def keep(self, run: Run, trained: Outcome) -> None:
        """Put what training left into the run: networks, checkpoint, curves, film."""
        self.report(0, phase(schema.PICTURES_PHASE))
        self.keep_networks(run)
        run.draw(schema.CURVES, partial(draw_curves, trained.history))
        run.tag({schema.CHOSEN: str(trained.chosen)})
        found = film.grids({picture.name: picture for picture in (self.folder / schema.SAMPLES).glob("*.png")})
        run.draw(
            schema.FILM, partial(film.save_film, [film.Track(self.name, found)], self.cell.experiment.resolution)
        )

    def keep_networks(self, run: Run) -> None:
        """Put the generator and the checkpoint into the run, if they are there."""
        for name in (schema.GENERATOR, schema.CHECKPOINT):
            if self.keeps_networks and (self.folder / name).exists():
                run.artifact(self.folder / name, schema.NETWORKS)

    def keep_shards(self, run: Run) -> None:
        """Put a picture of the classes that each worker holds into the run."""
        experiment, images = self.cell.experiment, self.cell.images
        if isinstance(experiment.update, ShardedConfig):
            part = images.part(experiment.data_share)
            dealt = replace(images, train=part.images, train_labels=part.labels)
            run.draw(schema.SHARDS, partial(panels.draw_shards, experiment.update, dealt, experiment.seed))


def check_workers(cell: Cell, place: Place) -> None:
    """Refuse, before training, workers that the update rule does not have, or without room for their processes."""
    update = cell.experiment.update
    if place.workers == "local":
        return
    if not RULES[update.rule].distributed:
        raise InputError(f"update {update.rule} has no workers for --workers {place.workers}; leave it out")
    assert isinstance(update, ShardedConfig)
    cluster.require(update.workers, devices.resolve(place.device))


def reason(error: BaseException) -> str:
    """The end of the traceback in one line: exception, message, place."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{brief(error)}{place}"


def tags(cell: Cell) -> dict[str, str]:
    """What the run of a cell is found by, and a description for the UI."""
    e = cell.experiment
    note = (
        f"**{cell.model}** on **{e.dataset}** at {e.resolution}x{e.resolution}, training seed {e.seed}: "
        f"{e.networks.name} networks, {e.update.rule} updates, {e.loss.name} loss, "
        f"{e.kimg:g} kimg in batches of {e.batch}.\n\n"
        f"`{schema.curve(cell.metric)}` is the score during training on {e.score.curve_images} images and picks "
        f"the checkpoint; `{schema.score(cell.metric)}` is the final score on {e.score.images} images from other "
        "latents. Lower is better."
    )
    classes = [name[:MOST_LETTERS] for name in cell.classes[:CLASSES]]
    return {
        schema.KIND: schema.CELL,
        schema.IDENTITY: cell.identity,
        schema.MODEL: cell.model,
        schema.DATASET: e.dataset,
        schema.SEED: str(e.seed),
        schema.METRIC: cell.metric,
        schema.EXTRACTORS: " ".join(f"{name}:{extractor(name).hash}" for name in e.score.extractors),
        schema.COUNT: str(e.score.images),
        schema.REFERENCE: f"train split, {len(cell.images.train)} images",
        schema.LATENT_SEEDS: " ".join(f"{purpose}:{seed}" for purpose, seed in PURPOSES.items()),
        schema.NOTE: note,
        **({schema.CLASSES: json.dumps(classes, ensure_ascii=False)} if classes else {}),
    }


# --- the final scores of a trained cell, with their pictures


def chosen(path: Path, device: torch.device) -> nn.Module:
    """The generator in a file that training wrote, as it is scored."""
    generator, _ = load_generator(path, device)
    # laid out in memory as in training: other layouts round otherwise
    return devices.place(generator, device)


def draw_report(generator: nn.Module, count: int, prior: Prior) -> tuple[Tensor, Tensor | None]:
    """Images for final scores, uint8 (count, channels, side, side), on latents of their own; and their classes."""
    code = prior.fixed(count, "report")
    return generate(generator, code), code.labels


class Scoring:
    """The scorers of a cell: the first one judges the curve, all of them the generator that was chosen.

    Training leaves the generator in the folder, where the pictures go, too. An InputError if an extractor cannot
    be had, or does not take images like these.
    """

    def __init__(self, experiment: Resolved, data: ImageData, folder: Path, device: torch.device) -> None:
        costs = Costs(device)
        self.experiment, self.data, self.folder, self.device = experiment, data, folder, device
        self.prior = Prior.of(experiment, data)
        score = experiment.score
        self.scorers = [Scorer(data, name, score.images, device) for name in score.extractors]
        self.evaluator = self.scorers[0].at(score.curve_images)
        costs.switch("overhead")
        self.built = costs.seconds, costs.joules  # more than nothing where reference features are not kept yet

    def finish(self, trained: Outcome, observer: Observer) -> Scored:
        """Score the generator that training chose on latents that did not choose it; nothing if it diverged."""
        costs = Costs(self.device)
        costs.carry(*self.built)
        costs.carry(trained.seconds, trained.joules)
        status, reason = trained.status, trained.reason
        found: list[Assessment] = []
        if status == schema.FINISHED:
            try:
                with costs.of("evaluation"):
                    generator = chosen(self.folder / schema.GENERATOR, self.device)
                    drawn = draw_report(generator, self.experiment.score.images, self.prior)
                    found = [scorer.assess(*drawn) for scorer in self.scorers]
                self.draw(generator, found, observer)
            except FloatingPointError as stop:  # it draws pixels that are not numbers
                status, reason, found = schema.DIVERGED, str(stop), []
        scores = {name: value for one in found for name, value in one.scores.items()}
        final = {schema.score(name): value for name, value in scores.items()}
        observer.log(trained.images, final | costs.metrics())
        observer.flush()
        scored_with = {
            ScoreKey(scorer.extractor.name, scorer.n).tag: record(scorer.extractor, one.scores).text()
            for scorer, one in zip(self.scorers, found, strict=False)
        }
        return Scored(status, reason, scores, costs.seconds, scored_with)

    def draw(self, generator: nn.Module, found: Sequence[Assessment], observer: Observer) -> None:
        """The grid, one by classes, its first images with their nearest training images, and the classes drawn."""
        grid = generate(generator, self.prior.fixed(GRID_IMAGES, "grid"))
        self.keep(schema.FINAL_GRID, lambda path: grids.save_picture(grids.picture(grid), path), observer)
        if self.prior.classes:
            rows, (seen, names) = self.of_each_class(generator), (self.prior.seen, self.prior.classes)
            self.keep(schema.CLASS_GRID, partial(panels.draw_each_class, rows, seen, names), observer)
        self.keep("neighbours.png", lambda path: self.draw_neighbours(grid[:NEIGHBOURS_OF], path), observer)
        both = zip(self.scorers, found, strict=True)
        shares = [(one.classes, scorer.extractor.labels) for scorer, one in both if one.classes is not None]
        if shares:
            self.keep("classes.png", partial(panels.draw_classes, *shares[0]), observer)

    def keep(self, name: str, write: Callable[[Path], None], observer: Observer) -> None:
        """Write a picture and hand it on."""
        path = self.folder / schema.SAMPLES / name
        with decorating(path):
            write(path)
            observer.picture(path)

    def of_each_class(self, generator: nn.Module) -> Tensor:
        """Images of the first classes, (classes, n, channels, side, side), from the grid's first latents."""
        z = self.prior.fixed(OF_A_CLASS, "grid").z
        codes = [self.prior.of_class(z, label) for label in self.prior.seen[:CLASSES]]
        return generate(generator, GeneratorInput.joined(codes)).unflatten(0, (len(codes), OF_A_CLASS))

    def draw_neighbours(self, images: Tensor, path: Path) -> None:
        scorer = self.scorers[0]
        nearest = self.data.train[scorer.nearest(images, min(NEIGHBOURS, len(self.data.train)))]
        panels.draw_neighbours(images, nearest, scorer.extractor.name, path)


# --- more scores for a cell that is trained: another extractor, a new metric, another number of images


def add_scores(cell: Cell, folder: Path, place: Place, wanted: Sequence[ScoreKey]) -> dict[ScoreKey, float]:
    """Score the generator of a finished run, and add what is found to that run; nothing is trained.

    Returns the Frechet distances that were added. What is found is written down extractor by extractor: an
    interrupted call loses one of them at most. `InUse` if another process works on the cell; an InputError if the
    generator is nowhere, or an extractor cannot be had or does not take such images.
    """
    device = devices.resolve(place.device)
    devices.prepare(device, place.threads)
    with locked(folder):
        run = Run.open(folder)  # it stays finished meanwhile
        if run is None:
            raise InputError(f"scores are added where it was trained, and {folder} has no run; bring it back")
        state = run.state()
        wanted = missing(wanted, state.tags, cell.classes, extractor)  # another process may have added some since
        distances: dict[ScoreKey, float] = {}
        if not wanted:
            return distances
        try:
            generator = chosen(folder / schema.GENERATOR, device)
        except InputError as error:
            raise InputError(f"{error}; delete run {cell.name} and train it again") from None
        seen = max(state.points[schema.TRAINING])  # images that training ended with
        for key in wanted:
            drawn = draw_report(generator, key.count, Prior.of(cell.experiment, cell.images))
            found = Scorer(cell.images, key.extractor, key.count, device).assess(*drawn).scores
            run.log(seen, {metric(name, key.count, state.tags): value for name, value in found.items()})
            run.tag({key.tag: record(extractor(key.extractor), found).text()})
            run.flush()
            distances[key] = found[extractor(key.extractor).prefix]
        return distances
