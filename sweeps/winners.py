"""The winners of a search: the best trials and the default, retrained from fresh training seeds.

A study's best score is too low: it is the best of many, on the seed of the search.
"""

from collections.abc import Sequence
from pathlib import Path

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from benchmarks.matrix import Matrix, MatrixFile
from gans.config import Experiment
from reports.studies import DEFAULT, label
from sweeps.study import Sweep, origin
from sweeps.toml import bare, lines

# training seeds of trials and of winners; those of matrices are 0, 1, ...
TRIAL_SEED = 1000
FRESH_SEED = 2000


def finalists(study: Study, sweep: Sweep, count: int) -> list[FrozenTrial]:
    """The best finished trials, of two objectives those of the front, without the default."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(sweep.objectives) > 1 and done:
        done = study.best_trials
    found: dict[Experiment, FrozenTrial] = {}
    for trial in sorted(done, key=lambda trial: trial.values):
        found.setdefault(sweep.of(trial), trial)
    found.pop(sweep.experiment({}), None)
    return list(found.values())[:count]


def name(trial: FrozenTrial) -> str:
    """Of a trial among the retrained models; a retry has the name of the first try."""
    return label(origin(trial))


def matrix(sweep: Sweep, trials: Sequence[FrozenTrial], seeds: int) -> Matrix:
    """The default and the trials, each from so many fresh training seeds."""
    experiments = {DEFAULT: sweep.base, **{name(trial): sweep.of(trial) for trial in trials}}
    models = {
        model: {"recipe": sweep.default.model, **own.model_dump(mode="json", exclude={"dataset", "seed"})}
        for model, own in experiments.items()
    }
    description = (
        f"The best trials of the sweep '{sweep.study}' and the default configuration of {sweep.default.model}, "
        "from training seeds that no trial used."
    )
    file = MatrixFile(
        description=description,
        seeds=tuple(range(FRESH_SEED, FRESH_SEED + seeds)),
        time_limit_minutes=sweep.seconds / 60,
        datasets={sweep.base.dataset: {}},
        models=models,
    )
    head = lines({key: getattr(file, key) for key in ("description", "seeds", "time_limit_minutes")})
    tables = "".join(f"\n[models.{model}]\n{lines(table)}" for model, table in models.items())
    text = f"{head}\n[datasets.{bare(sweep.base.dataset)}]\n{tables}"
    return Matrix(sweep.name, Path(f"{sweep.name}.toml"), text, file)
