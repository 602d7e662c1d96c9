"""Brings to the tracking store what it has missed: what the journals below a folder hold, and it does not."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gans import schema
from gans.errors import brief
from gans.runs.courier import GRACE, PATIENCE, embedded
from gans.runs.delivery import Delivery, Gone
from gans.runs.journal import Held, Journal, Sent, journals
from gans.runs.silence import Silence
from gans.runs.tracking import MlflowRun, Store, shown

REMEDY = "gans sync brings them"


@dataclass(frozen=True)
class Amount:
    """How much there is to tell: runs, and values of their metrics."""

    runs: int = 0
    points: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.runs + other.runs, self.points + other.points)

    def __str__(self) -> str:
        return f"{self.runs} run{'' if self.runs == 1 else 's'}, {self.points:,} points"


@dataclass(frozen=True)
class Synced:
    """What bringing journals to a store came to.

    Attributes:
        told: what the store had not known.
        left: what it still does not know.
        why: that it does not; empty if there is nothing.
    """

    told: Amount = Amount()
    left: Amount = Amount()
    why: str = ""

    def lines(self, remedy: str = REMEDY) -> list[str]:
        """For people; none if there was nothing to do."""
        told = [f"told the tracking store what it had missed: {self.told}"] if self.told.runs else []
        why = f" ({self.why})" if self.why else ""
        return told + ([f"not told yet: {self.left}; {remedy}{why}"] if self.left.runs else [])


def say(synced: Synced, remedy: str = REMEDY) -> None:
    """Print what the store had missed, and what it still does; `remedy` tells what will bring that."""
    for line in synced.lines(remedy):
        print(line)


def compare(found: Sequence[Journal], store: Store, experiment: str) -> tuple[list[MlflowRun], list[Journal]]:
    """The runs that a store has of an experiment, and which of its journals hold more than these.

    A run that the store never had, or has lost, is told from the start; one that was deleted there is not told
    again.
    """
    # what each says that it told is read before the store is asked: whoever tells it meanwhile is not missed
    told = [(journal, journal.sent, journal.size) for journal in found]
    runs = store.runs(experiment)
    deleted = store.runs(experiment, deleted=True) if found else []
    known, gone = ({key for run in some for key in keys(run)} for some in (runs, deleted))
    late = [
        journal
        for journal, sent, size in told
        if journal.key not in gone - known and _behind(journal, sent, size, known)
    ]
    return runs, late


def _behind(journal: Journal, sent: Sent, size: int, known: set[str]) -> bool:
    if journal.key not in known:
        return journal.whole
    return sent.run not in known or sent.position < size or sent.parent in known


def keys(run: MlflowRun) -> tuple[str, str]:
    """What a run is known by: the key that its journal gave it, and MLflow's id."""
    return run.data.tags.get(schema.JOURNAL, run.info.run_id), run.info.run_id


def untold(journal: Journal) -> Amount:
    """What the store does not know of a journal by the last that is known of it."""
    return Amount(1, sum(line.points for line in journal.lines(journal.sent.position)))


def answers(store: Store) -> bool:
    """Whether the store does, within the seconds that the end of a run would wait for it."""
    done = threading.Event()

    def ask() -> None:
        with suppress(Exception):
            store.experiments()
            done.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE if embedded(store.uri) else GRACE)
    return done.is_set()


def sync(folder: Path, store: Store, seconds: float = 0.0) -> Synced:
    """Tell the store all that stands in the journals below a folder and it does not know, parents first.

    Args:
        folder: of runs; there may be none.
        store: whom to tell; it need not answer.
        seconds: to wait for who is just telling one of them.
    """
    by_experiment: dict[str, list[Journal]] = {}
    for journal in journals(folder):
        by_experiment.setdefault(journal.experiment, []).append(journal)
    why = "" if not by_experiment or answers(store) else f"{shown(store.uri)} does not answer"
    synced = Synced(why=why)
    for experiment, found in by_experiment.items():
        synced = _sync(experiment, found, store, seconds, synced)
    return synced


def _sync(experiment: str, found: list[Journal], store: Store, seconds: float, synced: Synced) -> Synced:
    """`sync` for one experiment; a store that did not answer is not asked again."""
    told, left, why = synced.told, synced.left, synced.why
    try:
        late = [] if why else compare(found, store, experiment)[1]
    except Exception as error:
        late, why = [], brief(error)
    if why:
        late = [journal for journal in found if journal.sent.position < journal.size]
    for journal in late:
        amount = untold(journal)
        try:
            if why:
                raise ConnectionError(why)
            told += bring(journal, store, seconds)
        except Gone:
            continue
        except Held:
            left += amount  # whoever holds it brings it
        except Exception as error:
            why, left = why or brief(error), left + amount
    return Synced(told, left, why)


def left_behind(folder: Path) -> list[str]:
    """For people: what the store has not been told of the run in a folder; the store is not asked."""
    journal = Journal.read(folder)
    if journal is None or (journal.sent.run and journal.sent.position >= journal.size):
        return []
    return Synced(left=untold(journal)).lines()


def bring(journal: Journal, store: Store, seconds: float) -> Amount:
    """Tell the store a journal; how much it had not known."""
    with journal.held(seconds):
        delivery = Delivery(journal, store)
        delivery.run = delivery.meet()
        amount = untold(journal)  # a store that had lost the run is told all of it
        delivery.all()
    Silence(journal.folder, store.uri).end()
    return amount
