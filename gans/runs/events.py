"""The events of a run: a line of JSON each in its folder's `events.jsonl`, in the order in which they happened.

The folder is the truth, and a tracking store is an export of it (`gans.runs.export`).
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Self

from gans import schema
from gans.runs.locks import InUse, locked

FILE = schema.EVENTS
DELETED = f"deleted-{FILE}"  # the events of a run that a user deleted in a store
START = "start"  # the first event
FIELDS = {
    START: {"key", "experiment", "name", "tags", "parent"},
    "params": {"values"},
    "tags": {"values"},
    "metrics": {"step", "values"},
    "input": {"name", "digest", "source", "profile"},
    "artifact": {"path", "folder"},
    "image": {"path", "key", "step"},
    "resume": {"parent"},
    "end": {"status", "reason"},
}
# MLflow's words for how a run ended; a diverged run is not a crash but has no result
STATUSES = {
    schema.FINISHED: "FINISHED",
    schema.DIVERGED: "FAILED",
    schema.FAILED: "FAILED",
    schema.TIMED_OUT: "KILLED",
    schema.PRUNED: "KILLED",
    schema.INTERRUPTED: "KILLED",
}


def now() -> int:
    """In milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)


@dataclass(frozen=True)
class Event:
    """A line of the file: its kind, its time in milliseconds since 1970, and the FIELDS of that kind."""

    kind: str
    time: int
    fields: Mapping[str, Any]

    @classmethod
    def of_line(cls, line: bytes) -> Self | None:
        """None if a damaged disk has made it unreadable: the others still count."""
        try:
            fields = json.loads(line)
            event = cls(fields.pop("event"), fields.pop("time"), fields)
            return event if FIELDS[event.kind] <= fields.keys() else None
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def line(self) -> bytes:
        fields = {"event": self.kind, "time": self.time, **self.fields}
        return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


class State:
    """What events say of a run, all of them or those since a position; status and times are as in MLflow.

    Attributes:
        parent: key of the run above it.
        points: value and time of every metric by its number of images.
        inputs: data sets, by the fields of their events.
        kept: artifacts that are still there: file or folder, and the folder that holds it among the artifacts.
        images: pictures that are still there, with their events.
        ended: 0 while it has not; so are `began` and an empty `status` without an event that says so.
        position: bytes of the events that were read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = self.parent = self.status = ""
        self.began = self.ended = self.position = 0
        self.tags: dict[str, str] = {}
        self.params: dict[str, str] = {}
        self.points: dict[str, dict[int, tuple[float, int]]] = {}
        self.inputs: list[Mapping[str, str]] = []
        self.kept: list[tuple[Path, str]] = []
        self.images: list[tuple[Path, Event]] = []

    @property
    def result(self) -> str:
        """How the run ended in our own words, `finished` for one, or `running`."""
        return self.tags.get(schema.STATUS, "")

    def add(self, event: Event) -> None:
        fields = event.fields
        path = inside(self.folder, fields["path"]) if "path" in fields else None
        match event.kind:
            case "start":
                self.name, self.began = fields["name"], event.time
                self.status, self.parent = "RUNNING", fields["parent"]
                self.tags |= fields["tags"]
            case "resume":
                self.status, self.parent, self.ended = "RUNNING", fields["parent"], 0
            case "metrics":
                for name, value in fields["values"].items():
                    self.points.setdefault(name, {})[fields["step"]] = value, event.time
            case "params":
                self.params |= fields["values"]
            case "tags":
                self.tags |= fields["values"]
            case "input":
                self.inputs.append(fields)
            case "artifact" if path:
                self.kept.append((path, fields["folder"]))
            case "image" if path:
                self.images.append((path, event))
            case "end":
                self.tags |= {schema.STATUS: fields["status"], schema.REASON: fields["reason"]}
                self.status, self.ended = STATUSES.get(fields["status"], "FAILED"), event.time

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of every metric."""
        return {name: points[max(points)][0] for name, points in self.points.items()}

    def history(self, metric: str) -> list[tuple[int, float]]:
        """(images, value) in order of images."""
        return sorted((images, value) for images, (value, _) in self.points.get(metric, {}).items())

    @cached_property
    def files(self) -> dict[str, Path]:
        """The files of all artifacts by their paths among these."""
        found: dict[str, Path] = {}
        for path, folder in self.kept:
            root, below = PurePosixPath(folder), path.rglob("*") if path.is_dir() else [path]
            top = path if path.is_dir() else path.parent
            found |= {str(root / file.relative_to(top)): file for file in below if file.is_file()}
        return found

    def artifact(self, path: str) -> Path | None:
        """The file of this path; or the folder, if all that it holds is in one."""
        if path in self.files:
            return self.files[path]
        folder = PurePosixPath(path)
        within = {file.parent for name, file in self.files.items() if folder in PurePosixPath(name).parents}
        return within.pop() if len(within) == 1 else None


def inside(folder: Path, path: str) -> Path | None:
    """A file or folder of a run; None if it is gone, or not within: the events may be from another user."""
    found = (folder / path).resolve()
    return folder / path if found.is_relative_to(folder.resolve()) and found.exists() else None


class RunFolder:
    """The folder of a run, to be read.

    Attributes:
        first: its first event.
        key: of the run, a tag in any store.
        experiment: of MLflow.
    """

    def __init__(self, path: Path, first: Event) -> None:
        self.path, self.first = path, first
        self.key, self.experiment = str(first.fields["key"]), str(first.fields["experiment"])

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """None if no run began there, its first event cannot be read, or a user deleted it."""
        try:
            with (path / FILE).open("rb") as file:
                line = file.readline()
        except (FileNotFoundError, NotADirectoryError):
            return None
        with suppress(FileNotFoundError), (path / DELETED).open("rb") as file:
            if file.readline() == line:  # the file has come back from a URL
                return None
        first = Event.of_line(line)
        return cls(path, first) if first and first.kind == START else None

    @property
    def size(self) -> int:
        """Bytes of the events."""
        return (self.path / FILE).stat().st_size

    @property
    def ongoing(self) -> bool:
        """Whether the run has not ended; quicker than its state."""
        content = (self.path / FILE).read_bytes()
        return content.rfind(b'{"event": "end"') <= content.rfind(b'{"event": "resume"')

    def events(self, position: int = 0) -> Iterator[tuple[Event | None, int]]:
        """The whole lines from there on, each with the position behind it; None: one that cannot be read."""
        with (self.path / FILE).open("rb") as file:
            file.seek(position)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # it is being written, or was cut
                position += len(line)
                yield Event.of_line(line), position

    def state(self, position: int = 0) -> State:
        state = State(self.path)
        for event, state.position in self.events(position):
            if event:
                state.add(event)
        return state

    def forget(self) -> None:
        """Put the events aside, since a user deleted the run in a store: the folder's next run is another."""
        with suppress(InUse, OSError), locked(self.path):  # else it is being written, or may not be
            (self.path / FILE).replace(self.path / DELETED)


def state_of(folder: Path) -> State | None:
    """The state of the run in a folder; None without events."""
    found = RunFolder.of(folder)
    return found.state() if found else None


def run_paths(root: Path) -> Iterator[Path]:
    """The folders of runs at or below a folder, if it is there; a run's folder holds no other runs."""
    if (root / FILE).is_file():
        yield root
    elif root.is_dir():
        for entry in os.scandir(root):
            if entry.is_dir():
                yield from run_paths(root / entry.name)


def run_folders(root: Path) -> list[RunFolder]:
    """The runs at or below a folder that can be read: those of invocations first, then the oldest."""
    found = filter(None, map(RunFolder.of, run_paths(root)))
    return sorted(found, key=lambda run: (run.path.parent.name != schema.INVOCATIONS, run.first.time, run.key))
