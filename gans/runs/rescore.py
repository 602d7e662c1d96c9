"""More scores for a cell that is trained: another extractor, a new metric, another number of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from gans import schema
from gans.compute import devices
from gans.errors import InputError
from gans.fidelity.scorer import Scorer
from gans.runs.cell import Cell, extractor
from gans.runs.execute import Place
from gans.runs.locks import locked
from gans.runs.scores import ScoreKey, metric, record, records
from gans.runs.scoring import chosen, draw_report
from gans.runs.tracking import MlflowRun, Run, Store


def add_scores(cell: Cell, run_id: str, folder: Path, place: Place, keys: Sequence[ScoreKey]) -> None:
    """Score the generator of a finished run, and add what is found to that run; nothing is trained.

    What is found is written down extractor by extractor: an interrupted call loses one of them at most.

    Args:
        cell: what was trained.
        run_id: its MLflow run.
        folder: its own, where the generator lies; if that is gone, the run's artifacts are asked.
        place: where.
        keys: extractors and numbers of images.

    Raises:
        InUse: another process works on the cell.
        InputError: the generator is nowhere, or an extractor cannot be had or does not take such images.
    """
    device = devices.resolve(place.device)
    devices.prepare(device, place.threads)
    store = Store(place.uri)
    with locked(folder):
        run = store.client.get_run(run_id)
        known = records(run.data.tags)  # another process may have added some since
        keys = [key for key in keys if not (key in known and known[key].complete(extractor(key.extractor)))]
        if not keys:
            return
        generator = chosen(generator_of(run, folder, store), device)
        seen = max(images for images, _ in store.history(run_id, schema.TRAINING))
        more = Run(store, run_id)  # it stays finished meanwhile
        for key in keys:
            found = assess(cell, generator, key, device)
            more.log(seen, {metric(name, key.count, run.data.tags): value for name, value in found.items()})
            more.flush()
            more.tag({key.tag: record(extractor(key.extractor), found).text()})


def generator_of(run: MlflowRun, folder: Path, store: Store) -> Path:
    """Where the generator of a run lies.

    Raises:
        InputError: neither in the folder nor in the store.
    """
    here = folder / schema.GENERATOR
    kept = here if here.is_file() else store.artifact(run, f"{schema.NETWORKS}/{schema.GENERATOR}")
    if kept is None:
        lost = store.lost(run)
        place = f"with the artifacts of its run, which are not at {lost}" if lost else "in the store"
        raise InputError(
            f"the generator of {run.info.run_name} is neither in {folder} nor {place}; delete run "
            f"{run.info.run_id[:12]} and train it again"
        )
    return kept


def assess(cell: Cell, generator: torch.nn.Module, key: ScoreKey, device: torch.device) -> dict[str, float]:
    """All metrics by one extractor, on so many images."""
    scorer = Scorer(cell.images, key.extractor, key.count, device)
    return dict(scorer.assess(draw_report(generator, key.count, cell.experiment)).scores)
