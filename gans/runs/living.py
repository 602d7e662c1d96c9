"""Runs whose processes died: nobody else will ever write down that they ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gans import schema
from gans.runs.locks import SESSION, Holder, acquire
from gans.runs.tracking import MlflowRun, Store

DIED = "its process died"


def holders(run: MlflowRun) -> list[Holder]:
    """Who has worked on a run: the last process, or each session of a sweep."""
    tags = (text for key, text in run.data.tags.items() if key.startswith(schema.HOLDER))
    return [holder for text in tags if (holder := Holder.of_text(text))]


def close_dead(store: Store) -> list[str]:
    """End every run of the store that is open and held by no living process, as interrupted; returns their ids.

    Runs that another machine works on stay open, and those that do not say who holds them.
    """
    return [run.info.run_id for run in store.open_runs() if dead(run) and close(store, run)]


def dead(run: MlflowRun) -> bool:
    """Whether all that worked on the run are gone."""
    found = holders(run)
    return bool(found) and not any(holder.living for holder in found)


def close(store: Store, run: MlflowRun) -> bool:
    """End a run of the dead; False if somebody has just taken it up."""
    # whoever takes up a cell holds its lock first
    locks = {Path(holder.lock) for holder in holders(run) if Path(holder.lock).exists()}
    try:
        files = [acquire(lock, 0.0) for lock in locks]
    except BlockingIOError:
        return False
    try:
        now = store.client.get_run(run.info.run_id)
        if now.info.status != run.info.status or not same_holders(now, run):
            return False
        again = store.find(run.info.run_id)
        assert again is not None
        again.untag(f"{schema.HOLDER}.")  # the sessions of a sweep, which may be taken up by others
        again.interrupt(DIED)
        for lock in sessions(locks):
            lock.unlink(missing_ok=True)
        return True
    finally:
        for file in files:
            file.close()


def same_holders(one: MlflowRun, other: MlflowRun) -> bool:
    return holders(one) == holders(other)


def sessions(locks: set[Path]) -> Iterator[Path]:
    """Of these locks those that nobody will ever want again."""
    return (lock for lock in locks if lock.name.startswith(SESSION))
