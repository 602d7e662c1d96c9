"""Runs whose processes died: nobody else will ever write down that they ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from gans import schema
from gans.runs.courier import GRACE
from gans.runs.journal import Journal
from gans.runs.last import Last
from gans.runs.live import LiveRun
from gans.runs.locks import Holder, acquire
from gans.runs.sync import answers, keys
from gans.runs.telling import STATUSES, Telling
from gans.runs.tracking import MlflowRun, Run, Store

DIED = "its process died"


def holders(run: MlflowRun) -> list[Holder]:
    """Who has worked on a run: the last process, or each session of a sweep."""
    tags = (text for key, text in run.data.tags.items() if key.startswith(schema.HOLDER))
    return [holder for text in tags if (holder := Holder.of_text(text))]


def close_dead(store: Store) -> list[str]:
    """End every run of the store that is open and held by no living process, as interrupted; returns their ids.

    Runs that another machine works on stay open, and those that do not say who holds them.
    """
    try:
        return [run.info.run_id for run in store.open_runs() if dead(run) and close(store, run)]
    except Exception:
        if answers(store):
            raise
        return []  # the next start closes them


def dead(run: MlflowRun) -> bool:
    """Whether all that worked on the run are gone."""
    found = holders(run)
    return bool(found) and not any(holder.living for holder in found)


def close(store: Store, run: MlflowRun) -> bool:
    """End a run of the dead; False if somebody has just taken it up."""
    locks = {Path(holder.lock) for holder in holders(run)}
    with ExitStack() as stack:
        try:
            for lock in locks:  # which whoever takes up the run holds first
                if lock.exists():
                    stack.enter_context(acquire(lock, 0.0))
        except BlockingIOError:
            return False
        now = store.run(run.info.run_id)
        if now is None or now.info.status != run.info.status or holders(now) != holders(run):
            return False
        end(store, run, [lock.parent for lock in locks])
    return True


def end(store: Store, run: MlflowRun, folders: Sequence[Path]) -> None:
    """End a run by its journal, if one of these folders has it; there it may have ended already."""
    journal = min(journals_of(run, folders), key=lambda journal: Last.told(journal).ended, default=None)
    live = LiveRun.of(journal.folder, store.uri, journal.experiment, journal.key) if journal else None
    if journal is None or live is None:
        interrupt(Run(store, run.info.run_id))
        return
    last = Last.told(journal)
    if not last.ended and last.status in STATUSES:
        live.end(STATUSES[last.status])  # it was killed between the two
    elif not last.ended:
        interrupt(live)
    live.close(GRACE)


def journals_of(run: MlflowRun, folders: Sequence[Path]) -> Iterator[Journal]:
    """Those of a run: of the sessions of a sweep, each has one."""
    found = (Journal.read(folder) for folder in folders)
    return (journal for journal in found if journal and journal.key in keys(run))


def interrupt(run: Telling) -> None:
    run.untag(f"{schema.HOLDER}.")  # sessions of a sweep, which others may take up
    run.interrupt(DIED)
