"""Stale runs: on start, a command closes the runs of processes that have died."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from gans import schema
from gans.runs.events import RunFolder, run_folders, run_paths
from gans.runs.export import sync
from gans.runs.locks import Holder, acquire
from gans.runs.run import STATUSES, Run
from gans.runs.store import MlflowRun, Store

DIED = "its process died"


def holders(tags: Mapping[str, str]) -> list[Holder]:
    """Who has worked on a run: the last process, or each session of a sweep."""
    found = (Holder.of_text(text) for key, text in tags.items() if key.startswith(schema.HOLDER))
    return [holder for holder in found if holder]


def dead(found: Sequence[Holder]) -> bool:
    """Whether some worked on a run, and all of them are gone."""
    return bool(found) and not any(holder.is_alive for holder in found)


def close_stale(root: Path, store: Store) -> list[str]:
    """End every run that is open and held by no process that is alive, as interrupted; returns their keys.

    Runs that another machine works on stay open, and those that do not say who holds them. Runs of other folders
    are found by the store, if it answers.
    """
    here = set(run_paths(root))
    closed = close(here)
    for run in open_runs(store):
        folders = {Path(holder.lock).parent for holder in holders(run.data.tags)}
        there = {folder for folder in folders if RunFolder.of(folder)}
        if there - here:
            closed += close(there)
            for folder in there:
                sync(folder, store)
        elif not there and dead(holders(run.data.tags)):  # its folder was removed
            tags = {schema.STATUS: schema.INTERRUPTED, schema.REASON: DIED}
            for name, value in tags.items():
                store.client.set_tag(run.info.run_id, name, value)
            store.client.set_terminated(run.info.run_id, STATUSES[schema.INTERRUPTED])
            closed.append(run.info.run_id)
    return closed


def open_runs(store: Store) -> list[MlflowRun]:
    """None of a server that does not answer: the next start closes them."""
    try:
        return store.open_runs() if store.answers() else []
    except Exception:
        if store.embedded:
            raise
        store.back_off()
        return []


def close(paths: Iterable[Path]) -> list[str]:
    """End the runs of these folders that are open and held by no process that is alive."""
    parts: dict[str, list[RunFolder]] = {}  # a run of several sessions has a folder of each
    for folder in run_folders(paths):
        parts.setdefault(folder.key, []).append(folder)
    return [key for key, some in parts.items() if any(part.open for part in some) and close_run(some)]


def close_run(parts: Sequence[RunFolder]) -> bool:
    """End a stale run; False if it is none, or a process has just taken it up."""
    found = [holder for part in parts for holder in holders(part.state().tags)]
    if not dead(found):
        return False
    with ExitStack() as stack:
        try:
            for lock in {Path(holder.lock) for holder in found}:  # a process that takes up the run holds it first
                if lock.exists():
                    stack.enter_context(acquire(lock, 0.0))
        except BlockingIOError:
            return False
        states = [part.state() for part in parts]
        last = max(states, key=lambda state: state.since)
        if max(state.ended for state in states) >= last.since:
            return False
        run = Run.open(last.folder)
        if run and last.result in STATUSES:
            run.write("end", status=STATUSES[last.result])  # its process was killed between the two
        elif run:
            run.untag(f"{schema.HOLDER}.")  # sessions of a sweep, which others may take up
            run.interrupt(DIED)
        return run is not None
