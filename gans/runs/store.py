"""The tracking store, as MLflow keeps it. Runs that have a folder are read from there; `gans.runs.export` writes.

One MLflow experiment holds one matrix at one budget. In it, a parent run represents an invocation; its child
runs are cells (`model/dataset/seed`) and noise floors (`real/dataset`). Metrics are logged against images seen.
"""

from __future__ import annotations

import copy
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import urlencode

# MLflow reports usage over the network unless it is switched off
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# its own retries add up to minutes; the exporter tries again anyway
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "false")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar for each file of a report

import mlflow
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Metric, Param, RunData, RunInfo, RunTag, ViewType
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from gans import schema
from gans.errors import first_line, shown
from gans.places import tracking_uri
from gans.runs import databases
from gans.runs.events import RunFolder, State, run_folders, state_of
from gans.runs.locks import acquire

ARTIFACTS = "mlartifacts"  # the folder of all artifacts, next to a SQLite file
AT_ONCE = 8  # requests
ANSWER = 10.0  # seconds that a server may take to answer at all
# tags of an experiment: its description, and what it is to MLflow's UI
EXPERIMENT = {
    schema.NOTE: "The step of every metric is the number of images seen. Lower scores are better.",
    "mlflow.experimentKind": "custom_model_development",
}
Answer = TypeVar("Answer")
Curve = list[tuple[int, float]]  # (images, value) in order of images


def _create(uri: str) -> None:
    """Make a SQLite store, whole or not at all: MLflow refuses one whose migrations were interrupted."""
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
    """A tracking store: a database file, or a server; an InputError if it cannot be used.

    Args:
        uri: its address; None: the environment's.
        answers: False: it is a server that is known not to answer, and gets no requests.

    Attributes:
        embedded: whether it is a file, which another process may lock for a while.
        folders: runs that are read from there and not from the store.
        exported: bytes of the events of runs that it has, by their keys, as far as is known.
    """

    client: MlflowClient

    def __init__(self, uri: str | None = None, answers: bool = True) -> None:
        self.uri = uri or tracking_uri()
        self.file = databases.sqlite_file(self.uri)
        self.embedded, self.answers = self.file is not None, answers
        self.folders: list[RunFolder] = []
        self.states: dict[str, State] = {}  # of runs that were read from their folders, by MLflow's id
        self.exported: dict[str, float] = {}
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

    def with_folders(self, root: Path) -> Self:
        """The same store; runs at or below a folder are read from there."""
        other = copy.copy(self)
        other.folders, other.states = run_folders(root), {}
        return other

    def ask(self, question: Callable[[], Answer]) -> Answer | None:
        """What the store answers; None from the first time on that a server does not."""
        if self.embedded:
            return question()
        if not self.answers:
            return None
        try:  # a question may take long; any answer of the server may not
            databases.in_time(lambda: self.client.search_experiments(max_results=1), ANSWER)
            return question()
        except Exception as error:
            self.answers = False
            print(f"{shown(self.uri)} does not answer: {first_line(error)}", file=sys.stderr)
            return None

    # --- what was tracked, from folders first

    def experiments(self, prefix: str = "") -> list[str]:
        """The names of those that begin like this."""
        stored = self.ask(lambda: self.client.search_experiments())
        names = {found.name for found in stored or ()} | {folder.experiment for folder in self.folders}
        return sorted(name for name in names if name.startswith(prefix))

    def runs(self, experiment: str) -> list[MlflowRun]:
        """The runs of the experiment of this name, oldest first; folders forget deleted ones."""
        stored = self.ask(lambda: self.search(experiment, view=ViewType.ALL)) or ()
        runs = {key_of(run): run for run in stored if not is_deleted(run)}
        deleted = {key_of(run) for run in stored} - runs.keys()
        for folder in self.folders:
            if folder.key in deleted:
                folder.forget()
            elif folder.experiment == experiment and (state := state_of(folder.path)):
                runs[folder.key] = run = as_mlflow(folder, state, runs.get(folder.key))
                self.states[run.info.run_id] = state
        return sorted(runs.values(), key=lambda run: run.info.start_time)

    def histories(self, run_ids: Sequence[str], metric: str) -> dict[str, Curve]:
        """Curves by the ids of runs; of several values at one number of images, the last."""

        def curve(run_id: str) -> Curve:
            points = sorted(self.client.get_metric_history(run_id, metric), key=lambda p: (p.step, p.timestamp))
            return list({point.step: point.value for point in points}.items())

        stored = [run for run in run_ids if run not in self.states]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = self.ask(lambda: dict(zip(stored, pool.map(curve, stored), strict=True))) or {}
        found |= {run: self.states[run].history(metric) for run in run_ids if run in self.states}
        return {run: found.get(run, []) for run in run_ids}

    def artifact(self, run: MlflowRun, path: str) -> Path | None:
        """A copy of an artifact, or itself if it is on this machine; None if the run has none of this name."""
        state = self.states.get(run.info.run_id)
        if state and state.files:  # of a folder without artifacts, the store may have them still
            return state.artifact(path)
        return self.ask(lambda: self._artifact(run, path))

    def _artifact(self, run: MlflowRun, path: str) -> Path | None:
        try:
            return Path(download_artifacts(f"{run.info.artifact_uri}/{path}", tracking_uri=self.uri))
        except (MlflowException, OSError):
            return None

    # --- what the store has

    def search(self, experiment: str, query: str = "", view: int = ViewType.ACTIVE_ONLY) -> list[MlflowRun]:
        """The runs that the store has of the experiment of this name."""
        if (found := self.client.get_experiment_by_name(experiment)) is None:
            return []
        ids = [found.experiment_id]
        pages = [self.client.search_runs(ids, query, view)]
        while token := pages[-1].token:  # all of a large experiment at once would take a server too long
            pages.append(self.client.search_runs(ids, query, view, page_token=token))
        return [run for page in pages for run in page]

    def named(self, experiment: str, key: str) -> list[MlflowRun]:
        """The run of this key; several if it was made twice. A deleted one comes last."""
        return sorted(self.search(experiment, f"tags.`{schema.JOURNAL}` = '{key}'", ViewType.ALL), key=is_deleted)

    def experiment(self, name: str) -> str:
        """The id of the experiment of this name, made if there is none."""
        place = (self.file.resolve().parent / ARTIFACTS / name).as_uri() if self.file else None
        try:
            return self.client.create_experiment(name, place, EXPERIMENT)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = self.client.get_experiment_by_name(name)
        assert found
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def links(self) -> Iterator[tuple[str, str, str]]:
        """Of every experiment, the newest first: its name, and links to its runs with their names."""
        for experiment in self.client.search_experiments(order_by=["creation_time DESC"]):
            found = [link_of(run.info.experiment_id, run.data.tags) for run in self.search(experiment.name)]
            yield from ((experiment.name, *link) for link in dict.fromkeys(filter(None, found)))


def is_deleted(run: MlflowRun) -> bool:
    return bool(run.info.lifecycle_stage == "deleted")


def key_of(run: MlflowRun) -> str:
    """What a run is found by, in folders and stores."""
    return str(run.data.tags.get(schema.JOURNAL, run.info.run_id))


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
