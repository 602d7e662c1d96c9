"""More scores for a cell that is trained: another extractor, a new metric, another number of images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from gans import schema
from gans.compute import devices
from gans.errors import InputError
from gans.fidelity.scorer import Scorer
from gans.files import load_weights
from gans.models.inputs import Prior
from gans.runs.cell import Cell, extractor
from gans.runs.events import state_of
from gans.runs.execute import Place
from gans.runs.export import keys
from gans.runs.locks import locked
from gans.runs.run import Run
from gans.runs.scores import ScoreKey, metric, record, records
from gans.runs.scoring import chosen, draw_report
from gans.runs.tracking import MlflowRun

log = logging.getLogger("gans")


def add_scores(
    cell: Cell,
    run: MlflowRun,
    seen: int,
    folder: Path,
    place: Place,
    wanted: Sequence[ScoreKey],
    copy: Path | None = None,
) -> None:
    """Score the generator of a finished run, and add what is found to that run; nothing is trained.

    What is found is written down extractor by extractor: an interrupted call loses one of them at most.

    Args:
        cell: what was trained.
        run: that it was trained under.
        seen: images that training ended with.
        folder: its own, with the generator.
        place: where.
        wanted: extractors and numbers of images.
        copy: the store's of the generator, where the folder's is not whole.

    Raises:
        InUse: another process works on the cell.
        InputError: the generator is nowhere, or an extractor cannot be had or does not take such images.
    """
    device = devices.resolve(place.device)
    devices.prepare(device, place.threads)
    with locked(folder):
        state = state_of(folder)
        known = records(state.tags if state else {})  # another process may have added some since
        wanted = [
            key
            for key in wanted
            if not (key in known and known[key].complete(extractor(key.extractor), cell.classes))
        ]
        if not wanted:
            return
        generator = generator_of(run, folder, copy, device)
        more = Run.take(folder, place.experiment, keys(run)[0])  # it stays finished meanwhile
        for key in wanted:
            found = assess(cell, generator, key, device)
            more.log(seen, {metric(name, key.count, run.data.tags): value for name, value in found.items()})
            more.tag({key.tag: record(extractor(key.extractor), found).text()})
            more.flush()


def whole(path: Path) -> bool:
    """Whether a generator can be read; that it is damaged is logged."""
    try:
        load_weights(path)
    except InputError as error:
        if path.exists():
            log.warning("%s; the copy in the tracking store is taken", error)
        return False
    return True


def generator_of(run: MlflowRun, folder: Path, copy: Path | None, device: torch.device) -> torch.nn.Module:
    """The generator of a run, from its folder or else the copy.

    Raises:
        InputError: neither is whole.
    """
    own = folder / schema.GENERATOR
    remedy = f"delete run {run.info.run_id[:12]} and train it again"
    if copy is None and not own.is_file():
        raise InputError(
            f"the generator of {run.info.run_name} is neither whole in {folder} nor in the store; {remedy}"
        )
    try:
        return chosen(copy or own, device)
    except InputError as error:
        raise InputError(f"{error}; {remedy}") from None


def assess(cell: Cell, generator: torch.nn.Module, key: ScoreKey, device: torch.device) -> dict[str, float]:
    """All metrics by one extractor, on so many images."""
    scorer = Scorer(cell.images, key.extractor, key.count, device)
    drawn = draw_report(generator, key.count, Prior.of(cell.experiment, cell.images))
    return dict(scorer.assess(*drawn).scores)
