"""A folder of runs at a URL (`RUNS=s3://bucket/runs`), of any kind that fsspec supports.

Each process that works with it has a *mirror*, a temporary folder. A node downloads the folder of a job into its
mirror, and uploads changes every few seconds and at the end. The runner's mirror downloads the changes of nodes,
for plans and for the export to the tracking store, and uploads those of the runner.
"""

import json
import logging
import os
import posixpath
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import psutil

from benchmarks.job import Report
from gans import files, schema
from gans.errors import InputError, first_line, shown
from gans.runs.events import FILE
from gans.runs.locks import HOST

log = logging.getLogger("gans")

EVERY = 10.0  # seconds between uploads of a node, and between downloads of the runner
TOKEN = ".shared"  # a file by which nodes see that a folder or URL is the same
LEASE = "runner.json"  # says which runner works with the URL: object stores have no locks
LAPSE = 60.0  # seconds without a heartbeat until a runner counts as dead
NETWORKS = (schema.CHECKPOINT, schema.GENERATOR)
ORDER = {schema.CHECKPOINT: -1, schema.GENERATOR: -1, FILE: 1}  # events follow the files that they name


class Remote:
    """The files at a URL or in a folder, by their paths from there; an InputError if they are out of reach."""

    def __init__(self, place: str) -> None:
        import fsspec

        self.name = shown(place)
        with self.reached():
            self.files, base = fsspec.url_to_fs(place)
        self.base = base.rstrip("/")

    @contextmanager
    def reached(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:  # each kind of store has its own, and tries requests again by itself
            why = f"{first_line(error)}; check that it exists and is writable"
            raise InputError(f"cannot use RUNS={self.name}: {why}") from None

    def read(self, path: str, size: int | None = None) -> bytes:
        """A file, or so many of its bytes; FileNotFoundError if there is none."""
        with self.reached():
            content: bytes = self.files.cat_file(f"{self.base}/{path}", 0, size)
        return content

    def write(self, path: str, content: bytes) -> None:
        with self.reached():
            with suppress(PermissionError):  # a bucket is there, and may not be made
                self.files.makedirs(posixpath.dirname(f"{self.base}/{path}"), exist_ok=True)
            self.files.pipe_file(f"{self.base}/{path}", content)

    def listed(self, below: str = "") -> dict[str, dict[str, Any]]:
        """What is known of the files below a folder, by their paths."""
        self.files.invalidate_cache()
        with self.reached():
            found = self.files.find(f"{self.base}/{below}".rstrip("/"), detail=True)
        return {path.removeprefix(self.base).lstrip("/"): about for path, about in found.items()}


class Mirror:
    """A folder of runs at a URL, and its files here.

    Attributes:
        there: size and time of the files at the URL, by path, when they were fetched.
        here: the same of the files here, when both sides were last equal.
    """

    def __init__(self, url: str, root: Path) -> None:
        self.remote, self.root = Remote(url), root
        self.there: dict[str, str] = {}
        self.here: dict[str, tuple[int, int]] = {}
        self.due = time.monotonic() + EVERY
        self.turn = threading.Lock()

    @classmethod
    @contextmanager
    def temporary(cls, url: str) -> Iterator[Self]:
        """A temporary mirror; a later process removes one that is left behind."""
        mirror = cls(url, temporary_folder("gans-runs"))
        yield mirror
        shutil.rmtree(mirror.root, ignore_errors=True)

    def pull(self, below: str = "", networks: bool = True) -> None:
        """Download changes, of one folder or all; with `networks` all of them, else those only that events name.

        Events come last and as they were when all was listed, so that the files that they name are here.
        """
        with self.turn:
            listed = self.remote.listed(below)
            changed = {p: about for p, about in listed.items() if travels(p) and self.there.get(p) != repr(about)}
            events = {p: self.remote.read(p, changed[p]["size"]) for p in changed if posixpath.basename(p) == FILE}
            for path in changed.keys() - events.keys():
                folder, name = posixpath.split(path)
                if networks or name not in NETWORKS or name.encode() in events.get(f"{folder}/{FILE}", b""):
                    self.keep(path, changed[path], self.remote.read(path))
            for path, content in events.items():
                self.keep(path, changed[path], content)

    def keep(self, path: str, about: Mapping[str, Any], content: bytes) -> None:
        files.write_bytes(self.root / path, content)
        self.there[path], self.here[path] = repr(about), state(self.root / path)

    def push(self) -> None:
        """Upload changes: first networks, then files that events name, then events."""
        with self.turn:
            for path in sorted(self.root.rglob("*"), key=lambda path: (ORDER.get(path.name, 0), path)):
                name = path.relative_to(self.root).as_posix()
                with suppress(FileNotFoundError):  # it was removed meanwhile
                    if travels(name) and path.is_file() and self.here.get(name) != (now := state(path)):
                        self.remote.write(name, path.read_bytes())
                        self.here[name] = now

    def push_all(self) -> None:
        """Upload the rest, or report where it is kept."""
        try:
            self.push()
        except InputError as error:
            kept = self.root.rename(self.root.with_name(f"kept-{self.root.name}"))  # or it would be cleared away
            raise InputError(f"{error}; files that were not uploaded are in {kept}") from None

    def pushing(self, report: Report) -> Report:
        """A listener that uploads changes every few seconds; failures are retried."""

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
        """The mirror of the only writing runner, which follows the nodes; or of a reader."""
        with cls.temporary(url) as mirror:
            if not writes:
                mirror.pull(networks=False)
                yield mirror
                return
            mirror.take()
            try:
                with repeating(mirror.beat):
                    try:
                        mirror.pull(networks=False)
                        with repeating(partial(mirror.pull, networks=False)):
                            yield mirror
                    finally:
                        mirror.push_all()
            finally:
                with suppress(Exception):
                    mirror.remote.files.rm_file(f"{mirror.remote.base}/{LEASE}")

    def take(self) -> None:
        """Be the only runner that writes there."""
        with suppress(FileNotFoundError, json.JSONDecodeError):
            pid, host, since = json.loads(self.remote.read(LEASE))
            quiet = max(0.0, time.time() - since)
            if quiet < LAPSE and (host != HOST or psutil.pid_exists(pid)):
                raise InputError(
                    f"RUNS={self.remote.name} is in use by process {pid} on {host}, which wrote {quiet:.0f} s "
                    "ago; wait for it, stop it, or name another folder there"
                )
        self.beat()

    def beat(self) -> None:
        self.remote.write(LEASE, json.dumps([os.getpid(), HOST, time.time()]).encode())


@contextmanager
def repeating(call: Callable[[], object]) -> Iterator[None]:
    """Calls it every few seconds, in a thread; after a failure the next call may come through."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(EVERY):
            try:
                call()
            except Exception as error:
                log.info("%s", first_line(error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def temporary_folder(name: str) -> Path:
    """A new temporary folder; those of processes of this machine that have ended are removed."""
    name = f"{name}-{HOST}-"
    for left in Path(tempfile.gettempdir()).glob(f"{name}*"):
        pid = left.name.removeprefix(name).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}{os.getpid()}-"))


def state(path: Path) -> tuple[int, int]:
    """When a file was changed, in nanoseconds, and its bytes."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def travels(path: str) -> bool:
    """Whether a file belongs to others too: locks, and files that are being written, have names with a dot."""
    name = posixpath.basename(path)
    return not name.startswith(".") and name not in (schema.PREVIOUS, LEASE)


def read_token(place: str) -> str:
    """What a file at a URL or in a folder holds, by which nodes see whether theirs is the same; empty if none."""
    try:
        return Remote(place).read(TOKEN).decode()
    except FileNotFoundError:
        return ""


def write_token(place: str) -> str:
    """Leave such a file, if there is none; what it holds."""
    if not (token := read_token(place)):
        token = uuid.uuid4().hex
        Remote(place).write(TOKEN, token.encode())
    return token
