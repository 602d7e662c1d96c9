"""The final scores of a trained cell with their pictures, and scores that are added to it later."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gans import schema
from gans.compute import devices
from gans.config import Resolved
from gans.data.images import ImageData
from gans.errors import InputError
from gans.fidelity.scorer import Scorer
from gans.files import load_weights, write_bytes
from gans.generate import sampling
from gans.models.inputs import GeneratorInput, Prior
from gans.pictures import grids, panels
from gans.pictures.decoration import decorating
from gans.runs.cell import Cell, extractor
from gans.runs.events import RunFolder
from gans.runs.locks import locked
from gans.runs.run import Run
from gans.runs.scores import ScoreKey, metric, record, records
from gans.runs.store import MlflowRun, Store, keys
from gans.training.costs import Costs
from gans.training.loop import GRID_IMAGES, Outcome
from gans.training.recorder import Observer

if TYPE_CHECKING:
    from gans.fidelity.scorer import Assessment
    from gans.runs.execute import Place

log = logging.getLogger("gans")

# images with their nearest training images: the first of the grid, so that they are not picked
NEIGHBOURS_OF = 10
NEIGHBOURS = 5
# of the picture with a row for each class: rows at most, and images of a row
CLASSES, OF_A_CLASS = 20, 10


@dataclass(frozen=True)
class Scored:
    """A trained cell with its scores."""

    status: str  # `finished` or `diverged`
    reason: str  # why it diverged, or what is remarkable about a finished one; mostly empty
    scores: dict[str, float]  # of the chosen checkpoint on the report latents, by metric; empty if it diverged
    seconds: dict[str, float]  # wall seconds by part, over all sessions of the run: training, evaluation, overhead
    records: dict[str, str] = field(default_factory=dict)  # what it was scored with, as tags of its run


def chosen(path: Path, device: torch.device) -> nn.Module:
    """The generator in a file that training wrote, as it is scored."""
    generator, _ = sampling.load_generator(path, device)
    # laid out in memory as in training: other layouts round otherwise
    return devices.place(generator, device)


def draw_report(generator: nn.Module, count: int, prior: Prior) -> tuple[Tensor, Tensor | None]:
    """Images for final scores, uint8 (count, channels, side, side): on latents that chose no checkpoint.

    And their classes, int64 (count,); None of a generator without.
    """
    code = sampling.inputs(count, prior, "report")
    return sampling.generate(generator, code), code.labels


class Scoring:
    """The scorers of a cell: the first one judges the curve, all of them the generator that was chosen.

    Args:
        experiment: names the extractors and the numbers of images.
        data: its data set.
        folder: where training leaves the generator, and where the pictures go.
        device: where generator and extractors compute.

    Raises:
        InputError: an extractor cannot be had, or does not take images like these.
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
        records = {
            ScoreKey(scorer.extractor.name, scorer.n).tag: record(scorer.extractor, one.scores).text()
            for scorer, one in zip(self.scorers, found, strict=False)
        }
        return Scored(status, reason, scores, costs.seconds, records)

    def draw(self, generator: nn.Module, found: Sequence[Assessment], observer: Observer) -> None:
        """The grid, one by classes, its first images with their nearest training images, and the classes drawn."""
        grid = sampling.generate(generator, sampling.inputs(GRID_IMAGES, self.prior, "grid"))
        self.keep(schema.FINAL_GRID, lambda path: grids.save_picture(grids.picture(grid), path), observer)
        if self.prior.classes:
            rows = self.of_each_class(generator)
            self.keep(schema.CLASS_GRID, lambda to: panels.draw_each_class(rows, self.prior.classes, to), observer)
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
        z = sampling.inputs(OF_A_CLASS, self.prior, "grid").z
        codes = [self.prior.of_class(z, label) for label in range(len(self.prior.classes[:CLASSES]))]
        return sampling.generate(generator, GeneratorInput.joined(codes)).unflatten(0, (len(codes), OF_A_CLASS))

    def draw_neighbours(self, images: Tensor, path: Path) -> None:
        scorer = self.scorers[0]
        nearest = self.data.train[scorer.nearest(images, min(NEIGHBOURS, len(self.data.train)))]
        panels.draw_neighbours(images, nearest, scorer.extractor.name, path)


# --- more scores for a cell that is trained: another extractor, a new metric, another number of images


def add_scores(cell: Cell, folder: Path, place: Place, wanted: Sequence[ScoreKey]) -> None:
    """Score the generator of a finished run, and add what is found to that run; nothing is trained.

    What is found is written down extractor by extractor: an interrupted call loses one of them at most.

    Args:
        cell: what was trained.
        folder: of its run, with the generator.
        place: where.
        wanted: extractors and numbers of images.

    Raises:
        InUse: another process works on the cell.
        InputError: the generator is nowhere, or an extractor cannot be had or does not take such images.
    """
    device = devices.resolve(place.device)
    devices.prepare(device, place.threads)
    with locked(folder):
        run = Run.open(folder)  # it stays finished meanwhile
        if run is None:
            raise InputError(f"its run is neither in {folder} nor in the tracking store")
        tags, points = run.state().tags, run.state().points
        known = records(tags)  # another process may have added some since
        wanted = [
            key
            for key in wanted
            if not (key in known and known[key].complete(extractor(key.extractor), cell.classes))
        ]
        if not wanted:
            return
        try:
            generator = chosen(folder / schema.GENERATOR, device)
        except InputError as error:
            raise InputError(f"{error}; delete run {cell.name} and train it again") from None
        for key in wanted:
            found = assess(cell, generator, key, device)
            seen = max(points[schema.TRAINING])  # images that training ended with
            run.log(seen, {metric(name, key.count, tags): value for name, value in found.items()})
            run.tag({key.tag: record(extractor(key.extractor), found).text()})
            run.flush()


def bring_back(stored: MlflowRun, folder: Path, experiment: str, store: Store) -> None:
    """Put into the folder of a finished run what `add_scores` needs and only the store still has.

    Raises:
        InUse: another process works on the cell.
    """
    with locked(folder):
        if RunFolder.of(folder) is None:
            restore(stored, folder, experiment, store)
        path, name = folder / schema.GENERATOR, f"{schema.NETWORKS}/{schema.GENERATOR}"
        if not whole(path) and (copy := store.ask(lambda: store.artifact(stored, name), None)):
            write_bytes(path, copy.read_bytes())


def restore(stored: MlflowRun, folder: Path, experiment: str, store: Store) -> None:
    """Write the events of a run that only the store has; its artifacts stay there."""
    info, data = stored.info, stored.data
    found = store.ask(lambda: [store.client.get_metric_history(info.run_id, name) for name in data.metrics], None)
    if found is None:
        return
    run = Run.begin(folder, info.start_time, keys(stored)[0], experiment, info.run_name, data.tags)
    run.params(data.params)
    for point in (point for points in found for point in points):
        run.write("metrics", at=point.timestamp, step=point.step, values={point.key: point.value})
    run.write("end", at=info.end_time, status=info.status)


def whole(path: Path) -> bool:
    """Whether a generator can be read; that it is damaged is logged."""
    try:
        load_weights(path)
    except InputError as error:
        if path.exists():
            log.warning("%s; the copy in the tracking store is taken", error)
        return False
    return True


def assess(cell: Cell, generator: torch.nn.Module, key: ScoreKey, device: torch.device) -> dict[str, float]:
    """All metrics by one extractor, on so many images."""
    scorer = Scorer(cell.images, key.extractor, key.count, device)
    drawn = draw_report(generator, key.count, Prior.of(cell.experiment, cell.images))
    return dict(scorer.assess(*drawn).scores)
