"""One trial, as a worker runs it."""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from optuna.exceptions import TrialPruned, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from benchmarks.job import Report, Result
from gans import schema
from gans.compute import devices
from gans.config import Resolved
from gans.errors import Stopped
from gans.fidelity import scorer  # noqa: F401  imported here so that the fork server holds it
from gans.runs.cell import Cell, resolve
from gans.runs.execute import CellRun, Place, Tracker, reason
from gans.runs.run import Run
from gans.training.loop import Outcome
from gans.training.recorder import History
from sweeps.study import JOB, Sweep, claim, origin, sampler, surplus, unclaimed

SURPLUS = Result("surplus")
STATUSES = {TrialState.COMPLETE: schema.FINISHED, TrialState.PRUNED: schema.PRUNED}


class Surplus(Exception):
    """Another process took the last trial."""


class Pruned(Stopped, TrialPruned):
    """The pruner stopped the trial; its run ends as pruned, too."""

    status = schema.PRUNED


class TrialDiverged(TrialPruned):
    """Training diverged; to Optuna, such a trial is pruned."""


def trial_job(report: Report, folder: Path, sweep: Sweep, place: Place, job: str) -> Result:
    """Run one trial of the study, unless it has enough of them; its checkpoint goes when it is over.

    `report` takes the trial's number, then its metrics. `folder` is that of all trials, `job` the runner's name.
    """
    study = sweep.open()
    if not unclaimed(study, sweep.trials):
        return SURPLUS
    ended: list[FrozenTrial] = []
    begins = ExitStack()
    work = partial(objective, begins=begins, report=report, folder=folder, sweep=sweep, place=place, job=job)
    try:
        with begins:
            begins.enter_context(claim(sweep.storage))
            study.optimize(work, n_trials=1, catch=(Exception,), callbacks=[lambda _, trial: ended.append(trial)])
    except (ValueError, UpdateFinishedTrialError):  # after a minute without heartbeats, as of a suspended laptop
        return Result("surplus", "another process retried the trial")
    (trial,) = ended
    if trial.user_attrs.get("surplus"):
        return SURPLUS
    for name in (schema.CHECKPOINT, schema.PREVIOUS, schema.GENERATOR):  # winners are trained anew
        (trial_folder(folder, origin(trial)) / name).unlink(missing_ok=True)
    return Result(STATUSES.get(trial.state, schema.FAILED), trial.user_attrs.get("reason", ""))


def objective(
    trial: Trial, begins: ExitStack, report: Report, folder: Path, sweep: Sweep, place: Place, job: str
) -> tuple[float, ...]:
    """What Optuna minimises; a trial without a score keeps the reason.

    `begins` is closed as soon as the trial has its job.
    """
    trial.set_user_attr(JOB, job)
    begins.close()
    trial.study.sampler = sampler(sweep.seed, trial.number)
    if surplus(trial, sweep.trials):
        trial.set_user_attr("surplus", True)
        raise Surplus
    report(0, {"trial": origin(trial)})
    try:
        return train_trial(trial, report, folder, sweep, place)
    except TrialPruned as stop:
        trial.set_user_attr("reason", str(stop))
        trial.set_user_attr("diverged", isinstance(stop, TrialDiverged))
        raise
    except Exception as error:
        trial.set_user_attr("reason", reason(error))
        raise


def train_trial(trial: Trial, report: Report, folder: Path, sweep: Sweep, place: Place) -> tuple[float, ...]:
    """Train what the space suggests, under a run; returns the values of the objectives."""
    suggested = sweep.experiment(sweep.space.suggest(trial))
    cell = resolve(sweep.default.model, suggested, devices.resolve(place.device))
    run = TrialRun(cell, trial_folder(folder, origin(trial)), place, report, trial, sweep)
    outcome = run.execute()
    if outcome.status == schema.DIVERGED:
        raise TrialDiverged(f"diverged: {outcome.reason}")
    return tuple(run.values[objective] for objective in sweep.objectives)


class TrialRun(CellRun):
    """The run of a trial: a cell that the study chose and may prune."""

    keeps_networks = False  # there are many, and the winners are retrained

    def __init__(self, cell: Cell, folder: Path, place: Place, report: Report, trial: Trial, sweep: Sweep) -> None:
        super().__init__(cell, folder, place, report)
        self.trial, self.sweep = trial, sweep
        self.values: dict[str, float] = {}  # by objective, once it is trained

    @property
    def name(self) -> str:
        return f"trial {origin(self.trial)}"

    def tags(self) -> dict[str, str]:
        return super().tags() | {
            schema.KIND: schema.TRIAL,
            schema.STUDY: self.sweep.study,
            schema.TRIAL_NUMBER: str(origin(self.trial)),
            schema.REASON: "",  # a retry resumes the run of the first try
            schema.NOTE: f"Trial {origin(self.trial)} of study `{self.sweep.study}`: {self.trial.params}",
        }

    def tracker(self, run: Run) -> Tracker:
        return TrialTracker(run, self.report, self.cell.experiment, self.trial, self.sweep)

    def conclude(self, run: Run, trained: Outcome) -> None:
        if trained.status == schema.FINISHED:
            # the best point of the curve; no final score uses its latents
            score = min(value for _, value in trained.history[self.sweep.curve])
            seconds = trained.seconds["training"]
            self.values = {"score": score, "seconds": seconds}
            self.trial.set_user_attr("seconds", seconds)
            run.log(self.cell.experiment.budget, {schema.SWEEP_SCORE: score, schema.SWEEP_SECONDS: seconds})


class TrialTracker(Tracker):
    """Reports the score curve to the study, and ends the trial when the pruner says so."""

    def __init__(self, run: Run, report: Report, experiment: Resolved, trial: Trial, sweep: Sweep) -> None:
        super().__init__(run, report, experiment)
        self.trial, self.sweep = trial, sweep

    def log(self, images: int, values: Mapping[str, float]) -> None:
        super().log(images, values)
        if self.sweep.curve in values:
            report_score(self.trial, self.sweep, images, values[self.sweep.curve])

    def resumed(self, history: History) -> None:
        super().resumed(history)
        for images, value in history.get(self.sweep.curve, []):
            report_score(self.trial, self.sweep, images, value)


def report_score(trial: Trial, sweep: Sweep, images: int, value: float) -> None:
    """Report a point of the score curve to the study; raises `Pruned` if the pruner has seen enough."""
    # Optuna prunes by one objective only, and the score of untrained networks is none of the trial's
    if len(sweep.objectives) > 1 or not images:
        return
    trial.report(value, sweep.step(images))
    if images < sweep.base.budget and trial.should_prune():
        raise Pruned(f"by the pruner at {images / 1000:.3g} kimg")


def trial_folder(root: Path, number: int) -> Path:
    return root / f"trial-{number:05d}"
