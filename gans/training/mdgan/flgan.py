"""FL-GAN: federated averaging of whole GANs, the baseline of the MD-GAN paper (1811.03850).

Every worker trains a generator and a discriminator of its own on its shard, as in `TwoPlayer`. Every E epochs over
a shard the server averages all generators and all discriminators, with equal weights, and every worker continues
from the averages (McMahan et al. 2017, 1602.05629).

Choices where the papers are silent:

- All workers start from one pair of networks; they draw latents of their own.
- Parameters and buffers are averaged. BatchNorm's counters are the same everywhere; spectral norm's vectors are
  given length 1 again, without which the average would be no such vector.
- Adam's moments stay on their worker and are not averaged.
- The generator that is scored is the server's: the average of the last round. What the workers have learned
  since then counts as images seen but not yet for the score. Before the first round it has learned nothing: no
  checkpoint is chosen, and a budget without a round is refused.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from gans import seeds
from gans.compute.graphs import ParallelStreams
from gans.config import FLGANConfig, Resolved, TwoPlayerConfig
from gans.data.shards import check_shards, deal
from gans.errors import InputError
from gans.models.layers import Shape
from gans.training.mdgan.server import swap_interval
from gans.training.mdgan.workers import Traffic, size_of
from gans.training.two_player import Discriminator, TwoPlayer
from gans.training.updates import Context, Learner, Statistics, Update


class FLGAN(Update):
    """The server with its averages, and the workers with their GANs, all in this process."""

    def __init__(self, experiment: Resolved, shape: Shape, context: Context) -> None:
        super().__init__(experiment, shape, context)
        assert isinstance(experiment.update, FLGANConfig)
        config, images = experiment.update, context.images
        parts = deal(config, len(images), context.labels, experiment.seed)
        labels = context.classes(shape)
        self.workers = []
        for n, part in enumerate(part.to(images.device) for part in parts):
            shard = Context(images[part], None if labels is None else labels[part])
            self.workers.append(TwoPlayer(alone(experiment, config, n), shape, shard))
        self.streams = ParallelStreams(self.device)
        self.rngs += [rng for worker in self.workers for rng in worker.rngs]
        self.images_per_step = sum(worker.images_per_step for worker in self.workers)
        self.round_interval = round_interval(experiment, config, len(images))
        self.iteration = 0
        self.traffic = Traffic()
        self.send([self.generator.network, Discriminator(experiment, shape, self.device).network])
        self.traffic = Traffic()  # handing out the initial weights is not counted, as in MD-GAN

    @classmethod
    def check(cls, experiment: Resolved, images: int, labels: Tensor | None = None) -> None:
        assert isinstance(experiment.update, FLGANConfig)
        config = experiment.update
        check_shards(config, experiment.batch, images, labels, experiment.seed)
        step = config.workers * config.d_steps * experiment.batch
        if round_interval(experiment, config, images) > -(-experiment.budget // step):
            raise InputError(
                f"no round of averaging within the budget of {experiment.budget / 1000:g} kimg: "
                "lower update.average_epochs or raise kimg"
            )

    def opponents(self) -> Mapping[str, Learner]:
        """The workers, whose own generators learn too."""
        return {f"worker {n}": worker for n, worker in enumerate(self.workers)}

    @property
    def kind(self) -> Hashable:
        """A round is rare, and not recorded."""
        return None if self.round else "between rounds"

    @property
    def round(self) -> bool:
        """Whether the next iteration ends in one."""
        return (self.iteration + 1) % self.round_interval == 0

    def prepare(self, images: int) -> None:
        for worker in self.workers:
            worker.prepare(images // len(self.workers))

    def compute(self) -> Statistics:
        statistics = self.streams.run([worker.compute for worker in self.workers])
        if self.round:  # here and not later, since the average of weights comes next
            self.average()
        return averaged(statistics)

    def finish(self) -> None:
        self.iteration += 1

    def average(self) -> None:
        """One round: networks to the server, their averages back."""
        pairs = [[worker.generator.network, worker.discriminator.network] for worker in self.workers]
        self.traffic.up += sum(size_of(network.state_dict()) for pair in pairs for network in pair)
        # the first worker's networks are overwritten next: they can hold the averages meanwhile
        for networks in zip(*pairs, strict=True):
            average_into(networks[0], networks)
        self.send(pairs[0])

    def send(self, pair: Sequence[nn.Module]) -> None:
        """Send the server's pair of networks to all workers; the server keeps the generator."""
        state = [network.state_dict() for network in pair]
        self.generator.network.load_state_dict(state[0])
        for worker in self.workers:
            self.traffic.exchanges += 1
            self.traffic.down += size_of(state)
            worker.generator.network.load_state_dict(state[0])
            worker.discriminator.network.load_state_dict(state[1])

    # --- what the training loop calls

    @property
    def trained(self) -> bool:
        return self.iteration >= self.round_interval

    def discriminator_size(self) -> int:
        return sum(worker.discriminator_size() for worker in self.workers)

    def metrics(self) -> dict[str, float]:
        """Bytes of a round per worker and direction, and the paper's |w| + |theta| in 4-byte floats."""
        both = 4.0 * (self.generator.size + self.workers[0].discriminator.size)
        return {
            "workers/alive": float(len(self.workers)),
            **self.traffic.metrics(),
            "traffic/server_to_worker_formula": both,
            "traffic/worker_to_server_formula": both,
        }

    def state(self) -> dict[str, Any]:
        return super().state() | {"iteration": self.iteration, "traffic": asdict(self.traffic)}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self.iteration = state["iteration"]
        self.traffic = Traffic(**state["traffic"])


def averaged(statistics: Sequence[Statistics]) -> Statistics:
    """The means of the workers' statistics."""
    names = list(statistics[0])
    rows = torch.stack([torch.stack([one[name] for name in names]) for one in statistics])
    return dict(zip(names, rows.mean(dim=0), strict=True))


def alone(experiment: Resolved, config: FLGANConfig, n: int) -> Resolved:
    """Worker n's experiment: a two-player GAN from a seed of its own."""
    seed = seeds.mix(experiment.seed, "fl-gan", n) % 2**31
    return experiment.model_copy(update={"seed": seed, "update": TwoPlayerConfig(d_steps=config.d_steps)})


def round_interval(experiment: Resolved, config: FLGANConfig, images: int) -> int:
    """Iterations between two rounds, each of d_steps batches: m E / (L b), at least one."""
    return swap_interval(images // config.workers, config.d_steps * experiment.batch, config.average_epochs)


@torch.no_grad()
def average_into(target: nn.Module, networks: Sequence[nn.Module]) -> None:
    """Give `target`, which may be one of them, the mean of the networks' parameters and buffers."""
    states = [network.state_dict() for network in networks]
    for name, tensor in target.state_dict().items():
        if not tensor.is_floating_point():
            continue  # counters, the same in all
        mean = torch.stack([state[name] for state in states]).mean(dim=0)
        # torch's spectral norm assumes vectors of length 1
        tensor.copy_(normalize(mean, dim=0) if name.endswith(("._u", "._v")) else mean)
