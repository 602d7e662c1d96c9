"""The Optuna study of a sweep: where it is stored, how it draws, prunes, counts, and buries the dead.

What keeps the number of trials exact, with any number of processes on any number of machines: a trial counts
from the moment it exists until it fails, numbers only grow, and a trial that finds as many counting trials
before it as the sweep asks for does not run. So never more than that many are trained, and the runner goes on
until that many have finished or were pruned.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import psutil
from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, UpdateFinishedTrialError
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import (
    BaseStorage,
    JournalStorage,
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
    fail_stale_trials,
)
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from gans import schema, seeds
from gans.config import Experiment, experiment
from gans.errors import InputError
from gans.runs import locks
from gans.runs.cell import Cell
from gans.runs.databases import JOURNAL, STORAGE, check_storage, remedy
from gans.runs.locks import HOST, Holder, alive
from gans.runs.tables import creating
from gans.runs.tracking import shown, trouble
from sweeps.space import Space

warnings.filterwarnings("ignore", category=ExperimentalWarning)  # heartbeats and the plots are old enough
warnings.filterwarnings("ignore", message="PedAnovaImportanceEvaluator")  # it favours low scores, as is meant

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
CLAIMED = (*COUNTED, TrialState.RUNNING, TrialState.WAITING)

CREATION = 2.0  # seconds that another process may take between making a study and describing it
RETRIES = 3  # of a trial whose worker died
HEARTBEAT, SILENCE = (
    30,
    120,
)  # seconds: between heartbeats of an RDB, and without one before a trial counts as dead
UNSIGNED = 60.0  # seconds a running trial may take to say whose it is
SLACK = 60.0  # seconds over its time limit before a trial of another machine counts as dead
BLOCK = 2**16  # bytes of a journal that are looked at at a time
OPENING = b'{"op_code":'  # of every line of a journal

log = logging.getLogger("gans")


@dataclass(frozen=True)
class Sweep:
    """What is swept, and how; all that a worker needs to know.

    Attributes:
        study: name of the study.
        storage: a journal file, or the URL of a database.
        default: the cell that trials depart from, with the trials' training seed.
        space: what they may change.
        trials: how many are to finish or be pruned, over all processes and sessions.
        seed: of the sampler.
        pruner: one of PRUNERS.
        objectives: the first of OBJECTIVES, or both; both are minimised.
        seconds: time limit of a trial.
    """

    study: str
    storage: str
    default: Cell
    space: Space
    trials: int
    seed: int
    pruner: str
    objectives: tuple[str, ...]
    seconds: float

    @property
    def name(self) -> str:
        """The MLflow experiment, and the folder of the trials."""
        return f"sweep-{self.study}"

    @property
    def base(self) -> Experiment:
        return self.default.experiment

    @property
    def curve(self) -> str:
        """The metric that trials are judged by during training, and in the end by its best value."""
        return schema.curve(self.default.metric)

    @property
    def metric_names(self) -> list[str]:
        """What the objectives are called by whoever looks at the study: `fd_digits`, `training seconds`."""
        known = {"score": self.default.metric, "seconds": "training seconds"}
        return [known[objective] for objective in self.objectives]

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

        Raises:
            InputError: the storage cannot be used, or the study has trials of another sweep.
        """
        storage = open_storage(self.storage)
        directions = [StudyDirection.MINIMIZE] * len(self.objectives)
        try:
            study = optuna.create_study(storage=storage, study_name=self.study, directions=directions)
        except DuplicatedStudyError:
            return self.join(storage)
        study.set_user_attr("sweep", self.identity())
        study.set_metric_names(self.metric_names)
        default = self.space.default()
        if default:
            study.enqueue_trial(default)
        return self.open()

    def join(self, storage: BaseStorage) -> Study:
        """The study that an earlier session, or another process, has made."""
        study = self.open(storage)
        since = time.monotonic()
        while not (identity := study.user_attrs.get("sweep")) and time.monotonic() - since < CREATION:
            time.sleep(0.1)
        if not identity:
            raise InputError(
                f"study '{self.study}' in {shown(self.storage)} is not from `make sweep`; start another study: "
                "STUDY=NAME"
            )
        known = {"precision": "float32"} | identity  # studies from before there were precisions
        other = [part for part, value in self.identity().items() if known.get(part, value) != value]
        if other:
            remedy = "start another study: STUDY=NAME"
            if "precision" in other and set(other) <= {"precision", "default"}:  # machines differ in their default
                remedy = f"take its precision, STUDY={self.study} PRECISION={known['precision']}, or {remedy}"
            raise InputError(
                f"study '{self.study}' in {shown(self.storage)} has another {' and another '.join(other)}, so its "
                f"trials do not compare with new ones; {remedy}"
            )
        return study

    def open(self, storage: BaseStorage | None = None) -> Study:
        """The study, ready to be asked for trials."""
        return optuna.load_study(
            study_name=self.study,
            storage=storage or open_storage(self.storage),
            sampler=PerTrialSampler(self.seed),
            pruner=make_pruner(self),
        )


# --- storage


def open_storage(url: str) -> BaseStorage:
    """A journal file by its path, or a database by its URL.

    Raises:
        InputError: it cannot be reached, or is something else.
    """
    check_storage(url)
    try:
        return database(url) if "://" in url else JournalStorage(journal(url))
    # RuntimeError: another version of Optuna made its tables
    except (
        SQLAlchemyError,
        ImportError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AssertionError,
        RuntimeError,
    ) as error:
        raise InputError(
            f"cannot use the storage {shown(url)}: {trouble(error)}; {remedy(url, STORAGE, JOURNAL)}"
        ) from None


def journal(path: str) -> JournalFileBackend:
    """A journal file, whole but for lines that are damaged in its midst.

    Raises:
        InputError: one is; the others are not to be read without it.
    """
    lock = TrimmingLock(path)
    backend = JournalFileBackend(path, lock)  # makes the file
    lock.acquire()  # which takes half a line off; nobody writes another meanwhile
    try:
        line = damaged_line(Path(path))
    finally:
        lock.release()
    if line:
        raise InputError(
            f"line {line} of {path} is damaged or not Optuna's; take a copy of the file, remove the line, or "
            "start another: STORAGE=FILE"
        )
    return backend


class TrimmingLock(JournalFileSymlinkLock):
    """Optuna's lock of a journal. Who gets it takes off the half line that a killed writer has left at the end.

    Optuna appends to that line, which nobody can read then; readers, which take no lock, pass over it.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.journal = Path(path)

    def acquire(self) -> bool:
        acquired = super().acquire()
        try:
            trim(self.journal)
        except BaseException:
            self.release()
            raise
        return acquired


def trim(file: Path) -> None:
    """Cut a journal after its last whole line; another kind of file is left as it is."""
    with file.open("r+b") as lines:
        head = lines.read(len(OPENING))
        if head != OPENING[: len(head)]:
            return
        size = end = lines.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - BLOCK)
            lines.seek(start)
            newline = lines.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            lines.truncate(end)
            log.warning("%s ended in half a line, of a process that was killed; it is taken off", file)


def damaged_line(file: Path) -> int | None:
    """The number of the first line that is no entry of a journal, from 1."""
    with file.open("rb") as lines:
        return next((number for number, line in enumerate(lines, 1) if not is_entry(line)), None)


def is_entry(line: bytes) -> bool:
    """Whether a line is a whole one of Optuna's."""
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n") and isinstance(entry, dict) and "op_code" in entry


def database(url: str) -> RDBStorage:
    patience = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    with creating(url):
        return RDBStorage(
            url,
            engine_kwargs=patience,
            heartbeat_interval=HEARTBEAT,
            grace_period=SILENCE,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(RETRIES),
        )


# --- sampling and pruning


class PerTrialSampler(BaseSampler):
    """TPE whose random numbers are a function of (seed, trial number).

    No two trials share them, whatever process draws; and a study that one process runs draws the same trials
    however often it is interrupted.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.tpe = TPESampler(seed=seed % 2**32)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.tpe = TPESampler(seed=seeds.mix(self.seed, "trial", trial.number) % 2**32)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.tpe.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self.tpe.after_trial(study, trial, state, values)


def make_pruner(sweep: Sweep) -> BasePruner:
    """The pruner by its name; two objectives have none.

    Halving keeps the better half at two, four, eight, ... points of the score curve. The median stops what is
    worse than half of the finished trials were at that point, from the second one on. The first point is too
    early: it favours short half-lives of the weight average.
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
    """Trials that nobody works on yet; those that wait to be tried again are among them."""
    taken = (*COUNTED, TrialState.RUNNING)
    return max(0, trials - len(study.get_trials(deepcopy=False, states=taken)))


def diverged(study: Study) -> int:
    """Trials that diverged; they count as pruned."""
    pruned = study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
    return sum(bool(trial.user_attrs.get("diverged")) for trial in pruned)


@dataclass(frozen=True)
class Tally:
    """The study in numbers: all its processes together."""

    finished: int
    pruned: int
    failed: int
    running: int
    best: float
    best_trial: int | None

    @classmethod
    def of(cls, study: Study) -> Tally:
        trials = study.get_trials(deepcopy=False)
        states = [trial.state for trial in trials if not trial.user_attrs.get("surplus")]
        done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        best = min(done, key=lambda trial: trial.values[0], default=None)
        return cls(
            finished=len(done),
            pruned=states.count(TrialState.PRUNED),
            failed=states.count(TrialState.FAIL),
            running=states.count(TrialState.RUNNING),
            best=best.values[0] if best else math.nan,
            best_trial=origin(best) if best else None,
        )

    @property
    def counted(self) -> int:
        return self.finished + self.pruned

    def __str__(self) -> str:
        best = "no score yet" if self.best_trial is None else f"best {self.best:.4g} (trial {self.best_trial})"
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.finished} finished, {self.pruned} pruned, {self.running} running{failed}; {best}"


def surplus(trial: Trial, trials: int) -> bool:
    """Whether enough trials with lower numbers count already."""
    others = trial.study.get_trials(deepcopy=False, states=CLAIMED)
    return sum(other.number < trial.number for other in others) >= trials


# --- trials of dead workers


def sign(trial: Trial, ticket: str) -> None:
    """Write down who works on the trial: the machine, the process, and the runner's name for its job."""
    me = psutil.Process()
    trial.set_user_attr(
        "worker",
        {
            "trial": trial.number,  # a trial that is tried again inherits the attributes of the one before
            "ticket": ticket,
            "host": HOST,
            "pid": os.getpid(),
            "born": me.create_time(),
            "since": time.time(),
        },
    )


def reap(study: Study, limit: float) -> list[FrozenTrial]:
    """Fail the running trials whose workers are dead, and queue their parameters to be tried again.

    A database knows them by their heartbeats. On top of that, and for journal files, which have none: a process
    of this machine that is gone is dead, and one of another machine is when its time limit is long over.

    Args:
        study: whose trials.
        limit: the time limit of a trial in seconds.

    Returns:
        The trials that this call failed.
    """
    fail_stale_trials(study)
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial for trial in running if dead(trial, limit) and bury(study, trial)]


def dead(trial: FrozenTrial, limit: float) -> bool:
    worker = trial.user_attrs.get("worker", {})
    if worker.get("trial") != trial.number:
        assert trial.datetime_start is not None
        return time.time() - trial.datetime_start.timestamp() > UNSIGNED
    if worker["host"] == HOST:
        return not alive(worker["pid"], worker["born"])
    if not locks.witness(Holder(worker["host"], worker["pid"], worker["born"], lock="")):
        return True
    return time.time() - worker["since"] > limit + SLACK


def bury(study: Study, trial: FrozenTrial, again: bool = True) -> bool:
    """Fail a running trial, and queue it again if it is worth it; False if another process was faster."""
    try:
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, UpdateFinishedTrialError):
        return False
    if again:
        # Optuna's callback appends to a list inside, which the storage would share
        RetryHeartbeatStaleTrialCallback(RETRIES)(study, copy.deepcopy(trial))
    return True


def origin(trial: FrozenTrial | Trial) -> int:
    """What a trial is called: its number, or that of the one that it tries again, in whose folder it works."""
    frozen = trial if isinstance(trial, FrozenTrial) else trial.study.trials[trial.number]
    number = RetryHeartbeatStaleTrialCallback.retried_trial_number(frozen)
    return frozen.number if number is None else number
