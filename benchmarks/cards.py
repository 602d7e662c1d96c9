"""The engine for GPUs: one process per card, and in it some jobs at a time (`benchmarks.card`).

What a process of its own gives a job, it has here too:

- *its status and reason*: an exception ends its thread only.
- *its time limit*: a job that is over it is told to stop, and ends when it next tells something. One that does not
  costs its card's process: that is killed, the job has timed out, and the others go on from their checkpoints.
- *its crash*: when a process dies (killed, aborted, or its device fails every call), it is not known which of its
  jobs did it. Each goes on from its checkpoint in a process without others; the one whose process dies again is
  the guilty one. It has failed, for the reason that the process died of, and the rest go on together again. A job
  that was there when two processes died stays alone, so that nobody dies for others three times.
- *its memory*: a job that finds none beside others goes on from its checkpoint when it has the card to itself, and
  has failed only if that is not enough.

Nothing outlives the runner: a card's process ends when its pipe does.
"""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from benchmarks.card import Crowded, Dying, Ready, Stop, Told, Work, serve
from benchmarks.engine import Ended, Event, Job, Progressed, Result, Started, death, overdue
from gans import schema

GRACE = 60.0  # seconds in which a job that is told to stop has to tell something: a long evaluation, say
SAID = 4000  # characters of what a process said before it died that its jobs' logs keep


@dataclass
class Attempt:
    """A job, and how it has fared so far.

    Attributes:
        number: by which its card knows it.
        started: whether its start was told.
        deaths: of processes that it shared.
        crowded: it found no memory beside others.
        apart: it goes on without others: it is crowded, or may be why the last process died that it shared.
        deadline: when it is told to stop, on the clock of `time.monotonic`.
        stopping: whether it was told.
    """

    number: int
    job: Job
    started: bool = False
    deaths: int = 0
    crowded: bool = False
    apart: bool = False
    deadline: float = 0.0
    stopping: bool = False


@dataclass
class Card:
    """A card, its process if it has one, and what runs there.

    Args:
        visible: the card as `CUDA_VISIBLE_DEVICES` names it; None: the CPU.
        said: file for what its process says of itself.
    """

    visible: str | None
    said: Path
    running: dict[int, Attempt] = field(default_factory=dict)
    process: Any = None
    pipe: Any = None
    reason: str = ""  # that the process gave for its end
    crowded: list[Attempt] = field(default_factory=list)  # have left since they were last asked for

    def room(self, jobs: int) -> int:
        """How many more it takes, of so many at a time; beside one that is apart none."""
        return 0 if any(a.apart for a in self.running.values()) else jobs - len(self.running)

    def take(self, attempt: Attempt) -> None:
        """Let the job begin, or go on."""
        if self.process is None:
            self.start()
        attempt.deadline, attempt.stopping = time.monotonic() + attempt.job.seconds, False
        self.running[attempt.number] = attempt
        self.order(Work(attempt.number, pickle.dumps(attempt.job)))

    def start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        self.said.write_bytes(b"")
        self.reason = ""
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, self.visible, self.said), daemon=True)
        self.process.start()
        theirs.close()

    def order(self, what: Work | Stop) -> None:
        with suppress(OSError):  # its process has just died, which is seen next
            self.pipe.send(what)

    def listen(self) -> Iterator[Progressed | Ended]:
        """What its process has sent since the last call; jobs that ended are no longer running."""
        with suppress(EOFError, OSError):  # the latter: killed in the middle of a message
            while self.process and self.pipe.poll():
                match self.pipe.recv():
                    case Told(number, Result() as result):
                        yield Ended(self.running.pop(number).job, result)
                    case Told(number, (images, values)):
                        yield Progressed(self.running[number].job, images, values)
                    case Crowded(number, result):
                        attempt = self.running.pop(number)
                        if attempt.apart:  # it had the card to itself
                            yield Ended(attempt.job, result)
                        else:
                            self.crowded.append(attempt)
                    case Ready():  # its jobs begin now
                        for attempt in self.running.values():
                            attempt.deadline = time.monotonic() + attempt.job.seconds
                    case Dying(reason):
                        self.reason = reason

    @property
    def dead(self) -> bool:
        return self.process is not None and self.process.exitcode is not None

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def end(self) -> list[Attempt]:
        """End the process if there is one; what it left unfinished."""
        if self.process is not None:
            self.kill()
            self.pipe.close()
            self.process = None
        left, self.running = list(self.running.values()), {}
        return left


class CardsEngine:
    """Runs jobs on the cards of this machine.

    Args:
        cards: each as `CUDA_VISIBLE_DEVICES` names it (`gans.compute.devices.only`); None: a process that
            computes on the CPU in its place.
        jobs: how many at a time on each.
        grace: seconds that a job over its time limit has until its process is killed.
    """

    def __init__(self, cards: Sequence[str | None], jobs: int, grace: float = GRACE) -> None:
        self.names, self.jobs, self.grace = cards, jobs, grace

    def run(self, jobs: list[Job]) -> Generator[Event]:
        """Run all jobs in order, each on the card that has most room; closing the iterator stops them."""
        with tempfile.TemporaryDirectory(prefix="cards-") as folder:
            cards = [Card(name, Path(folder) / f"{n}.txt") for n, name in enumerate(self.names)]
            waiting = deque(Attempt(n, job) for n, job in enumerate(jobs))
            try:
                yield from Dealer(cards, self.jobs, self.grace, waiting).events()
            finally:
                for card in cards:
                    card.end()


@dataclass
class Dealer:
    """Deals jobs out to cards until all have ended."""

    cards: list[Card]
    jobs: int  # at a time, on each card
    grace: float
    waiting: deque[Attempt]
    apart: deque[Attempt] = field(default_factory=deque)  # wait for a card of their own

    def events(self) -> Iterator[Event]:
        while self.waiting or self.apart or any(card.running for card in self.cards):
            yield from self.round()

    def round(self, *others: Connection) -> Iterator[Event]:
        """Hand out, and see what there is to tell; until there is something to be read from another pipe, too."""
        yield from self.hand_out()
        processes = [card for card in self.cards if card.process]
        wait([*others, *(end for card in processes for end in (card.pipe, card.process.sentinel))], timeout=0.5)
        for card in processes:
            dead = card.dead  # first: what it has sent by then is all
            yield from card.listen()
            self.part(card)
            yield from self.bury(card) if dead else self.watch(card)

    def hand_out(self) -> Iterator[Started]:
        """Give jobs to cards while there are both."""
        while (found := self.next()) is not None:
            card, attempt = found
            card.take(attempt)
            if not attempt.started:
                attempt.started = True
                yield Started(attempt.job)

    def next(self) -> tuple[Card, Attempt] | None:
        """The next job and the card that takes it: one that is apart goes where no other is."""
        card = max(self.cards, key=lambda card: card.room(self.jobs))
        if self.apart and not card.running:
            return card, self.apart.popleft()
        if self.waiting and card.room(self.jobs) > 0:
            return card, self.waiting.popleft()
        return None

    def part(self, card: Card) -> None:
        """Set jobs that found no memory beside others aside until a card is free."""
        for attempt in card.crowded:
            attempt.crowded = attempt.apart = True
        self.apart.extend(card.crowded)
        card.crowded = []

    def watch(self, card: Card) -> Iterator[Progressed | Ended]:
        """Tell jobs that are over their time limit to stop; kill the process that one does not hear."""
        now = time.monotonic()
        over = [attempt for attempt in card.running.values() if now > attempt.deadline]
        for attempt in over:
            if not attempt.stopping:
                attempt.stopping = True
                card.order(Stop(attempt.number))
        deaf = [attempt for attempt in over if now > attempt.deadline + self.grace]
        if not deaf:
            return
        card.kill()
        yield from card.listen()
        left = card.end()
        for attempt in left:
            if attempt in deaf:
                yield Ended(attempt.job, overdue(attempt.job))
        self.waiting.extendleft(attempt for attempt in reversed(left) if attempt not in deaf)

    def bury(self, card: Card) -> Iterator[Ended]:
        """A process has died: its only job did it, or each of its jobs is suspected."""
        reason = card.reason or death(card.process.exitcode)
        left = card.end()
        for attempt in left:
            write_down(attempt.job, reason, card.said)
        if len(left) == 1:
            yield Ended(left[0].job, Result(schema.FAILED, reason))
            self.acquit()
            return
        for attempt in left:
            attempt.deaths += 1
            attempt.apart = True
        self.apart.extend(left)

    def acquit(self) -> None:
        """The guilty one is found: the other suspects go on together, but for those who were there before."""
        innocent = [attempt for attempt in self.apart if attempt.deaths < 2 and not attempt.crowded]
        for attempt in innocent:
            attempt.apart = False
        self.apart = deque(attempt for attempt in self.apart if attempt.apart)
        self.waiting.extendleft(reversed(innocent))


def write_down(job: Job, reason: str, said: Path) -> None:
    """Keep in a job's log how its process died, and the last that it said."""
    words = said.read_text(errors="replace")[-SAID:]
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a") as log:
        log.write(f"the process of this card died: {reason}\n{words}")
