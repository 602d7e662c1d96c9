"""From an Optuna study to the record that its pages are made from."""

import math
from collections.abc import Sequence

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from reports.studies import Failure, Record, Trial
from sweeps import plots
from sweeps.options import Request
from sweeps.study import COUNTED, Sweep, Tally, origin

TOP = 10  # trials in the table of the best
DIED = "its worker died or exceeded the time limit"


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
