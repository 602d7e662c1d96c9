"""Update rules: what one training step does to the networks.

An update rule owns the networks and their optimisers and is built as `rule(experiment, shape, context)`. It
never waits for the device: statistics stay there as tensors until they are logged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gans import schema, seeds
from gans.compute import devices
from gans.config import Resolved, TwoPlayerConfig
from gans.data.batches import Batches
from gans.errors import InputError
from gans.models import build_generator
from gans.models.layers import Shape
from gans.training.losses import mixture
from gans.training.players import Discriminator, Learner, Player, Statistics

# makes the workers of a rule that has some, from (experiment, shape, each worker's images as uint8 (m, c, h, w));
# what it makes is between it and the rule
Hire = Callable[[Resolved, Shape, Sequence[Tensor]], Any]


@dataclass(frozen=True)
class Context:
    """What an update rule works with, beside its settings.

    Attributes:
        images: the training images, uint8 (n, c, h, w), on the device where the rule computes.
        labels: their classes, int64 (n,), if they have any.
        hire: makes the workers of a rule that has some; None: they live in this process.
    """

    images: Tensor
    labels: Tensor | None = None
    hire: Hire | None = None


class Update(ABC):
    """A rule for one training step.

    Attributes:
        generator: the network that learns to draw.
        images_per_step: real images that the last step showed to the discriminators, all of them together; before
            the first, what it is going to show.
        distributed: whether its workers can have processes of their own.
    """

    images_per_step: int
    distributed = False

    def __init__(self, experiment: Resolved, shape: Shape, context: Context) -> None:
        self.experiment, self.shape = experiment, shape
        self.device = context.images.device
        network = build_generator(shape, experiment.networks, experiment.seed)
        network = devices.place(network, self.device)
        self.player = Player(network, experiment.optimizer.lr_g, experiment.optimizer, experiment.precision)

    @classmethod
    def check(cls, experiment: Resolved, images: int, labels: Tensor | None = None) -> None:
        """Raise `InputError`, before anything is built, if the rule cannot work on these images.

        Args:
            experiment: what is to be trained.
            images: how many training images there are.
            labels: their classes, int64 (images,), if they have any.
        """
        if experiment.batch > images:
            raise InputError(
                f"batch = {experiment.batch} exceeds the {images} training images; take a smaller one"
            )

    @property
    def generator(self) -> nn.Module:
        return self.player.network

    @abstractmethod
    def step(self, images: int) -> Statistics:
        """One step after `images` images. Returns scalars on the device, by the names that are tracked."""

    @abstractmethod
    def opponents(self) -> Mapping[str, Learner]:
        """All that learns beside the generator, by name, in this process or elsewhere: the discriminators."""

    # --- what the training loop asks

    @property
    def fragile(self) -> bool:
        """Whether a part of the state can be lost while this process lives: then it is saved from the start."""
        return False

    @property
    def trained(self) -> bool:
        """Whether the generator is the result of training yet, and not its initial weights."""
        return True

    def discriminator_size(self) -> int:
        """Trainable parameters of all discriminators together."""
        return sum(opponent.size for opponent in self.opponents().values())

    @property
    def size(self) -> int:
        """Trainable parameters of all that learns."""
        return sum(learner.size for learner in self.learners().values())

    def finite(self) -> bool:
        """Whether all weights are finite numbers; waits for the device."""
        return all(learner.finite() for learner in self.learners().values())

    def metrics(self) -> dict[str, float]:
        """What else there is to log of the steps so far."""
        return {}

    def remark(self) -> str:
        """What whoever reads the result should know; mostly nothing."""
        return ""

    def state(self) -> dict[str, Any]:
        """Everything to resume from: tensors and plain values only. A rule that counts something adds it."""
        return {name: learner.state() for name, learner in self.learners().items()}

    def load(self, state: dict[str, Any]) -> None:
        for name, learner in self.learners().items():
            learner.load(state[name])

    def learners(self) -> dict[str, Learner]:
        """All that learns, by name."""
        return {"generator": self.player, **self.opponents()}

    # --- what rules draw

    def latents(self, images: int, *labels: int) -> Tensor:
        """A batch of z ~ N(0, 1): (batch, latent), a function of the seed, the images seen and the labels."""
        shape = (self.experiment.batch, self.experiment.networks.latent)
        return torch.randn(shape, generator=self.rng("latents", images, *labels), device=self.device)

    def rng(self, purpose: str, images: int, *labels: int) -> torch.Generator:
        seed = seeds.mix_ahead(self.experiment.seed, purpose, images, self.images_per_step, *labels)
        return torch.Generator(self.device).manual_seed(seed)


def averaged(statistics: Sequence[Statistics]) -> Statistics:
    """The means of workers' statistics, all under the same names."""
    names = list(statistics[0])
    rows = torch.stack([torch.stack([one[name] for name in names]) for one in statistics])
    return dict(zip(names, rows.mean(dim=0), strict=True))


class Inputs(NamedTuple):
    """What a discriminator step takes from outside; its shapes are the same in every step."""

    z: Tensor  # float (batch, latent)
    real: Tensor  # float (batch, c, h, w) in [-1, 1]
    mix: Tensor  # float (batch, 1, 1, 1), or (0, 1, 1, 1) if the loss takes no penalty


class TwoPlayer(Update):
    """Simultaneous game of one generator and one discriminator (Goodfellow et al. 2014, algorithm 1).

    The last discriminator step and the generator step share one generated batch, which saves a forward pass
    of the generator. A step is prepared first, which depends on the position, and then played: arithmetic alone,
    the same for every position, so that a CUDA graph can replay it (`gans.training.graphs`).
    """

    def __init__(self, experiment: Resolved, shape: Shape, context: Context) -> None:
        super().__init__(experiment, shape, context)
        assert isinstance(experiment.update, TwoPlayerConfig)
        self.steps = experiment.update.d_steps
        self.images_per_step = self.steps * experiment.batch
        self.discriminator = Discriminator(experiment, shape, self.device)
        self.batches = Batches(context.images, experiment.seed)

    def opponents(self) -> Mapping[str, Learner]:
        return {"discriminator": self.discriminator}

    def step(self, images: int) -> Statistics:
        return self.play(self.prepare(images))

    def prepare(self, images: int) -> list[Inputs]:
        """Latents and real images of the step after `images` images, for each of its discriminator steps."""
        return [self.inputs(images, step) for step in range(self.steps)]

    def inputs(self, images: int, step: int) -> Inputs:
        batch = self.experiment.batch
        z = self.latents(images, *([step] if step < self.steps - 1 else []))
        real = self.batches.at(images + step * batch, batch)
        penalised = self.discriminator.penalty > 0
        mix = mixture(batch, self.rng("penalty", images, step)) if penalised else real.new_empty((0, 1, 1, 1))
        return Inputs(z, real, mix)

    def play(self, prepared: Sequence[Inputs]) -> Statistics:
        """The arithmetic of a step."""
        *extra, last = prepared
        for inputs in extra:
            with torch.no_grad():
                fake = self.player.compute(inputs.z)
            self.discriminator.learn(inputs.real, fake, inputs.mix)
        fake = self.player.compute(last.z)
        learned = self.discriminator.learn(last.real, fake.detach(), last.mix)
        loss = self.discriminator.loss.g_loss(self.discriminator.judge(fake))
        self.player.apply(self.player.gradients(loss))
        return {**learned, schema.LOSS_G: loss.detach()}
