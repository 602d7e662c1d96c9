"""MD-GAN: one generator, N discriminators on N shards of the data (Hardy, Le Merrer, Sericola 2019, 1811.03850).

Algorithm 1 of the paper. Per iteration the server generates k batches; worker n is given X_g = X(n mod k) and
X_d = X((n + 1) mod k), takes L discriminator steps on a batch of its shard and X_d, and returns the feedback
F_n = d B(X_g) / d X_g, one gradient per pixel. The server applies the mean of the N feedbacks through its
generator. Every E epochs over a shard the discriminators change workers.

`docs/mdgan.md` lists our choices where the paper is silent. The workers are a `workers.Team`: in this process, or
in separate processes.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gans import seeds
from gans.config import MDGANConfig, Resolved
from gans.data.batches import Batch
from gans.data.images import Split
from gans.data.shards import check_shards, deal
from gans.models.layers import Shape
from gans.training.mdgan.workers import STATISTICS, LocalTeam, Team, WorkersLost, assignment
from gans.training.updates import Context, Learner, Statistics, Update


class MDGAN(Update):
    """The server, which owns the generator; it makes the shards and reads no image after that."""

    distributed = True

    def __init__(self, experiment: Resolved, shape: Shape, context: Context) -> None:
        super().__init__(experiment, shape, context)
        assert isinstance(experiment.update, MDGANConfig)
        self.config, images = experiment.update, context.images
        parts = deal(self.config, len(images), context.labels, experiment.seed)
        labels = context.classes(shape)
        shards = [
            Split(images[part], None if labels is None else labels[part])
            for part in (part.to(images.device) for part in parts)
        ]
        self.team: Team = (context.worker_factory or LocalTeam)(experiment, shape, shards)
        self.iteration = 0
        self.drawn = [self.rng() for _ in range(self.config.batches)]  # the latents of X(1..k)
        self.rngs += self.team.rngs
        self.images_per_step = self.config.workers * experiment.batch
        self.swap_interval = swap_interval(
            len(images) // self.config.workers, experiment.batch, self.config.swap_epochs
        )
        self.crashes = Crashes(experiment) if self.config.crashes else None

    @classmethod
    def check(cls, experiment: Resolved, images: int, labels: Tensor | None = None) -> None:
        assert isinstance(experiment.update, MDGANConfig)
        check_shards(experiment.update, experiment.batch, images, labels, experiment.seed)

    def opponents(self) -> Mapping[str, Learner]:
        return {"team": self.team}

    @property
    def kind(self) -> Hashable:
        """The workers that are left; work in other processes is not recorded."""
        return None if self.team.remote else tuple(self.team.alive)

    def prepare(self, images: int) -> None:
        if self.crashes:
            self.crash(self.crashes.by(self.iteration))
        alive = self.team.alive
        self.ensure_some(alive)
        k = min(self.config.batches, len(alive))
        pairs = {n: assignment(place, k) for place, n in enumerate(alive)}
        # in the order in which workers can start, once both batches exist; replies are always summed in this order
        pairs = dict(sorted(pairs.items(), key=lambda item: max(item[1])))
        self.team.prepare(self.iteration, pairs, self.experiment.progress(images))
        for j, rng in enumerate(self.drawn[:k]):
            self.seed(rng, "latents", images, j)
        self.images_per_step = len(alive) * self.experiment.batch

    def compute(self) -> Statistics:
        """An iteration without crashes and swaps."""
        pairs, generated = self.team.pairs, []

        def batches() -> Iterator[Batch]:
            for rng in self.drawn[: min(self.config.batches, len(pairs))]:
                batch = self.generated(rng)
                generated.append(batch.images)
                yield batch.detach()

        replies = self.team.compute(batches())
        self.ensure_some(replies)
        feedback: dict[int, Tensor] = {}
        shares = torch._foreach_div([reply.feedback for reply in replies.values()], len(replies))
        for n, share in zip(replies, shares, strict=True):
            # feedback is linear in the generator's gradient: that of a batch is summed before one backward pass,
            # so there are k passes, not N
            x_g, _ = pairs[n]
            feedback[x_g] = feedback[x_g] + share if x_g in feedback else share
        answered = [generated[x_g] for x_g in feedback]
        self.generator.apply(self.generator.gradients(answered, list(feedback.values())))
        means = torch.stack([reply.statistics for reply in replies.values()]).mean(dim=0)
        return dict(zip(STATISTICS, means, strict=True))

    def finish(self) -> None:
        self.team.finish()
        self.images_per_step = self.team.exchange.replies * self.experiment.batch
        self.iteration += 1
        if self.iteration % self.swap_interval == 0:
            self.swap(self.iteration - 1)

    def ensure_some(self, left: Collection[int]) -> None:
        if not left:
            raise WorkersLost(f"all {self.config.workers} workers were lost by iteration {self.iteration}")

    def swap(self, iteration: int) -> None:
        """Move the discriminators by a random derangement of the workers that are left."""
        alive = self.team.alive
        if len(alive) > 1:
            order = derangement(len(alive), seeds.generator(self.experiment.seed, "swap", iteration))
            self.team.swap({n: alive[source] for n, source in zip(alive, order, strict=True)})

    def crash(self, victims: Sequence[int]) -> None:
        for n in victims:
            if n not in self.team.lost:
                self.team.lose(n, f"crashed before iteration {self.iteration} (simulated)")

    # --- what the training loop calls

    @property
    def fragile(self) -> bool:
        return self.team.remote

    def metrics(self) -> dict[str, float]:
        """Workers alive, the bytes of an exchange, and the paper's formulae in 4-byte floats."""
        b, d = self.experiment.batch, self.shape.channels * self.shape.side**2
        return {
            "workers/alive": float(len(self.team.alive)),
            **self.team.traffic.metrics(),
            "traffic/server_to_worker_formula": 4.0 * 2 * b * d,
            "traffic/worker_to_server_formula": 4.0 * b * d,
            "traffic/worker_to_worker_formula": 4.0 * self.team.each,
        }

    def remark(self) -> str:
        return "; ".join(f"worker {n} {why}" for n, why in self.team.lost.items())

    def state(self) -> dict[str, Any]:
        return super().state() | {"iteration": self.iteration, "images_per_step": self.images_per_step}

    def load(self, state: dict[str, Any]) -> None:
        self.iteration, self.images_per_step = state["iteration"], state["images_per_step"]
        super().load(state)


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
        """The workers that have crashed before this iteration (from 0); the last one crashes after the budget."""
        return self.order[: min(int(iteration / self.every), len(self.order) - 1)]


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
