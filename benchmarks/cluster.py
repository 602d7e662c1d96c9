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
import os
import pickle
import shutil
import sys
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import node as on_node
from benchmarks.engine import Ended, Event, Job, Moved, Progressed, Result, Started
from benchmarks.node import (
    SENT,
    About,
    Begun,
    Build,
    Home,
    Host,
    News,
    Over,
    Packed,
    Ready,
    Stop,
    Told,
    Wanted,
    Work,
)
from benchmarks.options import Machine
from gans import schema
from gans.compute.cluster import address, connect, pinned, ray_module, release, reserve, reserved, within
from gans.errors import InputError, first_line
from gans.runs import locks
from gans.runs.locks import HOST, Holder
from gans.urls import shown

if TYPE_CHECKING:
    from types import ModuleType

    from gans.runs.cell import Cell

CELL_BYTES = 2**30  # of memory that a job books, on a cluster that others may use
DEATHS = 3  # of a job's own process, until it has failed
SURVEY = 2.0  # seconds between looks at which nodes there are
STOPPING = 10.0  # seconds that hosts have to end their jobs
ANSWER = 120.0  # seconds that a node has to answer a question: its process imports what that takes
ALONE = 600.0  # seconds without any node that takes a job, until the jobs that wait have failed
STARTS = 3  # hosts that do not come up, until a node is left alone

log = logging.getLogger("gans")


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that is alive.

    Attributes:
        id: Ray's.
        name: its host's.
        has: what can be booked there: CPU, memory, ...
    """

    id: str
    name: str
    has: Mapping[str, float]

    def room(self, needs: Mapping[str, float]) -> int:
        """How often what a job needs is there, booked by others or not."""
        return int(min(self.has.get(kind, 0.0) / amount for kind, amount in needs.items() if amount))

    def __str__(self) -> str:
        return f"{self.name} ({self.id[:6]})"


class Cluster:
    """The cluster that this process is connected to: the one at RAY_ADDRESS, or one on this machine.

    Args:
        modules: that every job needs.

    Attributes:
        named: its address, if it is no cluster of this machine.
        terms: refuses nodes that cannot take part; None: there is only this machine.
        admitted: ids of those that may.
        data: the hashes of the data that jobs need.
    """

    def __init__(self, modules: tuple[str, ...] = ()) -> None:
        self.ray: ModuleType = ray_module("ENGINE=ray")
        self.named = address()
        self.modules = modules
        self.cpus = 0
        self.terms: Callable[[list[Node]], None] | None = None
        self.admitted: set[str] = set()
        self.data: dict[Wanted, str] = {}

    def ready(self, cpus: int) -> None:
        """Be connected, to a cluster of so many CPUs if it is this machine's own.

        Raises:
            InputError: there is none at the address, or none can be started.
        """
        if self.ray.is_initialized() and (self.named or cpus <= self.cpus):
            return
        self.leave()
        # jobs are to have the priority of their runner, as they have locally
        os.environ.setdefault("RAY_worker_niceness", str(os.nice(0)))
        connect(cpus, {}, "ENGINE=local")
        self.cpus = cpus

    def leave(self) -> None:
        """End the connection, and a cluster that is this machine's own."""
        self.ray.shutdown()

    def home(self) -> Home:
        """What hosts take over from this process."""
        return Home.here(self.ray.get_runtime_context().gcs_address, self.modules)

    def nodes(self) -> list[Node]:
        """Those that are alive and compute."""
        return [
            Node(each["NodeID"], each["NodeManagerHostname"], each["Resources"])
            for each in self.ray.nodes()
            if each["Alive"] and each["Resources"].get("CPU")
        ]

    @property
    def machines(self) -> int:
        """That jobs run on."""
        return len(self.nodes()) if self.named else 1

    @property
    def cores(self) -> int:
        """CPU cores for jobs on the machine that has fewest."""
        from gans.compute import devices

        return int(min(node.has["CPU"] for node in self.nodes())) if self.named else devices.cores()

    def ask(self, call: Callable[..., Any], *arguments: Any, of: list[Node] | None = None) -> dict[str, Any]:
        """What every node answers, by its id; in place of an answer the error, where it gives none.

        Args:
            call: of a module that nodes have.
            arguments: of the call.
            of: these nodes only.
        """
        ray = self.ray
        nodes = self.nodes() if of is None else of
        task = ray.remote(call)
        asked = {node.id: task.options(**self.on(node), max_retries=0).remote(*arguments) for node in nodes}
        answers: dict[str, Any] = {}
        for node, reference in asked.items():
            try:
                answers[node] = ray.get(reference, timeout=ANSWER)
            except ray.exceptions.RayError as error:
                answers[node] = error
        return answers

    @property
    def others(self) -> list[Node]:
        """Nodes that are other machines than this."""
        return [node for node in self.nodes() if node.name != HOST]

    def fetch(self, name: str, resolution: int | None) -> bool:
        """Have a data set sent here by a node that has it; whether one has."""
        from gans.data import sent

        wanted = Wanted(name, resolution)
        for node in self.others:
            (packed,) = self.ask(on_node.give_data, self.home(), wanted, of=[node]).values()
            if isinstance(packed, bytes):
                sent.keep(name, resolution, packed)
                return True
        return False

    def send(self, wanted: Wanted, to: list[Node]) -> None:
        """Send a data set to nodes: once into Ray's object store, from where each takes it."""
        from gans.data import datasets, sent

        packed = self.ray.put(sent.pack(datasets.load(wanted.name, resolution=wanted.resolution)))
        for node, answer in self.ask(on_node.take_data, self.home(), wanted, packed, of=to).items():
            if answer is not None:
                raise InputError(f"{wanted.name} cannot be sent to node {node[:6]}: {cause(answer)}")

    def may_live(self, holder: Holder) -> bool:
        """Whether a process of another machine may still be at work: its node is asked, if that is one of ours."""
        mine = [node for node in self.ray.nodes() if node["NodeManagerHostname"] == holder.host]
        alive = [node for node in self.nodes() if node.name == holder.host]
        if not alive:
            return not mine  # a machine that the cluster never had may be anybody's
        (answer,) = self.ask(on_node.living, holder, of=alive[:1]).values()
        return answer is not False

    def on(self, node: Node | str) -> dict[str, Any]:
        """Ray's options for something that runs on a node and books nothing of it."""
        return {"num_cpus": 0, "scheduling_strategy": pinned(node if isinstance(node, str) else node.id)}

    def admit(self, node: Node) -> str:
        """Why a node must not take part; empty if it may. One that joins is asked what the first ones were."""
        if node.id in self.admitted or self.terms is None:
            return ""
        try:
            self.terms([node])
            share_data(self, self.data, [node])
        except InputError as error:
            return str(error)
        return ""


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


@contextmanager
def joined(machine: Machine, uri: str, modules: tuple[str, ...], storage: str = "") -> Iterator[Machine]:
    """The machine, with the cluster that its engine stands for meanwhile.

    Args:
        machine: as it was asked for.
        uri: of the tracking store.
        modules: that every job needs.
        storage: of a sweep.

    Raises:
        InputError: there is no such cluster, or its nodes cannot work together.
    """
    if machine.engine == "local":
        yield machine
        return
    cluster = Cluster(modules)
    machine = replace(machine, cluster=cluster)
    try:
        if cluster.named:
            os.environ[SENT] = str(Path(tempfile.gettempdir()) / f"gans-sent-{uuid.uuid4().hex[:12]}")
            cluster.ready(0)
            check_stores(machine, uri, storage)
            cluster.terms = partial(check_nodes, machine, uri)
            cluster.terms(cluster.nodes())
            with helped(cluster):
                yield replace(machine, device=device(machine))
        else:
            yield machine
    finally:
        os.environ.pop(SENT, None)
        cluster.leave()


def device(machine: Machine) -> str:
    """The device of cells on a machine's cluster, which is named: its GPUs, unless the CPU is asked for.

    Raises:
        InputError: it has none, or this machine has none to plan with.
    """
    from gans.compute import devices

    cluster, asked = machine.cluster, machine.device
    if ":" in asked:
        raise InputError(f"DEVICE={asked}: which GPU a cell gets is Ray's choice; take DEVICE=cuda")
    if asked == "cpu" or not any(node.has.get("GPU") for node in cluster.nodes()):
        if asked == "cuda":
            raise InputError(f"the Ray cluster at {cluster.named} has no GPU; leave DEVICE out, or add a machine")
        return "cpu"
    if not devices.cards("auto"):
        raise InputError(
            f"the Ray cluster at {cluster.named} has GPUs and {HOST} has none, by which precisions are planned; "
            "start this on a machine of the cluster that has one, or take DEVICE=cpu"
        )
    return "cuda"


@contextmanager
def helped(cluster: Cluster) -> Iterator[None]:
    """Meanwhile, nodes say which processes on them live, and send data that this machine lacks."""
    from gans.data import sent

    witness, fetch = locks.witness, sent.fetch
    locks.witness, sent.fetch = cluster.may_live, cluster.fetch
    try:
        yield
    finally:
        locks.witness, sent.fetch = witness, fetch
        with suppress(Exception):  # a cluster that is gone
            cluster.ask(on_node.drop_data, cluster.home(), of=cluster.others)
        shutil.rmtree(os.environ[SENT], ignore_errors=True)


def wanted_by(cell: Cell) -> Wanted:
    """The data set of a cell."""
    return Wanted(cell.experiment.dataset, cell.experiment.resolution)


def share_data(cluster: Cluster, found: Mapping[Wanted, str], of: list[Node] | None = None) -> None:
    """See that every node has the data that cells were planned with, and send it to those that have none.

    Args:
        cluster: one that is named.
        found: the hashes of the data here.
        of: these nodes only.

    Raises:
        InputError: a node has other data under that name.
    """
    cluster.data |= found
    nodes = [node for node in cluster.others if of is None or node in of]
    names = {node.id: str(node) for node in nodes}
    for wanted, digest in found.items():
        answers = cluster.ask(on_node.data_of, cluster.home(), wanted, of=nodes)
        lacking = [node for node in nodes if not isinstance(answers[node.id], str)]
        for node, answer in answers.items():
            if isinstance(answer, str) and answer != digest:
                raise InputError(
                    f"{wanted.name} has the hash {digest[:12]} on {HOST} and {answer[:12]} on node {names[node]}; "
                    "put the same files into GANS_DATA of both"
                )
        if lacking:
            cluster.send(wanted, lacking)


def check_stores(machine: Machine, uri: str, storage: str) -> None:
    """Refuse a file as the store of several machines; arguments as of `joined`.

    Raises:
        InputError: with the remedy.
    """
    nodes = machine.cluster.nodes()
    if not nodes:
        raise InputError(
            f"the Ray cluster at {machine.cluster.named} has no machine with CPUs; add one by ray start"
        )
    if len(nodes) == 1 and nodes[0].name == HOST:
        return
    for name, url, remedy in (
        ("tracking store", uri, "set MLFLOW_TRACKING_URI to a tracking server (http://...) or PostgreSQL"),
        ("storage of a sweep", storage, "take STORAGE=postgresql://..."),
    ):
        if url and (url.startswith("sqlite") or "://" not in url):
            raise InputError(
                f"the {name} {shown(url)} is a file, which several machines cannot write to; {remedy}"
            )


def check_nodes(machine: Machine, uri: str, nodes: list[Node]) -> None:
    """Refuse nodes that cannot work together with this machine.

    Raises:
        InputError: the first thing that is wrong, with the remedy.
    """
    cluster = machine.cluster
    token = machine.runs / f".shared-{uuid.uuid4().hex[:12]}"
    try:
        token.parent.mkdir(parents=True, exist_ok=True)
        token.touch()
    except OSError as error:
        raise InputError(f"cannot write to {machine.runs}: {error.strerror}; name another folder: RUNS=") from None
    try:
        answers = cluster.ask(on_node.about, cluster.home(), str(token), uri, of=nodes)
    finally:
        token.unlink(missing_ok=True)
    here = Build.here()
    for node in nodes:
        check_node(node, answers[node.id], machine, here)
    cluster.admitted |= {node.id for node in nodes}


def check_node(node: Node, answer: Any, machine: Machine, here: Build) -> None:
    """Refuse a node that does not compute as this machine does, or lacks what it needs.

    Raises:
        InputError: naming it.
    """
    if not isinstance(answer, About):
        raise InputError(
            f"node {node} cannot run this suite: {cause(answer)}; install there what is installed on {HOST}"
        )
    if (found := here.difference(answer.build)) is not None:
        what, mine, theirs = found
        raise InputError(f"{what} is {mine} on {HOST} and {theirs} on node {node}; install the same on both")
    if answer.unreachable:
        raise InputError(f"node {node}: {answer.unreachable}")
    if not answer.shares:
        raise InputError(
            f"node {node} does not have the folder {machine.runs.absolute()} of {HOST}: checkpoints and locks lie "
            "there; name one that all machines share: RUNS=/shared/runs"
        )


@dataclass(eq=False)
class Attempt:
    """A job, and how it has fared so far.

    Attributes:
        started: whether its start was told.
        deaths: of its own process.
    """

    number: int
    job: Job
    started: bool = False
    deaths: int = 0


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
        self.hand_out()
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
        host = actor.options(**there, max_restarts=0).remote(self.cluster.home(), self.share.abreast)
        return Post(key, node, host, host.news.options(num_returns="streaming", concurrency_group="news").remote())

    def free(self, seats: list[Seat]) -> None:
        self.seats = [seat for seat in self.seats if seat not in seats]
        for seat in seats:
            with suppress(Exception):  # its node is gone
                release(seat.group)

    # --- jobs

    def hand_out(self) -> None:
        """Give jobs to hosts that are up and have seats."""
        for seat in self.seats:
            post = self.posts.get(seat.post)
            while post and post.up and self.waiting and len(seat.attempts) < self.abreast:
                attempt = self.waiting.popleft()
                seat.attempts[attempt.number] = attempt
                packed = replace(attempt.job, call=Packed(pickle.dumps(attempt.job.call)))
                post.actor.order.remote(Work(attempt.number, packed))

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
                yield Progressed(attempt.job, images, values)
            case Over(_, result, died):
                del seat.attempts[told.number]
                yield self.again(attempt, result.reason, post) if died else Ended(attempt.job, result)

    def again(self, attempt: Attempt, reason: str, post: Post) -> Moved | Ended:
        """Let a job whose process died go on, or give it up."""
        attempt.deaths += 1
        if attempt.deaths >= DEATHS:
            return Ended(attempt.job, Result(schema.FAILED, f"{reason}, {DEATHS} times"), died=True)
        self.waiting.appendleft(attempt)
        return Moved(attempt.job, f"{reason}, on node {self.names.get(post.node, post.node[:6])}")

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
            self.waiting.appendleft(attempt)
            if attempt.started:
                yield Moved(attempt.job, f"node {name} is gone")

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
        self.free(self.seats + self.blocked)


def cause(error: BaseException) -> str:
    """Ray's explanation in one line."""
    told = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = next((line for line in reversed(told) if "Error" in line or "died" in line or "dead" in line), "")
    return (last or first_line(error))[:200]
