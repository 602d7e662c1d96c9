"""From an Optuna study to the record that its pages are made from."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from gans import schema
from gans.runs.run import Run
from reports.studies import Failure, Record, Trial
from sweeps import plots
from sweeps.options import Request
from sweeps.study import Sweep, Tally, counted, diverged, origin

TOP = 10  # trials in the table of the best
DIED = "its worker died or ran out of time"


def record(study: Study, sweep: Sweep, request: Request, finalists: Sequence[FrozenTrial]) -> Record:
    """The record of a study that has all its trials."""
    trials = [t for t in study.get_trials(deepcopy=False) if not t.user_attrs.get("surplus")]
    pruned = [t for t in trials if t.state == TrialState.PRUNED]
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
        finished=len(finished),
        pruned=len(pruned),
        diverged=diverged(study),
        failures=[Failure(number=t.number, reason=t.user_attrs.get("reason") or DIED) for t in failed],
        share=share([*finished, *pruned], sweep.base.budget),
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


def share(trials: Sequence[FrozenTrial], budget: int) -> float:
    """Images that these trials saw, as a share of what they would have seen if none had been pruned."""
    seen = [budget if t.state == TrialState.COMPLETE else t.last_step or 0 for t in trials]
    return sum(seen) / (budget * len(seen)) if seen else math.nan


def keep(run: Run, kept: Record, study: Study, sweep: Sweep) -> None:
    """Write the record and the study's figures into the sweep's run."""
    with tempfile.TemporaryDirectory() as folder:
        plots.draw_all(study, sweep, Path(folder))
        run.artifact(Path(folder), schema.SWEEP_PLOTS)
    run.text(kept.model_dump_json(indent=1), schema.SWEEP_RECORD)


def summary(study: Study) -> str:
    """How the search ended, in words."""
    tally = Tally.of(study)
    if tally.finished:
        return f"{counted(study)} trials: {tally}"
    lost = diverged(study)
    return (
        f"no trial finished: of {tally.pruned}, the pruner stopped {tally.pruned - lost} and {lost} "
        "diverged; narrow the learning rates (SPACE=FILE), raise TRIALS, or take PRUNER=none"
    )
