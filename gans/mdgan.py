"""MD-GAN: one generator, N discriminators on N shards of the data (Hardy, Le Merrer, Sericola 2019, 1811.03850).

Algorithm 1 of the paper, in one process. Per iteration the server generates k batches; worker n is given
X_g = X(n mod k) and X_d = X((n + 1) mod k), takes L discriminator steps on a batch of its shard and X_d, and
returns the feedback F_n = d B(X_g) / d X_g, one gradient per pixel. The server applies the mean of the N
feedbacks through its generator. Every E epochs over a shard the discriminators change workers.

What the paper leaves open, decided here:

- A swap is a uniformly random derangement: no worker keeps its discriminator. There is none for N = 1.
- Adam's moments travel with their discriminator, so a swap moves shards between intact learners.
- The L steps of an iteration use the same real batch and the same X_d, as in Algorithm 1.
- The data is dealt out at random into shards whose sizes differ by at most one; m is the smallest.
- With k = 1 a worker learns on the batch that it gives feedback on (X_g = X_d), after having learned.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gans import seeds
from gans.batches import Batches
from gans.config import Experiment, MDGANConfig
from gans.errors import InputError
from gans.models.layers import Shape
from gans.updates import Discriminator, Update


class MDGAN(Update):
    """The server and its workers."""

    def __init__(self, experiment: Experiment, shape: Shape, images: Tensor) -> None:
        super().__init__(experiment, shape, images)
        assert isinstance(experiment.update, MDGANConfig)
        self.config = experiment.update
        workers = range(self.config.workers)
        parts = shards(len(images), self.config.workers, experiment.seed)
        self.shards = [
            Batches(images[part.to(images.device)], experiment.seed, "worker", n)
            for n, part in zip(workers, parts, strict=True)
        ]
        self.players = [Discriminator(experiment, shape, self.device, n) for n in workers]
        self.images_per_step = self.config.workers * experiment.batch
        self.swap_interval = swap_interval(
            len(images) // self.config.workers, experiment.batch, self.config.swap_epochs
        )

    @classmethod
    def check(cls, experiment: Experiment, images: int) -> None:
        assert isinstance(experiment.update, MDGANConfig)
        smallest = images // experiment.update.workers
        if smallest < experiment.batch:
            raise InputError(
                f"update.workers = {experiment.update.workers} leaves shards of {smallest} images, fewer than "
                f"batch = {experiment.batch}; take fewer workers or a smaller batch"
            )

    def discriminators(self) -> Sequence[Discriminator]:
        return self.players

    def step(self, images: int) -> Tensor:
        iteration = images // self.images_per_step
        generated = [self.generator(self.latents(images, j)) for j in range(self.config.batches)]
        feedback = [torch.zeros_like(batch) for batch in generated]
        statistics = []
        for n in range(self.config.workers):
            g, d = assignment(n, self.config.batches)
            learned = self.learn(n, iteration, generated[d].detach())
            loss, gradient = self.feedback(n, generated[g].detach())
            # feedback is linear in the generator's gradient: what shares a batch is summed before the one
            # backward pass through it, k passes in place of N
            feedback[g] += gradient / self.config.workers
            statistics.append(torch.stack([learned[0], loss, learned[1], learned[2]]))
        self.player.apply(self.player.gradients(generated, feedback))
        if (iteration + 1) % self.swap_interval == 0 and len(self.players) > 1:
            self.swap(iteration)
        return torch.stack(statistics).mean(dim=0)

    def learn(self, n: int, iteration: int, fake: Tensor) -> Tensor:
        """Worker n: L discriminator steps on one batch of its shard and X_d; statistics of the last."""
        batch = self.experiment.batch
        real = self.shards[n].at(iteration * batch, batch)
        for step in range(self.config.d_steps):
            learned = self.players[n].learn(real, fake, self.rng("penalty", iteration, n, step))
        return learned

    def feedback(self, n: int, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Worker n: the generator's loss on X_g, and F_n, its gradient per pixel (batch, c, h, w)."""
        fake = fake.requires_grad_()
        player = self.players[n]
        loss = player.loss.g_loss(player.network(fake))
        (gradient,) = torch.autograd.grad(loss, fake)
        return loss.detach(), gradient

    def swap(self, iteration: int) -> None:
        """Each discriminator moves to the worker that a random derangement sends it to."""
        rng = seeds.generator(self.experiment.seed, "swap", iteration)
        self.players = [self.players[source] for source in derangement(len(self.players), rng)]


def assignment(worker: int, batches: int) -> tuple[int, int]:
    """Which generated batches a worker gets, as (X_g, X_d), all counted from 0 (Algorithm 1, line 20)."""
    return worker % batches, (worker + 1) % batches


def shards(n: int, workers: int, seed: int) -> list[Tensor]:
    """Disjoint random parts that cover 0..n-1, sizes differing by at most one: int64 tensors."""
    order = torch.randperm(n, generator=seeds.generator(seed, "shards"))
    return list(order.tensor_split(workers))


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
