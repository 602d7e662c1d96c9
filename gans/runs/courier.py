"""Brings a journal to the tracking store while it is being written: in the background, as often as it takes."""

from __future__ import annotations

import threading
import time

from gans.runs.delivery import Delivery, Gone
from gans.runs.journal import Held, Journal, Sent
from gans.runs.silence import Silence
from gans.runs.tracking import Store

EVERY = 10.0  # seconds between batches
LONGEST = 60.0  # seconds between attempts to reach a store that does not answer
GRACE = 10.0  # seconds that the end of a run waits for a server, at most
OPENING = 5.0  # likewise its beginning
PATIENCE = 60.0  # seconds without progress that either waits for a store in a file: another process may hold it


def embedded(uri: str) -> bool:
    """Whether a store is a file: it does not go away, but others may hold it for a while."""
    return uri.startswith("sqlite:")


class Courier:
    """Brings the journal of a run to a store while the run goes on, in a thread of its own.

    Args:
        journal: which is being written.
        uri: of the store, which need not answer.

    Attributes:
        gone: there is no run in the store to tell of, and must be none.
    """

    def __init__(self, journal: Journal, uri: str) -> None:
        self.journal, self.uri = journal, uri
        self.patient = embedded(uri)
        self.silence = Silence(journal.folder, uri)
        self.gone = False
        self.changed = threading.Condition()
        self.met = False  # the store has the run
        self.position = 0  # up to which it knows the journal
        self.failures = 0  # since it last answered
        self.urgent = False
        self.ended = False
        self.thread: threading.Thread | None = None
        self.store: Store | None = None

    def wake(self, ended: bool = False) -> None:
        """There is something to tell, or no more than that."""
        with self.changed:
            self.ended = ended
            if self.thread is None and not self.gone:
                self.thread = threading.Thread(target=self.live, daemon=True, name="courier")
                self.thread.start()

    def live(self) -> None:
        """Tell until all is told and the run has ended."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.urgent, self.pause)
                self.urgent = False
            self.attempt()
            with self.changed:
                if self.gone or (self.ended and self.told):
                    self.thread = None
                    return

    @property
    def pause(self) -> float:
        """Seconds until the next attempt."""
        return min(2.0**self.failures, LONGEST) if self.failures else EVERY

    @property
    def told(self) -> bool:
        return self.met and self.position >= self.journal.size

    def attempt(self) -> None:
        """Tell what there is; how it went is seen in the attributes."""
        try:
            self.store = self.store or Store(self.uri)
            with self.journal.held():
                delivery = Delivery(self.journal, self.store, self.moved)
                delivery.all()
            self.moved(delivery.sent.position)  # by now another may hold the journal
        except Gone:
            with self.changed:
                self.gone = True
                self.changed.notify_all()
        except Held:
            self.seen(self.journal.sent)
        except Exception:  # whatever keeps it from answering is said by who reports what was left behind
            with self.changed:
                self.failures += 1
                self.changed.notify_all()

    def moved(self, position: int) -> None:
        self.silence.end()
        with self.changed:
            self.met, self.position, self.failures = True, position, 0
            self.changed.notify_all()

    def seen(self, sent: Sent) -> None:
        """Another brings it meanwhile."""
        if sent.run:
            self.moved(sent.position)

    def settle(self, seconds: float, ended: bool = False) -> bool:
        """Wait until the store has all; whether it has.

        A server is waited for as long as this at most, and not at all when it refuses, or has just let this or
        another run beside it wait in vain; a file as long as there is progress.
        """
        target = self.journal.size
        with self.changed:
            before, failures = self.position, self.failures
            self.urgent = True
            self.changed.notify_all()
        self.wake(ended)
        limit = PATIENCE if self.patient else 0.0 if self.silence.known else seconds
        deadline = time.monotonic() + limit
        with self.changed:
            while not (self.gone or (self.met and self.position >= target)):
                if self.failures > failures and not self.patient:
                    return False
                if self.patient and self.position > before:
                    before, deadline = self.position, time.monotonic() + limit
                left = deadline - time.monotonic()
                if left <= 0:
                    if limit and not self.patient:
                        self.silence.begin()
                    return False
                self.changed.wait(left)
        return not self.gone
