"""A folder of runs at a URL (`RUNS=s3://bucket/runs`), of any kind that fsspec knows.

Each process that works with it has a *mirror*, a temporary folder. A node fetches the folder of a job into its
mirror, and brings what has changed to the URL every few seconds and at the end. The runner's mirror follows what
nodes bring, for plans and for the export to the tracking store, and brings what the runner writes itself.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Self

from benchmarks.job import Report
from gans import files, schema
from gans.errors import InputError, first_line
from gans.runs import locks
from gans.runs.events import FILE, MARKS, run_folders, run_paths
from gans.runs.locks import Holder
from gans.urls import shown

log = logging.getLogger("gans")

EVERY = 10.0  # seconds between what a node brings, and what the runner fetches
TOKEN = ".shared"  # a file by which nodes see that a folder or URL is the same
LEASE = "in-use.json"  # says which runner works with the URL: object stores have no locks
LAPSE = 60.0  # seconds without a sign of life, after which a runner of another machine is taken for dead
TRIES, PAUSE = 3, 2.0  # for a request, and seconds between them
NETWORKS = {schema.CHECKPOINT, schema.GENERATOR}
LAST = {FILE: 1, MARKS: 2}  # events are brought after the files that they name


class Mirror:
    """A folder of runs at a URL, and its files here.

    Args:
        url: of the folder.
        root: of the mirror.

    Attributes:
        remote: what was known of files there, by their paths from the URL.
        local: likewise of files here, when they were last the same.
        there: files there when the runner began.
        failed: why files could not be brought, by their paths; they stay here.

    Raises:
        InputError: fsspec cannot use the URL.
    """

    def __init__(self, url: str, root: Path) -> None:
        self.name, self.root = shown(url), root
        self.files, self.base = opened(url)
        self.remote: dict[str, str] = {}
        self.local: dict[str, tuple[int, int]] = {}
        self.there: frozenset[str] = frozenset()
        self.failed: dict[str, str] = {}
        self.due = time.monotonic() + EVERY
        self.turn = threading.RLock()

    @classmethod
    @contextmanager
    def temporary(cls, url: str) -> Iterator[Self]:
        """A mirror that comes and goes; it stays if something could not be brought."""
        mirror = cls(url, locks.temporary_folder("gans-runs-"))
        try:
            yield mirror
        finally:
            if mirror.failed:
                (mirror.root / locks.LOCK).unlink(missing_ok=True)  # or it would be cleared away
            else:
                shutil.rmtree(mirror.root, ignore_errors=True)

    # --- from there

    def listed(self, below: str = "") -> dict[str, str]:
        """What is known of the files below a folder there, by their paths from the URL."""
        self.files.invalidate_cache()
        try:
            found = self.files.find(f"{self.base}/{below}".rstrip("/"), detail=True)
        except FileNotFoundError:
            return {}
        return {path.removeprefix(self.base).lstrip("/"): repr(about) for path, about in found.items()}

    def pull(self, below: str = "", networks: bool = True) -> None:
        """Fetch what has changed there.

        Events are read before the listing of the files that they name, and put down behind these.

        Args:
            below: this folder only.
            networks: all networks too; else those only that events name, at the end of a run.
        """
        with self.turn:
            events = {
                path: (about, self.attempt(partial(self.files.cat_file, f"{self.base}/{path}")))
                for path, about in self.changed(below).items()
                if PurePosixPath(path).name == FILE
            }
            for path, about in self.changed(below).items():
                _, content = events.get(str(PurePosixPath(path).with_name(FILE)), ("", b""))
                if path not in events and (networks or needed(path, content)):
                    self.get(path)
                    self.note(path, about)
            for path, (about, content) in events.items():
                files.write_bytes(self.root / path, content)
                self.note(path, about)

    def get(self, path: str) -> None:
        there = f"{self.base}/{path}"
        files.atomically(
            self.root / path, lambda part: self.attempt(partial(self.files.get_file, there, str(part)))
        )

    def changed(self, below: str) -> dict[str, str]:
        """The files there that are not here as they are there."""
        found = self.attempt(lambda: self.listed(below))
        return {
            path: about
            for path, about in found.items()
            if self.remote.get(path) != about and travels(PurePosixPath(path).name)
        }

    def note(self, path: str, about: str) -> None:
        self.remote[path], self.local[path] = about, state(self.root / path)

    def attempt(self, request: Callable[[], Any]) -> Any:
        """Make a request, some times.

        Raises:
            InputError: it fails each time.
        """
        for attempt in range(TRIES):
            time.sleep(PAUSE * attempt)
            try:
                return request()
            except Exception as error:  # each kind of store has its own
                why = first_line(error)
        raise InputError(f"cannot use RUNS={self.name}: {why}; see that it is there and may be written to")

    # --- to there

    def push(self, below: str = "") -> None:
        """Bring what has changed here: first networks, then what events name, events, marks.

        Raises:
            InputError: some files could not be brought.
        """
        with self.turn:
            for path in sorted((self.root / below).rglob("*"), key=rank):
                name = path.relative_to(self.root).as_posix()
                with suppress(FileNotFoundError):  # it was removed meanwhile
                    if path.is_file() and travels(path.name) and self.local.get(name) != state(path):
                        self.put(name)
        if self.failed:
            why = next(iter(self.failed.values()))
            raise InputError(
                f"{len(self.failed)} files were not brought to {self.name} ({why}); they are kept in {self.root}"
            )

    def put(self, path: str) -> None:
        now, there = state(self.root / path), f"{self.base}/{path}"
        try:
            self.attempt(lambda: self.upload(path, there))
        except InputError as error:
            self.failed[path] = str(error)
            return
        self.local[path] = now
        self.remote[path] = repr(self.files.info(there))
        self.failed.pop(path, None)

    def upload(self, path: str, there: str) -> None:
        make_folder_of(self.files, there)
        self.files.put_file(str(self.root / path), there)

    def pushing(self, report: Report) -> Report:
        """A listener that brings what has changed every few seconds; a failure is tried again the next time."""

        def both(images: int, values: Mapping[str, float]) -> None:
            report(images, values)
            if time.monotonic() > self.due:
                with suppress(InputError):
                    self.push()
                self.due = time.monotonic() + EVERY

        return both

    # --- the runner's

    @classmethod
    @contextmanager
    def of_runner(cls, url: str, writes: bool) -> Iterator[Self]:
        """The mirror of the one runner that may write there, which follows what nodes bring.

        Args:
            url: of the folder.
            writes: whether runs are to be written; else the URL is only read.

        Raises:
            InputError: the URL cannot be used, or another runner uses it.
        """
        with cls.temporary(url) as mirror:
            if writes:
                mirror.take()
            mirror.there = frozenset(mirror.attempt(mirror.listed))
            mirror.pull(networks=False)
            for run in run_folders(run_paths(mirror.root)):
                if max((mark.position for mark in run.marks().values()), default=0) < run.size:
                    mirror.pull(run.path.relative_to(mirror.root).as_posix())  # it is still to be exported
            over = threading.Event()
            thread = threading.Thread(target=mirror.follow, args=(over,), daemon=True)
            if writes:
                thread.start()
            try:
                yield mirror
            finally:
                over.set()
                if writes:
                    thread.join()
                    mirror.push()
                    with suppress(Exception):
                        mirror.files.rm_file(f"{mirror.base}/{LEASE}")

    def follow(self, over: threading.Event) -> None:
        """In a thread: fetch what nodes bring, and give signs of life."""
        while not over.wait(EVERY):
            try:
                self.beat()
                self.pull(networks=False)
            except Exception as error:  # the next time may come through
                log.info("%s: %s", self.name, first_line(error))

    def take(self) -> None:
        """Be the only runner that writes there.

        Raises:
            InputError: another one does.
        """
        holder, quiet = self.attempt(self.lease)
        if holder and holder.is_alive and (holder.host == locks.HOST or quiet < LAPSE):
            raise InputError(
                f"RUNS={self.name} is in use by {holder}, which wrote {max(0.0, quiet):.0f} s ago; "
                "wait for it, stop it, or name another folder there"
            )
        self.attempt(self.beat)

    def lease(self) -> tuple[Holder | None, float]:
        """The runner that writes there, if one does, and the seconds since its last sign of life."""
        try:
            lease = json.loads(self.files.cat_file(f"{self.base}/{LEASE}"))
            return Holder.of_text(lease["holder"]), time.time() - lease["at"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None, 0.0

    def beat(self) -> None:
        make_folder_of(self.files, f"{self.base}/{LEASE}")
        text = json.dumps({"holder": Holder.of(self.root).text(), "at": time.time()})
        self.files.pipe_file(f"{self.base}/{LEASE}", text.encode())

    def begun(self, folder: Path) -> bool:
        """Whether a run has a checkpoint there."""
        return f"{folder.relative_to(self.root).as_posix()}/{schema.CHECKPOINT}" in self.there


def needed(path: str, events: bytes) -> bool:
    """Whether the export of a run, whose events were just read, needs a file."""
    name = PurePosixPath(path).name
    return name not in NETWORKS or name.encode() in events


def state(path: Path) -> tuple[int, int]:
    """When a file was changed, in nanoseconds, and its bytes."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def rank(path: Path) -> tuple[int, str]:
    return (-1 if path.name in NETWORKS else LAST.get(path.name, 0)), str(path)


def travels(name: str) -> bool:
    """Whether a file belongs to others too: locks, and files that are being written, have names with a dot."""
    return not name.startswith(".") and name not in (schema.PREVIOUS, LEASE)


def opened(url: str) -> tuple[Any, str]:
    """What reads and writes the files of a URL, and its path there.

    Raises:
        InputError: nothing does, or its package is not installed.
    """
    import fsspec

    try:
        found, base = fsspec.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError(f"RUNS={shown(url)}: {first_line(error)}") from None
    except Exception as error:  # each kind of store has its own
        raise InputError(f"cannot use RUNS={shown(url)}: {first_line(error)}") from None
    return found, str(base).rstrip("/")


def make_folder_of(found: Any, path: str) -> None:
    """Make the folder of a file; object stores, whose calls fsspec makes asynchronously, have none."""
    if not found.async_impl:
        found.makedirs(path.rpartition("/")[0], exist_ok=True)


def write_token(url: str, folder: Path) -> str:
    """Leave a file in a folder, or at a URL, by which nodes see whether theirs is the same; what it holds.

    Raises:
        InputError: it cannot be written to.
    """
    if held := read_token(url, folder):
        return held
    held = uuid.uuid4().hex
    try:
        if url:
            found, base = opened(url)
            make_folder_of(found, f"{base}/{TOKEN}")
            found.pipe_file(f"{base}/{TOKEN}", held.encode())
        else:
            files.write_text(folder / TOKEN, held)
    except OSError as error:
        raise InputError(
            f"cannot write to {shown(url) or folder}: {first_line(error)}; name another: RUNS="
        ) from None
    return held


def read_token(url: str, folder: Path) -> str:
    """What the file holds; empty if there is none.

    Raises:
        InputError: the URL cannot be used.
    """
    try:
        if url:
            found, base = opened(url)
            content: bytes = found.cat_file(f"{base}/{TOKEN}")
            return content.decode()
        return (folder / TOKEN).read_text(encoding="utf-8")
    except OSError:
        return ""
