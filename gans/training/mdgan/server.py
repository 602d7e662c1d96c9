"""MD-GAN: one generator, N discriminators on N shards of the data (Hardy, Le Merrer, Sericola 2019, 1811.03850).

Algorithm 1 of the paper. Per iteration the server generates k batches; worker n is given X_g = X(n mod k) and
X_d = X((n + 1) mod k), takes L discriminator steps on a batch of its shard and X_d, and returns the feedback
F_n = d B(X_g) / d X_g, one gradient per pixel. The server applies the mean of the N feedbacks through its
generator. Every E epochs over a shard the discriminators change workers.

`docs/mdgan.md` lists what the paper leaves open and what we chose. The workers are a `workers.Team`: in this
process, or in processes of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gans import seeds
from gans.config import MDGANConfig, Resolved
from gans.data.images import ImageData
from gans.data.shards import check_shards, deal
from gans.models.layers import Shape
from gans.training.mdgan.workers import Hire, LocalTeam, WorkersLost
from gans.training.updates import Discriminator, Update


class MDGAN(Update):
    """The server, which owns the generator; it deals the shards out and reads no image after that.

    Args:
        experiment: with an `MDGANConfig`.
        shape: of the images.
        images: uint8 (n, c, h, w), on the server's device.
        labels: their classes, int64 (n,); only skewed shards need them.
        hire: makes the team from the shards.
    """

    distributed = True

    def __init__(
        self,
        experiment: Resolved,
        shape: Shape,
        images: Tensor,
        labels: Tensor | None = None,
        hire: Hire = LocalTeam,
    ) -> None:
        super().__init__(experiment, shape, images)
        assert isinstance(experiment.update, MDGANConfig)
        self.config = experiment.update
        parts = deal(self.config, len(images), labels, experiment.seed)
        self.team = hire(experiment, shape, [images[part.to(images.device)] for part in parts])
        self.iteration = 0
        self.images_per_step = self.config.workers * experiment.batch
        self.swap_interval = swap_interval(
            len(images) // self.config.workers, experiment.batch, self.config.swap_epochs
        )
        self.crashes = Crashes(experiment) if self.config.crashes else None

    @classmethod
    def build(
        cls, experiment: Resolved, shape: Shape, data: ImageData, device: torch.device, hire: Hire | None = None
    ) -> MDGAN:
        return cls(experiment, shape, data.train.to(device), data.train_labels, hire or LocalTeam)

    @classmethod
    def check(cls, experiment: Resolved, images: int, labels: Tensor | None = None) -> None:
        assert isinstance(experiment.update, MDGANConfig)
        check_shards(experiment.update, experiment.batch, images, labels, experiment.seed)

    def discriminators(self) -> Sequence[Discriminator]:
        return self.team.players

    def step(self, images: int) -> Tensor:
        if self.crashes:
            self.crash(self.crashes.by(self.iteration))
        alive = self.team.alive
        generated = self.generate(images, alive)
        replies = self.team.replies()
        if not replies:
            raise WorkersLost(f"all {self.config.workers} workers are lost by iteration {self.iteration}")
        feedback = [torch.zeros_like(batch) for batch in generated]
        for n, reply in replies:
            # feedback is linear in the generator's gradient: what shares a batch is summed before the one
            # backward pass through it, k passes in place of N
            feedback[assignment(alive.index(n), len(generated))[0]] += reply.feedback / len(replies)
        self.player.apply(self.player.gradients(generated, feedback))
        self.iteration += 1
        self.images_per_step = len(replies) * self.experiment.batch
        if self.iteration % self.swap_interval == 0:
            self.swap(self.iteration - 1)
        return torch.stack([reply.statistics for _, reply in replies]).mean(dim=0)

    def generate(self, images: int, alive: Sequence[int]) -> list[Tensor]:
        """X(1..k); a worker starts as soon as both of its batches exist, while the next ones are generated."""
        k = min(self.config.batches, len(alive))
        pairs = {n: assignment(place, k) for place, n in enumerate(alive)}
        generated, parcels = [], []
        for j in range(k):
            generated.append(self.player.compute(self.latents(images, j)))
            parcels.append(self.team.parcel(generated[j].detach()))
            for n, (g, d) in pairs.items():
                if max(g, d) == j:
                    self.team.send(n, self.iteration, parcels[d], parcels[g])
        return generated

    def swap(self, iteration: int) -> None:
        """Each discriminator moves to the worker that a random derangement of those alive sends it to."""
        alive = self.team.alive
        if len(alive) > 1:
            order = derangement(len(alive), seeds.generator(self.experiment.seed, "swap", iteration))
            self.team.swap({n: alive[source] for n, source in zip(alive, order, strict=True)})

    def crash(self, victims: Sequence[int]) -> None:
        for n in victims:
            if n not in self.team.lost:
                self.team.lose(n, f"crashed before iteration {self.iteration} (simulated)")

    # --- what the training loop asks

    @property
    def fragile(self) -> bool:
        return self.team.remote

    def discriminator_size(self) -> int:
        return self.team.size * len(self.team.alive)

    def finite(self) -> bool:
        return self.player.finite() and self.team.finite()

    def metrics(self) -> dict[str, float]:
        """Workers alive, and bytes handed over beside the paper's formulae in 4-byte floats."""
        b, d = self.experiment.batch, self.shape.channels * self.shape.side**2
        return {
            "workers/alive": float(len(self.team.alive)),
            **self.team.traffic.metrics(),
            "traffic/server_to_worker_formula": 4.0 * 2 * b * d,
            "traffic/worker_to_server_formula": 4.0 * b * d,
            "traffic/worker_to_worker_formula": 4.0 * self.team.size,
        }

    def remark(self) -> str:
        return "; ".join(f"worker {n} {why}" for n, why in self.team.lost.items())

    def state(self) -> dict[str, Any]:
        return {
            "generator": self.player.state(),
            "iteration": self.iteration,
            "images_per_step": self.images_per_step,
            "team": self.team.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.player.load(state["generator"])
        self.iteration, self.images_per_step = state["iteration"], state["images_per_step"]
        self.team.load(state["team"])


class Crashes:
    """One worker crashes every I/N iterations, in random order: the paper's experiment on faults.

    I is such that the budget is spent when the last worker would crash: with N - j workers during the j-th of N
    equal parts, I iterations show b I (N + 1) / 2 images.
    """

    def __init__(self, experiment: Resolved) -> None:
        assert isinstance(experiment.update, MDGANConfig)
        n = experiment.update.workers
        self.order = torch.randperm(n, generator=seeds.generator(experiment.seed, "crashes")).tolist()
        self.every = experiment.budget / (experiment.batch * (n + 1) / 2) / n

    def by(self, iteration: int) -> list[int]:
        """Who has crashed before this iteration (from 0) begins; the last worker outlives the budget."""
        return self.order[: min(int(iteration / self.every), len(self.order) - 1)]


def assignment(worker: int, batches: int) -> tuple[int, int]:
    """Which generated batches a worker gets, as (X_g, X_d), all counted from 0 (Algorithm 1, line 20)."""
    return worker % batches, (worker + 1) % batches


def swap_interval(shard: int, batch: int, epochs: float) -> int:
    """Iterations between two swaps: m E / b, at least one."""
    interval = shard * epochs / batch
    return max(1, round(interval)) if interval < 2**62 else 2**62


def derangement(n: int, rng: torch.Generator) -> list[int]:
    """A permutation of 0..n-1 without fixed points, uniform among them (rejection takes e draws on average)."""
    while True:
        order = torch.randperm(n, generator=rng)
        if not (order == torch.arange(n)).any():
            return order.tolist()
