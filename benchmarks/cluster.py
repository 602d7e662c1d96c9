"""The engine for clusters: jobs on the nodes of a Ray cluster (`ENGINE=ray`).

Every job has a *seat*: a booking of CPUs and memory that Ray finds a node for. On each node with seats a *host*
(`benchmarks.node`) runs the jobs that sit there, each in a process of its own, as the local engine does: status,
reason, time limit, log and numbers are the same. What a cluster adds:

- *a process that dies* (killed, out of memory) may be the node's fault: its job is done again, from its last
  checkpoint, and has failed when it has killed three;
- *a node that dies* takes its seats along: others are booked, and its jobs go on there;
- *a node that joins* is given seats;
- *a runner that dies* takes its hosts along, which Ray sees to, and they their jobs: the locks are free then, and
  the next runner takes up what they left.
"""

from __future__ import annotations

import logging
import math
import pickle
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.away import Loan, anew
from benchmarks.engine import Ended, Event, Job, Moved, Progressed, Result, Started
from benchmarks.node import (
    Begun,
    Brought,
    Host,
    News,
    Over,
    Packed,
    Ready,
    Stop,
    Told,
    Work,
)
from benchmarks.nodes import Cluster, Node, cause
from benchmarks.options import Machine
from gans import schema
from gans.compute.cluster import release, reserve, reserved, within
from gans.errors import InputError, system
from gans.runs.locks import InUse

CELL_BYTES = 2**30  # of memory that a job books, on a cluster that others may use
DEATHS = 3  # of a job's own process, until it has failed
SURVEY = 2.0  # seconds between looks at which nodes there are
STOPPING = 10.0  # seconds that hosts have to end their jobs
ALONE = 600.0  # seconds without any node that takes a job, until the jobs that wait have failed
STARTS = 3  # hosts that do not come up, until a node is left alone

log = logging.getLogger("gans")


@dataclass(frozen=True)
class Share:
    """What every job of an engine has of the cluster.

    Attributes:
        threads: CPUs.
        workers: processes that a job starts beside its own, on a CPU each (MD-GAN's over Ray).
        most: seats; None: as many as there is room for.
        each: likewise, on each node.
        bytes: of memory.
        abreast: jobs in a seat, which has a GPU for itself; None: it has none, and one job.
    """

    threads: int
    workers: int = 0
    most: int | None = None
    each: int | None = None
    bytes: int = 0
    abreast: int | None = None

    @property
    def needs(self) -> dict[str, float]:
        """Of a seat, as Ray books it; not the workers', who book for themselves."""
        jobs = self.abreast or 1
        gpu = {"GPU": 1.0} if self.abreast else {}
        return {"CPU": float(self.threads * jobs), "memory": float(self.bytes * jobs), **gpu}

    def seats(self, nodes: list[Node]) -> int:
        """Those that there are on these nodes."""
        if self.most is not None:
            return self.most
        seats = sum(min(node.room(self.needs), self.each or node.room(self.needs)) for node in nodes)
        if self.workers:  # what they book must be left free
            cpus = sum(node.has.get("CPU", 0.0) for node in nodes)
            seats = min(seats, int(cpus // (self.threads + self.workers)))
        return seats


def share(machine: Machine, jobs: int, side: int, workers: int = 0) -> Share:
    """What each job has of a machine's cluster.

    Args:
        machine: that has joined one.
        jobs: how many there are.
        side: of their largest images, in pixels.
        workers: processes that one starts beside its own, at most.
    """
    threads = machine.threads(side)
    if machine.cards:  # workers over Ray belong to a whole process
        most, bytes = (None, CELL_BYTES) if machine.cluster.named else (len(machine.cards), 0)
        return Share(threads, workers, most, bytes=bytes, abreast=1 if workers else machine.width(side))
    if machine.cluster.named:
        return Share(threads, workers, each=machine.jobs, bytes=CELL_BYTES)
    alone = workers and machine.jobs is None  # as locally: they fill the machine one by one
    return Share(threads, workers, most=1 if alone else machine.parallel(jobs, side))


def require(machine: Machine, side: int, workers: int = 0) -> None:
    """Refuse, before anything runs, a cluster without room for the largest job; arguments as of `share`.

    Raises:
        InputError: with what it has, and the remedy.
    """
    cluster, wanted = machine.cluster, share(machine, 1, side, workers)
    nodes = cluster.nodes()
    if wanted.seats(nodes):
        return
    needs = f"{wanted.threads} CPUs and {wanted.bytes / 2**30:g} GiB on one machine"
    if workers:
        needs += f", and {workers} CPUs for its workers"
    most = max((node.has.get("memory", 0.0) for node in nodes), default=0.0) / 2**30
    cpus = sum(node.has["CPU"] for node in nodes)
    raise InputError(
        f"the Ray cluster at {cluster.named} has no room for the largest cell, which needs {needs}: it has "
        f"{len(nodes)} machines with {cpus:g} CPUs in all, and {most:.1f} GiB at most on one; add machines, or "
        "take more JOBS, which are smaller"
    )


@dataclass(eq=False)
class Attempt:
    """A job, and how it has fared so far.

    Attributes:
        started: whether its start was told.
        deaths: of its own process.
        loan: of its folder, to a node that lacks the runner's.
        away: whether there was one the last time.
        unkept: why files of it could not be kept here; empty if they could.
    """

    number: int
    job: Job
    started: bool = False
    deaths: int = 0
    loan: Loan | None = None
    away: bool = False
    unkept: str = ""

    def receive(self, parcel: bytes) -> None:
        """Files, if its folder was lent; a full disk here costs this job only."""
        try:
            if self.loan and not self.unkept:
                self.loan.receive(parcel)
        except OSError as error:
            self.unkept = f"its files cannot be kept: {system(error)}"

    def give_back(self) -> None:
        """Its folder, if it was lent."""
        if self.loan:
            self.loan.close()
            self.loan = None


@dataclass(eq=False)
class Seat:
    """A booking, for one job at a time or, with a GPU, for some.

    Attributes:
        group: Ray's name of it.
        post: key of its host; empty until there is room for it.
        attempts: what sits there, by number.
    """

    group: Any
    post: str = ""
    attempts: dict[int, Attempt] = field(default_factory=dict)


@dataclass(eq=False)
class Post:
    """A host as the runner sees it.

    Attributes:
        key: its node's id; on a GPU the seat's, which has a host of its own.
        node: that it is on.
        actor: the host.
        news: what it tells, in turn.
        up: whether it has told anything.
    """

    key: str
    node: str
    actor: Any
    news: Any
    up: bool = False


class RayEngine:
    """Runs jobs on a cluster.

    Args:
        cluster: that this process may be connected to already.
        share: of each job.
    """

    def __init__(self, cluster: Cluster, share: Share) -> None:
        self.cluster, self.share = cluster, share

    def run(self, jobs: list[Job]) -> Generator[Event]:
        """Run all jobs in order, as many at a time as there is room for; closing the iterator stops them."""
        seats = self.share.most or 1
        self.cluster.ready(seats * int(self.share.needs["CPU"]) + self.share.workers)
        crew = Crew(self.cluster, self.share, deque(Attempt(n, job) for n, job in enumerate(jobs)))
        try:
            while crew.busy:
                yield from crew.round()
        finally:
            crew.leave()


@dataclass
class Crew:
    """Seats and hosts while jobs run.

    Attributes:
        waiting: jobs without a seat.
        blocked: seats on nodes that are left alone.
        names: of all nodes so far, by their ids.
        surveyed: when nodes were counted last, on the clock of `time.monotonic`.
        idle_since: likewise, there was a seat.
        fit: nodes that are alive and not left alone.
        unfit: why hosts did not come up, by node.
    """

    cluster: Cluster
    share: Share
    waiting: deque[Attempt]
    seats: list[Seat] = field(default_factory=list)
    blocked: list[Seat] = field(default_factory=list)
    posts: dict[str, Post] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    surveyed: float = float("-inf")
    fit: int = 0
    idle_since: float = field(default_factory=time.monotonic)
    unfit: dict[str, list[str]] = field(default_factory=dict)

    @property
    def busy(self) -> bool:
        return bool(self.waiting) or any(seat.attempts for seat in self.seats)

    def round(self) -> Iterator[Event]:
        """Book, hand out, and see what there is to tell, for which half a second is waited at most."""
        self.book()
        yield from self.hand_out()
        yield from self.give_up()
        for post in self.heard(0.5):
            yield from self.listen(post)

    # --- seats

    def book(self) -> None:
        """Have as many seats as there are jobs, or as there is room for; each with its host."""
        now = time.monotonic()
        if now - self.surveyed > SURVEY:
            self.surveyed = now
            for node in self.cluster.nodes():
                self.names[node.id] = str(node)
                if not self.shunned(node.id) and (why := self.cluster.admit(node)):
                    self.unfit[node.id] = [why] * STARTS
                    print(f"{why}; it is left out", file=sys.stderr)
            nodes = [node for node in self.cluster.nodes() if not self.shunned(node.id)]
            self.fit = len(nodes)
            wanted = self.share.seats(nodes)
            left = len(self.waiting) + sum(len(seat.attempts) for seat in self.seats)
            for _ in range(min(wanted, math.ceil(left / self.abreast)) - len(self.seats)):
                self.seats.append(Seat(self.reserve()))
        for seat in [seat for seat in self.seats if not seat.post]:
            seat.post = self.placed(seat)

    def reserve(self) -> Any:
        """A new booking, which Ray finds a place for in its own time."""
        return reserve({kind: amount for kind, amount in self.share.needs.items() if amount})

    @property
    def abreast(self) -> int:
        """Jobs that a seat takes."""
        return self.share.abreast or 1

    def placed(self, seat: Seat) -> str:
        """The key of a seat's host, which there is from now on; empty as long as there is no room."""
        node = reserved(seat.group)
        if node and self.shunned(node):  # it stays booked, or Ray would offer the same again
            self.seats.remove(seat)
            self.blocked.append(seat)
        if not node or self.shunned(node):
            return ""
        key = f"{node} {id(seat)}" if self.share.abreast else node
        if key not in self.posts:
            self.posts[key] = self.host(key, node, seat)
        return key

    def shunned(self, node: str) -> bool:
        """Whether a node is left alone, since hosts do not come up there."""
        return len(self.unfit.get(node, ())) >= STARTS

    def host(self, key: str, node: str, seat: Seat) -> Post:
        ray = self.cluster.ray
        actor = ray.remote(concurrency_groups={"news": 1})(Host)
        there = within(seat.group) if self.share.abreast else self.cluster.on(node)
        home, away = self.cluster.home(), self.cluster.is_away(node)
        host = actor.options(**there, max_restarts=0).remote(home, self.share.abreast, away)
        return Post(key, node, host, host.news.options(num_returns="streaming", concurrency_group="news").remote())

    def free(self, seats: list[Seat]) -> None:
        self.seats = [seat for seat in self.seats if seat not in seats]
        for seat in seats:
            with suppress(Exception):  # its node is gone
                release(seat.group)

    # --- jobs

    def hand_out(self) -> Iterator[Ended]:
        """Give jobs to hosts that are up and have seats; not those whose folders others have."""
        for seat in self.seats:
            post = self.posts.get(seat.post)
            while post and post.up and self.waiting and len(seat.attempts) < self.abreast:
                attempt = self.waiting.popleft()
                seat.attempts[attempt.number] = attempt
                try:
                    post.actor.order.remote(Work(attempt.number, self.packed(attempt, post)))
                except (InputError, OSError) as error:
                    del seat.attempts[attempt.number]
                    attempt.give_back()
                    status = schema.SKIPPED if isinstance(error, InUse) else schema.FAILED
                    yield Ended(attempt.job, Result(status, trouble(error)))

    def packed(self, attempt: Attempt, post: Post) -> Job:
        """The job as its host takes it.

        Raises:
            InUse: its folder has to be lent, and another process works on it.
        """
        attempt.away, attempt.unkept = self.cluster.is_away(post.node), ""
        if attempt.away:
            attempt.loan = self.cluster.lend(attempt.job)
            return attempt.loan.packed()
        return replace(attempt.job, call=Packed(pickle.dumps(attempt.job.call)))

    def give_up(self) -> Iterator[Ended]:
        """End what waits, if no node has had room for it for long, or hosts come up on none."""
        now = time.monotonic()
        if any(seat.post for seat in self.seats):
            self.idle_since = now
        if now - self.idle_since > ALONE or (self.unfit and not self.fit):
            reasons = {reason for told in self.unfit.values() for reason in told[-1:]}
            why = "; ".join(["the cluster has had no room for it", *sorted(reasons)])
            while self.waiting:
                yield Ended(self.waiting.popleft().job, Result(schema.FAILED, why))

    def heard(self, seconds: float) -> list[Post]:
        """The hosts that have something to tell, waited for so long at most."""
        posts = {post.news: post for post in self.posts.values()}
        if not posts:
            time.sleep(min(seconds, 0.05))
            return []
        wait = self.cluster.ray.wait
        if not wait(list(posts), num_returns=1, timeout=seconds, fetch_local=False)[0]:
            return []
        found, _ = wait(list(posts), num_returns=len(posts), timeout=0, fetch_local=False)  # each in its turn
        return [posts[news] for news in found]

    def listen(self, post: Post) -> Iterator[Event]:
        """The next that a host tells."""
        try:
            told: News = self.cluster.ray.get(next(post.news))
        except StopIteration:
            yield from self.lose(post, "its host ended")
        except self.cluster.ray.exceptions.RayError as error:
            yield from self.lose(post, cause(error))
        else:
            post.up = True
            yield from self.take(post, told)

    def take(self, post: Post, told: News) -> Iterator[Event]:
        """Make of what a host tells what an engine tells."""
        if isinstance(told, Ready):
            return
        seat = next(seat for seat in self.seats if told.number in seat.attempts)
        attempt = seat.attempts[told.number]
        match told:
            case Begun() if not attempt.started:
                attempt.started = True
                yield Started(attempt.job)
            case Told(_, images, values):
                if attempt.loan:
                    with suppress(OSError):  # a full disk: who waits is told later
                        attempt.loan.beat(images)
                yield Progressed(attempt.job, images, values)
            case Brought(_, parcel):
                attempt.receive(parcel)
            case Over(_, result, died, parcel):
                attempt.receive(parcel)
                attempt.give_back()
                del seat.attempts[told.number]
                if attempt.unkept and not died:
                    result = Result(schema.FAILED, attempt.unkept)
                yield self.again(attempt, result.reason, post) if died else Ended(attempt.job, result)

    def again(self, attempt: Attempt, reason: str, post: Post) -> Moved | Ended:
        """Let a job whose process died go on, or give it up."""
        attempt.deaths += 1
        if attempt.deaths >= DEATHS:
            return Ended(attempt.job, Result(schema.FAILED, f"{reason}, {DEATHS} times"), died=True)
        self.waiting.appendleft(attempt)
        name = self.names.get(post.node, post.node[:6])
        return Moved(attempt.job, f"{reason}, on node {name}", anew(attempt.job, attempt.away))

    def lose(self, post: Post, why: str) -> Iterator[Event]:
        """A host is gone, and mostly its node: its jobs go on elsewhere."""
        with suppress(Exception):
            self.cluster.ray.kill(post.actor)  # if it only cannot be reached, its jobs are to end
        self.posts.pop(post.key, None)
        if not post.up:
            self.unfit.setdefault(post.node, []).append(why)
        name = self.names.get(post.node, post.node[:6])
        log.info("node %s: %s", name, why)
        self.surveyed = float("-inf")
        left = [seat for seat in self.seats if seat.post == post.key]
        self.free(left)
        for attempt in reversed([attempt for seat in left for attempt in seat.attempts.values()]):
            attempt.give_back()
            self.waiting.appendleft(attempt)
            if attempt.started:
                yield Moved(attempt.job, f"node {name} is gone", anew(attempt.job, attempt.away))

    def leave(self) -> None:
        """Stop the jobs that run, then let go of hosts and seats."""
        ray = self.cluster.ray
        working = [self.posts[seat.post] for seat in self.seats if seat.attempts and seat.post in self.posts]
        deadline = time.monotonic() + STOPPING
        for post in dict.fromkeys(working):
            with suppress(Exception):
                ray.get(post.actor.order.remote(Stop()), timeout=STOPPING)
        while any(seat.attempts for seat in self.seats) and time.monotonic() < deadline:
            for post in self.heard(0.5):
                with suppress(Exception):
                    list(self.listen(post))
        for post in self.posts.values():
            with suppress(Exception):
                ray.kill(post.actor)
        for seat in self.seats:
            for attempt in seat.attempts.values():
                attempt.give_back()
        self.free(self.seats + self.blocked)


def trouble(error: InputError | OSError) -> str:
    """Why a job cannot begin."""
    return system(error) if isinstance(error, OSError) else str(error)
