"""A run that is being written: what it is told goes to the journal in its folder, and a courier brings it on."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from gans import schema
from gans.files import write_text
from gans.runs import slider
from gans.runs.courier import GRACE, OPENING, Courier
from gans.runs.folder import run_of
from gans.runs.journal import Journal
from gans.runs.last import Last
from gans.runs.provenance import provenance
from gans.runs.system import PREFIX, SystemWatch
from gans.runs.telling import Telling


class LiveRun(Telling):
    """One run that is being written; nothing that it is told waits for the tracking store.

    Args:
        journal: of the run.
        uri: of the store that is told what stands there.

    Attributes:
        new: whether it has just begun.
        seconds: spent on writing down what it was told.
    """

    def __init__(self, journal: Journal, uri: str, new: bool = False) -> None:
        self.journal, self.new = journal, new
        self.courier = Courier(journal, uri)
        self.over = False
        self.watch: SystemWatch | None = None
        self.seconds = 0.0

    @classmethod
    def start(
        cls, folder: Path, uri: str, experiment: str, name: str, tags: Mapping[str, str], parent: str | None = None
    ) -> Self:
        """A new run of the code that runs now; what an earlier one left to be told in the folder is forgotten.

        Args:
            folder: its own.
            uri: of the store.
            experiment: the MLflow experiment.
            name: of the run.
            tags: beside those that say which code runs.
            parent: key of the invocation's run.
        """
        journal = Journal.start(folder, experiment, name, {**provenance(), **tags}, parent or "")
        run = cls(journal, uri, new=True)
        run.settle(OPENING)
        return run

    @classmethod
    def of(cls, folder: Path, uri: str, experiment: str, key: str | None = None) -> Self | None:
        """The run that began in a folder.

        Args:
            folder: its own.
            uri: of the store.
            experiment: the MLflow experiment.
            key: of the run; None: whichever has the folder.

        Returns:
            None if there is none, if it was deleted in the store, or if that is lost and nobody else knows it.
        """
        journal = Journal.open(folder)
        if journal is None or key not in (None, journal.key, journal.sent.run):
            key = key or run_of(folder)
            if key is None:
                return None
            journal = Journal.adopt(folder, experiment, key)
        run = cls(journal, uri)
        run.settle(OPENING)
        if run.courier.gone:
            journal.remove()
            return None
        return run

    @property
    def key(self) -> str:
        """What it is known by, in whatever store."""
        return self.journal.key

    @property
    def id(self) -> str:  # type: ignore[override]
        return self.journal.sent.run or self.key

    def status(self) -> str:
        """`running`, or how it ended, by the last that was told here; empty if nothing was."""
        return Last.told(self.journal).status

    # --- what it is told

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start

    def append(self, call: str, **given: Any) -> None:
        with self._timed():
            self.journal.append(call, **given)
            self.courier.wake(self.over)

    def resume(self, parent: str | None = None) -> None:
        """It goes on, as a child of another invocation."""
        self.append("resume", parent=parent or "")

    def log(self, images: int, values: Mapping[str, float]) -> None:
        self.append("log", images=images, values={name: float(value) for name, value in values.items()})

    def flush(self) -> None:
        with self._timed():
            self.journal.sync()

    def params(self, values: Mapping[str, Any]) -> None:
        self.append("params", values={name: str(value) for name, value in values.items()})

    def tag(self, values: Mapping[str, str]) -> None:
        self.append("tag", values=dict(values))

    def untag(self, prefix: str) -> None:
        self.append("untag", prefix=prefix)

    def input(self, name: str, digest: str, source: str, profile: str) -> None:
        self.append("input", name=name, digest=digest, source=source, profile=profile)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        self.append("artifact", path=self.keep(path, folder), folder=folder)

    def artifacts(self, path: Path, folder: str) -> None:
        self.append("artifacts", path=self.keep(path, folder), folder=folder)

    def picture(self, path: Path, key: str, images: int) -> None:
        """A picture of this name after `images` images, for the slider of MLflow's UI."""
        with self._timed():
            made = slider.stepped(path, self.journal.folder / slider.FOLDER, key, images)
        for file in made:
            self.artifact(file, slider.FOLDER)
        self.tag({slider.LOGGED: "True"})

    def text(self, content: str, name: str) -> None:
        path = self.journal.folder / schema.KEPT / name
        write_text(path, content)
        folder, _, _ = name.rpartition("/")
        self.artifact(path, folder or None)

    def keep(self, path: Path, folder: str | None) -> str:
        """The path within the run's folder of a file or folder, which is copied there if it lies elsewhere."""
        here = self.journal.folder
        if path.resolve().is_relative_to(here.resolve()):
            return path.resolve().relative_to(here.resolve()).as_posix()
        with self._timed():
            target = here / schema.KEPT / (folder or "")
            target.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, target, dirs_exist_ok=True)
            else:
                target /= path.name
                shutil.copyfile(path, target)
        return target.relative_to(here).as_posix()

    def watch_system(self) -> None:
        """Log CPU, memory, disk, network and GPU use until the run ends."""
        samples = sum(
            any(name.startswith(PREFIX) for name in line.given["values"])
            for line in self.journal.lines()
            if line.call == "log"
        )
        self.watch = SystemWatch(self.log, samples)

    def finish(self, status: str, reason: str = "") -> None:
        if self.watch:
            self.watch.stop()
        super().finish(status, reason)

    def end(self, status: str) -> None:
        self.append("end", status=status)
        self.close(GRACE)

    def close(self, seconds: float) -> bool:
        """Nothing more is to be told, unless it is after all; whether the store has been told all by then."""
        self.over = True
        return self.settle(seconds)

    def settle(self, seconds: float) -> bool:
        """Wait until the store has been told all; whether it has, see `Courier.settle`."""
        with self._timed():
            return self.courier.settle(seconds, self.over)


def invocation(folder: Path) -> Path:
    """A new folder for the run of an invocation, beside those of its cells."""
    return folder / schema.INVOCATIONS / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
