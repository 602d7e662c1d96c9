"""Everything that is written to or read from MLflow; the only place that imports it, but for `gans.runs.system`.

One MLflow experiment holds one matrix at one budget. In it, a parent run stands for an invocation; its child
runs are cells (`model/dataset/seed`) and noise floors (`real/dataset`). Metrics are logged against images seen.

What runs tell does not come here first: it goes to a journal (`gans.runs.journal`), and a courier brings it.
"""

from __future__ import annotations

import gc
import logging
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

# MLflow reports usage over the network unless told not to; a benchmark should do neither that nor wait for it
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# nor print the address of every run that ends
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# nor try for minutes, by itself, what a courier tries again anyway
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from sqlalchemy.exc import SQLAlchemyError

from gans import schema
from gans.errors import InputError
from gans.runs import artifacts, databases
from gans.runs.databases import trouble
from gans.runs.provenance import provenance
from gans.runs.tables import creating
from gans.runs.telling import Telling
from gans.runs.views import View, presented
from gans.urls import shown, tracking_uri

FLUSH_SECONDS = 10.0
BATCH_LIMIT = 1000  # metrics per log_batch call, MLflow's limit
RUNS_LIMIT, POINTS_LIMIT = 200, 10**8  # runs whose histories a database is asked for at once, and all their points
AT_ONCE = 8  # questions to a server
FEW_LIMIT = 100  # params, or tags, per log_batch call: likewise
# MLflow's codes for what it will not take, however often it is asked
REFUSALS = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS")


def _create(uri: str) -> None:
    """Make a new SQLite store whole or not at all: killed among its migrations, MLflow leaves one it refuses."""
    path = databases.sqlite_file(uri)
    if path is None:
        return
    for leftover in _leftovers(path):  # of a process that was killed here
        leftover.unlink(missing_ok=True)
    if path.exists():
        return
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    MlflowClient(f"sqlite:///{part}").search_experiments(max_results=1)
    with suppress(FileExistsError):  # a process that knows no such turns was faster
        os.link(part, path)
    part.unlink()


def _leftovers(path: Path) -> list[Path]:
    """Databases that were being made in a file's place; none where nobody may remove them."""
    digits = "[0-9a-f]" * 32
    return list(path.parent.glob(f".{path.name}.{digits}*")) if os.access(path.parent, os.W_OK) else []


class Client(MlflowClient):
    """A client that writes a run's artifacts where `Store.folder` says: an embedded store may have moved."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.home = artifacts.home(uri)

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None = None) -> None:
        if self.home is None:
            super().log_artifact(run_id, local_path, artifact_path)
        else:
            self.repository(run_id).log_artifact(local_path, artifact_path)

    def log_artifacts(self, run_id: str, local_dir: str, artifact_path: str | None = None) -> None:
        if self.home is None:
            super().log_artifacts(run_id, local_dir, artifact_path)
        else:
            self.repository(run_id).log_artifacts(local_dir, artifact_path)

    def repository(self, run_id: str) -> ArtifactRepository:
        """What writes the artifacts of a run of an embedded store."""
        recorded = self.get_run(run_id).info.artifact_uri
        folder = artifacts.located(recorded, self.home)
        return get_artifact_repository(folder.as_uri() if folder else recorded)


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


class Store:
    """A tracking store: a database file, or a server.

    Raises:
        InputError: the store cannot be reached or is of a kind MLflow no longer writes.
    """

    def __init__(self, uri: str | None = None) -> None:
        self.uri = uri or tracking_uri()
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("mlflow.store").setLevel(logging.CRITICAL)  # it logs, with a traceback, what it raises
        databases.check_tracking(self.uri)
        mlflow.set_tracking_uri(self.uri)
        try:
            with creating(self.uri):
                _create(self.uri)
                self.client = Client(self.uri)
                self.client.search_experiments(max_results=1)  # brings a database up to date before any worker
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
            advice = databases.remedy(self.uri, databases.TRACKING, databases.FILE)
            raise InputError(
                f"cannot use the tracking store {shown(self.uri)}: {trouble(error)}; {advice}"
            ) from None

    def experiment(self, name: str) -> str:
        """The id of the experiment of this name, made if there is none."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return self.client.create_experiment(name, artifact_location=self._artifacts(name))
            except MlflowException:
                found = self.client.get_experiment_by_name(name)
                if found is None:  # else another process has just made it
                    raise
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def _artifacts(self, name: str) -> str | None:
        """Beside a SQLite file; a server has its own place."""
        home = artifacts.home(self.uri)
        return (home / name).as_uri() if home else None

    def artifacts(self, experiment: str) -> Path | None:
        """The folder that processes write the artifacts of an experiment to; None if a server takes them."""
        found = self.client.get_experiment_by_name(experiment)
        home = artifacts.home(self.uri)
        if not found and not self.uri.startswith("http"):
            # with a database and no more, MLflow makes a folder where it is used
            return home / experiment if home else Path("mlruns").absolute()
        found = found or self.client.get_experiment("0")  # which a server makes when it starts
        return artifacts.located(str(found.artifact_location), home)

    def experiments(self, prefix: str = "") -> list[str]:
        """The names of those that begin like this."""
        found = self.client.search_experiments(filter_string=f"name LIKE '{prefix}%'" if prefix else None)
        return sorted(experiment.name for experiment in found)

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
        """The run of this key, whose journal has told it or which is MLflow's id; several if it was made twice.

        A deleted one comes last.
        """
        query = f"tags.`{schema.JOURNAL}` = '{key}'"
        found = self.client.get_experiment_by_name(experiment)
        where = [(found.experiment_id, deleted) for deleted in (False, True)] if found else []
        runs = [run for place, deleted in where for run in self._search([place], query, deleted)]
        return runs or [run for run in [self.run(key)] if run]

    def run(self, run_id: str) -> MlflowRun | None:
        """By MLflow's id; None if the store does not know it."""
        try:
            return self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """(images, value) in order of images; a point logged twice, before and after a resume, counts once."""
        points = {point.step: point.value for point in self.client.get_metric_history(run_id, metric)}
        return sorted(points.items())

    def histories(self, run_ids: Sequence[str], metric: str) -> dict[str, list[tuple[int, float]]]:
        """`history` of many runs, by their ids; of a database some hundred at a time, in a tenth of the time."""
        # what MLflow's own server asks for its charts; its clients have no such call
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

    def start(self, experiment: str, name: str, tags: Mapping[str, str], parent: str | None = None) -> Run:
        """A new run of the code that runs now."""
        nesting = {schema.PARENT: parent} if parent else {}
        return self.create(experiment, name, {**provenance(), **tags, **nesting})

    def create(self, experiment: str, name: str, tags: Mapping[str, str], at: int | None = None) -> Run:
        """A new run that began at this time, in milliseconds since 1970; else now."""
        experiment_id = self.experiment(experiment)
        self.present(experiment_id, [tags])
        run = self.client.create_run(experiment_id, start_time=at, run_name=name, tags=dict(tags))
        return Run(self, run.info.run_id)

    def present(self, experiment_id: str, some: Iterable[Mapping[str, str]]) -> list[View]:
        """Let the UI show runs of such tags as their readers want them; the views of it."""
        views = list(dict.fromkeys(view for tags in some if (view := View.of(tags))))
        if views:
            known = self.client.get_experiment(experiment_id).tags
            for name, value in presented(experiment_id, known, views).items():
                self.client.set_experiment_tag(experiment_id, name, value)
        return views

    def views(self) -> Iterator[tuple[str, str, View]]:
        """Name and id of every experiment of ours, with each of its views."""
        for name in self.experiments():
            runs = self.runs(name)
            if runs:
                experiment_id = runs[0].info.experiment_id
                for view in self.present(experiment_id, (run.data.tags for run in runs)):
                    yield name, experiment_id, view

    def starting_with(self, run_id: str) -> list[MlflowRun]:
        """All runs whose id begins like this, in any experiment; hexadecimal digits only."""
        experiments = [found.experiment_id for found in self.client.search_experiments()]
        return list(self.client.search_runs(experiments, filter_string=f"run_id LIKE '{run_id}%'"))

    def artifact(self, run: MlflowRun, path: str) -> Path | None:
        """A local copy of an artifact (in place for a file store); None if the run has none of this name."""
        folder = self.folder(run)
        if folder:
            return folder / path if (folder / path).exists() else None
        try:
            return Path(self.client.download_artifacts(run.info.run_id, path))
        except (MlflowException, OSError):
            return None

    def folder(self, run: MlflowRun) -> Path | None:
        """Where a run's artifacts lie, there or not; None if it is not on a disk of this machine."""
        return artifacts.located(run.info.artifact_uri, self.client.home)

    def lost(self, run: MlflowRun) -> Path | None:
        """The folder of a run's artifacts if it should be on this machine and is not, else None."""
        folder = self.folder(run)
        return folder if folder and not folder.exists() else None


class Absent(Store):
    """A store that cannot be reached, and so is not asked: each question is a ConnectionError at once."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __getattr__(self, name: str) -> NoReturn:
        raise ConnectionError(f"{shown(self.uri)} does not answer")


class Run(Telling):
    """One run that is written to its store at once, but for metrics, which are sent in batches."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.id = store, run_id
        self.client = store.client
        self.metrics: list[Metric] = []
        self.sent = time.monotonic()

    def log(self, images: int, values: Mapping[str, float], at: int | None = None) -> None:
        """Metrics after `images` images, told at this time in milliseconds since 1970; else now."""
        at = int(time.time() * 1000) if at is None else at
        self.metrics += [Metric(key, value, at, images) for key, value in values.items()]
        if time.monotonic() - self.sent > FLUSH_SECONDS or len(self.metrics) >= BATCH_LIMIT:
            self.flush()

    def flush(self) -> None:
        """Send what is buffered."""
        while self.metrics:
            self.send(self.metrics[:BATCH_LIMIT])
            self.metrics = self.metrics[BATCH_LIMIT:]
        self.sent = time.monotonic()

    def send(self, metrics: Sequence[Metric]) -> None:
        self.client.log_batch(self.id, metrics=metrics)

    def params(self, values: Mapping[str, Any]) -> None:
        for some in _parts(values):
            self.client.log_batch(self.id, params=[Param(key, str(value)) for key, value in some])

    def tag(self, values: Mapping[str, str]) -> None:
        for some in _parts(values):
            self.client.log_batch(self.id, tags=[RunTag(key, value) for key, value in some])

    def untag(self, prefix: str) -> None:
        for key in self.client.get_run(self.id).data.tags:
            if key.startswith(prefix):
                self.client.delete_tag(self.id, key)

    def input(self, name: str, digest: str, source: str, profile: str) -> None:
        entity = Dataset(name=name, digest=digest, source_type="code", source=source, profile=profile)
        context = [InputTag("mlflow.data.context", "training")]
        self.client.log_inputs(self.id, datasets=[DatasetInput(entity, context)])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        self.client.log_artifact(self.id, str(path), folder)

    def artifacts(self, path: Path, folder: str) -> None:
        self.client.log_artifacts(self.id, str(path), folder)

    def text(self, content: str, name: str) -> None:
        self.client.log_text(self.id, content, name)

    def end(self, status: str, at: int | None = None) -> None:
        self.flush()
        self.client.set_terminated(self.id, status, end_time=at)

    def reopen(self) -> None:
        """The run goes on."""
        self.client.update_run(self.id, status="RUNNING")


def _parts(values: Mapping[str, Any]) -> Iterator[list[tuple[str, Any]]]:
    """As many at a time as MLflow takes."""
    items = list(values.items())
    return (items[start : start + FEW_LIMIT] for start in range(0, len(items), FEW_LIMIT))


def refused(error: BaseException) -> bool:
    """Whether it says that the store will never take what it was told."""
    return isinstance(error, MlflowException) and error.error_code in REFUSALS
