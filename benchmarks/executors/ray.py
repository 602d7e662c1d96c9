"""Jobs on the nodes of a Ray cluster (`ENGINE=ray`): each is a Ray task.

Ray finds the node for a task by what the task books: its CPU threads, its share of a GPU, and memory. Jobs write
to the runs' folder themselves: it is one that all nodes have, or a URL (`benchmarks.storage`). What they report on
the way goes through a mailbox, an actor on the runner's machine.

- *A node or a process that dies* loses the images since the last checkpoint of its jobs; the supervisor starts
  them again.
- *A node that joins* is used by Ray at once. A task there makes first the checks that the first nodes passed; if
  it does not fit, the node gets no more tasks.
- *A runner that dies* takes its tasks along, which Ray sees to: the locks are free then.

Ray imports this module on every node, so nothing heavy is imported here.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.executors.worker import opened
from benchmarks.job import Begun, Fault, Job, Lost, News, Progress, Report, Result
from benchmarks.storage import Mirror, read_token, write_token
from gans import schema
from gans.compute.cluster import address, cause, connect, pinned, ray_module
from gans.errors import InputError, first_line
from gans.runs import databases
from gans.runs.locks import HOST
from gans.urls import shown

if TYPE_CHECKING:
    from benchmarks.options import Machine
    from gans.runs.cell import Cell

CELL_BYTES = 2**30  # of memory that a job books, on a cluster that others may use
ANSWER = 120.0  # seconds that a node has to answer a question: its process imports what that takes
STOPPING = 10.0  # seconds that jobs have to end in
COUNT = 2.0  # seconds between looks at how large the cluster is
TRIES = 3  # to reach a storage: drivers take seconds to import on a busy node
# of the runner's environment, what says where things are and with which credentials they are had
PASSED_ON = ("GANS_", "PG", "AWS_")
ROOT = Path(__file__).parents[2]
ROOMS = ("gans", "benchmarks", "sweeps", "reports")
# whose versions move numbers, or have to be the same for what is sent
PACKAGES = ("gans", "torch", "torchvision", "torch-fidelity", "numpy", "scipy", "optuna", "ray")

Data = Mapping[tuple[str, int | None], str]  # hashes of data sets, by name and resolution


# --- on a node


@dataclass(frozen=True)
class Site:
    """What a node needs to know of the runner, and has to have like it.

    Attributes:
        host: the runner's machine.
        folder: in which the runner works, taken if the node has it: paths are the same then.
        variables: of its environment; those that the node has itself win.
        runs: the folder of runs.
        url: of the runs, if they are not in a folder.
        token: what a file in that folder or at that URL holds, by which nodes see that it is the same.
        storage: of a sweep's study.
        build: as `build`.
        data: that jobs need.
    """

    host: str
    folder: str
    variables: Mapping[str, str]
    runs: Path
    url: str = ""
    token: str = ""
    storage: str = ""
    build: Mapping[str, str] = field(default_factory=dict)
    data: Data = field(default_factory=dict)

    def enter(self) -> None:
        """Make its folder and its variables this process's."""
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        for name, value in self.variables.items():
            os.environ.setdefault(name, value)

    @contextmanager
    def of(self, job: Job, report: Report) -> Iterator[tuple[Report, Path]]:
        """A job's folder here, and what it reports to; from a URL it is fetched, and brought there meanwhile."""
        if not self.url:
            yield report, job.folder
            return
        with Mirror.temporary(self.url) as mirror:
            below = job.folder.relative_to(self.runs).as_posix()
            if job.resumes:
                mirror.pull(below)
            yield mirror.pushing(report), mirror.root / below
            mirror.push()


@dataclass(frozen=True)
class Refused:
    """The answer of a node that does not fit."""

    node: str
    why: str


def build() -> dict[str, str]:
    """What this process runs: nodes that differ would not compute the same, or not understand each other."""
    files = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    code = hashlib.sha256()
    for path in files:
        code.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    versions = {package: installed(package) for package in PACKAGES}
    return {"the suite": f"files {code.hexdigest()[:8]}", "Python": platform.python_version(), **versions}


def installed(package: str) -> str:
    """The version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def refusal(site: Site) -> str:
    """Why this node does not fit; empty if it does."""
    site.enter()
    here = build()
    for part, theirs in site.build.items():
        if here[part] != theirs:
            return f"{part} is {here[part]} here and {theirs} on {site.host}; install the same on both"
    try:
        if site.token and read_token(site.url, site.runs) != site.token:
            return (
                f"it does not have the folder {shown(site.url) or site.runs} of {site.host}, to which cells are "
                "written; name one that all machines share (RUNS=/shared/runs), or a URL (RUNS=s3://bucket/runs)"
            )
        if site.storage:
            check_storage(site.storage)
        check_data(site.data, site.host)
    except InputError as error:
        return str(error)
    return ""


def check_storage(storage: str) -> None:
    """Refuse a sweep's storage that cannot be reached from here."""
    for attempt in range(TRIES):
        try:
            databases.check(storage, databases.OPTUNA)
            return
        except databases.Away:
            if attempt == TRIES - 1:
                raise


def check_data(data: Data, host: str) -> None:
    """Refuse data that are not here, or are others than the runner's."""
    if data:
        from gans.data import datasets

        for (name, resolution), theirs in data.items():
            here = datasets.load(name, resolution=resolution).hash
            if here != theirs:
                raise InputError(
                    f"{name} has the hash {here[:12]} here and {theirs[:12]} on {host}; "
                    "put the same files into GANS_DATA of both"
                )


class Mailbox:
    """What jobs report on their way; an actor on the runner's machine."""

    def __init__(self) -> None:
        self.letters: list[Any] = []
        self.arrived = asyncio.Event()

    async def put(self, letter: Any) -> None:
        self.letters.append(letter)
        self.arrived.set()

    async def take(self) -> list[Any]:
        """All that has come, as soon as there is something."""
        await self.arrived.wait()
        return await self.empty()

    async def ping(self) -> None:
        """Answer, once all that the same sender has put before is here."""

    async def empty(self) -> list[Any]:
        """All that has come."""
        self.arrived.clear()
        letters, self.letters = self.letters, []
        return letters


def work(number: int, job: Job, site: Site, admitted: frozenset[str], mailbox: Any) -> Result | Refused:
    """The task: do a job on this node, if the node fits."""
    ray = ray_module()
    node = ray.get_runtime_context().get_node_id()
    site.enter()
    if node not in admitted and (why := refusal(site)):
        return Refused(node, why)
    ray.get(mailbox.put.remote((number, Begun(), node)))  # it may die at once

    def report(images: int, values: Mapping[str, float]) -> None:
        mailbox.put.remote((number, Progress(images, dict(values)), node))

    try:
        with site.of(job, report) as (listener, folder), logged(folder / schema.LOG):
            return job.run(listener, folder)
    except (OSError, InputError) as error:
        return Result(schema.FAILED, f"its files cannot be kept: {first_line(error)}")
    finally:
        ray.get(mailbox.ping.remote())  # what was reported has arrived before the end is seen


@contextmanager
def logged(log: Path) -> Iterator[None]:
    """What this process prints goes to a file meanwhile."""
    with opened(log) as file, redirect_stdout(file), redirect_stderr(file):
        yield


# --- at the runner


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that is alive, by Ray's id and its host's name, with what can be booked there."""

    id: str
    name: str
    has: Mapping[str, float]

    def __str__(self) -> str:
        return f"{self.name} ({self.id[:6]})"


class Cluster:
    """The cluster that this process is connected to: the one at RAY_ADDRESS, or one on this machine.

    Attributes:
        named: its address, if it is no cluster of this machine.
        site: what nodes need to know.
        mirror: of the folder of runs, if that is a URL.
        admitted: ids of nodes that fit.
        excluded: ids of nodes that do not.
    """

    def __init__(self, runs: Path) -> None:
        self.ray = ray_module("ENGINE=ray")
        self.named = address()
        self.cpus = 0
        variables = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        self.site = Site(HOST, str(Path.cwd()), variables, runs.absolute())
        self.mirror: Mirror | None = None
        self.admitted: set[str] = set()
        self.excluded: set[str] = set()

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
        connect(cpus, "ENGINE=local")
        self.cpus = cpus
        if not self.named:
            self.admitted = {node.id for node in self.nodes()}

    def leave(self) -> None:
        """End the connection, and a cluster that is this machine's own."""
        self.ray.shutdown()

    def nodes(self) -> list[Node]:
        """Those that are alive, compute, and fit as far as is known."""
        return [
            Node(each["NodeID"], each["NodeManagerHostname"], each["Resources"])
            for each in self.ray.nodes()
            if each["Alive"] and each["Resources"].get("CPU") and each["NodeID"] not in self.excluded
        ]

    def fetch(self, folder: Path) -> None:
        """Have here what a job has brought to the URL of the runs, if they are at one."""
        if self.mirror:
            with suppress(InputError):  # the mirror tries again
                self.mirror.pull(folder.relative_to(self.mirror.root).as_posix())

    def name(self, node: str) -> str:
        """A node's, of its id; it may be gone."""
        names = {each["NodeID"]: each["NodeManagerHostname"] for each in self.ray.nodes()}
        return str(Node(node, names.get(node, "unknown"), {}))

    @property
    def machines(self) -> int:
        """That jobs run on."""
        return len(self.nodes()) if self.named else 1

    @property
    def cores(self) -> int:
        """CPU cores for jobs on the machine that has fewest."""
        from gans.compute import devices

        return int(min(node.has["CPU"] for node in self.nodes())) if self.named else devices.cores()

    def total(self, resource: str) -> float:
        """What all nodes have of a resource."""
        return sum(node.has.get(resource, 0.0) for node in self.nodes())

    def check(self, **changes: Any) -> None:
        """See that every node fits.

        Args:
            changes: of the site, as far as it is known by now.

        Raises:
            InputError: the first that is wrong, with the remedy.
        """
        self.site = replace(self.site, **changes)
        if not self.named:
            return
        nodes = self.nodes()
        if not nodes:
            raise InputError(f"the Ray cluster at {self.named} has no machine with CPUs; add one by ray start")
        task = self.ray.remote(refusal)
        on_each = {"num_cpus": 0, "max_retries": 0}
        answers = [
            task.options(**on_each, scheduling_strategy=pinned(node.id)).remote(self.site) for node in nodes
        ]
        for node, answer in zip(nodes, answers, strict=True):
            try:
                why = self.ray.get(answer, timeout=ANSWER)
            except self.ray.exceptions.RayError as error:
                why = f"it cannot run this suite: {cause(error)}; install there what is installed on {HOST}"
            if why:
                raise InputError(f"node {node}: {why}")
        self.admitted = {node.id for node in nodes}

    def check_cells(self, cells: list[Cell], threads: int, workers: int) -> None:
        """See that every node has the data of these cells, and that there is room for the largest.

        Raises:
            InputError: with the remedy.
        """
        if not self.named:
            return
        found = {(c.experiment.dataset, c.experiment.resolution): c.images.hash for c in cells}
        self.check(data=found)
        most = max((node.has["CPU"] for node in self.nodes()), default=0.0)
        if threads > most or threads + workers > self.total("CPU"):
            needs = f"{threads} CPUs on one machine" + (f" and {workers} for its workers" if workers else "")
            raise InputError(
                f"the Ray cluster at {self.named} has no room for the largest cell, which needs {needs}: it has "
                f"{self.total('CPU'):g} CPUs, and {most:g} at most on one; add machines, or take more JOBS, which "
                "are smaller"
            )


class RayExecutor:
    """Runs jobs on a cluster.

    Args:
        cluster: that this process may be connected to already.
        threads: CPUs of a job.
        workers: processes that a job starts besides its own, on a CPU each (MD-GAN's over Ray).
        most: jobs at a time; None: as many as there is room for.
        per_gpu: jobs on each GPU; 0: they run on CPUs.
    """

    deaths = 3
    grace = STOPPING

    def __init__(
        self, cluster: Cluster, threads: int, workers: int = 0, most: int | None = None, per_gpu: int = 0
    ) -> None:
        cluster.ready((most or 1) * threads + workers)
        self.cluster, self.ray = cluster, cluster.ray
        self.threads, self.workers, self.most, self.per_gpu = threads, workers, most, per_gpu
        self.task = self.ray.remote(work)
        here = pinned(self.ray.get_runtime_context().get_node_id())
        self.mailbox = self.ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
        self.letters = self.mailbox.take.remote()
        self.tasks: dict[int, Any] = {}
        self.jobs: dict[int, Job] = {}
        self.where: dict[int, str] = {}
        self.slots, self.counted = 1, float("-inf")

    @property
    def options(self) -> dict[str, Any]:
        """What a task books; the workers of a job book for themselves."""
        options: dict[str, Any] = {"num_cpus": self.threads, "max_retries": 0}
        if self.cluster.named:
            options["memory"] = CELL_BYTES
        if self.per_gpu:
            options["num_gpus"] = 1 / self.per_gpu
        if self.cluster.excluded:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(self.cluster.excluded))})"}
        return options

    def room(self, alone: bool = False) -> bool:
        if time.monotonic() > self.counted + COUNT:
            self.counted = time.monotonic()
            # what the workers of jobs book has to be left free, or all would wait for each other
            slots = int(self.cluster.total("CPU") // (self.threads + self.workers))
            if self.per_gpu:
                slots = min(slots, int(self.cluster.total("GPU") * self.per_gpu))
            self.slots = max(1, slots if self.most is None else self.most)
        return len(self.tasks) < self.slots

    def submit(self, number: int, job: Job, alone: bool = False) -> None:
        arguments = (number, job, self.cluster.site, frozenset(self.cluster.admitted), self.mailbox)
        self.jobs[number] = job
        self.tasks[number] = self.task.options(**self.options).remote(*arguments)

    def cancel(self, number: int, force: bool = False) -> None:
        self.ray.cancel(self.tasks[number], force=True)

    def poll(self, seconds: float) -> Iterator[News]:
        wait, tasks = self.ray.wait, {task: number for number, task in self.tasks.items()}
        wait([self.letters, *tasks], num_returns=1, timeout=seconds)
        yield from self.read()
        if tasks:
            done, _ = wait(list(tasks), num_returns=len(tasks), timeout=0)
            rest = self.ray.get(self.mailbox.empty.remote()) if done else []
            yield from self.read()
            yield from self.open(rest)
            for task in done:
                number = tasks[task]
                del self.tasks[number]
                end = self.end(number, task)
                self.cluster.fetch(self.jobs.pop(number).folder)
                yield number, end

    def read(self) -> Iterator[News]:
        """What jobs have reported."""
        if self.ray.wait([self.letters], timeout=0)[0]:
            letters, self.letters = self.ray.get(self.letters), self.mailbox.take.remote()
            yield from self.open(letters)

    def open(self, letters: list[Any]) -> Iterator[News]:
        for number, what, node in letters:
            self.where[number] = node
            yield number, what

    def end(self, number: int, task: Any) -> Result | Lost:
        """How a task has ended."""
        errors = self.ray.exceptions
        node = self.where.get(number, "")
        try:
            answer = self.ray.get(task)
        except errors.RayTaskError as error:
            return Result(schema.FAILED, cause(error))
        except errors.RayError as error:
            alive = {each.id for each in self.cluster.nodes()}
            if isinstance(error, errors.NodeDiedError) or (node and node not in alive):
                return Lost(f"node {self.cluster.name(node)} is gone", Fault.NONE)
            why = "its process died" if isinstance(error, errors.WorkerCrashedError) else cause(error)
            return Lost(f"{why}, on node {self.cluster.name(node)}" if node else why, Fault.OWN)
        if isinstance(answer, Refused):
            return self.exclude(answer)
        return answer

    def exclude(self, refused: Refused) -> Lost:
        """Give no more tasks to a node that has joined and does not fit."""
        name = self.cluster.name(refused.node)
        if refused.node not in self.cluster.excluded:
            print(f"node {name}: {refused.why}; it is left out", file=sys.stderr)
        self.cluster.excluded.add(refused.node)
        return Lost(f"node {name}: {refused.why}", Fault.NONE if self.cluster.nodes() else Fault.OWN)

    def close(self) -> None:
        tasks = list(self.tasks.values())
        for task in tasks:
            with suppress(Exception):  # it has just ended
                self.ray.cancel(task, force=True)
        if tasks:
            self.ray.wait(tasks, num_returns=len(tasks), timeout=STOPPING)
        self.ray.kill(self.mailbox)


# --- joining


@contextmanager
def joined(machine: Machine, storage: str = "", writes: bool = True) -> Iterator[Machine]:
    """The machine, with the cluster that its engine stands for meanwhile.

    Args:
        machine: the options.
        storage: of a sweep.
        writes: whether runs are to be written.

    Raises:
        InputError: there is no such cluster, or its nodes cannot work together.
    """
    if machine.engine == "local":
        yield machine
        return
    cluster = Cluster(machine.runs)
    machine = replace(machine, cluster=cluster)
    try:
        if cluster.named:
            cluster.ready(0)
            check_file(cluster, storage)
            machine = replace(machine, device=device(machine))
        with runs_of(machine, writes) as there:
            cluster.check(storage=storage, build=build())
            yield there
    finally:
        cluster.leave()


@contextmanager
def runs_of(machine: Machine, writes: bool) -> Iterator[Machine]:
    """The machine with a folder of runs on it: a mirror, where `RUNS` is a URL."""
    cluster = machine.cluster
    if not machine.url:
        cluster.site = replace(cluster.site, token=write_token("", machine.runs) if writes else "")
        yield machine
        return
    with Mirror.of_runner(machine.url, writes) as mirror:
        cluster.mirror = mirror
        token = write_token(machine.url, mirror.root) if writes else ""
        cluster.site = replace(cluster.site, url=machine.url, runs=mirror.root, token=token)
        yield replace(machine, runs=mirror.root)


def check_file(cluster: Cluster, storage: str) -> None:
    """Refuse a file as the storage of a sweep on several machines.

    Raises:
        InputError: with the remedy.
    """
    nodes = cluster.nodes()
    alone = len(nodes) == 1 and nodes[0].name == HOST
    if storage and not alone and (storage.startswith("sqlite") or "://" not in storage):
        raise InputError(
            f"the storage of a sweep {storage} is a file, which several machines cannot write to; "
            "take STORAGE=postgresql://..."
        )


def device(machine: Machine) -> str:
    """The device of cells on a machine's cluster, which is named: its GPUs, unless the CPU is named.

    Raises:
        InputError: it has none, or this machine has none to plan with.
    """
    from gans.compute import devices

    cluster, named = machine.cluster, machine.device
    if ":" in named:
        raise InputError(f"DEVICE={named}: which GPU a cell gets is Ray's choice; take DEVICE=cuda")
    if named == "cpu" or not cluster.total("GPU"):
        if named == "cuda":
            raise InputError(f"the Ray cluster at {cluster.named} has no GPU; leave DEVICE out, or add a machine")
        return "cpu"
    if not devices.gpus("auto"):
        raise InputError(
            f"the Ray cluster at {cluster.named} has GPUs and {HOST} has none, by which precisions are planned; "
            "start this on a machine of the cluster that has one, or take DEVICE=cpu"
        )
    return "cuda"
