"""A folder of runs at a URL (`RUNS=s3://bucket/runs`), of any kind that fsspec knows.

The runner works in a folder of this machine, its *mirror*: what is at the URL and is wanted is fetched, what is
new is brought, by a thread of its own. Nodes need no access to the URL: their files come to the runner
(`benchmarks.away`).
"""

from __future__ import annotations

import json
import logging
import queue
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Self

from benchmarks.away import State, state, states
from gans import schema
from gans.errors import InputError, first_line
from gans.runs import events, locks
from gans.runs.locks import Holder
from gans.urls import shown

log = logging.getLogger("gans")

LEASE = "in-use.json"  # says which runner works with the URL: object stores know no locks
BEAT = 20.0  # seconds between two signs of life
SILENT = 60.0  # seconds without one, after which a runner of another machine is taken for dead
TRIES = 3  # to bring a file
PAUSE = 2.0  # seconds between them
SETTLED = 1.0  # seconds after which of two that took it at once the last one has it
MANY = 20  # files that take a while
# what a runner wants to know of every run, before anything runs
TOLD = {events.FILE, events.MARKS, schema.OUTCOME}


class Depot:
    """A folder of runs at a URL.

    Attributes:
        mirror: on this machine; removed in the end, unless something could not be brought.
        failed: why files could not be brought, by their paths.

    Raises:
        InputError: on construction, if the URL cannot be used, or another runner uses it.
    """

    def __init__(self, url: str) -> None:
        self.url, self.name = url, shown(url)
        self.files, self.root = opened(url)
        self.mirror = locks.lodge("gans-runs-")
        self.queue: queue.Queue[Path | None] = queue.Queue()
        self.found: set[str] = set()  # files there, by their paths from the URL, when it was entered
        self.brought: dict[Path, State] = {}
        self.failed: dict[Path, str] = {}
        self.made: set[str] = set()  # folders there
        self.threads: list[threading.Thread] = []
        self.over = threading.Event()
        self.me = Holder.of(self.mirror)
        self.taken = ""  # by whom, if another runner has taken the URL meanwhile

    def enter(self, writes: bool) -> Self:
        """Fetch what is known of all runs.

        Args:
            writes: whether runs are to be written; else the URL is only read.
        """
        try:
            if writes:
                self.make("")
                self.take()
            self.found = set(self.listed(""))
            self.get([path for path in self.found if PurePosixPath(path).name in TOLD])
            if writes:
                self.fetch_untold()
        except Exception as error:  # of each kind of store its own
            shutil.rmtree(self.mirror, ignore_errors=True)
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"cannot use RUNS={self.name}: {first_line(error)}; see that it is there and may be written to"
            ) from None
        if writes:
            self.threads = [threading.Thread(target=each, daemon=True) for each in (self.work, self.live)]
            for thread in self.threads:
                thread.start()
        return self

    # --- who uses it

    def take(self) -> None:
        """Be the only runner that writes there.

        Raises:
            InputError: another one does.
        """
        holder, told = self.lease() or (None, 0.0)
        silence = time.time() - told
        if holder and holder.living and (holder.host == locks.HOST or silence < SILENT):
            raise InputError(
                f"RUNS={self.name} is in use by {holder}, heard {max(0.0, silence):.0f} s ago; "
                "wait for it, stop it, or name another folder there"
            )
        self.beat()
        time.sleep(SETTLED)
        self.keep()

    def keep(self) -> None:
        """See that nobody else has taken it.

        Raises:
            InputError: somebody has: two have started at once.
        """
        holder, _ = self.lease() or (None, 0.0)
        if holder and holder != self.me:
            self.taken = str(holder)
            raise InputError(f"RUNS={self.name} was taken by {holder}; wait for it, or name another folder there")

    def lease(self) -> tuple[Holder, float] | None:
        """Who uses it, and when that was told; None if nobody does."""
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            told = json.loads(self.files.cat_file(self.remote(LEASE)))
            holder = Holder.of_text(told["holder"])
            return (holder, float(told["at"])) if holder else None
        return None

    def live(self) -> None:
        """What a thread does: give signs of life, until another runner has taken the URL."""
        while not self.over.wait(BEAT):
            try:
                self.keep()
                self.beat()
            except InputError:
                return
            except Exception as error:  # of each kind of store its own; the next sign may come through
                log.info("no sign of life at %s: %s", self.name, first_line(error))

    def beat(self) -> None:
        told = {"holder": self.me.text(), "at": time.time()}
        self.files.pipe_file(self.remote(LEASE), json.dumps(told).encode())

    # --- from there

    def listed(self, below: str) -> list[str]:
        """The files below a folder there, by their paths from the URL."""
        folder = self.remote(below)
        with suppress(FileNotFoundError):
            return [path.removeprefix(self.root).lstrip("/") for path in self.files.find(folder)]
        return []

    def had(self, path: Path) -> bool:
        """Whether there was, in the beginning, the file that the mirror has at this path once it is fetched."""
        return path.relative_to(self.mirror).as_posix() in self.found

    def fetch(self, folder: Path) -> None:
        """Have what is there of a folder that is not here.

        Raises:
            InputError: it cannot be had.
        """
        below = folder.relative_to(self.mirror).as_posix()
        for attempt in range(TRIES):
            time.sleep(PAUSE * attempt)
            try:
                self.get([path for path in self.listed(below) if not (self.mirror / path).exists()])
                return
            except Exception as error:  # of each kind of store its own
                why = first_line(error)
        raise InputError(f"cannot fetch {below} from {self.name}: {why}; the same command tries again")

    def fetch_untold(self) -> None:
        """Have the files of runs that the tracking store was not told all of: they are to be told."""
        for run in events.run_folders(events.run_paths(self.mirror)):
            if max((mark.position for mark in run.marks().values()), default=0) < run.size:
                self.fetch(run.path)

    def get(self, paths: list[str]) -> None:
        targets = [self.mirror / path for path in paths]
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
        if paths:
            self.files.get([self.remote(path) for path in paths], [str(target) for target in targets])
        for target in targets:
            self.brought[target] = state(target)

    def remote(self, path: str) -> str:
        """A path there, of one from the URL."""
        return self.root if path in ("", ".") else f"{self.root}/{path}"

    # --- to there

    def bring(self, paths: list[Path]) -> None:
        """Bring files there, in this order, meanwhile."""
        for path in paths:
            self.queue.put(path)

    def work(self) -> None:
        """What a thread does: bring files."""
        while (path := self.queue.get()) is not None:
            self.carry(path)

    def carry(self, path: Path) -> None:
        """Bring a file, trying again, unless it is there as it is: its next state may have overtaken it."""
        for attempt in range(TRIES):
            time.sleep(PAUSE * attempt)
            if not path.exists():  # it was removed meanwhile
                return
            try:
                now = state(path)
                if self.brought.get(path) == now:
                    return
                if self.taken:
                    raise InputError(f"{self.name} was taken by {self.taken}")
                self.put(path)
            except Exception as error:  # of each kind of store its own
                self.failed[path] = first_line(error)
                self.made.clear()
            else:
                self.brought[path] = now
                self.failed.pop(path, None)
                return

    def make(self, folder: str) -> None:
        """Make a folder there; object stores, whose calls fsspec makes asynchronously, have none."""
        if folder not in self.made and not self.files.async_impl:
            self.files.makedirs(self.remote(folder), exist_ok=True)
            self.made.add(folder)

    def put(self, path: Path) -> None:
        """Bring a file."""
        parent = path.relative_to(self.mirror).parent.as_posix()
        self.make(parent)
        self.files.put_file(str(path), f"{self.remote(parent)}/{path.name}")

    def leave(self) -> list[str]:
        """Bring all that has changed, and let go; what is to be said of it."""
        if self.threads:
            left = [path for path, now in states(self.mirror).items() if self.brought.get(path) != now]
            self.bring(left)
            self.queue.put(None)
            if len(left) > MANY:
                print(f"bringing {len(left)} files to {self.name}")
            self.threads[0].join()
            self.over.set()
            self.threads[1].join()
            with suppress(Exception):  # it is told by silence, then
                self.keep()
                self.files.rm_file(self.remote(LEASE))
        if self.failed:
            (self.mirror / locks.LOCK).unlink(missing_ok=True)  # or it would be cleared away
            count, why = len(self.failed), next(iter(self.failed.values()))
            return [f"{count} files could not be brought to {self.name} ({why}); they are kept in {self.mirror}"]
        shutil.rmtree(self.mirror, ignore_errors=True)
        return []


def opened(url: str) -> tuple[Any, str]:
    """What reads and writes the files of a URL, and its path there.

    Raises:
        InputError: nothing does, or its package is not installed.
    """
    import fsspec

    try:
        files, root = fsspec.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError(f"RUNS={shown(url)}: {first_line(error)}") from None
    except Exception as error:  # of each kind of store its own
        raise InputError(f"cannot use RUNS={shown(url)}: {first_line(error)}") from None
    return files, str(root).rstrip("/")
