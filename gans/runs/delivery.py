"""Tells the tracking store what stands in a journal, in batches; whoever goes on where it ended loses nothing.

A batch is told, then marked as told. Whoever dies between leaves it to be told twice, which does no harm: to
MLflow a metric of the same name, images, time and value is the same one, and everything else is overwritten by
itself. A run is made once, since it is looked for by its journal's key before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from gans import schema
from gans.errors import brief
from gans.runs.journal import Journal, Line
from gans.runs.tracking import Run, Store, refused

BATCH = 2000  # lines that are told, then marked as told
METRICS = "metrics"


class Gone(Exception):
    """The run was deleted in the store, or its store is lost and the journal does not hold all of it."""


class Delivery:
    """One journal on its way to a store; only who holds the journal makes one.

    Args:
        journal: what there is to tell.
        store: whom.
        moved: told the position up to which the store knows the journal, while there is more.
    """

    def __init__(
        self, journal: Journal, store: Store, moved: Callable[[int], None] = lambda position: None
    ) -> None:
        self.journal, self.store, self.moved = journal, store, moved
        self.sent = journal.sent

    def all(self) -> None:
        """Tell what has not been told.

        Raises:
            Gone: there is no run to tell it of, and must be none.
            Exception: the store does not answer; what was marked until then stays told.
        """
        self.run = self.meet()
        while self.batch():
            self.moved(self.sent.position)
        self.link(self.sent.parent)
        if self.sent.doubtful:
            self.part()

    def meet(self) -> Run:
        """The run in the store: the one that was told so far, else the one of the key, else a new one."""
        found = self.store.run(self.sent.run) if self.sent.run else None
        if found is None:
            found = next(iter(self.store.named(self.journal.experiment, self.journal.key)), None)
            self.mark(run=found.info.run_id if found else "", position=0)  # told again, from the start
        if found is None:
            return self.make()
        if found.info.lifecycle_stage == "deleted":
            raise Gone("it was deleted")
        return Run(self.store, found.info.run_id)

    def make(self) -> Run:
        if not self.journal.whole:
            raise Gone("the store does not know it")
        about = self.journal.about
        tags = {**about["tags"], schema.JOURNAL: self.journal.key}
        try:
            run = self.store.create(about["experiment"], about["name"], tags, self.journal.begun)
        except Exception:
            self.mark(doubtful=True)
            raise
        self.mark(run=run.id, parent=about["parent"])
        return run

    def part(self) -> None:
        """A request that was long without an answer has made the run as well: its run goes."""
        for other in self.store.named(self.journal.experiment, self.journal.key):
            if other.info.run_id != self.run.id and other.info.lifecycle_stage == "active":
                self.store.client.delete_run(other.info.run_id)
        self.mark(doubtful=False)

    def batch(self) -> bool:
        """Tell some lines; whether there may be more."""
        some = list(islice(self.journal.passages(self.sent.position), BATCH))
        for line, _ in some:
            if line:
                self.tell(line)
        self.patiently(METRICS, self.run.flush)
        if some:
            _, position = some[-1]
            self.mark(position=position)
        return len(some) == BATCH

    def tell(self, line: Line) -> None:
        """Tell one line, which the store may refuse."""
        given = line.given
        match line.call:
            case "log":
                self.patiently(METRICS, lambda: self.run.log(given["images"], given["values"], line.at))
            case "resume":
                self.run.reopen()
                self.link(given["parent"])
            case "end":
                self.patiently(METRICS, self.run.flush)
                self.run.end(given["status"], line.at)
            case "artifact" | "artifacts":
                self.bring(line.call, self.journal.folder / given["path"], given["folder"])
            case "params" | "tag" | "untag" | "input":
                self.patiently(line.call, lambda: getattr(self.run, line.call)(**given))

    def bring(self, call: str, path: Path, folder: str | None) -> None:
        """Files; those that are no longer there cannot be brought."""
        if path.exists():
            self.patiently(path.name, lambda: getattr(self.run, call)(path, folder))

    def link(self, parent: str) -> None:
        """Tag the run with its parent, as soon as the store knows that."""
        if not parent:
            return
        found = self.store.named(self.journal.experiment, parent)
        if found:
            self.run.tag({schema.PARENT: found[0].info.run_id})
        self.mark(parent="" if found else parent)

    def patiently(self, what: str, tell: Callable[[], None]) -> None:
        """Go on after a refusal; of metrics, which are refused together, all are told that can be."""
        try:
            tell()
        except Exception as error:
            if not refused(error):
                raise
            self.check()
            refusals = self.singly() if what == METRICS else [error]
            for refusal in refusals:
                print(f"the store did not take {what} of run {self.run.id}: {brief(refusal)}", file=sys.stderr)

    def check(self) -> None:
        found = self.store.run(self.run.id)
        if found is None or found.info.lifecycle_stage == "deleted":
            raise Gone("it was deleted")

    def singly(self) -> list[Exception]:
        """Send what is buffered metric by metric; why some were not taken."""
        refusals = []
        waiting, self.run.metrics = self.run.metrics, []
        for metric in waiting:
            try:
                self.run.send([metric])
            except Exception as error:
                if not refused(error):
                    raise
                refusals.append(error)
        return refusals

    def mark(self, **changes: Any) -> None:
        self.sent = self.journal.mark(**changes)
