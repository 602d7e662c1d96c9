"""MD-GAN's workers as Ray actors, here or on other machines.

The server is the process that trains; which cluster it connects to, `gans.compute.cluster` says. A local one is
started for the training and stopped after it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from gans.compute import devices, precision
from gans.compute.cluster import address, cause, connected, ray_module
from gans.config import MDGANConfig, Resolved
from gans.data.batches import Batch, Batches
from gans.data.images import Split
from gans.errors import InputError
from gans.models.layers import Shape
from gans.schema import Where
from gans.training.mdgan.workers import (
    Exchange,
    LocalTeam,
    Lost,
    Reply,
    Team,
    Worker,
    WorkerDiscriminator,
    size_of,
)
from gans.training.updates import Trainable, WorkerFactory

START_SECONDS = 180.0  # for all workers to be up: each imports torch
WORKER_BYTES = 400 * 2**20  # of a process that has imported torch and holds small networks


def require(workers: int, device: torch.device) -> None:
    """Refuse, before training, a cluster that is unavailable or too small for the workers.

    Raises:
        InputError: with the remedy.
    """
    ray = ray_module()
    if address() is None:
        wanted, free = workers * WORKER_BYTES / 2**30, psutil.virtual_memory().available / 2**30
        if wanted > free:
            raise InputError(
                f"{workers} workers in separate processes need about {wanted:.1f} GiB of memory "
                f"and {free:.1f} are free here; lower update.workers, or set RAY_ADDRESS to a larger cluster"
            )
        return
    with connected(workers):
        there = ray.cluster_resources()
        for name, each in needs(workers, device, there).items():
            if each * workers > there.get(name, 0) + 1e-9:
                raise InputError(
                    f"the Ray cluster at {address()} has {there.get(name, 0):g} {name}s, fewer than the "
                    f"{each * workers:g} that {workers} workers need; add machines to it, or lower update.workers"
                )


def needs(workers: int, device: torch.device, resources: Mapping[str, float]) -> dict[str, float]:
    """The resources of one worker: a CPU and, if the server computes on one, its share of the cluster's GPUs."""
    if device.type != "cuda":
        return {"CPU": 1.0}
    gpus = resources.get("GPU", 0.0)
    # Ray wants whole GPUs above 1; below, workers share one
    per_gpu = -(-workers // int(gpus)) if gpus >= 1 else 1
    return {"CPU": 1.0, "GPU": 1.0 if per_gpu == 1 else int(10_000 / per_gpu) / 10_000}


@contextmanager
def team_factory(where: Where, experiment: Resolved, lost: Lost) -> Iterator[WorkerFactory]:
    """A function that makes a team: of workers in this process, or of actors in a connected cluster."""
    if where == "local":
        yield partial(LocalTeam, lost=lost)
        return
    assert isinstance(experiment.update, MDGANConfig)
    teams: list[RayTeam] = []

    def make(experiment: Resolved, shape: Shape, shards: Sequence[Split]) -> RayTeam:
        teams.append(RayTeam(experiment, shape, shards, lost))
        return teams[-1]

    with connected(experiment.update.workers):
        try:
            yield make
        finally:
            for team in teams:
                for n in list(team.actors):
                    team.dismiss(n)


# of a batch, for one: images and, if networks are conditional, labels
Arrays = tuple[np.ndarray, ...]


def packed(*tensors: Tensor | None) -> Arrays:
    """As numpy arrays, which Ray does not copy between processes."""
    return tuple(tensor.cpu().numpy() for tensor in tensors if tensor is not None)


def unpacked(arrays: Arrays, device: torch.device) -> list[Tensor]:
    """The tensors of `packed`, on the device; Ray's arrays are read-only."""
    return [torch.from_numpy(array.copy()).to(device) for array in arrays]


def on_cpu(tree: Any) -> Any:
    """A copy of nested dicts and lists with all tensors on the CPU."""
    if isinstance(tree, Tensor):
        return tree.detach().cpu()
    if isinstance(tree, Mapping):
        return {key: on_cpu(part) for key, part in tree.items()}
    return type(tree)(map(on_cpu, tree)) if isinstance(tree, list | tuple) else tree


class RemoteWorker:
    """A worker in a separate process."""

    def __init__(
        self, experiment: Resolved, shape: Shape, shard: Arrays, n: int, device: str, threads: int
    ) -> None:
        self.device = devices.resolve(device)
        devices.prepare(self.device, threads)
        precision.require(experiment.precision, self.device)  # the server's machine may be of another kind
        split = Batch(*unpacked(shard, self.device))
        batches = Batches(split.images, experiment.seed, "worker", n, labels=split.labels)
        self.experiment = experiment
        self.worker = Worker(experiment, batches, n)
        self.discriminator = WorkerDiscriminator(experiment, shape, batches, n)

    def about(self) -> tuple[int, int]:
        """Process id, and trainable parameters of the discriminator."""
        return os.getpid(), self.discriminator.size

    def work(self, iteration: int, progress: float, x_d: Arrays, x_g: Arrays) -> Arrays:
        """The worker's part of an iteration: feedback and statistics of a `Reply`."""
        self.discriminator.schedule(progress)
        self.discriminator.prepare(self.worker, iteration)
        with precision.products(self.experiment.precision, self.device):
            given = (Batch(*unpacked(batch, self.device)) for batch in (x_d, x_g))
            return packed(*self.discriminator.compute(*given))

    def give(self) -> tuple[list[Any], int]:
        """The discriminator, left in this machine's store: its address in a list, and its bytes."""
        state = self.state()
        # in a list, a reference is handed on and not what it refers to
        return [ray_module().put(state)], size_of(state)

    def take(self, given: list[Any]) -> bool:
        """Fetch a discriminator; False if its worker has died: the own one stays."""
        ray = ray_module()
        try:
            self.put(ray.get(given[0]))
        except ray.exceptions.ObjectLostError:
            return False
        return True

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = on_cpu(self.discriminator.state())
        return state

    def put(self, state: dict[str, Any]) -> None:
        self.discriminator.load(state)

    def finite(self) -> bool:
        return self.discriminator.finite()


class RayTeam(Team):
    """Workers as actors; `team_factory` holds the connection to their cluster.

    The server sends each worker its shard once, when it starts. From then on a generated batch is put into the
    object store once per iteration, and all workers compute at the same time.

    Raises:
        InputError: the workers do not start, because others use the cluster.
    """

    remote = True

    def __init__(
        self, experiment: Resolved, shape: Shape, shards: Sequence[Split], lost: Lost = lambda n, why: None
    ) -> None:
        super().__init__(lost)
        self.ray = ray_module()
        errors = self.ray.exceptions
        # an answer is lost with its worker, if that dies before the answer is fetched
        self.died = (errors.RayActorError, errors.WorkerCrashedError, errors.ObjectLostError)
        self.device = shards[0].images.device
        demand = needs(len(shards), self.device, self.ray.cluster_resources())
        actor = self.ray.remote(RemoteWorker).options(
            num_cpus=demand["CPU"], num_gpus=demand.get("GPU", 0), max_restarts=0, max_task_retries=0
        )
        self.actors: dict[int, Any] = {
            n: actor.remote(experiment, shape, packed(shard.images, shard.labels), n, self.device.type, 1)
            for n, shard in enumerate(shards)
        }
        self.running: dict[int, Any] = {}
        self.moving: dict[int, tuple[Any, int]] = {}  # whether a discriminator arrived, and its bytes
        about = self.started()
        self.pids = {n: pid for n, (pid, _) in about.items()}
        self.each = about[0][1]

    def started(self) -> dict[int, tuple[int, int]]:
        """Wait until all workers are up; their `about`."""
        futures = [actor.about.remote() for actor in self.actors.values()]
        try:
            return dict(zip(self.actors, self.ray.get(futures, timeout=START_SECONDS), strict=True))
        except self.ray.exceptions.GetTimeoutError:
            free = self.ray.available_resources().get("CPU", 0)
            raise InputError(
                f"the Ray cluster did not start {len(futures)} workers within {START_SECONDS:g} s, with {free:g} "
                "CPUs free; wait until it is free, or use fewer workers"
            ) from None
        except self.died as error:
            raise InputError(f"a worker does not start in the Ray cluster: {cause(error)}") from None

    @property
    def alive(self) -> list[int]:
        return list(self.actors)

    @property
    def trainables(self) -> list[Trainable]:
        return []

    def compute(self, generated: Iterator[Batch]) -> dict[int, Reply]:
        """A worker starts as soon as both of its batches exist, while the next ones are generated."""
        sent: list[Any] = []
        down = 0
        for j, batch in enumerate(generated):
            sent.append(self.ray.put(packed(*batch)))
            for n, (g, d) in self.pairs.items():
                if max(g, d) == j:
                    self.running[n] = self.actors[n].work.remote(self.iteration, self.progress, sent[d], sent[g])
                    down += size_of(batch) * len({g, d})  # one that is both travels once
        replies = dict(self.results())
        self.exchange = Exchange(len(self.pairs), len(replies), down, size_of(list(replies.values())))
        return replies

    def results(self) -> Iterator[tuple[int, Reply]]:
        """Of the workers that were given work, in their order; one that died meanwhile is lost."""
        moving, running = self.moving, self.running
        self.moving, self.running = {}, {}
        for n, (taken, size) in moving.items():
            if self.answer(n, taken) is False:  # it keeps its own, which was on its way to the dead
                self.traffic.moves -= 1
                self.traffic.across -= size
        for n, reference in running.items():
            if (answer := self.answer(n, reference)) is not None:
                yield n, Reply(*unpacked(answer, self.device))

    def answer(self, n: int, reference: Any) -> Any:
        """What worker n answers; None if it has died, and it is lost then."""
        if n not in self.actors:
            return None
        try:
            return self.ray.get(reference)
        except self.died as error:
            self.lose(n, f"died in iteration {self.iteration} (process {self.pids[n]}): {cause(error)}")
            return None

    def move(self, sources: Mapping[int, int]) -> Iterator[int]:
        given = self.ask("give")
        if given.keys() != sources.keys():  # a worker has just died: the others keep their own discriminators
            return
        for n, source in sources.items():
            address, size = given[source]
            # not waited for: the next batches are generated meanwhile
            self.moving[n] = self.actors[n].take.remote(address), size
            yield size

    def dismiss(self, n: int) -> None:
        actor = self.actors.pop(n)
        with suppress(Exception):  # it is dead already, mostly
            self.ray.kill(actor)

    def states(self) -> dict[int, Any]:
        return self.ask("state")

    def put(self, states: Mapping[int, Any]) -> None:
        # a checkpoint is on the server's device, which a worker's machine may not have
        futures = {n: self.actors[n].put.remote(on_cpu(state)) for n, state in states.items()}
        for n, reference in futures.items():
            self.answer(n, reference)

    def finite(self) -> bool:
        return all(self.ask("finite").values())

    def ask(self, what: str) -> dict[int, Any]:
        """What the workers that are alive answer."""
        futures = {n: getattr(actor, what).remote() for n, actor in self.actors.items()}
        answers = {n: self.answer(n, reference) for n, reference in futures.items()}
        return {n: answer for n, answer in answers.items() if n in self.actors}
