"""Everything that is written to or read from MLflow; the only place that imports it.

One MLflow experiment holds one matrix at one budget. In it, a parent run stands for an invocation; its child
runs are cells (`model/dataset/seed`) and noise floors (`real/dataset`). Metrics are logged against images seen.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

# MLflow reports usage over the network unless told not to; a benchmark should do neither that nor wait for it
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunStatus, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from gans import schema
from gans.data.images import ImageData
from gans.errors import InputError, first_line
from gans.runs import artifacts
from gans.runs.databases import creating, remedy
from gans.runs.provenance import provenance

DEFAULT_URI = "sqlite:///mlflow.db"
FLUSH_SECONDS = 10.0
BATCH_LIMIT = 1000  # metrics per log_batch call, MLflow's limit
DRIVERS = {"psycopg": "psycopg[binary]"}  # packages of drivers that have another name
# MLflow's words for how a run ended; a diverged run is not a crash but has no result
STATUSES = {
    schema.FINISHED: "FINISHED",
    schema.DIVERGED: "FAILED",
    schema.FAILED: "FAILED",
    schema.TIMED_OUT: "KILLED",
    schema.PRUNED: "KILLED",
}


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else a SQLite file in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def _create(uri: str) -> None:
    """Make a new SQLite store whole or not at all: killed among its migrations, MLflow leaves one it refuses."""
    path = artifacts.database(uri)
    if path is None:
        return
    for leftover in _parts(path):  # of a process that was killed here
        leftover.unlink(missing_ok=True)
    if path.exists():
        return
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    MlflowClient(f"sqlite:///{part}").search_experiments(max_results=1)
    with suppress(FileExistsError):  # a process that knows no such turns was faster
        os.link(part, path)
    part.unlink()


def _parts(path: Path) -> list[Path]:
    """Databases that were being made in a file's place; none where nobody may remove them."""
    digits = "[0-9a-f]" * 32
    return list(path.parent.glob(f".{path.name}.{digits}*")) if os.access(path.parent, os.W_OK) else []


def shown(url: str) -> str:
    """A database's address without its password."""
    try:
        return make_url(url).render_as_string() if "://" in url else url
    except SQLAlchemyError:
        return url


def trouble(error: BaseException) -> str:
    """Why a database cannot be used, in one line; a driver that is not installed is named, with the remedy."""
    cause = error.__cause__ or error.__context__ or error
    missing = next((e.name for e in (error, cause) if isinstance(e, ModuleNotFoundError)), None)
    if missing:
        package = DRIVERS.get(missing, missing)
        return f"its driver {missing} is not installed: {sys.executable} -m uv pip install '{package}'"
    return first_line(error)


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


class Store:
    """A tracking store: a database file, or a server.

    Raises:
        InputError: the store cannot be reached or is of a kind MLflow no longer writes.
    """

    def __init__(self, uri: str | None = None) -> None:
        self.uri = uri or tracking_uri()
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        mlflow.set_tracking_uri(self.uri)
        try:
            with creating(self.uri):
                _create(self.uri)
                self.client = Client(self.uri)
                self.client.search_experiments(max_results=1)  # brings a database up to date before any worker
        except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
            advice = remedy(self.uri, "MLFLOW_TRACKING_URI", f"set MLFLOW_TRACKING_URI, {DEFAULT_URI} for one")
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

    def runs(self, experiment: str) -> list[MlflowRun]:
        """All runs of the experiment of this name, oldest first."""
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            return []
        runs: list[MlflowRun] = []
        token = None
        while True:
            page = self.client.search_runs(
                [found.experiment_id], order_by=["attributes.start_time ASC"], page_token=token
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs

    def newest(self, experiment: str, kind: str, identity: str) -> MlflowRun | None:
        """The newest run of a cell or a floor."""
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            return None
        runs = self.client.search_runs(
            [found.experiment_id],
            filter_string=f"tags.`{schema.IDENTITY}` = '{identity}' AND tags.`{schema.KIND}` = '{kind}'",
            max_results=1,
            order_by=["attributes.start_time DESC"],
        )
        return runs[0] if runs else None

    def open_runs(self) -> list[MlflowRun]:
        """The runs of all experiments that have not ended."""
        experiments = [found.experiment_id for found in _pages(self.client.search_experiments)]
        search = partial(self.client.search_runs, experiments, filter_string="attributes.status = 'RUNNING'")
        return _pages(search) if experiments else []

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """(images, value) in order of images; a point logged twice, before and after a resume, counts once."""
        points = {point.step: point.value for point in self.client.get_metric_history(run_id, metric)}
        return sorted(points.items())

    def start(self, experiment: str, name: str, tags: Mapping[str, str], parent: str | None = None) -> Run:
        """A new run."""
        nesting = {schema.PARENT: parent} if parent else {}
        run = self.client.create_run(
            self.experiment(experiment), run_name=name, tags={**provenance(), **tags, **nesting}
        )
        return Run(self, run.info.run_id, new=True)

    def find(self, run_id: str) -> Run | None:
        """A run as it is; None if the store does not know it."""
        try:
            self.client.get_run(run_id)
        except MlflowException:
            return None
        return Run(self, run_id)

    def starting_with(self, run_id: str) -> list[MlflowRun]:
        """All runs whose id begins like this, in any experiment; hexadecimal digits only."""
        experiments = [found.experiment_id for found in self.client.search_experiments()]
        return list(self.client.search_runs(experiments, filter_string=f"run_id LIKE '{run_id}%'"))

    def resume(self, run_id: str, parent: str | None = None) -> Run | None:
        """A run that an earlier invocation left unfinished; None if the store does not know it."""
        try:
            self.client.update_run(run_id, status="RUNNING")
        except MlflowException:
            return None
        run = Run(self, run_id)
        if parent:
            run.tag({schema.PARENT: parent})
        return run

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


def _pages(search: Callable[..., Any]) -> list[Any]:
    """All that a search of MLflow finds."""
    found, token = [], None
    while True:
        page = search(page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found


class Run:
    """One run that is being written. Metrics are buffered and sent in batches."""

    def __init__(self, store: Store, run_id: str, new: bool = False) -> None:
        self.store, self.id, self.new = store, run_id, new
        self.metrics: list[Metric] = []
        self.sent = time.monotonic()
        self.monitor: SystemMetricsMonitor | None = None
        self.seconds = 0.0  # spent on tracking

    @contextmanager
    def _timed(self) -> Iterator[MlflowClient]:
        start = time.perf_counter()
        try:
            yield self.store.client
        finally:
            self.seconds += time.perf_counter() - start

    def log(self, images: int, values: Mapping[str, float]) -> None:
        """Metrics after `images` images."""
        now = int(time.time() * 1000)
        self.metrics += [Metric(key, value, now, images) for key, value in values.items()]
        if time.monotonic() - self.sent > FLUSH_SECONDS or len(self.metrics) >= BATCH_LIMIT:
            self.flush()

    def flush(self) -> None:
        """Send what is buffered."""
        with self._timed() as client:
            for start in range(0, len(self.metrics), BATCH_LIMIT):
                client.log_batch(self.id, metrics=self.metrics[start : start + BATCH_LIMIT])
        self.metrics = []
        self.sent = time.monotonic()

    def params(self, values: Mapping[str, Any]) -> None:
        params = [Param(key, str(value)) for key, value in values.items()]
        with self._timed() as client:
            client.log_batch(self.id, params=params)

    def tag(self, values: Mapping[str, str]) -> None:
        with self._timed() as client:
            client.log_batch(self.id, tags=[RunTag(key, value) for key, value in values.items()])

    def untag(self, prefix: str) -> None:
        """Remove all tags whose names begin like this."""
        with self._timed() as client:
            for key in client.get_run(self.id).data.tags:
                if key.startswith(prefix):
                    client.delete_tag(self.id, key)

    def dataset(self, data: ImageData) -> None:
        """The data set as MLflow knows data sets: name, digest, shape."""
        profile = {
            "train images": len(data.train),
            "test images": len(data.test),
            "shape": list(data.train.shape[1:]),
            "classes": len(data.classes),
            "sha256": data.hash,
        }
        entity = Dataset(
            name=data.title,
            digest=data.hash[:12],
            source_type="code",
            source=json.dumps({"tags": {schema.DATA: data.name}}),
            profile=json.dumps(profile),
        )
        context = [InputTag("mlflow.data.context", "training")]
        with self._timed() as client:
            client.log_inputs(self.id, datasets=[DatasetInput(entity, context)])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        with self._timed() as client:
            client.log_artifact(self.id, str(path), folder)

    def artifacts(self, path: Path, folder: str) -> None:
        with self._timed() as client:
            client.log_artifacts(self.id, str(path), folder)

    def text(self, content: str, name: str) -> None:
        with self._timed() as client:
            client.log_text(self.id, content, name)

    def watch_system(self) -> None:
        """Log CPU, memory, disk, network and GPU use until the run finishes."""
        with self._timed():
            self.monitor = SystemMetricsMonitor(self.id, resume_logging=True, tracking_uri=self.store.uri)
            self.monitor.start()

    def status(self) -> str:
        """The status in the store: `running`, or how it ended."""
        return self.store.client.get_run(self.id).data.tags.get(schema.STATUS, "")

    def finish(self, status: str, reason: str = "") -> None:
        """End the run as `finished`, `diverged`, `failed` or `timed out`."""
        self.flush()
        if self.monitor:
            self.monitor.finish()
        self.tag({schema.STATUS: status, schema.REASON: reason})
        self.store.client.set_terminated(self.id, STATUSES[status])

    def interrupt(self, reason: str) -> None:
        """Leave the run as stopped on the way, to be resumed."""
        self.tag({schema.STATUS: schema.INTERRUPTED, schema.REASON: reason})
        self.store.client.set_terminated(self.id, RunStatus.to_string(RunStatus.KILLED))
