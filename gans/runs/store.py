"""The tracking store, as MLflow keeps it; and its reader, for which the folders of runs come first.

One MLflow experiment holds one matrix at one budget. In it, a parent run stands for an invocation; its child
runs are cells (`model/dataset/seed`) and noise floors (`real/dataset`). Metrics are logged against images seen.

Runs are written to their folders first (`gans.runs.run`); `gans.runs.export` alone writes to the store.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import urlencode, urlparse
from urllib.request import url2pathname

# MLflow reports usage over the network unless it is switched off
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# its own retries add up to minutes; the exporter tries again anyway
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "false")

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunData, RunInfo, RunTag, ViewType
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from gans import schema
from gans.errors import first_line
from gans.runs import databases
from gans.runs.events import RunFolder, State, run_folders, state_of
from gans.runs.locks import acquire
from gans.urls import shown, tracking_uri

ARTIFACTS = "mlartifacts"  # the folder of all artifacts, next to a SQLite file
AT_ONCE = 8  # requests
ANSWER = 10.0  # seconds that a server has to answer a question
BACKOFF = 60.0  # seconds without requests after it did not
# tags of an experiment: its description, and what it is to MLflow's UI
EXPERIMENT = {
    schema.NOTE: "The step of every metric is the number of images seen. Lower scores are better.",
    "mlflow.experimentKind": "custom_model_development",
}
Answer = TypeVar("Answer")


def _create(uri: str) -> None:
    """Make a SQLite store whole or not at all: killed among its migrations, MLflow leaves one it refuses."""
    file = databases.sqlite_file(uri)
    if file is None or file.exists():
        return
    lock, part = (file.with_name(f".{file.name}.{ending}") for ending in ("lock", "new"))
    with acquire(lock, float("inf")):
        if not file.exists():
            for leftover in file.parent.glob(f"{part.name}*"):  # of a process that was killed here
                leftover.unlink()
            MlflowClient(f"sqlite:///{part}").search_experiments(max_results=1)
            part.rename(file)
        lock.unlink(missing_ok=True)


class Store:
    """A tracking store: a database file, or a server.

    Args:
        uri: its address; None: the environment's.
        answers: False: it is known not to answer, and gets no requests.

    Attributes:
        embedded: whether it is a file: it does not go away, but another process may hold it for a while.
        patience: seconds that a server may take to answer at all; None: as many as MLflow waits.
        exported: bytes of the events of runs that it has, by their keys, as far as is known.

    Raises:
        InputError: the store cannot be reached or is of a kind MLflow no longer writes.
    """

    client: MlflowClient

    def __init__(self, uri: str | None = None, answers: bool = True) -> None:
        self.uri = uri or tracking_uri()
        self.file = databases.sqlite_file(self.uri)
        self.embedded = self.file is not None
        self.patience: float | None = ANSWER
        self.exported: dict[str, int] = {}
        self.retry_at = 0.0 if answers else math.inf
        if answers:
            for name, level in {"alembic": "WARNING", "mlflow": "WARNING", "mlflow.store": "CRITICAL"}.items():
                logging.getLogger(name).setLevel(level)
            self.client = databases.opened(self.uri, databases.MLFLOW, self._open)
            mlflow.set_tracking_uri(self.uri)

    def _open(self) -> MlflowClient:
        _create(self.uri)
        client = MlflowClient(self.uri)
        client.search_experiments(max_results=1)  # brings a database up to date before any worker
        return client

    # --- whether it answers

    def ask(self, question: Callable[[], Answer], otherwise: Answer) -> Answer:
        """What the store answers; if a server does not, something else, and no more requests for a while."""
        if self.embedded:
            return question()
        if self.backs_off:
            return otherwise
        try:
            if self.patience is not None:  # a question may be long; that somebody answers may not
                databases.in_time(lambda: self.client.search_experiments(max_results=1), self.patience)
            return question()
        except Exception as error:
            self.back_off()
            print(f"{shown(self.uri)} does not answer: {first_line(error)}", file=sys.stderr)
            return otherwise

    def back_off(self) -> None:
        """Begin the server backoff: it did not answer. A file has none."""
        if not self.embedded:
            self.retry_at = max(self.retry_at, time.monotonic() + BACKOFF)

    @property
    def backs_off(self) -> bool:
        return time.monotonic() < self.retry_at

    # --- experiments

    def experiment(self, name: str) -> str:
        """The id of the experiment of this name, made if there is none."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            place = (self.file.resolve().parent / ARTIFACTS / name).as_uri() if self.file else None
            try:
                return self.client.create_experiment(name, place, EXPERIMENT)
            except MlflowException:
                found = self.client.get_experiment_by_name(name)
                if found is None:  # else another process has just made it
                    raise
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def experiments(self, prefix: str = "") -> list[str]:
        """The names of those that begin like this."""
        names = (experiment.name for experiment in self.client.search_experiments())
        return sorted(name for name in names if name.startswith(prefix))

    def links(self) -> Iterator[tuple[str, str, str]]:
        """Of every experiment, the newest first: its name, and links to its runs with their names."""
        for experiment in self.client.search_experiments(order_by=["creation_time DESC"]):
            found = [link_of(run.info.experiment_id, run.data.tags) for run in self.runs(experiment.name)]
            yield from ((experiment.name, *link) for link in dict.fromkeys(filter(None, found)))

    # --- runs

    def runs(self, experiment: str, query: str = "", view: int = ViewType.ACTIVE_ONLY) -> list[MlflowRun]:
        """The runs of the experiment of this name, oldest first."""
        found = self.client.get_experiment_by_name(experiment)
        runs: list[MlflowRun] = []
        token = None
        while found:
            order = ["attributes.start_time ASC", "attributes.run_id ASC"]
            page = self.client.search_runs([found.experiment_id], query, view, order_by=order, page_token=token)
            runs.extend(page)
            token = page.token
            if not token:
                break
        return runs

    def named(self, experiment: str, key: str) -> list[MlflowRun]:
        """The run of this key, a tag or MLflow's id; several if it was made twice. A deleted one comes last."""
        found = self.runs(experiment, f"tags.`{schema.JOURNAL}` = '{key}'", ViewType.ALL)
        return sorted(found, key=is_deleted) or [run for run in [self.run(key)] if run]

    def run(self, run_id: str) -> MlflowRun | None:
        """By MLflow's id; None if the store does not have it."""
        try:
            return self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None

    def starting_with(self, run_id: str) -> list[MlflowRun]:
        """All runs whose id begins like this, in any experiment; hexadecimal digits only."""
        experiments = [found.experiment_id for found in self.client.search_experiments()]
        return list(self.client.search_runs(experiments, filter_string=f"run_id LIKE '{run_id}%'"))

    def compare(self, experiment: str, folders: Iterable[RunFolder]) -> list[MlflowRun]:
        """The runs of an experiment; notes how far they are exported, and puts aside events of deleted ones."""
        runs = sorted(self.runs(experiment, view=ViewType.ALL), key=is_deleted, reverse=True)
        known = {key: run for run in runs for key in keys(run)}
        self.exported |= {key: int(run.data.tags.get(schema.EXPORTED, 0)) for key, run in known.items()}
        for folder in folders:
            if folder.key in known and is_deleted(known[folder.key]):
                folder.forget()
        return [run for run in runs if not is_deleted(run)]

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """(images, value) in order of images; of several values at one number of images, the last."""
        points = self.client.get_metric_history(run_id, metric)
        return sorted({point.step: point.value for point in points}.items())

    def histories(self, run_ids: Sequence[str], metric: str) -> dict[str, list[tuple[int, float]]]:
        """`history` of many runs, by their ids."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return dict(zip(run_ids, pool.map(lambda run: self.history(run, metric), run_ids), strict=True))

    # --- artifacts

    def artifact(self, run: MlflowRun, path: str) -> Path | None:
        """A copy of an artifact, or itself if it is on this machine; None if the run has none of this name."""
        folder = folder_of(run)
        if folder:
            return folder / path if (folder / path).exists() else None
        try:
            return Path(self.client.download_artifacts(run.info.run_id, path))
        except (MlflowException, OSError):
            return None


def folder_of(run: MlflowRun) -> Path | None:
    """The folder of a run's artifacts, there or not; None if it is on no disk of this machine."""
    address = urlparse(run.info.artifact_uri)
    return Path(url2pathname(address.path)) if address.scheme in ("", "file") else None


def is_deleted(run: MlflowRun) -> bool:
    return bool(run.info.lifecycle_stage == "deleted")


def keys(run: MlflowRun) -> tuple[str, str]:
    """What a run is found by: the key of its folder, and MLflow's id."""
    return run.data.tags.get(schema.JOURNAL, run.info.run_id), run.info.run_id


def link_of(experiment_id: str, tags: Mapping[str, str]) -> tuple[str, str] | None:
    """What shows all runs of the kind of these tags by what decides between them: its name, and its link.

    The link goes behind the address of MLflow's UI. None for runs that are not compared.
    """
    kind, distance = tags.get(schema.KIND, ""), tags.get(schema.METRIC, "")
    metric = {schema.CELL: schema.score(distance), schema.TRIAL: schema.SWEEP_SCORE}.get(kind)
    if not metric or not distance:
        return None
    query = {
        "workflowType": "machine_learning",  # else a new browser begins without runs
        "searchFilter": f"tags.`{schema.KIND}` = '{kind}'",
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": "true",
        "compareRunsMode": "CHART",
    }
    return f"{kind}s by {metric}", f"/#/experiments/{experiment_id}/runs?{urlencode(query)}"


# --- what was tracked, from the folders and the store


class Reader:
    """What was tracked: runs that have a folder are read from there alone, all others from the store.

    Args:
        store: which need not answer.
        root: of the folders; there may be none.
    """

    def __init__(self, store: Store, root: Path) -> None:
        self.store = store
        self.folders = run_folders(root)
        self.states: dict[str, State] = {}  # of runs that are read from their folders, by MLflow's id

    @classmethod
    def of(cls, uri: str, root: Path, answers: bool) -> Self:
        """Of a store at this address, as `gans.runs.databases.check_reading` found it."""
        store = Store(uri, answers)
        store.patience = None  # nothing waits but the reader
        return cls(store, root)

    @property
    def uri(self) -> str:
        return self.store.uri

    def experiments(self, prefix: str = "") -> list[str]:
        """The names of those that begin like this."""
        nothing: list[str] = []
        here = {folder.experiment for folder in self.folders if folder.experiment.startswith(prefix)}
        return sorted(here.union(self.store.ask(lambda: self.store.experiments(prefix), nothing)))

    def runs(self, experiment: str) -> list[MlflowRun]:
        """All runs of the experiment of this name, oldest first."""
        own = [folder for folder in self.folders if folder.experiment == experiment]
        nothing: list[MlflowRun] = []
        runs = {keys(run)[0]: run for run in self.store.ask(lambda: self.store.compare(experiment, own), nothing)}
        for folder in own:
            known, state = runs.get(folder.key), state_of(folder.path)
            if state and not (known and state.damaged):
                runs[folder.key] = run = as_mlflow(folder, state, known)
                self.states[run.info.run_id] = state
        return sorted(runs.values(), key=lambda run: run.info.start_time)

    def histories(self, run_ids: Sequence[str], metric: str) -> dict[str, list[tuple[int, float]]]:
        """As `Store.histories`."""
        stored = [run_id for run_id in run_ids if run_id not in self.states]
        nothing: dict[str, list[tuple[int, float]]] = {run_id: [] for run_id in stored}
        found = self.store.ask(lambda: self.store.histories(stored, metric), nothing) if stored else nothing
        return found | {run: self.states[run].history(metric) for run in run_ids if run in self.states}

    def artifact(self, run: MlflowRun, path: str) -> Path | None:
        """As `Store.artifact`; of a folder without artifacts, the store may have them still."""
        state = self.states.get(run.info.run_id)
        if state and state.files:
            return state.artifact(path)
        return self.store.ask(lambda: self.store.artifact(run, path), None)


def as_mlflow(folder: RunFolder, state: State, known: MlflowRun | None) -> MlflowRun:
    """A run as MLflow would give it, of its folder's state; `known`: as the store has it."""
    info = RunInfo(
        run_id=known.info.run_id if known else folder.key,
        experiment_id=known.info.experiment_id if known else "",
        user_id="",
        status=state.status,
        start_time=state.began,
        end_time=state.ended or None,
        lifecycle_stage="active",
        artifact_uri=known.info.artifact_uri if known else folder.path.absolute().as_uri(),
        run_name=state.name,
    )
    metrics = [Metric(name, *points[max(points)], max(points)) for name, points in state.points.items()]
    tags = [RunTag(*item) for item in (state.tags | {schema.JOURNAL: folder.key}).items()]
    return MlflowRun(info, RunData(metrics, [Param(*item) for item in state.params.items()], tags))


Source = Store | Reader  # what reports read
