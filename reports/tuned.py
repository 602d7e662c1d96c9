"""What sweeps found for the models of a matrix: their scores, and what keeps these apart from the matrix's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic import BaseModel, ValidationError

from gans import schema
from gans.errors import InputError
from gans.runs.reader import Source
from reports.estimate import Estimate
from reports.numbers import images, listed, number, setting
from reports.results import Board, Results, load
from reports.tables import escape

PREFIX = "sweep-"  # of a study's experiment
DEFAULT = "default"  # the untuned model among the retrained


def contestant(number: int) -> str:
    """What a trial is called among the retrained models."""
    return f"trial-{number}"


class Finalist(BaseModel):
    """A trial that was retrained."""

    number: int

    @property
    def label(self) -> str:
        """Its name among the retrained models."""
        return contestant(self.number)


class Record(BaseModel):
    """What of a study's record a matrix's page needs."""

    study: str
    model: str
    dataset: str
    metric: str
    kimg: float
    finalists: list[Finalist]


@dataclass(frozen=True)
class Study:
    """A sweep that came to its end.

    Attributes:
        record: of the study.
        winners: the default and the finalists, retrained from fresh seeds.
    """

    record: Record
    winners: Results

    def estimate(self, model: str) -> Estimate:
        """The score of a retrained model."""
        return Estimate.of(counted(self.winners, model)["score"])

    @property
    def best(self) -> Finalist | None:
        """The finalist with the lowest mean; None if none has a score."""
        scored = [trial for trial in self.record.finalists if self.estimate(trial.label).n]
        return min(scored, key=lambda trial: self.estimate(trial.label).mean, default=None)


def counted(results: Results, model: str) -> pd.DataFrame:
    """The finished cells of a model."""
    return results.cells[(results.cells["model"] == model) & results.cells["counted"]]


def studies(store: Source) -> list[Study]:
    """All studies of the store with winners, by name."""
    read = (_study(store, name) for name in store.experiments(PREFIX))
    return [study for study in read if study and study.best]


def _study(store: Source, experiment: str) -> Study | None:
    for run in reversed(store.runs(experiment)):
        path = store.artifact(run, schema.SWEEP_RECORD) if run.data.tags.get(schema.KIND) == schema.SWEEP else None
        if path:
            try:
                record = Record.model_validate_json(path.read_text(encoding="utf-8"))
                return Study(record, load(store, experiment))
            except (InputError, OSError, ValidationError):
                return None  # its winners were not retrained under this protocol
    return None


def table(results: Results, board: Board) -> pd.DataFrame:
    """One row per study of a board's model, with what keeps its scores and this page's apart; empty for none."""
    rows = [_row(results, board, study) for study in studies(results.store) if _of(study, results, board)]
    return pd.DataFrame(rows)


def _of(study: Study, results: Results, board: Board) -> bool:
    record = study.record
    return (record.dataset, record.metric) == (board.dataset, board.metric) and record.model in results.plan.models


def _row(results: Results, board: Board, study: Study) -> dict[str, str]:
    record = study.record
    own = counted(results, record.model)
    assert study.best
    return {
        "Model": escape(record.model),
        "Here": str(Estimate.of(own.loc[own["dataset"] == board.dataset, "score"])),
        "Default, in the sweep": str(study.estimate(DEFAULT)),
        "Tuned, in the sweep": str(study.estimate(study.best.label)),
        "Sweep": f"[{record.study}](../sweeps/{record.study}/README.md)",
        "The sweep differs in": apart(counted(study.winners, DEFAULT), own) or "nothing",
    }


def apart(one: pd.DataFrame, other: pd.DataFrame) -> str:
    """In what the trainings of one set of cells differ from another's, the one's value first."""
    found = []
    for heading, name in {
        "seeds": "seed",
        "precision": "precision",
        "images": "kimg",
        "generated images": "score.images",
        "device": schema.DEVICE,
    }.items():
        values = [_values(cells, name) for cells in (one, other)]
        if all(values) and values[0] != values[1]:
            told = [listed([_shown(name, value) for value in own]) for own in values]
            found.append(f"{heading}: {told[0]} (here {told[1]})")
    return escape("; ".join(found))


def _values(cells: pd.DataFrame, name: str) -> list[Any]:
    return sorted(cells[name].dropna().unique()) if name in cells else []


def _shown(name: str, value: object) -> str:
    if name == "kimg":
        return images(1000 * float(str(value)))
    return str(value) if name == "seed" else setting(value)


def beside(results: Results | None, model: str, dataset: str, winners: pd.DataFrame) -> str:
    """What a matrix says of a swept model's default, for the sweep's page; empty if it says nothing."""
    if results is None:
        return ""
    own = counted(results, model)
    own = own[own["dataset"] == dataset]
    estimate = Estimate.of(own["score"])
    if not estimate.n or not math.isfinite(estimate.mean):
        return ""
    metric = own["metric"].iloc[0]
    seeds = f"{estimate.n} {'seed' if estimate.n == 1 else 'seeds'}"
    differs = apart(winners, own).replace("(here ", "(there ")
    told = f"{metric} {estimate}, {seeds}" if estimate.n > 1 else f"{metric} {number(estimate.mean)}, one seed"
    return told + (f". Here differ {differs}" if differs else "")
