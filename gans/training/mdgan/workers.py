"""MD-GAN's workers, and the team of them as the server sees it.

Whatever passes between the server and a worker, or between two workers, passes through a `Team`, which counts its
bytes. `LocalTeam` keeps the workers in this process; `ray.RayTeam` gives each a process of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from gans import schema, seeds
from gans.compute import precision
from gans.config import MDGANConfig, Resolved
from gans.data.batches import Batches
from gans.models.layers import Shape
from gans.training.losses import mixture
from gans.training.players import Discriminator, Statistics

Where = Literal["local", "ray"]
WHERE: tuple[Where, ...] = ("local", "ray")
# told (worker, why) when a worker is lost
Lost = Callable[[int, str], None]
# a `gans.training.updates.Hire` that makes MD-GAN's teams
Hire = Callable[[Resolved, Shape, Sequence[Tensor]], "Team"]


class WorkersLost(RuntimeError):
    """No worker is left; training goes on from the last checkpoint when it is started again."""


class Reply(NamedTuple):
    """What a worker returns from an iteration.

    Attributes:
        feedback: F_n, the gradient of the generator's loss per pixel of X_g: (b, c, h, w).
        statistics: of its discriminator's last step and of its judgement: scalars by name.
    """

    feedback: Tensor
    statistics: Statistics


class Work(NamedTuple):
    """What a worker draws for an iteration; its shapes are the same in every one.

    Attributes:
        real: a batch of its shard: float (b, c, h, w) in [-1, 1].
        mixes: for the gradient penalty of each of its L steps, (b, 1, 1, 1); none without a penalty.
    """

    real: Tensor
    mixes: list[Tensor]


class Parcel(NamedTuple):
    """A generated batch on its way to workers: what they are handed, and its size in bytes."""

    content: Any
    bytes: int


@dataclass
class Traffic:
    """Bytes of the tensors that were handed over since training began.

    Attributes:
        down: from the server to workers, all together.
        up: from workers to the server.
        across: from worker to worker.
        exchanges: how often the server and one worker exchanged something.
        moves: discriminators that went from a worker to another.
    """

    down: int = 0
    up: int = 0
    across: int = 0
    exchanges: int = 0
    moves: int = 0

    def metrics(self) -> dict[str, float]:
        """Bytes per exchange (of one worker) and per move, and the total; nothing before the first exchange."""
        if not self.exchanges:
            return {}
        across = {"traffic/worker_to_worker": self.across / self.moves} if self.moves else {}
        return {
            "traffic/server_to_worker": self.down / self.exchanges,
            "traffic/worker_to_server": self.up / self.exchanges,
            **across,
            "traffic/exchanges": float(self.exchanges),
            "traffic/moves": float(self.moves),
            "traffic/total_mib": (self.down + self.up + self.across) / 2**20,
        }

    def state(self) -> dict[str, int]:
        return asdict(self)


def size_of(tree: Any) -> int:
    """Bytes of all tensors in nested dicts, lists and tuples."""
    if isinstance(tree, Tensor):
        return tree.nbytes
    if isinstance(tree, Mapping):
        return sum(size_of(part) for part in tree.values())
    return sum(size_of(part) for part in tree) if isinstance(tree, list | tuple) else 0


class Worker:
    """One worker: a shard of the data, and the discriminator that sits there at the moment.

    Args:
        experiment: with an MD-GAN update.
        shape: of the images.
        images: the shard, uint8 (m, c, h, w), on the worker's device.
        n: the worker's number; its discriminator starts from weights of its own.
    """

    def __init__(self, experiment: Resolved, shape: Shape, images: Tensor, n: int) -> None:
        assert isinstance(experiment.update, MDGANConfig)
        self.experiment, self.n = experiment, n
        self.steps = experiment.update.d_steps
        self.shard = Batches(images, experiment.seed, "worker", n)
        self.player = Discriminator(experiment, shape, images.device, n)

    def prepare(self, iteration: int) -> Work:
        """What the iteration learns from, beside generated images."""
        batch = self.experiment.batch
        penalised = self.steps if self.player.penalty else 0
        mixes = [mixture(batch, self.rng(iteration, step)) for step in range(penalised)]
        return Work(self.shard.at(iteration * batch, batch), mixes)

    def play(self, work: Work, x_d: Tensor, x_g: Tensor) -> Reply:
        """Learn on X_d, then judge X_g (Algorithm 1, lines 6 to 12)."""
        # in a process of its own, nobody else says so
        with precision.products(self.experiment.precision, x_d.device):
            learned = self.learn(work, x_d)
            loss, feedback = self.feedback(x_g)
        return Reply(feedback, {**learned, schema.LOSS_G: loss})

    def learn(self, work: Work, fake: Tensor) -> Statistics:
        """L discriminator steps on one batch of the shard and X_d; statistics of the last."""
        for step in range(self.steps):
            learned = self.player.learn(work.real, fake, work.mixes[step] if work.mixes else None)
        return learned

    def rng(self, iteration: int, step: int) -> torch.Generator:
        """For the gradient penalty."""
        labels = ("penalty", iteration, self.n, step)
        return seeds.generator(self.experiment.seed, *labels, device=self.shard.images.device)

    def feedback(self, fake: Tensor) -> tuple[Tensor, Tensor]:
        """The generator's loss on X_g, and F_n, its gradient per pixel (b, c, h, w)."""
        fake = fake.detach().requires_grad_()
        loss = self.player.loss.g_loss(self.player.judge(fake))
        (gradient,) = torch.autograd.grad(loss, fake)
        return loss.detach(), gradient


class Team(ABC):
    """The workers that are left.

    Attributes:
        lost: why each worker that is gone is gone, by its number.
        remote: whether a worker can die without this process dying.
    """

    remote = False

    def __init__(self, lost: Lost = lambda n, why: None) -> None:
        self.traffic = Traffic()
        self.lost: dict[int, str] = {}
        self.tell_lost = lost
        self.iteration = 0

    @property
    @abstractmethod
    def alive(self) -> list[int]:
        """The workers that are left, in order."""

    @property
    @abstractmethod
    def each(self) -> int:
        """Trainable parameters of one discriminator."""

    @property
    def size(self) -> int:
        """Trainable parameters of all discriminators that are left."""
        return self.each * len(self.alive)

    @abstractmethod
    def work(self, n: int, iteration: int) -> Any:
        """What worker n learns from in an iteration, beside generated images, as `start` takes it."""

    @abstractmethod
    def parcel(self, batch: Tensor) -> Parcel:
        """A generated batch made ready to be handed to any number of workers."""

    @abstractmethod
    def start(self, n: int, work: Any, x_d: Any, x_g: Any) -> None:
        """Give worker n its work, in terms of `work`, and two batches, in terms of `Parcel.content`."""

    @abstractmethod
    def results(self) -> Iterator[tuple[int, Reply]]:
        """Of the workers that were given work, in their order; one that died meanwhile is lost."""

    @abstractmethod
    def move(self, sources: Mapping[int, int]) -> Iterator[int]:
        """Send discriminators from worker to worker; yields the bytes of each that moved."""

    @abstractmethod
    def dismiss(self, n: int) -> None:
        """Worker n is no more, and its shard and discriminator with it."""

    @abstractmethod
    def states(self) -> dict[int, Any]:
        """The discriminators' states, by worker."""

    @abstractmethod
    def put(self, states: Mapping[int, Any]) -> None:
        """The opposite of `states`, for workers that are all alive."""

    @abstractmethod
    def finite(self) -> bool:
        """Whether all discriminators' weights are finite numbers."""

    def prepare(self, iteration: int) -> dict[int, Any]:
        """The work of an iteration, by worker."""
        self.iteration = iteration
        return {n: self.work(n, iteration) for n in self.alive}

    def send(self, n: int, work: Any, x_d: Parcel, x_g: Parcel) -> None:
        """Start worker n on its two batches; one that is both travels once."""
        self.traffic.exchanges += 1
        self.traffic.down += x_d.bytes if x_d is x_g else x_d.bytes + x_g.bytes
        self.start(n, work, x_d.content, x_g.content)

    def replies(self) -> list[tuple[int, Reply]]:
        """What the workers return, in their order, so that sums over them round the same way every time."""
        replies = list(self.results())
        self.traffic.up += sum(size_of(reply) for _, reply in replies)
        return replies

    def swap(self, sources: Mapping[int, int]) -> None:
        """Worker n gets the discriminator of worker `sources[n]`; nothing passes through the server."""
        for size in self.move(sources):
            self.traffic.across += size
            self.traffic.moves += 1

    def lose(self, n: int, why: str) -> None:
        """Go on without worker n."""
        self.dismiss(n)
        self.lost[n] = why
        self.tell_lost(n, why)

    def state(self) -> dict[str, Any]:
        """Everything to resume from.

        Raises:
            WorkersLost: nobody is left; there is nothing to resume from then.
        """
        states = self.states()
        if not states:
            raise WorkersLost(f"all workers are lost after iteration {self.iteration}")
        return {"discriminators": states, "lost": dict(self.lost), "traffic": self.traffic.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        for n, why in state["lost"].items():
            self.lose(n, why)
        self.put(state["discriminators"])
        self.traffic = Traffic(**state["traffic"])


class LocalTeam(Team):
    """Workers in this process, one after the other."""

    def __init__(
        self,
        experiment: Resolved,
        shape: Shape,
        shards: Sequence[Tensor],
        lost: Lost = lambda n, why: None,
    ) -> None:
        super().__init__(lost)
        self.workers = {n: Worker(experiment, shape, images, n) for n, images in enumerate(shards)}
        self.orders: list[tuple[int, Work, Tensor, Tensor]] = []

    @property
    def alive(self) -> list[int]:
        return list(self.workers)

    @property
    def each(self) -> int:
        return self.players[0].size

    @property
    def players(self) -> list[Discriminator]:
        """The discriminators, in the order of their workers."""
        return [worker.player for worker in self.workers.values()]

    def work(self, n: int, iteration: int) -> Work:
        return self.workers[n].prepare(iteration)

    def parcel(self, batch: Tensor) -> Parcel:
        return Parcel(batch, batch.nbytes)

    def start(self, n: int, work: Any, x_d: Any, x_g: Any) -> None:
        self.orders.append((n, work, x_d, x_g))

    def results(self) -> Iterator[tuple[int, Reply]]:
        orders, self.orders = self.orders, []
        for n, work, x_d, x_g in orders:
            yield n, self.workers[n].play(work, x_d, x_g)

    def move(self, sources: Mapping[int, int]) -> Iterator[int]:
        players = {n: worker.player for n, worker in self.workers.items()}
        for n, source in sources.items():
            self.workers[n].player = players[source]
            yield size_of(players[source].state())

    def dismiss(self, n: int) -> None:
        del self.workers[n]

    def states(self) -> dict[int, Any]:
        return {n: worker.player.state() for n, worker in self.workers.items()}

    def put(self, states: Mapping[int, Any]) -> None:
        for n, state in states.items():
            self.workers[n].player.load(state)

    def finite(self) -> bool:
        return all(player.finite() for player in self.players)
