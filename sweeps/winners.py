"""Honest winners: the best trials beside the default, all retrained from training seeds that chose nothing.

A study's best score is flattered: it is the best of many, on the seed that it was chosen on. So the best few
trials and the default become the models of a matrix with fresh seeds, run by the same runner as `make bench`,
scored on the report latents, and compared with Welch's t-test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from benchmarks.matrix import Matrix, MatrixFile
from gans.config import Experiment
from reports.tables import LEVEL
from sweeps.study import Sweep
from sweeps.toml import bare, comment, lines

DEFAULT = "default"
# three sets of training seeds that never meet: those of matrices (0, 1, ...), of trials, of winners
TRIAL_SEED = 1000
FRESH_SEED = 2000


def finalists(study: Study, sweep: Sweep, count: int) -> list[FrozenTrial]:
    """The best finished trials (of two objectives: of the front, by score) that are not the default again."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(sweep.objectives) > 1 and done:
        done = study.best_trials
    found: dict[Experiment, FrozenTrial] = {}
    for trial in sorted(done, key=lambda trial: trial.values):
        found.setdefault(sweep.of(trial), trial)
    found.pop(sweep.base, None)
    return list(found.values())[:count]


def name(trial: FrozenTrial) -> str:
    return f"trial-{trial.number}"


def matrix(sweep: Sweep, trials: Sequence[FrozenTrial], seeds: int) -> Matrix:
    """The default and the trials, each from so many fresh training seeds."""
    contestants = {DEFAULT: sweep.base, **{name(trial): sweep.of(trial) for trial in trials}}
    tables = {
        contestant: {
            "recipe": sweep.default.model,
            **experiment.model_dump(mode="json", exclude={"dataset", "seed"}),
        }
        for contestant, experiment in contestants.items()
    }
    description = (
        f"The best trials of the sweep '{sweep.study}' beside the default configuration of {sweep.default.model}, "
        f"from training seeds that no trial used."
    )
    fresh = tuple(range(FRESH_SEED, FRESH_SEED + seeds))
    file = MatrixFile(
        description=description,
        seeds=fresh,
        time_limit_minutes=sweep.seconds / 60,
        datasets={sweep.base.dataset: {}},
        models=tables,
    )
    text = text_of(file, sweep.base.dataset)
    return Matrix(sweep.name, Path(f"{sweep.name}.toml"), text, file)


def text_of(file: MatrixFile, dataset: str) -> str:
    """The matrix as a file that `make bench MATRIX=FILE` would take."""
    head = lines({"description": file.description, "seeds": file.seeds})
    limit = lines({"time_limit_minutes": file.time_limit_minutes})
    models = "".join(f"\n[models.{model}]\n{lines(table)}" for model, table in file.models.items())
    return f"{head}{limit}\n[datasets.{bare(dataset)}]\n{models}"


@dataclass(frozen=True)
class Difference:
    """The mean score of a trial's configuration minus the default's; below 0 the trial is better.

    Attributes:
        mean: NaN if either has no score.
        low: lower end of the simultaneous 95 % interval; NaN with fewer than two seeds on a side.
        high: upper end.
        p: of Welch's t-test, times the number of trials that are compared (Bonferroni), at most 1.
    """

    mean: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, tuned: pd.Series, default: pd.Series, comparisons: int = 1) -> Difference:
        """Compare two sets of seeds; what is not finite is left out."""
        a, b = (values[np.isfinite(values)].to_numpy(dtype=float) for values in (tuned, default))
        if not len(a) or not len(b):
            return cls(math.nan, math.nan, math.nan, math.nan)
        mean = float(a.mean() - b.mean())
        if min(len(a), len(b)) < 2:
            return cls(mean, math.nan, math.nan, math.nan)
        with np.errstate(all="ignore"):
            test = stats.ttest_ind(a, b, equal_var=False)
            interval = test.confidence_interval(1 - (1 - LEVEL) / comparisons)
        return cls(mean, float(interval.low), float(interval.high), min(1.0, float(test.pvalue) * comparisons))

    @property
    def verdict(self) -> str:
        """In words, for the end of a sentence that begins with the configuration."""
        if not math.isfinite(self.mean):
            return "has no score to compare"
        if not math.isfinite(self.low):
            return "cannot be told from the default by one seed"
        if self.high < 0:
            return "is better than the default, beyond the intervals"
        if self.low > 0:
            return "is worse than the default, beyond the intervals"
        return f"has the {'lower' if self.mean < 0 else 'higher'} mean, but not beyond the intervals"


def preset(settings: dict[str, object], header: str) -> str:
    """A partial experiment as a TOML file, with where it comes from in its comment."""
    return comment(header) + lines(settings)
