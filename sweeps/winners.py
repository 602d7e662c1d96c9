"""What comes of a search: its record, and its winners with the default, retrained from fresh training seeds.

A study's best score is too low: it is the best of many, on the seed of the search.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from benchmarks.matrix import Matrix, MatrixFile
from gans.config import Experiment
from reports.studies import DEFAULT, Failure, Record, Trial, label
from sweeps import plots
from sweeps.options import Request
from sweeps.space import bare, lines
from sweeps.study import COUNTED, Sweep, Tally, origin

# training seeds of trials and of winners; those of matrices are 0, 1, ...
TRIAL_SEED = 1000
FRESH_SEED = 2000
TOP = 10  # trials in the table of the best
DIED = "its worker died or exceeded the time limit"


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


# --- the record that pages are made from


def record(study: Study, sweep: Sweep, request: Request, finalists: Sequence[FrozenTrial]) -> Record:
    """The record of a study that has all its trials."""
    trials = [t for t in study.get_trials(deepcopy=False) if not t.user_attrs.get("surplus")]
    tally = Tally.of(study)
    finished = [t for t in trials if t.state == TrialState.COMPLETE]
    failed = [t for t in trials if t.state == TrialState.FAIL]
    return Record(
        study=sweep.study,
        model=sweep.default.model,
        dataset=sweep.base.dataset,
        metric=sweep.default.metric,
        budget=request.budget,
        kimg=sweep.base.kimg,
        objectives=list(sweep.objectives),
        pruner=sweep.pruner,
        seed=sweep.seed,
        command=request.command(),
        finished=tally.finished,
        pruned=tally.pruned,
        diverged=tally.diverged,
        failures=[Failure(number=t.number, reason=t.user_attrs.get("reason") or DIED) for t in failed],
        share=share(study, sweep.base.budget),
        hours=sum((t.duration.total_seconds() for t in trials if t.duration), 0.0) / 3600,
        default={key: sweep.space.defaults[key] for key in sweep.space.parameters},
        finalists=[row(trial, sweep) for trial in finalists],
        top=[row(trial, sweep) for trial in sorted(finished, key=lambda t: t.values)[:TOP]],
        importances=plots.importances(study),
        space=sweep.space.text(),
    )


def row(trial: FrozenTrial, sweep: Sweep) -> Trial:
    return Trial(
        number=origin(trial),
        score=trial.values[0],
        seconds=trial.user_attrs.get("seconds", math.nan),
        settings=sweep.space.settings(trial.params),
    )


def share(study: Study, budget: int) -> float:
    """Images that trials saw, as a share of what they would have seen if none had been pruned."""
    trials = study.get_trials(deepcopy=False, states=COUNTED)
    seen = [budget if t.state == TrialState.COMPLETE else t.last_step or 0 for t in trials]
    return sum(seen) / (budget * len(seen)) if seen else math.nan


def summary(study: Study) -> str:
    """How the search ended, in words."""
    tally = Tally.of(study)
    if tally.finished:
        return f"{tally.finished + tally.pruned} trials: {tally}"
    return (
        f"no trial finished: of {tally.pruned}, the pruner stopped {tally.pruned - tally.diverged} and "
        f"{tally.diverged} diverged; narrow the learning rates (SPACE=FILE), raise TRIALS, or take PRUNER=none"
    )
