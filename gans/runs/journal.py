"""What is told about a run, in a file of its folder: a line of JSON for each call, in the order of the calls.

A line is there as soon as the call returns, whatever becomes of the tracking store; how far the store has been
told stands in a file beside it. The journal of a run that began in its folder holds all of it: from such a journal
a store can be told the run again from the start.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from gans import files

log = logging.getLogger("gans")

FILE, SENT, LOCK = "journal.jsonl", "journal.sent", ".journal.lock"
START, ADOPT = "start", "adopt"  # the calls of a first line
LOOK = 0.05  # seconds between looks at a lock that another holds


class Held(Exception):
    """Another thread or process tells a store of this journal."""


@dataclass(frozen=True)
class Line:
    """A call that was told.

    Attributes:
        call: name of a method of `gans.runs.telling.Telling`, or START or ADOPT.
        at: when, in milliseconds since 1970.
        given: its arguments by name.
    """

    call: str
    at: int
    given: Mapping[str, Any]

    @classmethod
    def read(cls, text: bytes) -> Self | None:
        """None if a damaged disk has made it unreadable: the others still count."""
        try:
            fields = json.loads(text)
            return cls(fields["call"], fields["at"], fields["given"])
        except (ValueError, KeyError, TypeError):
            return None

    def text(self) -> bytes:
        """With its end."""
        return json.dumps(asdict(self), ensure_ascii=False).encode() + b"\n"

    @property
    def points(self) -> int:
        """Values of metrics in it."""
        return len(self.given["values"]) if self.call == "log" else 0


@dataclass(frozen=True)
class Sent:
    """How far a store has been told.

    Attributes:
        run: MLflow's id of the run; empty: the store has not made it yet.
        position: bytes of the journal.
        parent: key of a parent that the store did not know yet.
        doubtful: a request to make the run was left without an answer, so that it may come to be made twice.
    """

    run: str = ""
    position: int = 0
    parent: str = ""
    doubtful: bool = False


class Journal:
    """The journal in a folder, whose first line says of which run it is.

    Attributes:
        key: what the run is known by: a name that its first journal gave it, and that is a tag of it; of a run
            that was made without a journal, MLflow's id.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / FILE
        self.writing = threading.Lock()

    @classmethod
    def start(cls, folder: Path, experiment: str, name: str, tags: Mapping[str, str], parent: str = "") -> Self:
        """Begin that of a new run."""
        about = {"key": uuid.uuid4().hex, "experiment": experiment, "name": name, "tags": dict(tags)}
        return cls._begin(folder, START, about | {"parent": parent})

    @classmethod
    def adopt(cls, folder: Path, experiment: str, key: str) -> Self:
        """Begin one for what is still to be told of a run that the store has."""
        return cls._begin(folder, ADOPT, {"key": key, "experiment": experiment})

    @classmethod
    def _begin(cls, folder: Path, call: str, given: Mapping[str, Any]) -> Self:
        cls(folder).remove()
        files.write_bytes(folder / FILE, Line(call, now(), given).text())
        return cls(folder)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """That of a folder, to read it; None if there is none, or its first line cannot be read."""
        journal = cls(folder)
        return journal if journal.path.is_file() and journal.head else None

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """That of a folder, to write on: a last line that a kill has cut is taken off."""
        journal = cls(folder)
        if journal.path.is_file():
            journal._mend()
            lost = sum(line is None for line, _ in journal.passages())
            if lost or not journal.head:
                log.warning("%s is damaged; %s lines of it are left out", journal.path, lost or "all")
        return cls.read(folder)

    def _mend(self) -> None:
        with self.path.open("r+b") as file:
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)

    def remove(self) -> None:
        """The next run of the folder begins another."""
        for name in (SENT, FILE):
            (self.folder / name).unlink(missing_ok=True)

    @cached_property
    def head(self) -> Line | None:
        first = next(iter(self.lines()), None)
        return first if first and first.call in (START, ADOPT) and first.given.get("key") else None

    @property
    def about(self) -> Mapping[str, Any]:
        """What its first line says."""
        assert self.head is not None
        return self.head.given

    @property
    def key(self) -> str:
        return str(self.about["key"])

    @property
    def experiment(self) -> str:
        return str(self.about["experiment"])

    @property
    def begun(self) -> int:
        """When, in milliseconds since 1970."""
        assert self.head is not None
        return self.head.at

    @property
    def whole(self) -> bool:
        """Whether it holds all of its run."""
        return self.head is not None and self.head.call == START

    @property
    def size(self) -> int:
        """In bytes."""
        return self.path.stat().st_size

    def append(self, call: str, **given: Any) -> None:
        """Write down a call; it is safe from a kill of this process when this returns."""
        line = Line(call, now(), given).text()
        with self.writing, self.path.open("ab", buffering=0) as file:
            file.write(line)

    def sync(self) -> None:
        """Let what was told outlive a power cut."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())

    def passages(self, position: int = 0) -> Iterator[tuple[Line | None, int]]:
        """The whole lines from there on, each with the position behind it; None: one that cannot be read."""
        with self.path.open("rb") as file:
            file.seek(position)
            for text in file:
                if not text.endswith(b"\n"):
                    return  # it is being written, or was cut
                position += len(text)
                yield Line.read(text), position

    def lines(self, position: int = 0) -> Iterator[Line]:
        """All that can be read from there on."""
        return (line for line, _ in self.passages(position) if line)

    # --- how far the store has been told

    @property
    def sent(self) -> Sent:
        """Nothing, if that is not known: telling a call twice does no harm."""
        try:
            return Sent(**json.loads((self.folder / SENT).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return Sent()

    def mark(self, **changes: Any) -> Sent:
        """Write down what has changed of it."""
        sent = replace(self.sent, **changes)
        files.write_text(self.folder / SENT, json.dumps(asdict(sent)))
        return sent

    @contextmanager
    def held(self, seconds: float = 0.0) -> Iterator[None]:
        """Be the only one who tells a store of it.

        Raises:
            Held: another still does after so many seconds.
        """
        deadline = time.monotonic() + seconds
        with (self.folder / LOCK).open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise Held from None
                    time.sleep(LOOK)
            yield


def now() -> int:
    """In milliseconds since 1970, as MLflow counts."""
    return int(time.time() * 1000)


def journals(folder: Path) -> list[Journal]:
    """All below a folder, if it is there, the oldest first, so that a parent comes before its children."""
    found = (Journal.read(path.parent) for path in folder.rglob(FILE))
    return sorted((journal for journal in found if journal), key=lambda journal: (journal.begun, journal.key))
