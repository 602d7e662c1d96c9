"""The tracking store, as MLflow keeps it, and its reader. `gans.runs.export` writes it.

One MLflow experiment holds one matrix at one budget. In it, a parent run represents an invocation; its child
runs are cells (`model/dataset/seed`) and noise floors (`real/dataset`). Metrics are logged against images seen.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar
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
from mlflow.entities import Run as MlflowRun
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from gans import schema
from gans.errors import first_line, shown
from gans.files import tracking_uri
from gans.runs import databases
from gans.runs.events import State, run_folders, state_of
from gans.runs.locks import acquire

ARTIFACTS = "mlartifacts"  # the folder of all artifacts, next to a SQLite file
ANSWER = 10.0  # seconds that a server may take to answer at all
# tags of an experiment: its description, and what it is to MLflow's UI
EXPERIMENT = {
    schema.NOTE: "The step of every metric is the number of images seen. Lower scores are better.",
    "mlflow.experimentKind": "custom_model_development",
}
Answer = TypeVar("Answer")


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
        exported: bytes of the events of runs that it has, by their keys, as far as is known.
    """

    client: MlflowClient

    def __init__(self, uri: str | None = None, answers: bool = True) -> None:
        self.uri = uri or tracking_uri()
        self.file = databases.sqlite_file(self.uri)
        self.embedded, self.answers = self.file is not None, answers
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

    def ask(self, question: Callable[[], Answer]) -> Answer | None:
        """The store's answer; None once a server has not answered, without a further request."""
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

    def search(self, experiment: str, query: str = "") -> list[MlflowRun]:
        """The runs that the store has of the experiment of this name, deleted ones too."""
        if (found := self.client.get_experiment_by_name(experiment)) is None:
            return []
        ids = [found.experiment_id]
        pages = [self.client.search_runs(ids, query, ViewType.ALL)]
        while token := pages[-1].token:  # all of a large experiment at once would take a server too long
            pages.append(self.client.search_runs(ids, query, ViewType.ALL, page_token=token))
        return [run for page in pages for run in page]

    def named(self, experiment: str, key: str) -> list[MlflowRun]:
        """The run of this key; several if it was made twice. A deleted one comes last."""
        return sorted(self.search(experiment, f"tags.`{schema.JOURNAL}` = '{key}'"), key=is_deleted)

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

    def artifact(self, run: MlflowRun, path: str) -> Path | None:
        """A copy of an artifact, or itself if it is on this machine; None if the run has none of this name."""
        try:
            return Path(download_artifacts(f"{run.info.artifact_uri}/{path}", tracking_uri=self.uri))
        except (MlflowException, OSError):
            return None

    def links(self) -> Iterator[tuple[str, str, str]]:
        """Views of MLflow's UI: experiment, the newest first, name and path."""
        for experiment in self.client.search_experiments(order_by=["creation_time DESC"]):
            runs = [run for run in self.search(experiment.name) if not is_deleted(run)]
            found = [link_of(run.info.experiment_id, run.data.tags) for run in runs]
            yield from ((experiment.name, *link) for link in dict.fromkeys(filter(None, found)))


def is_deleted(run: MlflowRun) -> bool:
    return bool(run.info.lifecycle_stage == "deleted")


def key_of(run: MlflowRun) -> str:
    """The key of a run, the same in its folder and in every store."""
    return str(run.data.tags.get(schema.JOURNAL, run.info.run_id))


def link_of(experiment_id: str, tags: Mapping[str, str]) -> tuple[str, str] | None:
    """A view of MLflow's UI on all runs of the kind of these tags, sorted by their score: its name, and its path.

    None for runs that have no score to compare.
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


# --- what has been tracked, here and in folders


class Stored(State):
    """A run as the store has it; its curves and artifacts are read when they are wanted."""

    def __init__(self, store: Store, run: MlflowRun) -> None:
        super().__init__(Path())
        self.store, self.run, self.id = store, run, run.info.run_id
        self.name, self.status = run.info.run_name, run.info.status
        self.began, self.ended = run.info.start_time, run.info.end_time or 0
        self.tags, self.params = run.data.tags, run.data.params

    @property
    def metrics(self) -> dict[str, float]:
        return dict(self.run.data.metrics)

    def history(self, metric: str) -> list[tuple[int, float]]:
        """(images, value) in order of images; of several values at one number of images, the last."""
        points = self.store.ask(lambda: self.store.client.get_metric_history(self.id, metric)) or ()
        ordered = sorted(points, key=lambda point: (point.step, point.timestamp))
        return list({point.step: point.value for point in ordered}.items())

    def artifact(self, path: str) -> Path | None:
        return self.store.ask(lambda: self.store.artifact(self.run, path))


class Tracked:
    """The runs of a store, and those at or below a folder."""

    def __init__(self, store: Store, root: Path | None = None) -> None:
        self.store, self.folders = store, run_folders(root) if root else []

    def experiments(self, prefix: str = "") -> list[str]:
        """The names of the experiments that begin with a prefix."""
        stored = self.store.ask(lambda: self.store.client.search_experiments())
        names = {found.name for found in stored or ()} | {folder.experiment for folder in self.folders}
        return sorted(name for name in names if name.startswith(prefix))

    def runs(self, experiment: str) -> list[State]:
        """The runs of the experiment of this name, oldest first; folders forget runs that the store deleted."""
        stored = self.store.ask(lambda: self.store.search(experiment)) or ()
        found: dict[str, State] = {key_of(run): Stored(self.store, run) for run in stored if not is_deleted(run)}
        deleted = {key_of(run) for run in stored} - found.keys()
        for folder in self.folders:
            if folder.key in deleted:
                folder.forget()
            elif folder.experiment == experiment and (state := state_of(folder.path)):
                found[folder.key] = state
        return sorted(found.values(), key=lambda run: run.began)
