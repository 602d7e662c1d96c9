"""One trial, as a worker process runs it."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from optuna.exceptions import TrialPruned
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from benchmarks.engine import Result, Tell
from gans import files
from gans.compute import devices
from gans.data import datasets
from gans.fidelity import scorer  # noqa: F401  imported here so that the fork server holds it
from gans.pictures.curves import draw_curves
from gans.runs.cell import RUN_FILE, Cell, Observer, locked, reason, resolve, tags
from gans.runs.scoring import Scoring
from gans.runs.tracking import NOTE, Run, Store
from gans.training.loop import CHECKPOINT, GENERATOR, Outcome, train
from gans.training.recorder import History
from sweeps.study import Sweep, origin, sign, surplus, unclaimed

KEPT_TRACEBACK = 4000  # characters of it that a failed trial keeps


@dataclass(frozen=True)
class Site:
    """Where trials run and are tracked.

    Attributes:
        uri: the tracking store.
        parent: run id of the sweep.
        device: auto, cpu, cuda, cuda:1.
        threads: of a trial on the CPU.
        folder: for checkpoints and pictures.
    """

    uri: str
    parent: str
    device: str
    threads: int
    folder: Path


Train = Callable[[Trial, Sweep, Site, Tell], tuple[float, ...]]


class Surplus(Exception):
    """Another process has taken the last trial."""


class Diverged(TrialPruned):
    """Training could not go on."""


def trial_job(tell: Tell, sweep: Sweep, site: Site, ticket: str, train: Train | None = None) -> Result:
    """Ask the study for a trial and run it, unless the study has enough of them.

    Args:
        tell: is told the trial's number, then its metrics.
        sweep: what to do.
        site: where.
        ticket: what the runner calls this job.
        train: does the work of a trial; None: `train_trial`.
    """
    study = sweep.open()
    if not unclaimed(study, sweep.trials):
        return Result("surplus")
    ended: list[FrozenTrial] = []
    objective = Objective(sweep, site, ticket, tell, train or train_trial)
    study.optimize(objective, n_trials=1, catch=(Exception,), callbacks=[lambda _, trial: ended.append(trial)])
    return verdict(ended[0])


def verdict(trial: FrozenTrial) -> Result:
    """How a trial ended, in the engine's words."""
    if trial.user_attrs.get("surplus"):
        return Result("surplus")
    status = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned"}.get(trial.state, "failed")
    return Result(status, trial.user_attrs.get("reason", ""))


@dataclass(frozen=True)
class Objective:
    """What Optuna calls: a trial that says who works on it, and leaves the reason if it has no score."""

    sweep: Sweep
    site: Site
    ticket: str
    tell: Tell
    train: Train

    def __call__(self, trial: Trial) -> tuple[float, ...]:
        sign(trial, self.ticket)
        if surplus(trial, self.sweep.trials):
            trial.set_user_attr("surplus", True)
            raise Surplus
        self.tell(0, {"trial": trial.number})
        try:
            return self.train(trial, self.sweep, self.site, self.tell)
        except TrialPruned as stop:
            trial.set_user_attr("reason", str(stop))
            trial.set_user_attr("diverged", isinstance(stop, Diverged))
            raise
        except Exception as error:
            trial.set_user_attr("reason", reason(error))
            trial.set_user_attr("traceback", traceback.format_exc()[-KEPT_TRACEBACK:])
            raise


class TrialObserver(Observer):
    """Passes what training tells on, and ends a trial that the pruner gives up."""

    def __init__(self, run: Run, tell: Tell, trial: Trial, sweep: Sweep) -> None:
        super().__init__(run, tell)
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
        TrialPruned: the pruner has seen enough.
    """
    # Optuna prunes by one objective only; and untrained networks say nothing of the trial
    if len(sweep.objectives) > 1 or not images:
        return
    trial.report(value, sweep.step(images))
    if images < sweep.base.budget and trial.should_prune():
        raise TrialPruned(f"by the pruner at {images / 1000:.3g} kimg")


def train_trial(trial: Trial, sweep: Sweep, site: Site, tell: Tell) -> tuple[float, ...]:
    """Train what the space suggests, under an MLflow run; returns the values of the objectives.

    The score of a trial is the best point of its curve, on latents that have no part in any final score.

    Raises:
        TrialPruned: by the pruner, or because training diverged.
    """
    device = devices.resolve(site.device)
    cell = resolve(sweep.default.model, sweep.experiment(sweep.space.suggest(trial)), device)
    devices.prepare(device, site.threads)
    folder = trial_folder(site.folder, origin(trial))
    with locked(folder), tracked(trial, cell, sweep, site, folder) as run:
        images = datasets.load(cell.experiment.dataset, resolution=cell.experiment.resolution)
        scoring = Scoring(cell.experiment, images, folder, device)
        observer = TrialObserver(run, tell, trial, sweep)
        outcome = train(cell.experiment, images, folder, device, scoring.evaluator, observer)
        scoring.finish(outcome, observer)
        draw(run, outcome, folder)
        if outcome.status == "diverged":
            raise Diverged(f"diverged: {outcome.reason}")
        best = min(value for _, value in outcome.history[sweep.curve])
        seconds = outcome.seconds["training"]
        trial.set_user_attr("seconds", seconds)
        run.log(cell.experiment.budget, {"sweep/score": best, "sweep/seconds": seconds})
    values = {"score": best, "seconds": seconds}
    return tuple(values[objective] for objective in sweep.objectives)


def trial_folder(root: Path, number: int) -> Path:
    return root / f"trial-{number:05d}"


def draw(run: Run, outcome: Outcome, folder: Path) -> None:
    draw_curves(outcome.history, folder / "curves.png")
    run.artifact(folder / "curves.png")


@contextmanager
def tracked(trial: Trial, cell: Cell, sweep: Sweep, site: Site, folder: Path) -> Iterator[Run]:
    """The MLflow run of a trial, ended as finished, pruned, diverged or failed."""
    run = open_run(trial, cell, sweep, site, folder)
    try:
        yield run
    except Diverged as stop:
        run.finish("diverged", str(stop))
        raise
    except TrialPruned as stop:
        run.finish("pruned", str(stop))
        raise
    except Exception as error:
        run.text(traceback.format_exc(), "traceback.txt")
        run.finish("failed", reason(error))
        raise
    run.finish("finished")


def open_run(trial: Trial, cell: Cell, sweep: Sweep, site: Site, folder: Path) -> Run:
    """A new run; or, for a trial that is tried again here, the run of the first try."""
    store, file = Store(site.uri), folder / RUN_FILE
    run = store.resume(json.loads(file.read_text())["run"], site.parent) if file.exists() else None
    if run is None:
        number = origin(trial)
        run = store.start(sweep.name, f"trial {number}", tags(cell), site.parent)
        run.params({"model": cell.model, **cell.experiment.flat()})
        files.write_text(file, json.dumps({"run": run.id, "trial": number}))
    device = devices.resolve(site.device)
    run.tag(
        {
            "gans.kind": "trial",
            "gans.study": sweep.study,
            "gans.trial": str(trial.number),
            "gans.device": devices.describe(device),
            "gans.threads": str(torch.get_num_threads()),
            "gans.status": "running",
            "gans.reason": "",
            NOTE: f"Trial {trial.number} of study `{sweep.study}`: {trial.params}",
        }
    )
    trial.set_user_attr("run", run.id)
    return run


def tidy(study: Study, root: Path, best: list[int]) -> None:
    """Remove the checkpoints of the trials that are over, but for those with the best numbers."""
    trials = study.get_trials(deepcopy=False)
    # a trial that is tried again works in the folder of the first try
    kept = {*best, *(origin(trial) for trial in trials if not trial.state.is_finished())}
    for number in {origin(trial) for trial in trials if over(trial)} - kept:
        for name in (CHECKPOINT, GENERATOR):
            (trial_folder(root, number) / name).unlink(missing_ok=True)


def over(trial: FrozenTrial) -> bool:
    """Whether nobody will go on with the trial; one that failed without a word may be queued again."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or "traceback" in trial.user_attrs
