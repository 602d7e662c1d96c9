"""The Optuna study of a sweep: where it is stored, how it samples, prunes and counts, and who works on a trial.

The number of trials is exact with any number of processes: a trial counts from its creation until it fails, and
one that finds as many counting trials before it as the sweep wants does not run.
"""

import copy
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Self

import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, UpdateFinishedTrialError
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from gans import schema, seeds
from gans.config import Experiment, Resolved, experiment
from gans.errors import InputError, shown
from gans.runs.cell import Cell
from gans.runs.databases import OPTUNA, opened, sqlite_file
from gans.runs.locks import acquire
from sweeps.space import Space

warnings.filterwarnings("ignore", category=ExperimentalWarning)  # heartbeats and figures
warnings.filterwarnings("ignore", module=r"optuna\.")  # figures and importances of few trials, as pages say

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
CLAIMED = (*COUNTED, TrialState.RUNNING, TrialState.WAITING)

CREATION = 2.0  # seconds that another process may take between making a study and describing it
RETRIES = 3  # of a trial whose worker died
# seconds between heartbeats of a running trial, and without one until its worker counts as dead
HEARTBEAT, GRACE = 10, 60
JOB = "job"  # attribute of a trial: the runner's name for the job that works on it


@dataclass(frozen=True)
class Sweep:
    """What is swept and how: all that a worker needs."""

    study: str
    storage: str  # the URL of a database
    default: Cell  # that trials depart from, with the trials' training seed
    space: Space
    trials: int  # how many finish or are pruned, over all processes and sessions
    seed: int  # of the sampler
    pruner: str
    objectives: tuple[str, ...]  # the score alone, or with the seconds; both are minimised
    seconds: float  # time limit of a trial

    @property
    def name(self) -> str:
        """The MLflow experiment, and the folder of the trials."""
        return f"sweep-{self.study}"

    @property
    def base(self) -> Resolved:
        return self.default.experiment

    @property
    def curve(self) -> str:
        """The metric that trials are judged by during training, and in the end by its best value."""
        return schema.curve(self.default.metric)

    def experiment(self, tables: Mapping[str, Any]) -> Experiment:
        """The default with a trial's tables laid over it."""
        return experiment(self.base.model_dump(), tables, where="the trial")

    def of(self, trial: FrozenTrial) -> Experiment:
        """What a trial trained."""
        return self.experiment(self.space.suggest(optuna.trial.FixedTrial(trial.params)))

    def step(self, images: int) -> int:
        """The nominal moment of an evaluation, in images: the same for trials of all batch sizes."""
        points = self.base.schedule.evaluations
        point = min(images, self.base.budget) * points // self.base.budget
        return round(point * self.base.budget / points)

    def identity(self) -> dict[str, Any]:
        """What all trials of a study have in common."""
        return {
            "precision": self.base.precision,
            "default": self.default.identity,
            "space": self.space.text(),
            "objectives": list(self.objectives),
        }

    def create(self) -> Study:
        """The study, made with the default as its first trial, or joined.

        An InputError if the storage cannot be used, or the study has trials of another sweep.
        """
        storage = open_storage(self.storage)
        directions = [StudyDirection.MINIMIZE] * len(self.objectives)
        try:
            study = optuna.create_study(storage=storage, study_name=self.study, directions=directions)
        except DuplicatedStudyError:
            return self.join(storage)
        study.set_user_attr("sweep", self.identity())
        study.set_metric_names([self.default.metric, "training seconds"][: len(directions)])
        default = self.space.default()
        if default:
            study.enqueue_trial(default)
        return self.open(storage)

    def join(self, storage: RDBStorage) -> Study:
        """The study that an earlier session or another process made."""
        study = self.open(storage)
        since = time.monotonic()
        while not (identity := study.user_attrs.get("sweep")) and time.monotonic() - since < CREATION:
            time.sleep(0.1)
        if not identity:
            raise InputError(
                f"study '{self.study}' in {shown(self.storage)} is not from `gans sweep`; start another study: "
                "STUDY=NAME"
            )
        wanted = self.identity()
        other = [part for part in wanted if identity.get(part) != wanted[part]]
        if other:
            raise InputError(
                f"study '{self.study}' in {shown(self.storage)} has another {' and another '.join(other)}, so its "
                "trials are not comparable with new ones; start another study, STUDY=NAME, or request the same"
                + (f": its PRECISION is {identity.get('precision')}" if "precision" in other else "")
            )
        return study

    def open(self, storage: RDBStorage | None = None) -> Study:
        """The study, ready to suggest trials."""
        return optuna.load_study(
            study_name=self.study,
            storage=storage or open_storage(self.storage),
            sampler=sampler(self.seed, 0),
            pruner=make_pruner(self),
        )


def open_storage(url: str) -> RDBStorage:
    """A database by its URL, with heartbeats of running trials; an InputError if it cannot be used."""
    open = partial(
        RDBStorage,
        url,
        engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {},
        heartbeat_interval=HEARTBEAT,
        grace_period=GRACE,
        heartbeat_stale_trial_callback=retry,
    )
    return opened(url, OPTUNA, open)


# --- sampling and pruning


def sampler(seed: int, number: int) -> TPESampler:
    """TPE for one trial, seeded by the sweep's seed and its number: an interrupted study draws the same trials."""
    return TPESampler(seed=seeds.mix(seed, "trial", number) % 2**32)


def make_pruner(sweep: Sweep) -> BasePruner:
    """The pruner by its name; two objectives have none.

    Halving keeps the better half at two, four, eight, ... points of the score curve; the median pruner begins at
    the second point, too. The first is too early: it favours short half-lives of the weight average.
    """
    second = max(1, round(2 * sweep.base.budget / sweep.base.schedule.evaluations))
    if len(sweep.objectives) > 1 or sweep.pruner == "none":
        return NopPruner()
    if sweep.pruner == "median":
        return MedianPruner(n_startup_trials=4, n_warmup_steps=second)
    return SuccessiveHalvingPruner(min_resource=second, reduction_factor=2)


# --- counting


def counted(study: Study) -> int:
    """Trials that finished or were pruned."""
    return len(study.get_trials(deepcopy=False, states=COUNTED))


def unclaimed(study: Study, trials: int) -> int:
    """Trials that no process works on yet, those that wait for a retry included."""
    taken = (*COUNTED, TrialState.RUNNING)
    return max(0, trials - len(study.get_trials(deepcopy=False, states=taken)))


@dataclass(frozen=True)
class Tally:
    """The study in numbers, all its processes together."""

    finished: int
    pruned: int
    diverged: int  # of the pruned
    failed: int
    running: int
    best: FrozenTrial | None

    @classmethod
    def of(cls, study: Study) -> Self:
        trials = [t for t in study.get_trials(deepcopy=False) if not t.user_attrs.get("surplus")]
        finished = [t for t in trials if t.state == TrialState.COMPLETE]
        count = Counter(t.state for t in trials)
        return cls(
            finished=len(finished),
            pruned=count[TrialState.PRUNED],
            diverged=sum(bool(t.user_attrs.get("diverged")) for t in trials),
            failed=count[TrialState.FAIL],
            running=count[TrialState.RUNNING],
            best=min(finished, key=lambda t: t.values[0], default=None),
        )

    def __str__(self) -> str:
        best = f"best {self.best.values[0]:.4g} (trial {origin(self.best)})" if self.best else "no score yet"
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.finished} finished, {self.pruned} pruned, {self.running} running{failed}; {best}"


def surplus(trial: Trial, trials: int) -> bool:
    """Whether enough trials with lower numbers count already."""
    others = trial.study.get_trials(deepcopy=False, states=CLAIMED)
    return sum(other.number < trial.number for other in others) >= trials


# --- trials of dead workers


def held_by(study: Study, job: str) -> list[FrozenTrial]:
    """The running trials of a job: one, or none."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial for trial in running if trial.user_attrs.get(JOB) == job]


def claim(storage: str) -> AbstractContextManager[object]:
    """Held from before a trial begins until it has its job; nothing where the database sees to it.

    SQLite lets two processes begin the same waiting trial.
    """
    file = sqlite_file(storage)
    return acquire(file.with_name(f".{file.name}.claim"), float("inf")) if file else nullcontext()


def release_stale(study: Study, storage: str) -> None:
    """Fail and retry running trials whose workers are dead, on whatever machine."""
    fail_stale_trials(study)
    with claim(storage) as held:
        grace = 0 if held else GRACE
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            started = trial.datetime_start or datetime.now()
            # killed as it began; should a machine's clock differ, the trial is tried again for nothing
            if JOB not in trial.user_attrs and (datetime.now() - started).total_seconds() >= grace:
                fail(study, trial)


def fail(study: Study, trial: FrozenTrial, again: bool = True) -> bool:
    """Fail a running trial, and retry it; False if another process was faster."""
    try:
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, UpdateFinishedTrialError):
        return False
    if again:
        retry(study, trial)
    return True


def retry(study: Study, trial: FrozenTrial) -> None:
    """Queue the parameters of a failed trial again, unless it was retried too often."""
    trial = copy.deepcopy(trial)  # Optuna appends to a list inside
    trial.user_attrs.pop(JOB, None)
    RetryHeartbeatStaleTrialCallback(RETRIES)(study, trial)


def origin(trial: FrozenTrial | Trial) -> int:
    """A trial's number, or that of the trial that it retries and in whose folder it works."""
    frozen = trial if isinstance(trial, FrozenTrial) else trial.study.trials[trial.number]
    number = RetryHeartbeatStaleTrialCallback.retried_trial_number(frozen)
    return frozen.number if number is None else number
