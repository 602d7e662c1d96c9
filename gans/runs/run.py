"""A run that is being written: events and artifacts go to its folder, and to nowhere else."""

from __future__ import annotations

import getpass
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
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from PIL import Image

from gans import files, schema
from gans.config import PROTOCOL_VERSION, Resolved
from gans.data.folders import FOLDER
from gans.data.images import ImageData
from gans.registry import DATASETS, LOSSES, MODELS, RULES, file_of
from gans.runs.events import FILE, MARKS, PART, START, Event, RunFolder, State, now

if TYPE_CHECKING:
    from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor

log = logging.getLogger("gans")

# MLflow's words for how a run ended; a diverged run is not a crash but has no result
STATUSES = {
    schema.FINISHED: "FINISHED",
    schema.DIVERGED: "FAILED",
    schema.FAILED: "FAILED",
    schema.TIMED_OUT: "KILLED",
    schema.PRUNED: "KILLED",
    schema.INTERRUPTED: "KILLED",
}
# stepped images, as MLflow's UI shows them behind a slider
IMAGES = "images"  # their folder among the artifacts
LOGGED = "mlflow.loggedImages"  # the tag that lets the UI look there
PREFIX = "system/"  # how the names of the machine's metrics begin
EVERY = 10.0  # seconds between samples of them, unless MLflow's environment says otherwise
SMALL = 256  # pixels of a side of what the UI shows before it is clicked
PACKAGES = ("torch", "torchvision", "torch-fidelity", "mlflow", "numpy", "scipy", "gans")
HERE = Path(__file__).parent
CHANGED = ("status", "--porcelain", "--untracked-files=no")
# generated reports are tracked files, but no code
OUR_CODE = ("--", ":/", ":(exclude,top)reports/results")


class Run:
    """One run that is being written. An event is safe from a kill of this process when its call returns.

    Attributes:
        seconds: spent on writing.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.path, self.key = folder, folder.path, folder.key
        self.writing = threading.Lock()
        self.repeated: Counter[tuple[str, int]] = Counter()
        self.watch: SystemWatch | None = None
        self.seconds = 0.0

    @classmethod
    def start(
        cls, folder: Path, experiment: str, name: str, tags: Mapping[str, str], parent: str | None = None
    ) -> Self:
        """A new run of the code that runs now, in place of what the folder held.

        Args:
            folder: its own.
            experiment: the MLflow experiment.
            name: of the run.
            tags: besides those of `provenance`.
            parent: key of the invocation's run.
        """
        tags = {**provenance(), **tags}
        return cls._begin(folder, START, experiment=experiment, name=name, tags=tags, parent=parent or "")

    @classmethod
    def part(cls, folder: Path, experiment: str, key: str) -> Self:
        """What is to be added to a run that began in another folder."""
        return cls._begin(folder, PART, key=key, experiment=experiment)

    @classmethod
    def _begin(cls, folder: Path, kind: str, **fields: Any) -> Self:
        forget(folder)
        start = Event(kind, now(), {"key": uuid.uuid4().hex, **fields})
        files.write_bytes(folder / FILE, start.line())
        return cls(RunFolder(folder, start))

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """The run that began in a folder; None if there is none, or a user deleted it in a store."""
        path = folder / FILE
        if not path.is_file():
            return None
        with path.open("r+b") as file:  # a last line that a kill has cut is taken off
            file.truncate(file.read().rfind(b"\n") + 1)
        found = RunFolder.of(folder)
        damaged = sum(event is None for event, _ in found.events()) if found else "all"
        if damaged:
            log.warning("%s is damaged; %s lines of it are left out", path, damaged)
        deleted = found and any(mark.deleted for mark in found.marks().values())
        return cls(found) if found and not deleted else None

    @classmethod
    def take(cls, folder: Path, experiment: str, key: str) -> Self:
        """The run of this key: as it began in the folder, else as a part of it."""
        run = cls.open(folder)
        return run if run and run.key == key else cls.part(folder, experiment, key)

    def state(self) -> State:
        return self.folder.state()

    def skip_recorded(self) -> None:
        """Training repeats what it did after its last checkpoint: recorded points are not recorded again."""
        for event, _ in self.folder.events():
            if event and event.kind == "metrics":
                self.repeated.update((name, event.fields["step"]) for name in event.fields["values"])

    # --- events

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start

    def write(self, kind: str, at: int | None = None, **fields: Any) -> None:
        """Append an event, of this moment or another."""
        with self._timed():
            line = Event(kind, at or now(), fields).line()
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
        """What was written outlives a power cut."""
        with self._timed(), (self.path / FILE).open("rb") as file:
            os.fsync(file.fileno())

    def params(self, values: Mapping[str, Any]) -> None:
        self.write("params", values={name: str(value) for name, value in values.items()})

    def tag(self, values: Mapping[str, str]) -> None:
        self.write("tags", values=dict(values))

    def untag(self, prefix: str) -> None:
        """Remove all tags whose names begin like this."""
        self.write("untag", prefix=prefix)

    def dataset(self, data: ImageData) -> None:
        """The data set: name, digest, shape."""
        profile = {
            "train images": len(data.train),
            "test images": len(data.test),
            "shape": list(data.train.shape[1:]),
            "classes": len(data.classes),
            "sha256": data.hash,
        }
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
        """A file of this content."""
        path = self.path / schema.KEPT / name
        files.write_text(path, content)
        self.artifact(path, name.rpartition("/")[0])

    def picture(self, path: Path, key: str, images: int) -> None:
        """A picture of this name after `images` images, for the slider of MLflow's UI."""
        for made in stepped(path, self.path / IMAGES, key, images):
            self.artifact(made, IMAGES)
        self.tag({LOGGED: "True"})

    def watch_system(self) -> None:
        """Log CPU, memory, disk, network and GPU use until the run ends."""
        counts = [len(points) for name, points in self.state().points.items() if name.startswith(PREFIX)]
        self.watch = SystemWatch(self.log, max(counts, default=0))

    # --- begin and end

    def resume(self, parent: str | None = None) -> None:
        """It goes on, as a child of another invocation."""
        self.write("resume", parent=parent or "")

    def finish(self, status: str, reason: str = "") -> None:
        """End the run as `finished`, `diverged`, `failed` or `timed out`."""
        if self.watch:
            self.watch.stop()
        self.tag({schema.STATUS: status, schema.REASON: reason})
        self.write("end", status=STATUSES[status])
        self.flush()

    def interrupt(self, reason: str) -> None:
        """Leave the run as stopped on the way, to be resumed."""
        self.finish(schema.INTERRUPTED, reason)


def forget(folder: Path) -> None:
    """The next run of the folder is another."""
    for name in (MARKS, FILE):
        (folder / name).unlink(missing_ok=True)


def invocation(folder: Path) -> Path:
    """A new folder for the run of an invocation, next to those of its cells."""
    return folder / schema.INVOCATIONS / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"


def stepped(picture: Path, folder: Path, key: str, step: int) -> list[Path]:
    """The two files of a picture, whole and small, in this folder, named as MLflow's UI reads them.

    Drawn again, a picture takes its former place. `key`: letters, digits, `_`, `-`, `.` and spaces.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = sorted(folder.glob(f"{key}+step+{step}+*.png"))
    stem = known[0].stem if known else f"{key}+step+{step}+timestamp+{now()}+{uuid.uuid4()}"
    whole, small = folder / f"{stem}.png", folder / f"{stem}+compressed.webp"
    shutil.copyfile(picture, whole)
    with Image.open(picture) as image:
        image.thumbnail((SMALL, SMALL))
        image.save(small, lossless=True)
    return [whole, small]


class SystemWatch:
    """Samples CPU, memory, disk, network and GPU until it is stopped.

    MLflow's own monitor asks the server after every sample, and ends when that does not answer.

    Args:
        log: takes a sample's number and its metrics.
        first: number of the first sample; those before it are of earlier sessions.
    """

    def __init__(self, log: Callable[[int, Mapping[str, float]], None], first: int) -> None:
        from mlflow import environment_variables as settings

        self.log, self.number = log, first
        self.monitors = monitors()
        self.interval = settings.MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or EVERY
        self.samples = settings.MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING.get() or 1
        node = settings.MLFLOW_SYSTEM_METRICS_NODE_ID.get()
        self.prefix = f"{PREFIX}{node}/" if node else PREFIX
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True, name="system metrics")
        self.thread.start()

    def watch(self) -> None:
        while not self.over.is_set():
            for _ in range(self.samples):
                for monitor in self.monitors:
                    monitor.collect_metrics()
                if self.over.wait(self.interval):
                    return
            self.report()

    def report(self) -> None:
        """Log the means of the samples since the last time."""
        found = {name: value for one in self.monitors for name, value in one.aggregate_metrics().items()}
        self.log(self.number, {f"{self.prefix}{name}": value for name, value in found.items()})
        self.number += 1
        for monitor in self.monitors:
            monitor.clear_metrics()

    def stop(self) -> None:
        self.over.set()
        self.thread.join()


def monitors() -> list[BaseMetricsMonitor]:
    """MLflow's, those of GPUs where there are some."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
    from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

    found: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    for kind in (GPUMonitor, ROCMMonitor):
        with suppress(Exception):  # neither the library nor the device is there
            found.append(kind())
            break
    return found


# --- which code ran


def provenance() -> dict[str, str]:
    """Tags that say which code of ours ran: commit, whether the tree was dirty, versions, protocol."""
    commit = git(HERE, "rev-parse", "HEAD")
    return {
        **source(commit),
        schema.COMMIT: commit or "unknown",
        schema.DIRTY: str(bool(git(HERE, *CHANGED, *OUR_CODE))).lower(),
        schema.PROTOCOL: str(PROTOCOL_VERSION),
        **{f"{schema.VERSION}{package}": installed_version(package) for package in PACKAGES},
    }


def source(commit: str) -> dict[str, str]:
    """Tags from which MLflow's UI fills its columns: user, program, commit."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    known = {schema.SOURCE_COMMIT: commit} if commit else {}
    return {schema.USER: user(), schema.SOURCE: name or "python", schema.SOURCE_TYPE: "LOCAL", **known}


def user() -> str:
    """Who runs this; `unknown` where the system has no name for them, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


def foreign(experiment: Resolved) -> dict[str, str]:
    """Tags that say which code from outside this repository ran: none for an experiment of our own parts.

    Of every model, data set, loss and update rule from elsewhere: the SHA-256 of its file; and, where a git
    repository holds that file, the commit, and whether the repository or the file differs from it.
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
            found |= {f"{schema.CODE}{name}.{key}": value for key, value in repository(path).items()}
    return found


def repository(path: Path | None) -> dict[str, str]:
    """`commit` and `dirty` of the git repository that holds a file; empty without one."""
    commit = path and git(path.parent, "rev-parse", "HEAD")
    if not (path and commit):
        return {}
    tracked = git(path.parent, "ls-files", "--", path.name)
    return {"commit": commit, "dirty": str(bool(git(path.parent, *CHANGED)) or not tracked).lower()}


def git(folder: Path, *arguments: str) -> str:
    """The output of git in a folder; empty if it is no repository, or there is no git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@cache
def installed_version(package: str) -> str:
    """Of a package; `unknown` if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
