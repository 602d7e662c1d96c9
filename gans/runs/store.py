"""The tracking store, as MLflow keeps it; and its reader, which completes it by the folders of runs.

One MLflow experiment holds one matrix at one budget. In it, a parent run stands for an invocation; its child
runs are cells (`model/dataset/seed`) and noise floors (`real/dataset`). Metrics are logged against images seen.

Runs are written to their folders first (`gans.runs.run`); `gans.runs.export` alone writes to the store.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
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
from gans.errors import brief
from gans.runs import databases
from gans.runs.events import RunFolder, State, run_folders, run_paths
from gans.runs.locks import acquire
from gans.urls import shown, tracking_uri

ARTIFACTS = "mlartifacts"  # the folder of all artifacts, next to a SQLite file
RUNS_LIMIT, POINTS_LIMIT = 200, 10**8  # runs whose histories a database gives at once, and all their points
AT_ONCE = 8  # requests to a server
ANSWER, PATIENCE = 10.0, 60.0  # seconds to answer, of a server and of a file that another process may hold
BACKOFF = 60.0  # seconds without requests after a server did not answer
# the experiment's description
INTRODUCTION = "The step of every metric is the number of images seen. Lower scores are better."
Answer = TypeVar("Answer")
EXPERIMENT_KIND, TRAINING = "mlflow.experimentKind", "custom_model_development"


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

    Attributes:
        embedded: whether it is a file: it does not go away, but another process may hold it for a while.

    Raises:
        InputError: the store cannot be reached or is of a kind MLflow no longer writes.
    """

    client: MlflowClient

    def __init__(self, uri: str | None = None) -> None:
        self._name(uri or tracking_uri())
        for name, level in {"alembic": "WARNING", "mlflow": "WARNING", "mlflow.store": "CRITICAL"}.items():
            logging.getLogger(name).setLevel(level)
        self.client = databases.opened(self.uri, databases.MLFLOW, self._open)
        mlflow.set_tracking_uri(self.uri)

    def _open(self) -> MlflowClient:
        _create(self.uri)
        client = MlflowClient(self.uri)
        client.search_experiments(max_results=1)  # brings a database up to date before any worker
        return client

    @classmethod
    def absent(cls, uri: str) -> Self:
        """A store that does not answer, and gets no requests."""
        store = cls.__new__(cls)
        store._name(uri)
        store.retry_at = float("inf")
        return store

    def _name(self, uri: str) -> None:
        self.uri = uri
        self.file = databases.sqlite_file(uri)
        self.embedded = self.file is not None
        self.name = f"sqlite:///{self.file.resolve()}" if self.file else shown(uri)  # in a folder's marks
        self.retry_at = 0.0

    # --- whether it answers

    def answers(self) -> bool:
        """Whether it does within some seconds; False without a request while the server backoff lasts."""
        if time.monotonic() < self.retry_at:
            return False
        done = threading.Event()

        def attempt() -> None:
            with suppress(Exception):
                self.experiments()
                done.set()

        thread = threading.Thread(target=attempt, daemon=True)
        thread.start()
        deadline = time.monotonic() + (PATIENCE if self.embedded else ANSWER)
        while thread.is_alive() and not done.is_set() and time.monotonic() < deadline:
            done.wait(0.1)
        if not done.is_set():
            self.back_off()
        return done.is_set()

    def back_off(self) -> None:
        """Begin the server backoff: it did not answer. A file has none."""
        if not self.embedded:
            self.retry_at = max(self.retry_at, time.monotonic() + BACKOFF)

    # --- experiments

    def experiment(self, name: str) -> str:
        """The id of the experiment of this name, made if there is none."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            place = (self.file.resolve().parent / ARTIFACTS / name).as_uri() if self.file else None
            try:
                return self.client.create_experiment(name, place, tags={EXPERIMENT_KIND: TRAINING})
            except MlflowException:
                found = self.client.get_experiment_by_name(name)
                if found is None:  # else another process has just made it
                    raise
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def experiments(self, prefix: str = "") -> list[str]:
        """The names of those that begin like this."""
        found = self.client.search_experiments(filter_string=f"name LIKE '{prefix}%'" if prefix else None)
        return sorted(experiment.name for experiment in found)

    def describe(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Add a link to runs of such tags to the description of an experiment; other text there stays."""
        link = link_of(experiment_id, tags)
        note = self.client.get_experiment(experiment_id).tags.get(schema.NOTE, INTRODUCTION)
        if link and f"]({link[1][1:]})" not in note:
            line = f"[{link[0]}]({link[1][1:]})"
            self.client.set_experiment_tag(experiment_id, schema.NOTE, f"{line}\n\n{note}")

    def links(self) -> Iterator[tuple[str, str, str]]:
        """Of every experiment, the newest first: its name, and the links of its description with their names."""
        for experiment in self.client.search_experiments(order_by=["creation_time DESC"]):
            found = [link_of(run.info.experiment_id, run.data.tags) for run in self.runs(experiment.name)]
            yield from ((experiment.name, *link) for link in dict.fromkeys(filter(None, found)))

    # --- runs

    def runs(self, experiment: str, deleted: bool = False) -> list[MlflowRun]:
        """All runs of the experiment of this name, oldest first; or those that were deleted."""
        found = self.client.get_experiment_by_name(experiment)
        return self._search([found.experiment_id], deleted=deleted) if found else []

    def open_runs(self) -> list[MlflowRun]:
        """The runs of all experiments that have not ended."""
        experiments = [found.experiment_id for found in self.client.search_experiments()]
        return self._search(experiments, "attributes.status = 'RUNNING'") if experiments else []

    def _search(self, experiments: list[str], query: str = "", deleted: bool = False) -> list[MlflowRun]:
        view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
        order = ["attributes.start_time ASC", "attributes.run_id ASC"]
        runs: list[MlflowRun] = []
        token = None
        with uncollected():
            while True:
                page = self.client.search_runs(experiments, query, view, order_by=order, page_token=token)
                runs.extend(page)
                token = page.token
                if not token:
                    return runs

    def named(self, experiment: str, key: str) -> list[MlflowRun]:
        """The run of this key, a tag or MLflow's id; several if it was made twice. A deleted one comes last."""
        query = f"tags.`{schema.JOURNAL}` = '{key}'"
        found = self.client.get_experiment_by_name(experiment)
        places = [(found.experiment_id, deleted) for deleted in (False, True)] if found else []
        runs = [run for place, deleted in places for run in self._search([place], query, deleted)]
        return runs or [run for run in [self.run(key)] if run]

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

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """(images, value) in order of images; of several values at one number of images, the last."""
        points = self.client.get_metric_history(run_id, metric)
        return sorted({point.step: point.value for point in points}.items())

    def histories(self, run_ids: Sequence[str], metric: str) -> dict[str, list[tuple[int, float]]]:
        """`history` of many runs, by their ids; of a database some hundred at a time, in a tenth of the time."""
        # what MLflow's own server calls for its charts; its clients have no such call
        bulk = getattr(self.client._tracking_client.store, "get_metric_history_bulk", None)
        if bulk is None:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                return dict(zip(run_ids, pool.map(lambda run: self.history(run, metric), run_ids), strict=True))
        points: dict[str, dict[int, float]] = {run: {} for run in run_ids}
        with uncollected():
            for start in range(0, len(run_ids), RUNS_LIMIT):
                for point in bulk(run_ids[start : start + RUNS_LIMIT], metric, POINTS_LIMIT):
                    points[point.run_id][point.step] = point.value
        return {run: sorted(found.items()) for run, found in points.items()}

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

    def lost(self, run: MlflowRun) -> Path | None:
        """The folder of a run's artifacts if it should be on this machine and is not, else None."""
        folder = folder_of(run)
        return folder if folder and not folder.exists() else None


def folder_of(run: MlflowRun) -> Path | None:
    """The folder of a run's artifacts, there or not; None if it is on no disk of this machine."""
    address = urlparse(run.info.artifact_uri)
    return Path(url2pathname(address.path)) if address.scheme in ("", "file") else None


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


@contextmanager
def uncollected() -> Iterator[None]:
    """Meanwhile, no memory is searched for cycles.

    MLflow makes some hundred objects for every run that it reads. Python would look through all of them again and
    again, which takes more than half of the time that ten thousand runs do.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def keys(run: MlflowRun) -> tuple[str, str]:
    """What a run is found by: the key of its folder, and MLflow's id."""
    return run.data.tags.get(schema.JOURNAL, run.info.run_id), run.info.run_id


def compare(found: Iterable[RunFolder], store: Store, experiment: str) -> tuple[list[MlflowRun], list[RunFolder]]:
    """The runs that a store has of an experiment, and which of its folders hold more than these.

    A run that the store never had, or has lost, is exported from the start; one that was deleted there is not.
    """
    # the marks are read before the store, so that what is written meanwhile is not missed
    before = [(folder, folder.mark(store.name), folder.size) for folder in found]
    runs = store.runs(experiment)
    deleted = store.runs(experiment, deleted=True) if before else []
    known, gone = ({key for run in some for key in keys(run)} for some in (runs, deleted))
    late: list[RunFolder] = []
    here, begun = {folder.key for folder, _, _ in before}, set[str]()
    for folder, mark, size in before:
        if folder.key in gone - known:
            folder.set_mark(store.name, deleted=True)
        elif folder.key not in known:
            late += [folder] if folder.whole or folder.key in begun else []
            begun.add(folder.key)
        elif mark.run not in known or mark.position < size or mark.parent in known | here:
            late.append(folder)
    return runs, late


# --- what was tracked, from the store and the folders


def as_mlflow(folder: RunFolder, state: State, run_id: str, base: MlflowRun | None = None) -> MlflowRun:
    """A run as MLflow would give it.

    Args:
        folder: its own.
        state: what the events there come to.
        run_id: MLflow's, or the key of a run that the store does not have.
        base: the run as the store has it, where the folder does not hold all of it.
    """
    latest = {name: Metric(name, *points[max(points)], max(points)) for name, points in state.points.items()}
    metrics = {name: Metric(name, value, 0, 0) for name, value in (base.data.metrics if base else {}).items()}
    params = (base.data.params if base else {}) | state.params
    tags = (base.data.tags if base else {}) | state.tags | {schema.JOURNAL: folder.key}
    changed = bool(state.since or state.ended)  # else it only adds to a run
    info = RunInfo(
        run_id=run_id,
        experiment_id=base.info.experiment_id if base else "",
        user_id="",
        status=base.info.status if base and not changed else state.status,
        start_time=base.info.start_time if base else state.began,
        end_time=base.info.end_time if base and not changed else state.ended or None,
        lifecycle_stage="active",
        artifact_uri=base.info.artifact_uri if base else folder.path.absolute().as_uri(),
        run_name=base.info.run_name if base else state.name,
    )
    return MlflowRun(
        info,
        RunData(
            list((metrics | latest).values()),
            [Param(*item) for item in params.items()],
            [RunTag(*item) for item in tags.items()],
        ),
    )


class Reader:
    """A store, completed by the folders of runs.

    After a server has not answered once, all is read from the folders. What a server and a folder both have is
    read from the folder, which takes no requests.

    Args:
        store: which need not answer.
        root: of the folders; there may be none.
    """

    def __init__(self, store: Store, root: Path) -> None:
        self.store, self.root = store, root
        self.states: dict[Path, State] = {}
        self.late: set[str] = set()  # ids of runs of which whole folders hold more than the store
        self.parts: dict[str, list[State]] = {}  # by id, what other folders add to a run

    @classmethod
    def of(cls, uri: str, root: Path, answers: bool) -> Self:
        """Of a store at this address, as `gans.runs.databases.check_reading` found it."""
        return cls(Store(uri) if answers else Store.absent(uri), root)

    @property
    def uri(self) -> str:
        return self.store.uri

    @cached_property
    def alive(self) -> bool:
        return self.store.answers()

    @cached_property
    def folders(self) -> list[RunFolder]:
        return run_folders(run_paths(self.root))

    @cached_property
    def whole(self) -> Mapping[str, RunFolder]:
        """The folders that hold all of a run, by its key and by its id in this store."""
        found = [folder for folder in self.folders if folder.whole]
        return {name: folder for folder in found for name in (folder.key, folder.mark(self.store.name).run)}

    def ask(self, question: Callable[[], Answer], otherwise: Callable[[], Answer]) -> Answer:
        """What the store answers; something else if it does not."""
        if self.alive:
            try:
                return question()
            except Exception as error:
                if self.store.embedded:
                    raise
                self.alive = False
                self.store.back_off()
                print(f"{shown(self.uri)} does not answer: {brief(error)}", file=sys.stderr)
        return otherwise()

    def state(self, folder: RunFolder) -> State:
        if folder.path not in self.states:
            self.states[folder.path] = folder.state()
        return self.states[folder.path]

    def local(self, run_id: str) -> State | None:
        """What is read from the folder of a run in place of the store."""
        folder = self.whole.get(run_id)
        if folder is None or (self.alive and self.store.embedded and run_id not in self.late):
            return None
        state = self.state(folder)
        return None if self.alive and state.damaged else state

    # --- what reports read

    def experiments(self, prefix: str = "") -> list[str]:
        names = {folder.experiment for folder in self.folders if folder.experiment.startswith(prefix)}
        nothing: list[str] = []
        return sorted(names.union(self.ask(lambda: self.store.experiments(prefix), lambda: nothing)))

    def runs(self, experiment: str) -> list[MlflowRun]:
        """All runs of the experiment of this name, oldest first."""
        own = [folder for folder in self.folders if folder.experiment == experiment]
        return self.ask(
            lambda: self.completed(*compare(own, self.store, experiment)), lambda: self.completed([], own)
        )

    def completed(self, known: list[MlflowRun], late: list[RunFolder]) -> list[MlflowRun]:
        """These runs, and what these folders hold of them or of others, oldest first."""
        runs = {run.info.run_id: run for run in known}
        ids = {key: run.info.run_id for run in known for key in keys(run)}
        for folder in late:
            run_id = ids.setdefault(folder.key, folder.mark(self.store.name).run or folder.key)
            base = None if folder.whole else runs.get(run_id)
            if base is None and not folder.whole:
                continue  # the store that has the rest of it does not answer
            state = self.state(folder)
            runs[run_id] = as_mlflow(folder, state, run_id, base)
            if folder.whole:
                self.late.add(run_id)
            else:
                self.parts.setdefault(run_id, []).append(state)
        return sorted(runs.values(), key=lambda run: run.info.start_time)

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """As `Store.history`."""
        return self.histories([run_id], metric)[run_id]

    def histories(self, run_ids: Sequence[str], metric: str) -> dict[str, list[tuple[int, float]]]:
        """As `Store.histories`."""
        states = {run_id: state for run_id in run_ids if (state := self.local(run_id))}
        stored = [run_id for run_id in run_ids if run_id not in states]
        nothing: dict[str, list[tuple[int, float]]] = {run_id: [] for run_id in stored}
        found = self.ask(lambda: self.store.histories(stored, metric), lambda: nothing)
        for run_id in run_ids:
            added = [states[run_id]] if run_id in states else self.parts.get(run_id, [])
            points = {step: value for state in added for step, (value, _) in state.points.get(metric, {}).items()}
            if added:
                found[run_id] = sorted((dict(found.get(run_id, [])) | points).items())
        return found

    def artifact(self, run: MlflowRun, path: str) -> Path | None:
        """As `Store.artifact`; what the store has lost is taken from the folder."""
        run_id = run.info.run_id
        nearest = self.local(run_id), *self.parts.get(run_id, [])
        found = next((file for state in nearest if state and (file := state.artifact(path))), None)
        found = found or self.ask(lambda: self.store.artifact(run, path), lambda: None)
        folder = self.whole.get(run_id) if found is None else None
        return self.state(folder).artifact(path) if folder else found

    def lost(self, run: MlflowRun) -> Path | None:
        """As `Store.lost`; of what folders hold, nothing is."""
        return None if run.info.run_id in self.whole else self.ask(lambda: self.store.lost(run), lambda: None)


Source = Store | Reader  # what reports read
