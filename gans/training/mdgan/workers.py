"""MD-GAN's workers, and the server's interface to them, the team.

All tensors between the server and a worker, or between two workers, pass through a `Team`, which counts their
bytes. `LocalTeam` keeps the workers in this process; `cluster.RayTeam` runs each in a separate process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gans import schema, seeds
from gans.compute import devices
from gans.compute.graphs import ParallelStreams
from gans.config import MDGANConfig, Resolved
from gans.data.batches import Batch, Batches
from gans.data.images import Split
from gans.models.layers import Shape
from gans.training.two_player import Discriminator
from gans.training.updates import Trainable, laid_out_as

# called with (worker, why) when a worker is lost
Lost = Callable[[int, str], None]
STATISTICS = (schema.LOSS_D, schema.D_REAL, schema.D_FAKE, schema.LOSS_G)  # of a reply, in this order


class WorkersLost(RuntimeError):
    """No worker is left; a restarted training resumes from the last checkpoint."""


class Reply(NamedTuple):
    """What a worker returns from an iteration."""

    feedback: Tensor  # F_n, the gradient of the generator's loss per pixel of X_g: (b, c, h, w)
    statistics: Tensor  # in the order of `STATISTICS`: (4,)


class Exchange(NamedTuple):
    """How many workers an iteration gave work, how many replied, and the bytes to all of them and back."""

    workers: int = 0
    replies: int = 0
    down: int = 0
    up: int = 0


@dataclass
class Traffic:
    """Bytes since training began: from the server down to workers, up from them, and across between workers."""

    down: int = 0
    up: int = 0
    across: int = 0
    exchanges: int = 0  # number of exchanges between the server and one worker
    moves: int = 0  # discriminators that moved to another worker

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


def size_of(tree: Any) -> int:
    """Bytes of all tensors in nested dicts, lists and tuples."""
    if isinstance(tree, Tensor):
        return tree.nbytes
    parts = tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list | tuple) else ()
    return sum(size_of(part) for part in parts)


class Worker:
    """The part of a worker that swaps do not move: its shard and the seeds of its random numbers."""

    def __init__(self, experiment: Resolved, shard: Batches, n: int) -> None:
        self.experiment, self.shard, self.n = experiment, shard, n

    def indices(self, iteration: int) -> Tensor:
        """Of the iteration's real images: int64 (b,)."""
        batch = self.experiment.batch
        return self.shard.indices(iteration * batch, batch)

    def seed(self, purpose: str, iteration: int, *labels: int) -> int:
        return seeds.mix_ahead(self.experiment.seed, purpose, iteration, 1, self.n, *labels)


class WorkerDiscriminator(Discriminator):
    """A discriminator, which learns from buffers that its current worker fills.

    Args:
        batches: of the images that any worker's indices point to.
        n: the worker that it starts at; it has weights of its own, or those of worker 0 (`update.same_start`).

    Attributes:
        indices: of the real images: int64 (b,).
        penalty_rngs: of the gradient penalty in each of the L steps; none without a penalty.
    """

    def __init__(self, experiment: Resolved, shape: Shape, batches: Batches, n: int) -> None:
        assert isinstance(experiment.update, MDGANConfig)
        device = batches.images.device
        super().__init__(experiment, shape, device, 0 if experiment.update.same_start else n)
        self.steps, self.batches = experiment.update.d_steps, batches
        self.indices = torch.zeros(experiment.batch, dtype=torch.int64, device=device)
        self.penalty_rngs = [torch.Generator(device) for _ in range(self.steps if self.penalties.gp else 0)]

    @property
    def rngs(self) -> list[torch.Generator]:
        return [*self.penalty_rngs, *([self.augmentation.rng] if self.augmentation else [])]

    def prepare(self, worker: Worker, iteration: int) -> None:
        """For an iteration at this worker."""
        self.indices.copy_(worker.indices(iteration))
        for step, rng in enumerate(self.penalty_rngs):
            rng.manual_seed(worker.seed("penalty", iteration, step))
        if self.augmentation:
            self.augmentation.rng.manual_seed(worker.seed("augment", iteration))

    def compute(self, x_d: Batch, x_g: Batch) -> Reply:
        """L steps on X_d, then the feedback on X_g (Algorithm 1, lines 6 to 12)."""
        real = self.mirrored(self.batches.of(self.indices))
        for step in range(self.steps):
            learned = self.learn(real, x_d, self.penalty_rngs[step] if self.penalty_rngs else None)
        x_g = x_g.watched()
        loss = self.generator_loss(real, x_g)
        (feedback,) = torch.autograd.grad(loss, x_g.images, self.one)
        statistics = {**learned, schema.LOSS_G: loss.detach()}
        return Reply(feedback, torch.stack([statistics[name] for name in STATISTICS]))


def assignment(worker: int, batches: int) -> tuple[int, int]:
    """Which generated batches a worker gets, as (X_g, X_d), all counted from 0 (Algorithm 1, line 20)."""
    return worker % batches, (worker + 1) % batches


class Team(ABC):
    """The workers that are left.

    Attributes:
        lost: the reason for each lost worker, by its number.
        rngs: random generators that `compute` draws from in this process.
        exchange: of the last iteration.
        remote: whether a worker can die without this process.
        each: trainable parameters of one discriminator.
    """

    remote = False
    each: int

    def __init__(self, lost: Lost = lambda n, why: None) -> None:
        self.traffic = Traffic()
        self.lost: dict[int, str] = {}
        self.on_loss = lost
        self.iteration = 0
        self.rngs: list[torch.Generator] = []
        self.exchange = Exchange()

    @property
    @abstractmethod
    def alive(self) -> list[int]:
        """The remaining workers, in order."""

    @property
    @abstractmethod
    def trainables(self) -> Sequence[Trainable]:
        """The discriminators in this process, in the order of their workers."""

    @property
    def size(self) -> int:
        """Trainable parameters of all remaining discriminators."""
        return self.each * len(self.alive)

    @abstractmethod
    def compute(self, generated: Iterator[Batch]) -> dict[int, Reply]:
        """Have all workers compute what was prepared, on the batches X(1..k), generated one by one on request.

        Returns the replies of those that are left, by their numbers in the order of `prepare`, so that sums over
        them round the same way every time.
        """

    @abstractmethod
    def move(self, sources: Mapping[int, int]) -> Iterator[int]:
        """Send discriminators from worker to worker; yields the bytes of each that moved."""

    @abstractmethod
    def dismiss(self, n: int) -> None:
        """Drop worker n with its shard and its discriminator."""

    @abstractmethod
    def states(self) -> dict[int, Any]:
        """The discriminators' states, by worker."""

    @abstractmethod
    def put(self, states: Mapping[int, Any]) -> None:
        """The inverse of `states`, for workers that are all alive."""

    @abstractmethod
    def finite(self) -> bool: ...

    def prepare(self, iteration: int, pairs: Mapping[int, tuple[int, int]], progress: float = 0.0) -> None:
        """For an iteration, counted from 0, in which every worker gets these X_g and X_d.

        The order of the pairs is that of the replies; discriminators in other processes follow the progress.
        """
        self.iteration, self.pairs, self.progress = iteration, pairs, progress

    def finish(self) -> None:
        """Count the iteration's bytes."""
        self.traffic.exchanges += self.exchange.workers
        self.traffic.down += self.exchange.down
        self.traffic.up += self.exchange.up

    def swap(self, sources: Mapping[int, int]) -> None:
        """Worker n gets the discriminator of worker `sources[n]`; nothing passes through the server."""
        for size in self.move(sources):
            self.traffic.across += size
            self.traffic.moves += 1

    def lose(self, n: int, why: str) -> None:
        """Continue without worker n."""
        self.dismiss(n)
        self.lost[n] = why
        self.on_loss(n, why)

    def state(self) -> dict[str, Any]:
        """Everything to resume from.

        Raises:
            WorkersLost: no worker is left.
        """
        states = self.states()
        if not states:
            raise WorkersLost(f"all workers are lost after iteration {self.iteration}")
        return {"discriminators": states, "lost": dict(self.lost), "traffic": asdict(self.traffic)}

    def load(self, state: Mapping[str, Any]) -> None:
        for n, why in state["lost"].items():
            self.lose(n, why)
        self.put(state["discriminators"])
        self.traffic = Traffic(**state["traffic"])


class LocalTeam(Team):
    """Workers in this process; on CUDA they compute at the same time.

    Nothing moves in memory, so a recorded iteration is valid until a worker is lost. After a swap, other
    workers fill the discriminators' buffers. The discriminators compute in the order of their memory, and their
    replies are put into the workers' order.

    Attributes:
        workers: those that are left, by number.
        discriminators: those that are left, in the order of their memory.
        placed: the same by their worker's number.
    """

    def __init__(
        self, experiment: Resolved, shape: Shape, shards: Sequence[Split], lost: Lost = lambda n, why: None
    ) -> None:
        super().__init__(lost)
        images = torch.cat([shard.images for shard in shards])
        labels = [shard.labels for shard in shards if shard.labels is not None]
        classes = torch.cat(labels) if labels else None
        self.device, self.streams = images.device, ParallelStreams(images.device)
        ends = [0, *accumulate(len(shard.images) for shard in shards)]
        batches = [
            Batches(images, experiment.seed, "worker", n, labels=classes, part=range(start, end))
            for n, (start, end) in enumerate(pairwise(ends))
        ]
        self.workers = {n: Worker(experiment, shard, n) for n, shard in enumerate(batches)}
        self.discriminators = [WorkerDiscriminator(experiment, shape, shard, n) for n, shard in enumerate(batches)]
        self.placed = dict(enumerate(self.discriminators))
        self.each = self.discriminators[0].size
        self.rngs = [rng for discriminator in self.discriminators for rng in discriminator.rngs]
        # in the order of memory, X_g and X_d of each discriminator; in the order of replies, whose they are
        self.given = torch.zeros((len(shards), 2), dtype=torch.int64, device=self.device)
        self.order = torch.zeros(len(shards), dtype=torch.int64, device=self.device)
        self.current = False  # whether these two are up to date

    @property
    def alive(self) -> list[int]:
        return list(self.placed)

    @property
    def trainables(self) -> list[WorkerDiscriminator]:
        return list(self.placed.values())

    def prepare(self, iteration: int, pairs: Mapping[int, tuple[int, int]], progress: float = 0.0) -> None:
        super().prepare(iteration, pairs, progress)
        for n, discriminator in self.placed.items():
            discriminator.prepare(self.workers[n], iteration)
        if not self.current:
            self.write_order()

    def write_order(self) -> None:
        """Write the discriminators' places to the device."""
        order = [self.discriminators.index(self.placed[n]) for n in self.pairs]
        given = dict(zip(order, self.pairs.values(), strict=True))
        for buffer, rows in ((self.order, order), (self.given, [given[place] for place in sorted(given)])):
            buffer[: len(rows)].copy_(devices.sent(torch.tensor(rows), self.device), non_blocking=True)
        self.current = True

    def compute(self, generated: Iterator[Batch]) -> dict[int, Reply]:
        batches = list(generated)
        given = self.hand_out(batches)
        pairs = zip(self.discriminators, given, strict=True)
        replies = self.streams.run([partial(one.compute, x_d, x_g) for one, (x_g, x_d) in pairs])
        replies = self.in_order(replies)
        sent = min(len(batches), 2)  # a batch that is both X_g and X_d travels once
        count = len(replies)
        self.exchange = Exchange(count, count, sent * count * size_of(batches[0]), size_of(replies))
        return dict(zip(self.pairs, replies, strict=True))

    def hand_out(self, batches: Sequence[Batch]) -> list[tuple[Batch, ...]]:
        """X_g and X_d of each discriminator."""
        if len(batches) == 1:
            return [(batches[0], batches[0])] * len(self.discriminators)
        # images and labels, each as one tensor to select from
        parts = [None if part[0] is None else torch.stack(part) for part in zip(*batches, strict=True)]

        def selected(places: Tensor) -> tuple[Batch, ...]:
            pairs = [[None, None] if part is None else part.index_select(0, places).unbind() for part in parts]
            pair = (Batch(*part) for part in zip(*pairs, strict=True))
            return tuple(batch._replace(images=laid_out_as(batches[0].images, batch.images)) for batch in pair)

        return [selected(places) for places in self.given[: len(self.discriminators)]]

    def in_order(self, replies: Sequence[Reply]) -> list[Reply]:
        """The discriminators' replies in the order of the pairs."""
        order = self.order[: len(replies)]
        columns = (torch.stack(column).index_select(0, order).unbind() for column in zip(*replies, strict=True))
        return [Reply(*reply) for reply in zip(*columns, strict=True)]

    def move(self, sources: Mapping[int, int]) -> Iterator[int]:
        before = dict(self.placed)
        self.current = False
        for n, source in sources.items():
            self.placed[n] = before[source]
            yield size_of(before[source].state())

    def dismiss(self, n: int) -> None:
        self.discriminators.remove(self.placed.pop(n))
        del self.workers[n]
        self.current = False

    def states(self) -> dict[int, Any]:
        return {n: discriminator.state() for n, discriminator in self.placed.items()}

    def put(self, states: Mapping[int, Any]) -> None:
        for n, state in states.items():
            self.placed[n].load(state)

    def finite(self) -> bool:
        return all(trainable.finite() for trainable in self.trainables)
