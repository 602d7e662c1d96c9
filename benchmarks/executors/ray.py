"""Jobs on the nodes of a Ray cluster (`ENGINE=ray`): each is a Ray task, which writes to the runs' folder itself.

Ray chooses a node by the resources of a task, and ends the tasks of a dead runner. Every node imports this module,
so slow imports are avoided here.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.executors.worker import opened
from benchmarks.job import Begun, Fault, Job, Lost, News, Progress, Report, Result
from benchmarks.storage import Mirror, read_token, write_token
from gans import schema
from gans.compute.cluster import address, cause, connect, pinned, queue, ray_module
from gans.errors import InputError, first_line, shown
from gans.runs import databases
from gans.runs.locks import HOST

if TYPE_CHECKING:
    from benchmarks.options import Machine
    from gans.runs.cell import Cell

ANSWER = 120.0  # seconds that a node has to answer a question: its process imports what that takes
STOPPING = 10.0  # seconds for jobs to end when all are stopped
# of the runner's environment, what says where things are and with which credentials they are had
PASSED_ON = ("GANS_", "PG", "AWS_")
ROOT = Path(__file__).parents[2]
ROOMS = ("gans", "benchmarks", "sweeps", "reports")
# whose versions move numbers, or have to be the same for what is sent
PACKAGES = ("gans", "torch", "torchvision", "torch-fidelity", "numpy", "scipy", "optuna", "ray")


# --- on a node


@dataclass(frozen=True)
class Site:
    """The runner's properties that a node needs or must share.

    Attributes:
        folder: in which the runner works, taken if the node has it: paths are the same then.
        variables: of its environment; a node's own override them.
        runs: their folder or URL.
        mirror: the runner's, of a URL.
        token: what a file there holds, by which nodes see that it is the same.
        storage: of a sweep's study.
        data: hashes of data sets that jobs need, by name and resolution.
        admitted: ids of nodes that were found to fit.
    """

    host: str
    folder: str
    variables: Mapping[str, str]
    runs: str = ""
    mirror: Path | None = None
    token: str = ""
    storage: str = ""
    build: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[tuple[str, int | None], str] = field(default_factory=dict)
    admitted: frozenset[str] = frozenset()

    def enter(self) -> None:
        """Apply its folder and variables to this process."""
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        for name, value in self.variables.items():
            os.environ.setdefault(name, value)

    @contextmanager
    def of(self, job: Job, report: Report) -> Iterator[tuple[Report, Path]]:
        """A job's folder here, and what it reports to; from a URL it is fetched, and brought there meanwhile."""
        if not self.mirror:
            yield report, job.folder
            return
        with Mirror.temporary(self.runs) as mirror:
            below = job.folder.relative_to(self.mirror).as_posix()
            if job.resumes:
                mirror.pull(below)
            yield mirror.pushing(report), mirror.root / below
            mirror.push_all()


def build() -> dict[str, str]:
    """The versions in this process: nodes with others would compute other results, or fail."""
    code = hashlib.sha256()
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        code.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    found = {"the suite": f"files {code.hexdigest()[:8]}", "Python": platform.python_version()}
    for package in PACKAGES:
        found[package] = "not installed"
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def refusal(site: Site) -> str:
    """Why this node does not fit; empty if it does."""
    site.enter()
    here = build()
    for part, theirs in site.build.items():
        if here[part] != theirs:
            return f"{part} is {here[part]} here and {theirs} on {site.host}; install the same on both"
    try:
        if site.token and read_token(site.runs) != site.token:
            return (
                f"it does not have the folder of runs {shown(site.runs)} of {site.host}; "
                "use a folder that all machines share (RUNS=/shared/runs), or a URL (RUNS=s3://bucket/runs)"
            )
        if site.storage:
            databases.check(site.storage, databases.OPTUNA)
        for (name, resolution), theirs in site.data.items():
            from gans.data import datasets

            found = datasets.load(name, resolution=resolution).hash
            if found != theirs:
                return (
                    f"{name} has the hash {found[:12]} here and {theirs[:12]} on {site.host}; "
                    "put the same files into GANS_DATA of both"
                )
    except InputError as error:
        return str(error)
    return ""


def work(number: int, job: Job, site: Site, mailbox: Any, shares: bool) -> Result | Lost | tuple[str, str]:
    """The task: do a job on this node; else the node's id, and why it does not fit."""
    ray = ray_module()
    node = ray.get_runtime_context().get_node_id()
    site.enter()
    if node not in site.admitted and (why := refusal(site)):
        return node, why

    def send(news: Begun | Progress) -> None:
        with suppress(ray.exceptions.RayError):  # the runner is gone, and Ray ends this task
            mailbox.put((number, news, node))

    send(Begun())
    try:
        with site.of(job, lambda images, values: send(Progress(images, dict(values)))) as (report, folder):
            log = opened(folder / schema.LOG)
            with log, redirect_stdout(log), redirect_stderr(log):
                return job.run(report, folder, shares)
    except (OSError, InputError) as error:
        return Result(schema.FAILED, f"its files cannot be written: {first_line(error)}")


# --- at the runner


class Node(NamedTuple):
    """A machine of the cluster, by Ray's id and its host's name, with what can be booked there."""

    id: str
    name: str
    has: Mapping[str, float]

    def __str__(self) -> str:
        return f"{self.name} ({self.id[:6]})"


class Cluster:
    """The cluster at RAY_ADDRESS, or one of so many CPUs on this machine.

    Attributes:
        mirror: of the folder of runs, if that is a URL.
        excluded: ids of nodes that do not fit.
    """

    def __init__(self, cpus: int) -> None:
        self.ray = ray_module("ENGINE=ray")
        # jobs are to have the priority of their runner, as they have locally
        os.environ.setdefault("RAY_worker_niceness", str(os.nice(0)))
        connect(cpus, "ENGINE=local")
        variables = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        self.site = Site(HOST, str(Path.cwd()), variables)
        self.mirror: Mirror | None = None
        self.excluded: set[str] = set()

    def __str__(self) -> str:
        return f"the Ray cluster at {address() or HOST}"

    def nodes(self) -> list[Node]:
        """Those that are alive, compute, and fit as far as is known."""
        return [
            Node(each["NodeID"], each["NodeManagerHostname"], each["Resources"])
            for each in self.ray.nodes()
            if each["Alive"] and each["Resources"].get("CPU") and each["NodeID"] not in self.excluded
        ]

    def name(self, node: str) -> str:
        """A node's, of its id; it may be gone."""
        names = {each["NodeID"]: each["NodeManagerHostname"] for each in self.ray.nodes()}
        return str(Node(node, names.get(node, "unknown"), {}))

    @property
    def machines(self) -> int:
        return len(self.nodes())

    @property
    def cores(self) -> int:
        """CPU cores for jobs on the machine that has fewest."""
        return int(min(node.has["CPU"] for node in self.nodes()))

    def total(self, resource: str) -> float:
        """What all nodes have of a resource."""
        return sum(node.has.get(resource, 0.0) for node in self.nodes())

    def check(self, **changes: Any) -> None:
        """Refuse, with the remedy, the first node that does not fit to what is known now of the site."""
        self.site, nodes = replace(self.site, **changes), self.nodes()
        task = self.ray.remote(num_cpus=0, max_retries=0)(refusal)
        answers = [task.options(scheduling_strategy=pinned(node.id)).remote(self.site) for node in nodes]
        for node, answer in zip(nodes, answers, strict=True):
            try:
                why = self.ray.get(answer, timeout=ANSWER)
            except self.ray.exceptions.RayError as error:
                why = f"it cannot run this suite: {cause(error)}; install the same as on {HOST}"
            if why:
                raise InputError(f"node {node}: {why}")
        self.site = replace(self.site, admitted=frozenset(node.id for node in nodes))

    def check_cells(self, cells: list[Cell], threads: int, workers: int) -> None:
        """Refuse nodes without the data of these cells, and a cluster without room for the largest."""
        self.check(data={(c.experiment.dataset, c.experiment.resolution): c.images.hash for c in cells})
        most = max((node.has["CPU"] for node in self.nodes()), default=0.0)
        if threads > most or threads + workers > self.total("CPU"):
            needs = f"{threads} CPUs on one machine" + (f" and {workers} for its workers" if workers else "")
            raise InputError(
                f"{self} has no room for the largest cell, which needs {needs}: it has {self.total('CPU'):g} "
                f"CPUs, and {most:g} at most on one; add machines, or raise JOBS for smaller cells"
            )


class RayExecutor:
    """Runs jobs on a cluster, each on so many CPUs (`threads`).

    A job starts so many `workers` besides, on a CPU each (MD-GAN's over Ray). With `per_gpu`, so many jobs share a
    GPU.
    """

    def __init__(self, cluster: Cluster, threads: int, workers: int = 0, per_gpu: int = 0) -> None:
        self.cluster, self.ray = cluster, cluster.ray
        self.threads, self.workers, self.per_gpu = threads, workers, per_gpu
        self.task = self.ray.remote(work)
        self.mailbox = queue()  # of what jobs report
        self.tasks: dict[int, Any] = {}
        self.jobs: dict[int, Job] = {}
        self.where: dict[int, str] = {}

    def options(self, alone: bool) -> dict[str, Any]:
        """The resources of a task, `alone` on its GPU or not; those of a job's workers are separate."""
        options: dict[str, Any] = {"num_cpus": self.threads, "max_retries": 0}
        if self.per_gpu:
            options["num_gpus"] = 1 if alone else 1 / self.per_gpu
        if self.cluster.excluded:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(self.cluster.excluded))})"}
        return options

    @property
    def slots(self) -> int:
        """Jobs at a time; the cluster may grow."""
        # leave the resources of workers free, or all would wait for each other
        slots = int(self.cluster.total("CPU") // (self.threads + self.workers))
        if self.per_gpu:
            slots = min(slots, int(self.cluster.total("GPU") * self.per_gpu))
        return max(1, slots)

    def room(self, alone: bool = False) -> bool:
        return len(self.tasks) < self.slots

    def submit(self, number: int, job: Job, alone: bool = False) -> None:
        self.jobs[number] = job
        if self.cluster.mirror:  # what was put into the job's folder here is there when the node fetches it
            self.cluster.mirror.push()
        shares = self.per_gpu > 1 and not alone
        task = self.task.options(**self.options(alone))
        self.tasks[number] = task.remote(number, job, self.cluster.site, self.mailbox, shares)

    def cancel(self, number: int) -> None:
        self.ray.cancel(self.tasks[number], force=True)

    def poll(self, seconds: float) -> Iterator[News]:
        tasks = {task: number for number, task in self.tasks.items()}
        if not tasks:
            time.sleep(seconds)
            return
        ended, _ = self.ray.wait(list(tasks), num_returns=1, timeout=seconds)
        for number, news, node in self.mailbox.get_nowait_batch(self.mailbox.qsize()):
            self.where[number] = node
            yield number, news
        for number in (tasks[task] for task in ended):
            end = self.end(number, self.tasks.pop(number))
            if mirror := self.cluster.mirror:
                with suppress(InputError):  # it tries again by itself
                    mirror.pull(self.jobs[number].folder.relative_to(mirror.root).as_posix())
            yield number, end

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
                return Lost(f"node {self.cluster.name(node)} died", Fault.NONE)
            why = "its process died" if isinstance(error, errors.WorkerCrashedError) else cause(error)
            return Lost(f"{why}, on node {self.cluster.name(node)}" if node else why, Fault.OWN)
        return self.exclude(*answer) if isinstance(answer, tuple) else answer

    def exclude(self, node: str, why: str) -> Lost:
        """Give no more tasks to a node that has joined and does not fit."""
        why = f"node {self.cluster.name(node)}: {why}"
        if node not in self.cluster.excluded:
            print(f"{why}; it is not used", file=sys.stderr)
        self.cluster.excluded.add(node)
        return Lost(why, Fault.NONE if self.cluster.nodes() else Fault.OWN)

    def close(self) -> None:
        tasks = list(self.tasks.values())
        for task in tasks:
            with suppress(Exception):  # it has just ended
                self.ray.cancel(task, force=True)
        if tasks:
            self.ray.wait(tasks, num_returns=len(tasks), timeout=STOPPING)
        self.mailbox.shutdown(force=True)


# --- joining


@contextmanager
def joined(machine: Machine, storage: str = "", writes: bool = True) -> Iterator[Machine]:
    """The machine, connected to the cluster of its engine; checks its nodes, and the `storage` of a sweep.

    Without `writes` nothing runs.
    """
    if machine.engine == "local" or not (writes or machine.url or address()):
        yield machine
        return
    cluster = Cluster(0 if address() else max(machine.cores, machine.jobs or 1))
    with ExitStack() as stack:
        stack.callback(cluster.ray.shutdown)
        if not cluster.nodes():
            raise InputError(f"{cluster} has no machine with CPUs; add one with ray start")
        check_file(cluster, storage)
        machine = replace(machine, cluster=cluster, device=device(cluster, machine.device))
        runs = machine.url or str(machine.runs.absolute())
        if machine.url:
            cluster.mirror = stack.enter_context(Mirror.of_runner(machine.url, writes))
            machine = replace(machine, runs=cluster.mirror.root)
        mirror = cluster.mirror.root if cluster.mirror else None
        token = write_token(runs) if writes else ""
        cluster.check(runs=runs, mirror=mirror, token=token, storage=storage, build=build())
        yield machine


def check_file(cluster: Cluster, storage: str) -> None:
    """Refuse a file as the storage of a sweep on several machines."""
    alone = {node.name for node in cluster.nodes()} == {HOST}
    if storage and not alone and (storage.startswith("sqlite") or "://" not in storage):
        raise InputError(
            f"the storage of a sweep {storage} is a file, to which several machines cannot write; "
            "take STORAGE=postgresql://..."
        )


def device(cluster: Cluster, named: str) -> str:
    """The device of cells on a cluster: its GPUs, if this machine has one to plan with, or the CPU."""
    from gans.compute import devices

    if ":" in named:
        raise InputError(f"DEVICE={named}: Ray chooses the GPU of a cell; take DEVICE=cuda")
    if named == "cpu" or not cluster.total("GPU"):
        if named == "cuda":
            raise InputError(f"{cluster} has no GPU; leave DEVICE out, or add a machine")
        return "cpu"
    if not devices.gpus("auto"):
        raise InputError(
            f"{cluster} has GPUs but {HOST} has none, needed to plan precisions; start this on a machine of "
            "the cluster with a GPU, or take DEVICE=cpu"
        )
    return "cuda"
