"""A run that is being written: events and artifacts go to its folder, and to nowhere else."""

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import psutil

from gans import files, schema
from gans.config import PROTOCOL_VERSION, Resolved
from gans.data.folders import FOLDER
from gans.data.images import ImageData
from gans.errors import brief
from gans.pictures.grids import decorating
from gans.registry import DATASETS, LOSSES, MODELS, RULES, file_of
from gans.runs.events import FILE, START, Event, RunFolder, now, run_folders
from gans.runs.locks import InUse, in_use, locked

log = logging.getLogger("gans")

DIED = "its process died"  # the reason of a run that was closed for it
EVERY = 10.0  # seconds between samples of the machine, unless MLflow's environment says otherwise
UNKNOWN = "unknown"
PACKAGES = ("torch", "torchvision", "torch-fidelity", "mlflow", "numpy", "scipy", "gans")


class Run(RunFolder):
    """One run that is being written. An event is safe from a kill of this process when its call returns."""

    def __init__(self, path: Path, first: Event) -> None:
        super().__init__(path, first)
        self.writing = threading.Lock()
        self.repeated: Counter[tuple[str, int]] = Counter()
        self.watch: threading.Thread | None = None
        self.over = threading.Event()

    @classmethod
    def start(
        cls, folder: Path, experiment: str, name: str, tags: Mapping[str, str], parent: str | None = None
    ) -> Self:
        """A new run of the code that runs now, in place of what the folder held; `parent`: an invocation's key."""
        about = provenance() | {schema.STATUS: schema.RUNNING} | dict(tags)
        if not parent and about[schema.DIRTY] == UNKNOWN:
            log.warning("git has no commit of this code: it is tracked as %s", UNKNOWN)
        of_run = {"key": uuid.uuid4().hex, "experiment": experiment, "name": name}
        start = Event(START, now(), {**of_run, "tags": about, "parent": parent or ""})
        files.write_bytes(folder / FILE, start.line())
        return cls(folder, start)

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """The run that began in a folder; None if there is none."""
        path = folder / FILE
        if not path.is_file():
            return None
        with path.open("r+b") as file:  # a last line that a kill has cut is taken off
            file.truncate(file.read().rfind(b"\n") + 1)
        run = cls.of(folder)
        damaged = sum(event is None for event, _ in run.events()) if run else "all"
        if damaged:
            log.warning("%s is damaged; %s of its lines are ignored", path, damaged)
        return run

    @classmethod
    def begin(
        cls, folder: Path, experiment: str, name: str, tags: Mapping[str, str], parent: str | None = None
    ) -> Self:
        """The run that an interrupted process left in a folder, to go on with; as `start`, if there is none."""
        run = cls.open(folder)
        if run is None:
            return cls.start(folder, experiment, name, tags, parent)
        for event, _ in run.events():  # what training repeats since its checkpoint is not recorded again
            if event and event.kind in ("metrics", "image"):
                names = event.fields["values"] if event.kind == "metrics" else [event.fields["key"]]
                run.repeated.update((name, event.fields["step"]) for name in names)
        run.write("resume", parent=parent or "")
        # workers that the checkpoint has as lost are tagged again; code is what goes on
        lost = {name: "" for name in run.state().tags if name.startswith(schema.LOST)}
        run.tag(provenance() | {schema.STATUS: schema.RUNNING} | lost | dict(tags))
        return run

    def write(self, kind: str, **fields: Any) -> None:
        """Append an event of this moment."""
        line = Event(kind, now(), fields).line()
        with self.writing, (self.path / FILE).open("ab", buffering=0) as file:
            file.write(line)

    def log(self, images: int, values: Mapping[str, float]) -> None:
        """Metrics after `images` images."""
        new = {name: float(value) for name, value in values.items() if not self._repeats(name, images)}
        if new:
            self.write("metrics", step=images, values=new)

    def _repeats(self, name: str, images: int) -> bool:
        known = self.repeated[name, images] > 0
        if known:
            self.repeated[name, images] -= 1
        return known

    def flush(self) -> None:
        """Write the events to the disk: they outlive a power cut."""
        with (self.path / FILE).open("rb") as file:
            os.fsync(file.fileno())

    def params(self, values: Mapping[str, Any]) -> None:
        self.write("params", values={name: str(value) for name, value in values.items()})

    def tag(self, values: Mapping[str, str]) -> None:
        self.write("tags", values=dict(values))

    def dataset(self, data: ImageData) -> None:
        """The data set: name, digest, shape."""
        sizes = {"train images": len(data.train), "test images": len(data.test), "classes": len(data.classes)}
        profile = {**sizes, "shape": list(data.train.shape[1:]), "sha256": data.hash}
        source = json.dumps({"tags": {schema.DATA: data.name}})
        self.write("input", name=data.title, digest=data.hash[:12], source=source, profile=json.dumps(profile))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """A file, or all files of a folder, kept in this folder of the run's artifacts."""
        self.write("artifact", path=self._kept(path, folder or ""), folder=folder or "")

    def _kept(self, path: Path, folder: str) -> str:
        """The path within the run's folder of a file or folder, which is copied there from elsewhere."""
        here = self.path.resolve()
        if path.resolve().is_relative_to(here):
            return path.resolve().relative_to(here).as_posix()
        target = self.path / schema.KEPT / folder
        target.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True)
        else:
            target /= path.name
            shutil.copyfile(path, target)
        return target.relative_to(self.path).as_posix()

    def text(self, content: str, name: str) -> None:
        path = self.path / schema.KEPT / name
        files.write_text(path, content)
        self.artifact(path, name.rpartition("/")[0])

    def draw(self, name: str, write: Callable[[Path], object]) -> None:
        """Keep a picture that `write` draws in the folder, unless it gives False; an error leaves it out."""
        path = self.path / name
        with decorating(path):
            if write(path) is not False:
                self.artifact(path)

    def picture(self, path: Path, key: str, images: int) -> None:
        """A picture of this name after `images` images, for the slider of MLflow's UI."""
        if not self._repeats(key, images):
            self.write("image", path=self._kept(path, ""), key=key, step=images)

    def watch_system(self) -> None:
        """Log CPU, memory, disk, network and GPU use by the seconds of the run, in a thread, until it ends."""
        self.watch = threading.Thread(target=self._sample, daemon=True)
        self.watch.start()

    def _sample(self) -> None:
        # MLflow's own thread would send them to a server
        from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL as INTERVAL
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        with suppress(Exception):  # neither the library nor the device is there
            monitors.append(GPUMonitor())
        while not self.over.wait(INTERVAL.get() or EVERY):
            values: dict[str, float] = {}
            for monitor in monitors:
                monitor.clear_metrics()
                monitor.collect_metrics()
                values |= {f"system/{name}": value for name, value in monitor.aggregate_metrics().items()}
            self.log((now() - self.first.time) // 1000, values)

    def finish(self, status: str, reason: str = "") -> None:
        """End the run, by a status of the protocol; one that was interrupted may go on."""
        self.over.set()
        if self.watch:
            self.watch.join()
        self.write("end", status=status, reason=reason)
        self.flush()


@contextmanager
def invocation(root: Path, experiment: str, name: str, tags: Mapping[str, str]) -> Iterator[Run]:
    """The run of an invocation, in a new folder next to those of its cells, which are in `root`.

    Runs below whose processes have died are closed at its begin and end.
    """
    close_stale(root)
    folder = root / schema.INVOCATIONS / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
    with locked(folder):
        run = Run.start(folder, experiment, name, tags)
        try:
            yield run
        except BaseException as error:
            run.finish(schema.INTERRUPTED, brief(error))
            raise
        finally:
            close_stale(root)


def close_stale(root: Path) -> list[str]:
    """End, as interrupted, the open runs below a folder that no process is at work in; returns their keys."""
    closed = []
    for folder in run_folders(root):
        if folder.ongoing and not in_use(folder.path):
            with suppress(InUse), locked(folder.path):  # else a process has just taken it up
                run = Run.open(folder.path)
                if run and run.ongoing:
                    run.finish(schema.INTERRUPTED, DIED)
                    closed.append(run.key)
    return closed


def provenance() -> dict[str, str]:
    """Tags with the version of this code, some of them for columns of MLflow's UI."""
    found = repository(Path(__file__)) or {"commit": UNKNOWN, "dirty": UNKNOWN}
    program = Path(sys.argv[0])
    commit = {schema.SOURCE_COMMIT: found["commit"]} if found["commit"] != UNKNOWN else {}
    versions = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[f"{schema.VERSION}{package}"] = version(package)
    return {
        **commit,
        **versions,
        schema.USER: psutil.Process().username(),
        schema.SOURCE: (program.parent if program.name == "__main__.py" else program).name or "python",
        schema.SOURCE_TYPE: "LOCAL",
        schema.COMMIT: found["commit"],
        schema.DIRTY: found["dirty"],
        schema.PROTOCOL: str(PROTOCOL_VERSION),
    }


def foreign(experiment: Resolved) -> dict[str, str]:
    """Tags of the models, data sets, losses and update rules that come from outside this repository.

    They hold the SHA-256 of the part's file; and, where a git repository holds that file, the commit, and whether
    the repository or the file differs from it.
    """
    named = (
        (MODELS, experiment.networks.name),
        (RULES, experiment.update.rule),
        (LOSSES, experiment.loss.name),
        (DATASETS, experiment.dataset),
    )
    found = {}
    for registry, name in named:
        # a folder's name may look like a module's: folder:photos
        if not name.startswith(FOLDER) and name in registry and (digest := registry.code(name)):
            found[f"{schema.CODE}{name}"] = digest
            path = file_of(registry.target(name))
            about = repository(path) if path else {}
            found |= {f"{schema.CODE}{name}.{key}": value for key, value in about.items()}
    return found


def repository(path: Path) -> dict[str, str]:
    """`commit` and `dirty` of the git repository that holds a file; empty if git finds none."""
    # generated reports are tracked files, but no code
    changes = ("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)reports/results")
    git = partial(subprocess.run, cwd=path.parent, capture_output=True, text=True, timeout=10, check=True)
    try:
        commit, changed, tracked = (
            git(["git", *words]).stdout.strip()
            for words in (("rev-parse", "HEAD"), changes, ("ls-files", "--", path.name))
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": commit, "dirty": str(bool(changed) or not tracked).lower()}
