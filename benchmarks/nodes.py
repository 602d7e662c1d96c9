"""The nodes of a cluster as the runner sees them: joined, asked, and refused if they cannot work together."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import node as on_node
from benchmarks.away import Loan
from benchmarks.depot import Depot
from benchmarks.engine import Job
from benchmarks.node import SENT, About, Build, Home, Wanted
from benchmarks.options import Machine
from gans.compute.cluster import address, connect, pinned, ray_module
from gans.errors import InputError, first_line
from gans.runs import locks
from gans.runs.locks import HOST, Holder
from gans.urls import shown

if TYPE_CHECKING:
    from types import ModuleType

    from gans.runs.cell import Cell

ANSWER = 120.0  # seconds that a node has to answer a question: its process imports what that takes


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
        runtime_env: of jobs on nodes, as Ray has it.

    Attributes:
        named: its address, if it is no cluster of this machine.
        terms: refuses nodes that cannot take part; None: there is only this machine.
        admitted: ids of those that may.
        data: the hashes of the data that jobs need.
        artifacts: the folder that the tracking store keeps artifacts in; None: it keeps them otherwise.
        away: ids of nodes that lack the folder of runs.
        depot: of that folder, if it is a URL: all nodes are away from it.
        runs: that folder.
    """

    def __init__(self, modules: tuple[str, ...] = (), runtime_env: Mapping[str, Any] | None = None) -> None:
        self.ray: ModuleType = ray_module("ENGINE=ray")
        self.named = address()
        self.modules = modules
        self.runtime_env = dict(runtime_env or {})
        self.cpus = 0
        self.terms: Callable[[list[Node]], None] | None = None
        self.admitted: set[str] = set()
        self.data: dict[Wanted, str] = {}
        self.artifacts: Path | None = None
        self.away: set[str] = set()
        self.depot: Depot | None = None
        self.runs = Path()

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
        connect(cpus, self.runtime_env, "ENGINE=local")
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

    def is_away(self, node: str) -> bool:
        """Whether the node of this id lacks the folder of runs."""
        return self.depot is not None or node in self.away

    def lend(self, job: Job) -> Loan:
        """A job for a node that does.

        Raises:
            InUse: another process works on its folder.
        """
        return Loan(job, self.runs, self.depot)

    def admit(self, node: Node) -> str:
        """Why a node must not take part; empty if it may. One that joins is asked what the first ones were."""
        if node.id in self.admitted or self.terms is None:
            return ""
        try:
            self.terms([node])
            share_data(self, self.data, [node])
            share_artifacts(self, self.artifacts, [node])
        except InputError as error:
            self.admitted.discard(node.id)
            return str(error)
        return ""


@contextmanager
def joined(
    machine: Machine, uri: str, modules: tuple[str, ...], storage: str = "", writes: bool = True
) -> Iterator[Machine]:
    """The machine, with the cluster that its engine stands for meanwhile.

    Args:
        machine: as it was asked for.
        uri: of the tracking store.
        modules: that every job needs.
        storage: of a sweep.
        writes: whether runs are to be written.

    Raises:
        InputError: there is no such cluster, or its nodes cannot work together.
    """
    if machine.engine == "local":
        yield machine
        return
    cluster = Cluster(modules, environment(machine.runtime_env))
    machine = replace(machine, cluster=cluster)
    try:
        if cluster.named:
            os.environ[SENT] = str(Path(tempfile.gettempdir()) / f"gans-sent-{uuid.uuid4().hex[:12]}")
            cluster.ready(0)
            check_stores(machine, uri, storage)
            cluster.terms = partial(check_nodes, machine, uri)
            cluster.terms(cluster.nodes())
            with helped(cluster), housed(machine, writes) as there:
                yield replace(there, device=device(machine))
        else:
            with housed(machine, writes) as there:
                yield there
    finally:
        os.environ.pop(SENT, None)
        cluster.leave()


@contextmanager
def housed(machine: Machine, writes: bool) -> Iterator[Machine]:
    """The machine with a folder of runs on it: a mirror, where `RUNS` is a URL."""
    cluster, url = machine.cluster, machine.url
    if not url:
        cluster.runs = machine.runs
        yield machine
        return
    cluster.depot = Depot(url).enter(writes)
    try:
        cluster.runs = cluster.depot.mirror
        yield replace(machine, runs=cluster.runs)
    finally:
        for remark in cluster.depot.leave():
            print(remark, file=sys.stderr)


def environment(file: Path | None) -> dict[str, Any]:
    """What a file says of the environment of jobs on nodes, Ray's `runtime_env`; nothing without one.

    Raises:
        InputError: it cannot be read, or says no such thing.
    """
    if file is None:
        return {}
    if not address():
        raise InputError(f"RUNTIME_ENV={file} is for a cluster that RAY_ADDRESS names; leave it out")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else first_line(error)
        raise InputError(f"RUNTIME_ENV={file} cannot be read: {why}") from None
    if not isinstance(found, dict):
        raise InputError(f"RUNTIME_ENV={file} is no JSON object, as Ray's runtime_env is")
    return found


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


def share_artifacts(cluster: Cluster, folder: Path | None, of: list[Node] | None = None) -> None:
    """See that every node has the folder that artifacts go to, if the store keeps them in one.

    Args:
        cluster: one that is named.
        folder: of the store; None: a server takes them.
        of: these nodes only.

    Raises:
        InputError: a node lacks it; with the remedy.
    """
    cluster.artifacts = folder
    if folder is None:
        return
    nodes = cluster.nodes() if of is None else of
    remedy = (
        "take a tracking server, which keeps them itself (mlflow server), or start this in a folder that all share"
    )
    with token(folder, remedy) as file:
        answers = cluster.ask(on_node.sees, cluster.home(), str(file), of=nodes)
    for node in nodes:
        if isinstance(answer := answers[node.id], Exception):
            raise InputError(f"node {node} does not say whether it has the folder {folder}: {cause(answer)}")
        if not answer:
            raise InputError(
                f"artifacts go to the folder {folder} of {HOST}, which node {node} does not have; {remedy}"
            )


@contextmanager
def token(folder: Path, remedy: str) -> Iterator[Path]:
    """A file in a folder meanwhile, by which nodes tell whether it is the same there.

    Args:
        folder: made if it is not there.
        remedy: what to say if it cannot be written to.

    Raises:
        InputError: it cannot be written to.
    """
    file = folder.absolute() / f".shared-{uuid.uuid4().hex[:12]}"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}; {remedy}") from None
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)


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
    with nullcontext(Path()) if machine.url else token(machine.runs, "name another: RUNS=") as file:
        answers = cluster.ask(on_node.about, cluster.home(), str(file), uri, of=nodes)
    here = Build.here()
    for node in nodes:
        check_node(node, answers[node.id], machine, here)
    lacking = [node for node in nodes if not answers[node.id].shares]
    if lacking:
        names = ", ".join(map(str, lacking))
        has = "has" if len(lacking) == 1 else "have"
        print(
            f"{names} {has} no folder {machine.runs.absolute()}: what cells write there is brought here every "
            "few seconds; RUNS= names a folder that all machines share"
        )
    cluster.away |= {node.id for node in lacking}
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
    if not answer.shares and machine.runs != Machine.runs:
        raise InputError(
            f"node {node} does not have the folder {machine.runs.absolute()} of {HOST}: checkpoints and locks lie "
            "there; name one that all machines share, or leave RUNS out: files travel then"
        )


def cause(error: BaseException) -> str:
    """Ray's explanation in one line."""
    told = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = next((line for line in reversed(told) if "Error" in line or "died" in line or "dead" in line), "")
    return (last or first_line(error))[:200]
