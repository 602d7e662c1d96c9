"""Exports the folders of runs to a tracking store: from a mark on, as often as it takes, twice without harm.

Events are written, then marked as written. A kill between leaves some to be written twice, which does no harm: to
MLflow a metric of the same name, images, time and value is the same one, and everything else is overwritten by
itself. A run is made once, since it is looked for by its key before.
"""

from __future__ import annotations

import fcntl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from gans import schema
from gans.errors import brief
from gans.runs.events import Event, RunFolder, inside, run_folders, run_paths
from gans.runs.store import PATIENCE, Store, compare
from gans.urls import shown

REMEDY = "gans sync exports them"
LOCK = ".export.lock"
EVERY, LONGEST = 5.0, 60.0  # seconds between rounds, and after rounds that failed
LOOK = 0.2  # likewise while another process exports a folder, at the end
GRACE, LIMIT = 10.0, 30.0  # seconds that the end waits for a server that makes no progress, and in all
BATCH = 2000  # events that are written, then marked as written
METRICS, FEW = 1000, 100  # metrics, and params or tags, of a request: MLflow's limits
# MLflow's codes for what it will not take, however often it is tried
REFUSALS = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS")


Item = TypeVar("Item")


def parts(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """So many at a time."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


class Gone(Exception):
    """The run was deleted in the store; or the store has no such run, and the folder not all of it."""


class Busy(Exception):
    """Another process exports the folder."""


@dataclass(frozen=True)
class Amount:
    """How much there is to export: runs, and values of their metrics."""

    runs: int = 0
    points: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.runs + other.runs, self.points + other.points)

    def __str__(self) -> str:
        return f"{self.runs} run{'' if self.runs == 1 else 's'}, {self.points:,} points"


@dataclass(frozen=True)
class Synced:
    """What an export came to.

    Attributes:
        exported: what the store had lacked.
        left: what it still lacks.
        why: that it does; empty if it lacks nothing.
    """

    exported: Amount = Amount()
    left: Amount = Amount()
    why: str = ""

    def lines(self, remedy: str = REMEDY) -> list[str]:
        """For people; none if there was nothing to do."""
        lacked = [f"exported to the tracking store what it lacked: {self.exported}"] if self.exported.runs else []
        why = f" ({self.why})" if self.why else ""
        left = [f"not in the tracking store yet: {self.left}; {remedy}{why}"] if self.left.runs else []
        return lacked + left


def say(synced: Synced, remedy: str = REMEDY) -> None:
    """Print what the store had lacked, and what it still does with what will export that."""
    for line in synced.lines(remedy):
        print(line)


def say_left(synced: Synced, remedy: str = REMEDY) -> None:
    """Print what the store still lacks."""
    say(replace(synced, exported=Amount()), remedy)


# --- one run


def export(folder: RunFolder, store: Store, progress: Callable[[], None] = lambda: None) -> Amount:
    """Write what a store lacks of a run; returns how much that was.

    Raises:
        Gone: there is no run to write to, and must be none.
        Busy: another process exports it.
        Exception: the store does not answer; what was marked until then is there.
    """
    with exclusively(folder.path / LOCK):
        upload = Upload(folder, store)
        points = 0
        for some in parts(folder.events(upload.mark.position), BATCH):
            for event, _ in some:
                if event:
                    points += event.points
                    upload.write(event)
            upload.flush()
            upload.note(position=some[-1][1])
            progress()
        upload.link(upload.mark.parent)
        return Amount(1, points)


@contextmanager
def exclusively(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy from None
        yield


class Upload:
    """The requests that write a run.

    Attributes:
        run_id: MLflow's, of the run that the store has or that was just made.
    """

    def __init__(self, folder: RunFolder, store: Store) -> None:
        self.folder, self.store, self.client = folder, store, store.client
        self.mark = folder.mark(store.name)
        self.metrics: list[Metric] = []
        self.run_id = self.find() or self.make()

    def note(self, **changes: Any) -> None:
        self.mark = self.folder.set_mark(self.store.name, **changes)

    def find(self) -> str | None:
        """The run in the store: the one that was written so far, else the one of the key."""
        found = self.store.run(self.mark.run) if self.mark.run else None
        if found is None:
            found = next(iter(self.store.named(self.folder.experiment, self.folder.key)), None)
            self.note(run=found.info.run_id if found else "", position=0)  # written again, from the start
        if found and found.info.lifecycle_stage == "deleted":
            self.note(deleted=True)
            raise Gone("it was deleted")
        return found.info.run_id if found else None

    def make(self) -> str:
        if not self.folder.whole:
            raise Gone("the store does not have it")
        start = self.folder.start
        tags = {**start.fields["tags"], schema.JOURNAL: self.folder.key}
        experiment_id = self.store.experiment(self.folder.experiment)
        made = self.client.create_run(experiment_id, start.time, tags, start.fields["name"])
        self.remove_twins(made.info.run_id)
        self.note(run=made.info.run_id, parent=start.fields["parent"])
        self.store.describe(experiment_id, tags)
        return made.info.run_id

    def remove_twins(self, run_id: str) -> None:
        """A request that was long without an answer may have made the run as well: its run goes."""
        for other in self.store.named(self.folder.experiment, self.folder.key):
            if other.info.run_id != run_id and other.info.lifecycle_stage == "active":
                self.client.delete_run(other.info.run_id)

    def write(self, event: Event) -> None:
        """Write one event, which the store may refuse; metrics are collected first."""
        fields = event.fields
        match event.kind:
            case "metrics":
                self.metrics += [Metric(k, v, event.time, fields["step"]) for k, v in fields["values"].items()]
            case "params":
                for some in parts(fields["values"].items(), FEW):
                    params = [Param(*item) for item in some]
                    self.patiently("params", partial(self.client.log_batch, self.run_id, params=params))
            case "tags":
                for some in parts(fields["values"].items(), FEW):
                    tags = [RunTag(*item) for item in some]
                    self.patiently("tags", partial(self.client.log_batch, self.run_id, tags=tags))
            case "untag":
                for key in self.client.get_run(self.run_id).data.tags:
                    if key.startswith(fields["prefix"]):
                        self.client.delete_tag(self.run_id, key)
            case "input":
                inputs = [dataset(fields)]
                self.patiently("data set", partial(self.client.log_inputs, self.run_id, datasets=inputs))
            case "artifact":
                self.artifact(inside(self.folder.path, fields["path"]), fields["folder"] or None)
            case "resume":
                self.client.update_run(self.run_id, status="RUNNING")
                self.link(fields["parent"])
            case "end":
                self.flush()
                self.client.set_terminated(self.run_id, fields["status"], event.time)

    def artifact(self, path: Path | None, folder: str | None) -> None:
        """A file or a folder; what is no longer there cannot be written."""
        if path:
            log = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
            self.patiently(path.name, lambda: log(self.run_id, str(path), folder))

    def flush(self) -> None:
        """Write the metrics that were collected; those that are refused together, one by one."""
        metrics, self.metrics = self.metrics, []
        for some in parts(metrics, METRICS):
            try:
                self.client.log_batch(self.run_id, metrics=some)
            except MlflowException as error:
                if error.error_code not in REFUSALS:
                    raise
                for one in some:
                    self.patiently("a metric", partial(self.client.log_batch, self.run_id, metrics=[one]))

    def patiently(self, what: str, request: Callable[[], Any]) -> None:
        """Go on after a refusal."""
        try:
            request()
        except MlflowException as error:
            if error.error_code not in REFUSALS:
                raise
            self.find()  # it may have been deleted meanwhile
            print(f"the store did not take {what} of run {self.run_id}: {brief(error)}", file=sys.stderr)

    def link(self, parent: str) -> None:
        """Tag the run with its parent, as soon as the store has that."""
        found = self.store.named(self.folder.experiment, parent) if parent else []
        if found:
            self.client.set_tag(self.run_id, schema.PARENT, found[0].info.run_id)
        if found or parent != self.mark.parent:
            self.note(parent="" if found else parent)


def dataset(fields: Mapping[str, str]) -> DatasetInput:
    names = ("name", "digest", "source", "profile")
    entity = Dataset(**{name: fields[name] for name in names}, source_type="code")
    return DatasetInput(entity, [InputTag("mlflow.data.context", "training")])


# --- many runs


def left(paths: Iterable[Path], store: Store) -> Amount:
    """What the store lacks by the marks of folders, without a request."""
    amount = Amount()
    for folder in run_folders(paths):
        mark = folder.mark(store.name)
        if not mark.deleted and (folder.whole or mark.run) and (mark.position < folder.size or not mark.run):
            points = sum(event.points for event, _ in folder.events(mark.position) if event)
            amount += Amount(1, points)
    return amount


class Exporter:
    """Exports all runs below a folder, every few seconds and at the end, in a thread of its own.

    The end waits for a server without an answer some seconds at most; the next export takes what is left.

    Args:
        root: of the folders; there may be none.
        store: which need not answer.
    """

    def __init__(self, root: Path, store: Store) -> None:
        self.root, self.store = root, store
        self.exported, self.why = Amount(), ""
        self.sizes: dict[Path, int] = {}  # of events that need no further look
        self.compared = False
        self.failures = self.progress = 0
        self.closing, self.over = threading.Event(), False
        self.thread = threading.Thread(target=self._work, daemon=True, name="exporter")

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the last round, as long as there is progress; a server not longer than LIMIT."""
        self.closing.set()
        grace, limit = (PATIENCE, float("inf")) if self.store.embedded else (GRACE, LIMIT)
        end, before = time.monotonic() + limit, -1
        while self.thread.is_alive() and before < self.progress and (rest := end - time.monotonic()) > 0:
            before = self.progress
            self.thread.join(min(grace, rest))
        if self.thread.is_alive():
            self.over = True  # the thread ends with its request
            self.why = f"{shown(self.store.uri)} does not answer"
            self.store.back_off()

    @property
    def synced(self) -> Synced:
        remaining = left(run_paths(self.root), self.store)
        return Synced(self.exported, remaining, self.why if remaining.runs else "")

    def _work(self) -> None:
        while not self.over:
            last = self.closing.is_set()
            done = self._round()
            if last and (done or self.failures):
                return
            if last:
                time.sleep(LOOK)
            else:
                self.closing.wait(min(EVERY * 2**self.failures, LONGEST))

    def _round(self) -> bool:
        """Export what has changed; whether all of it is exported."""
        try:
            late = self._late()
            done = [self._export(folder) for folder in late]
            for folder in late:  # whose parent came behind it
                if folder.mark(self.store.name).parent:
                    export(folder, self.store)
        except Exception as error:
            self.failures, self.why = self.failures + 1, brief(error)
            self.store.back_off()
            return False
        self.failures, self.why = 0, ""
        return all(done)

    def _export(self, folder: RunFolder) -> bool:
        """Export a folder; False if another process does."""
        size = folder.size
        try:
            self.exported += export(folder, self.store, self._advance)
        except Busy:
            return False
        except Gone:
            pass
        self.sizes[folder.path] = size
        return True

    def _late(self) -> list[RunFolder]:
        """What the store may lack something of: at first by comparison with it, then by the sizes of events."""
        found = run_folders(path for path in run_paths(self.root) if self.sizes.get(path, -1) < size_of(path))
        if self.compared:
            return found
        late: set[Path] = set()
        for experiment in {folder.experiment for folder in found}:
            own = [folder for folder in found if folder.experiment == experiment]
            sizes = {folder.path: folder.size for folder in own}
            late |= {folder.path for folder in compare(own, self.store, experiment)[1]}
            self.sizes |= {path: size for path, size in sizes.items() if path not in late}
            self._advance()
        self.compared = True
        return [folder for folder in found if folder.path in late]

    def _advance(self) -> None:
        if self.over:
            raise TimeoutError("the command no longer waits for the export")
        self.progress += 1
        self.store.retry_at = 0.0


def size_of(path: Path) -> int:
    return (path / schema.EVENTS).stat().st_size


def sync(root: Path, store: Store) -> Synced:
    """Export all that a store lacks of the runs below a folder, parents first; it need not answer."""
    if not store.retry_at < time.monotonic():
        return Synced(left=left(run_paths(root), store), why=f"{shown(store.uri)} does not answer")
    with Exporter(root, store) as exporter:
        pass
    return exporter.synced
