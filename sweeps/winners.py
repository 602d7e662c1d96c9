"""Honest winners: the best trials beside the default, all retrained from training seeds that chose nothing.

A study's best score is flattered: it is the best of many, on the seed that it was chosen on. So the best few
trials and the default become the models of a matrix with fresh seeds, run by the same runner as `make bench`,
scored on the report latents, and compared with Welch's t-test.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from benchmarks.matrix import Matrix, MatrixFile
from gans.config import Experiment
from reports.studies import DEFAULT, label
from sweeps.study import Sweep, origin
from sweeps.toml import bare, comment, lines

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
    found.pop(sweep.experiment({}), None)
    return list(found.values())[:count]


def name(trial: FrozenTrial) -> str:
    """Of a contestant: a trial that was tried again is called as it was first, whoever was killed."""
    return label(origin(trial))


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


def preset(settings: dict[str, object], header: str) -> str:
    """A partial experiment as a TOML file, with where it comes from in its comment."""
    return comment(header) + lines(settings)
