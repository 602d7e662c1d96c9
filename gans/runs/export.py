"""Exports the folders of runs to a tracking store; exporting twice is harmless.

What the events say is written, then a tag with their bytes. A kill between leaves it to be written twice, which
does no harm: to MLflow a metric of the same name, images, time and value is the same one, and nearly everything
else is overwritten by itself. A run is made once, since it is looked for by its key before.
"""

import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from PIL import Image

from gans import schema
from gans.errors import brief, shown
from gans.pictures.grids import readable
from gans.runs.events import RunFolder, State, run_folders
from gans.runs.locks import acquire
from gans.runs.store import MlflowRun, Store, is_deleted, key_of

REMEDY = "the same command exports them, or for a folder of runs gans sync"
LOCK = ".export.lock"
EVERY = 5.0  # seconds between rounds
LIMIT = 30.0  # seconds that the end waits for a server
METRICS, FEW = 1000, 100  # metrics, and params or tags, of a request: MLflow's limits
# MLflow's codes for what it will not take, however often it is tried
REFUSALS = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS")


def export(folder: RunFolder, store: Store) -> float:
    """Write what a store lacks of a run; returns the bytes of its events that it has, infinite if it was deleted.

    Waits for another process that exports the run. An exception says that the store does not answer: what it has
    by then is written again the next time.
    """
    with acquire(folder.path / LOCK, math.inf):
        found = store.named(folder.experiment, folder.key)
        position = exported(found[0]) if found else 0
        if position == math.inf:
            return position
        new = folder.state(int(position) if position <= folder.size else 0)  # else of other events than these
        Upload(store, found[0].info.run_id if found else make(folder, store)).write(new, folder.experiment)
        return new.position or position


def exported(run: MlflowRun) -> float:
    """Bytes of a run's events that its store has; infinite: the run was deleted there."""
    return math.inf if is_deleted(run) else int(run.data.tags.get(schema.EXPORTED, 0))


def make(folder: RunFolder, store: Store) -> str:
    """Make the run in the store; returns its id."""
    tags = folder.first.fields["tags"] | {schema.JOURNAL: folder.key}
    experiment, name = store.experiment(folder.experiment), folder.first.fields["name"]
    run_id = str(store.client.create_run(experiment, folder.first.time, tags, name).info.run_id)
    # a request that was long without an answer may have made the run as well: its run goes
    for other in store.named(folder.experiment, folder.key):
        if other.info.run_id != run_id and not is_deleted(other):
            store.client.delete_run(other.info.run_id)
    return run_id


class Upload:
    """The requests that write a run, of MLflow's `run_id`."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.client, self.run_id = store, store.client, run_id

    def write(self, new: State, experiment: str) -> None:
        """Write what is new; last of all the tags, one of which says that it was written."""
        points = [(name, step, *at) for name, points in new.points.items() for step, at in points.items()]
        self.batches("params", [Param(*item) for item in new.params.items()], FEW)
        self.batches("metrics", [Metric(name, value, time, step) for name, step, value, time in points], METRICS)
        for fields in new.inputs:
            self.send(self.client.log_inputs, [dataset(fields)])
        for path, folder in new.kept:
            log = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
            self.send(log, str(path), folder or None)
        there = (self.send(self.client.list_artifacts, "images") if new.images else None) or []
        for path, event in new.images:
            step, key = event.fields["step"], event.fields["key"]
            # MLflow adds a random end to the name: written again, the picture would be there twice
            name = f"/{key}+step+{step}+timestamp+{event.time}+"
            if readable(path) and not any(name in f"/{one.path}" for one in there):
                with Image.open(path) as image:
                    self.send(self.client.log_image, image, key=key, step=step, timestamp=event.time)
        if new.ended:
            self.send(self.client.set_terminated, new.status, new.ended)
        elif new.status:
            self.send(self.client.update_run, new.status)
        above = self.store.named(experiment, new.parent) if new.parent else []
        parent = {schema.PARENT: above[0].info.run_id} if above else {}
        if new.position:
            tags = new.tags | parent | {schema.EXPORTED: str(new.position)}
            self.batches("tags", [RunTag(*item) for item in tags.items()], FEW)

    def batches(self, kind: str, items: Sequence[Any], size: int) -> None:
        """Write params, tags or metrics, so many at once; those that are refused together, one by one."""
        log: Any = self.client.log_batch
        for start in range(0, len(items), size):
            some = items[start : start + size]
            try:
                log(self.run_id, **{kind: some})
            except MlflowException as error:
                if error.error_code not in REFUSALS:
                    raise
                for one in some:
                    self.send(log, **{kind: [one]})

    def send(self, request: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Make a request about the run; ignore a refusal."""
        try:
            return request(self.run_id, *arguments, **named)
        except MlflowException as error:
            if error.error_code not in REFUSALS:
                raise
            print(f"the store did not take all of run {self.run_id}: {brief(error)}", file=sys.stderr)
            return None


def dataset(fields: Mapping[str, str]) -> DatasetInput:
    names = ("name", "digest", "source", "profile")
    entity = Dataset(**{name: fields[name] for name in names}, source_type="code")
    return DatasetInput(entity, [InputTag("mlflow.data.context", "training")])


class Exporter:
    """Exports all runs below a folder, every few seconds and at the end, in a thread of its own.

    The end waits for a server some seconds at most; the next export takes what is left. `why` says why the last
    round failed, or that there was none.
    """

    def __init__(self, root: Path, store: Store) -> None:
        self.root, self.store = root, store
        self.exported: set[str] = set()
        self.silent = f"{shown(store.uri)} does not answer"
        self.why = self.silent
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True, name="exporter")

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Wait for the last round: `LIMIT` seconds for a server, without a limit for a file."""
        self.closing.set()
        self.thread.join(None if self.store.embedded else LIMIT)
        if self.thread.is_alive():
            self.why, self.store.answers = self.silent, False

    @property
    def left(self) -> int:
        """How many runs the store lacks a part of, if the last round failed."""
        return len(self._late()) if self.why else 0

    def say(self) -> None:
        """Print how many runs were exported, and how many are left with the remedy."""
        if self.exported:
            print(f"exported to the tracking store: {counted(len(self.exported))}")
        self.say_left()

    def say_left(self) -> None:
        """Print what the store still lacks."""
        if left := self.left:
            print(f"not in the tracking store yet: {counted(left)}; {REMEDY} ({self.why})")

    def _late(self) -> list[RunFolder]:
        """The runs that the store does not have all of."""
        return [run for run in run_folders(self.root) if self.store.exported.get(run.key, 0) < run.size]

    def _work(self) -> None:
        while not self.closing.wait(EVERY):
            self._round()
        self._round()

    def _round(self) -> None:
        """Export what has changed."""
        try:
            if self.why:
                self._compare()
            for folder in self._late():
                self.store.exported[folder.key] = export(folder, self.store)
                self.exported.add(folder.key)
            self.why, self.store.answers = "", True
        except Exception as error:
            refused = isinstance(error.__context__, OSError)  # MLflow's text on it is long
            self.why, self.store.answers = self.silent if refused else brief(error), False

    def _compare(self) -> None:
        """Look up how much the store has of every run."""
        for experiment in {folder.experiment for folder in run_folders(self.root)}:
            runs = self.store.search(experiment)
            for run in sorted(runs, key=is_deleted, reverse=True):  # one that was made twice is there still
                self.store.exported[key_of(run)] = exported(run)


@contextmanager
def exporting(root: Path, store: Store) -> Iterator[None]:
    """Export the runs below a folder before, during and after the block; print what was, and what is left."""
    sync(root, store).say()
    exporter = Exporter(root, store)
    try:
        with exporter:
            yield
    finally:
        exporter.say_left()


def counted(runs: int) -> str:
    return f"{runs} run{'' if runs == 1 else 's'}"


def sync(root: Path, store: Store) -> Exporter:
    """Export all that a store lacks of the runs below a folder; without an answer, nothing is exported."""
    exporter = Exporter(root, store)
    if store.embedded or store.answers:
        with exporter:
            pass
    return exporter
