"""One trial, as a worker process runs it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.exceptions import TrialPruned, UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from benchmarks.job import Report, Result
from gans import schema
from gans.compute import devices
from gans.config import Resolved
from gans.errors import Stopped
from gans.fidelity import scorer  # noqa: F401  imported here so that the fork server holds it
from gans.pictures.decoration import decorating
from gans.runs.cell import Cell, resolve
from gans.runs.execute import CellRun, Place, Tracker, reason
from gans.runs.live import LiveRun as Run
from gans.training.loop import Outcome
from gans.training.recorder import History
from gans.urls import masked
from sweeps.study import JOB, Sweep, origin, sampler, surplus, unclaimed

KEPT_TRACEBACK = 4000  # characters of it that a failed trial keeps


@dataclass(frozen=True)
class Site:
    """Where trials run and are tracked.

    Attributes:
        place: of every trial's run.
        folder: of all of them, for checkpoints and pictures.
    """

    place: Place
    folder: Path

    @property
    def pictures(self) -> Path:
        """Optuna's artifacts, a grid of each finished trial: one folder for all studies, for optuna-dashboard."""
        return self.folder.parent / "sweep-artifacts"


Train = Callable[[Trial, Sweep, Site, Report], tuple[float, ...]]


class Surplus(Exception):
    """Another process has taken the last trial."""


class Pruned(Stopped, TrialPruned):
    """The pruner gave the trial up: its run ends as pruned, and the trial does."""

    status = schema.PRUNED


class TrialDiverged(TrialPruned):
    """Training could not go on: to Optuna, a trial that was pruned."""


def trial_job(
    report: Report, folder: Path, sweep: Sweep, place: Place, ticket: str, train: Train | None = None
) -> Result:
    """Ask the study for a trial and run it, unless the study has enough of them.

    Args:
        report: takes the trial's number, then its metrics.
        folder: of all trials.
        sweep: what to do.
        place: of every trial's run.
        ticket: what the runner calls this job.
        train: does the work of a trial; None: `train_trial`.
    """
    study = sweep.open()
    if not unclaimed(study, sweep.trials):
        return Result("surplus")
    ended: list[FrozenTrial] = []
    objective = Objective(sweep, Site(place, folder), ticket, report, train or train_trial)
    try:
        study.optimize(objective, n_trials=1, catch=(Exception,), callbacks=[lambda _, trial: ended.append(trial)])
    except (ValueError, UpdateFinishedTrialError):  # without heartbeats for long, as of a laptop that slept
        return Result("surplus", "another process took the trial over")
    return verdict(ended[0])


def verdict(trial: FrozenTrial) -> Result:
    """How a trial ended, in the engine's words."""
    if trial.user_attrs.get("surplus"):
        return Result("surplus")
    status = {TrialState.COMPLETE: schema.FINISHED, TrialState.PRUNED: schema.PRUNED}.get(
        trial.state, schema.FAILED
    )
    return Result(status, trial.user_attrs.get("reason", ""))


@dataclass(frozen=True)
class Objective:
    """What Optuna calls: a trial that says who works on it, and leaves the reason if it has no score."""

    sweep: Sweep
    site: Site
    ticket: str
    tell: Report
    train: Train

    def __call__(self, trial: Trial) -> tuple[float, ...]:
        trial.study.sampler = sampler(self.sweep.seed, trial.number)
        trial.set_user_attr(JOB, self.ticket)
        if surplus(trial, self.sweep.trials):
            trial.set_user_attr("surplus", True)
            raise Surplus
        self.tell(0, {"trial": origin(trial)})
        try:
            return self.train(trial, self.sweep, self.site, self.tell)
        except TrialPruned as stop:
            trial.set_user_attr("reason", str(stop))
            trial.set_user_attr("diverged", isinstance(stop, TrialDiverged))
            raise
        except Exception as error:
            trial.set_user_attr("reason", reason(error))
            trial.set_user_attr("traceback", masked(traceback.format_exc())[-KEPT_TRACEBACK:])
            raise


class TrialTracker(Tracker):
    """Passes what training tells on, and ends a trial that the pruner gives up."""

    def __init__(self, run: Run, tell: Report, experiment: Resolved, trial: Trial, sweep: Sweep) -> None:
        super().__init__(run, tell, experiment)
        self.trial, self.sweep = trial, sweep

    def log(self, images: int, values: Mapping[str, float]) -> None:
        super().log(images, values)
        if self.sweep.curve in values:
            report(self.trial, self.sweep, images, values[self.sweep.curve])

    def resumed(self, history: History) -> None:
        super().resumed(history)
        for images, value in history.get(self.sweep.curve, []):
            report(self.trial, self.sweep, images, value)


def report(trial: Trial, sweep: Sweep, images: int, value: float) -> None:
    """A point of the score curve.

    Raises:
        Pruned: the pruner has seen enough.
    """
    # Optuna prunes by one objective only; and untrained networks say nothing of the trial
    if len(sweep.objectives) > 1 or not images:
        return
    trial.report(value, sweep.step(images))
    if images < sweep.base.budget and trial.should_prune():
        raise Pruned(f"by the pruner at {images / 1000:.3g} kimg")


class TrialRun(CellRun):
    """A trial: a cell that the study chose, and may give up."""

    keeps_networks = False  # there are many, and the winners are trained again

    def __init__(self, cell: Cell, folder: Path, place: Place, tell: Report, trial: Trial, sweep: Sweep) -> None:
        super().__init__(cell, folder, place, tell)
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
            schema.REASON: "",  # a trial that is tried again takes up the run of the first try
            schema.NOTE: f"Trial {origin(self.trial)} of study `{self.sweep.study}`: {self.trial.params}",
        }

    def tracker(self, run: Run) -> Tracker:
        return TrialTracker(run, self.tell, self.cell.experiment, self.trial, self.sweep)

    def open(self) -> Run:
        run = super().open()
        self.trial.set_user_attr("run", run.key)
        return run

    def conclude(self, run: Run, trained: Outcome) -> None:
        if trained.status == schema.FINISHED:
            # the best point of the curve: its latents have no part in any final score
            score = min(value for _, value in trained.history[self.sweep.curve])
            seconds = trained.seconds["training"]
            self.values = {"score": score, "seconds": seconds}
            self.trial.set_user_attr("seconds", seconds)
            run.log(self.cell.experiment.budget, {schema.SWEEP_SCORE: score, schema.SWEEP_SECONDS: seconds})


def train_trial(trial: Trial, sweep: Sweep, site: Site, tell: Report) -> tuple[float, ...]:
    """Train what the space suggests, under an MLflow run; returns the values of the objectives.

    Raises:
        Pruned: by the pruner.
        TrialDiverged: training could not go on.
    """
    suggested = sweep.experiment(sweep.space.suggest(trial))
    cell = resolve(sweep.default.model, suggested, devices.resolve(site.place.device))
    folder = trial_folder(site.folder, origin(trial))
    run = TrialRun(cell, folder, site.place, tell, trial, sweep)
    outcome = run.execute()
    if outcome.status == schema.DIVERGED:
        raise TrialDiverged(f"diverged: {outcome.reason}")
    attach(trial, folder / schema.SAMPLES / schema.FINAL_GRID, site)
    return tuple(run.values[objective] for objective in sweep.objectives)


def attach(trial: Trial, picture: Path, site: Site) -> None:
    """Put a picture beside the trial in the study's storage, for optuna-dashboard."""
    if picture.is_file():
        with decorating(picture):
            site.pictures.mkdir(parents=True, exist_ok=True)
            store = FileSystemArtifactStore(site.pictures)
            upload_artifact(artifact_store=store, file_path=str(picture), study_or_trial=trial)


def trial_folder(root: Path, number: int) -> Path:
    return root / f"trial-{number:05d}"


def tidy(study: Study, root: Path, best: list[int]) -> None:
    """Remove the checkpoints of the trials that are over, but for those with the best numbers."""
    trials = study.get_trials(deepcopy=False)
    # a trial that is tried again works in the folder of the first try
    kept = {*best, *(origin(trial) for trial in trials if not trial.state.is_finished())}
    for number in {origin(trial) for trial in trials if over(trial)} - kept:
        for name in (schema.CHECKPOINT, schema.PREVIOUS, schema.GENERATOR):
            (trial_folder(root, number) / name).unlink(missing_ok=True)


def over(trial: FrozenTrial) -> bool:
    """Whether nobody will go on with the trial; one that failed without a word may be queued again."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or "traceback" in trial.user_attrs
