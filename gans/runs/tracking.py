"""The tracking store, as MLflow keeps it: what is read of it, and the requests that write to it.

One MLflow experiment holds one matrix at one budget. In it, a parent run stands for an invocation; its child
runs are cells (`model/dataset/seed`) and noise floors (`real/dataset`). Metrics are logged against images seen.

Runs are written to their folders first (`gans.runs.run`); `gans.runs.export` alone writes to the store.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self
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
from mlflow.entities import Run as MlflowRun
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from gans import schema
from gans.runs import databases
from gans.urls import shown, tracking_uri

ARTIFACTS = "mlartifacts"  # the folder of all artifacts, beside a SQLite file
RUNS_LIMIT, POINTS_LIMIT = 200, 10**8  # runs whose histories a database gives at once, and all their points
AT_ONCE = 8  # requests to a server
ANSWER, PATIENCE = 10.0, 60.0  # seconds to answer, of a server and of a file that another process may hold
SILENT = 60.0  # seconds in which a server that did not answer is not asked again
# the experiment's description
INTRODUCTION = "The step of every metric is the number of images seen. Lower scores are better."
EXPERIMENT_KIND, TRAINING = "mlflow.experimentKind", "custom_model_development"


def _create(uri: str) -> None:
    """Make a SQLite store whole or not at all: killed among its migrations, MLflow leaves one it refuses."""
    file = databases.sqlite_file(uri)
    if file is None:
        return
    part = file.with_name(f".{file.name}.new")
    for leftover in file.parent.glob(f"{part.name}*"):  # of a process that was killed here
        leftover.unlink()
    if not file.exists():
        MlflowClient(f"sqlite:///{part}").search_experiments(max_results=1)
        part.rename(file)


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
        databases.check_tracking(self.uri)
        mlflow.set_tracking_uri(self.uri)
        try:
            with databases.creating(self.uri):
                _create(self.uri)
                self.client = MlflowClient(self.uri)
                self.client.search_experiments(max_results=1)  # brings a database up to date before any worker
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
            raise databases.unusable_tracking(self.uri, databases.trouble(error)) from None

    @classmethod
    def absent(cls, uri: str) -> Self:
        """A store that does not answer, and is not asked."""
        store = cls.__new__(cls)
        store._name(uri)
        store.silent_until = float("inf")
        return store

    def _name(self, uri: str) -> None:
        self.uri = uri
        self.file = databases.sqlite_file(uri)
        self.embedded = self.file is not None
        self.name = f"sqlite:///{self.file.resolve()}" if self.file else shown(uri)  # in a folder's marks
        self.silent_until = 0.0

    # --- whether it answers

    def answers(self) -> bool:
        """Whether it does within some seconds; not asked again for a while if it has just not done so."""
        if time.monotonic() < self.silent_until:
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
            self.silent()
        return done.is_set()

    def silent(self) -> None:
        """It was waited for in vain; a file is waited for anew."""
        if not self.embedded:
            self.silent_until = max(self.silent_until, time.monotonic() + SILENT)

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
        """Add a link to runs of such tags to the description of an experiment; what somebody wrote there stays."""
        link = link_of(experiment_id, tags)
        note = self.client.get_experiment(experiment_id).tags.get(schema.NOTE, INTRODUCTION)
        if link and f"]({link[1][1:]})" not in note:
            line = f"[{link[0]}]({link[1][1:]})"
            self.client.set_experiment_tag(experiment_id, schema.NOTE, f"{line}\n\n{note}")

    def links(self) -> Iterator[tuple[str, str, str]]:
        """Of every experiment of ours: its name, and the links of its description with what they show."""
        for name in self.experiments():
            found = [link_of(run.info.experiment_id, run.data.tags) for run in self.runs(name)]
            yield from ((name, *link) for link in dict.fromkeys(filter(None, found)))

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
