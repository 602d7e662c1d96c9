"""Sweeps in the tracking store: the search, and the winners' scores with fresh seeds."""

import logging
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ValidationError

from gans import schema
from gans.errors import InputError, first_line, shown
from gans.files import Damaged
from gans.runs.store import Tracked
from reports import results
from reports.results import Results
from reports.statistics import Difference, Estimate

log = logging.getLogger("gans")

PREFIX = "sweep-"  # of a study's MLflow experiment
DEFAULT = "default"  # the untuned model among the retrained


def label(number: int) -> str:
    """The name of a trial among the retrained models."""
    return f"trial-{number}"


class Trial(BaseModel):
    """A finished trial: its values and its settings by dotted key."""

    number: int
    score: float
    seconds: float
    settings: dict[str, Any]

    @property
    def label(self) -> str:
        return label(self.number)


class Failure(BaseModel):
    """A trial without a score, and the reason."""

    number: int
    reason: str


class Record(BaseModel):
    """The search: kept as JSON with the sweep's run."""

    study: str
    model: str
    dataset: str
    metric: str
    budget: float
    kimg: float
    objectives: list[str]
    pruner: str
    seed: int
    command: str
    finished: int
    pruned: int
    diverged: int
    failures: list[Failure]
    share: float  # of the images that the trials would have seen without pruning
    hours: float  # sum over trials
    default: dict[str, Any]
    finalists: list[Trial]
    top: list[Trial]
    importances: dict[str, float]
    space: str


class Study(BaseModel):
    """The outcome of a sweep: kept as JSON next to its page, from which the ranking of all sweeps is made."""

    record: Record
    scores: dict[str, list[float]]  # by configuration, one per finished fresh seed

    def estimate(self, configuration: str) -> Estimate:
        return Estimate.of(self._series(configuration))

    def difference(self, trial: Trial) -> Difference:
        """A finalist against the default, corrected for the number of finalists."""
        count = max(1, len(self.record.finalists))
        return Difference.of(self._series(trial.label), self._series(DEFAULT), count)

    def _series(self, configuration: str) -> pd.Series:
        return pd.Series(self.scores.get(configuration, ()), dtype=float)

    @cached_property
    def winner(self) -> Trial | None:
        """The finalist with the lowest mean score; None if none has a score."""
        scored = [trial for trial in self.record.finalists if self.scores.get(trial.label)]
        return min(scored, key=lambda trial: self.estimate(trial.label).mean, default=None)

    @property
    def proven(self) -> bool:
        """Whether the winner is significantly better than the default."""
        return self.winner is not None and self.difference(self.winner).high < 1


@dataclass(frozen=True)
class Swept:
    """A study, and what only the store has of it."""

    study: Study
    winners: Results | None = None  # results of the default and the finalists; None before they are retrained
    plots: Path | None = None  # the folder of the search's figures; None if there are none


# --- from the store


def load(tracked: Tracked, experiment: str) -> Swept:
    """A study by its MLflow experiment.

    An InputError if the store has no sweep of this name whose trials are done; `Damaged` if its record is.
    """
    for run in reversed(tracked.runs(experiment)):
        path = run.artifact(schema.SWEEP_RECORD) if run.tags.get(schema.KIND) == schema.SWEEP else None
        if path:
            record, winners = read_record(path), None
            with suppress(InputError):  # they are not retrained under this protocol
                winners = results.load(tracked, experiment)
            names = [DEFAULT, *(trial.label for trial in record.finalists)]
            scores = {name: winners.of(name)["score"].tolist() for name in names} if winners else {}
            return Swept(Study(record=record, scores=scores), winners, run.artifact(schema.SWEEP_PLOTS))
    raise InputError(f"no finished sweep '{experiment}' in {shown(tracked.store.uri)}; run `gans sweep` first")


def load_all(tracked: Tracked) -> list[Swept]:
    """All studies of the store whose trials are done, by name."""
    found = []
    for name in tracked.experiments(PREFIX):
        try:
            found.append(load(tracked, name))
        except Damaged as error:
            log.warning("%s", error)
        except InputError:
            continue
    return found


def read_record(path: Path) -> Record:
    """What a sweep's run has of the search; `Damaged` if the file is not as it was written."""
    try:
        return Record.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise Damaged(f"cannot read {path}: {first_line(error)}; run the same `gans sweep` again") from None
