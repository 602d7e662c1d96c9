"""Update rules: what one training step does to the networks.

An update rule owns the networks and their optimisers and is built as `rule(experiment, shape, context)`. Its steps
are prepared, which depends on the position in training, and then played: device arithmetic alone, which
`gans.compute.graphs` may record. It never waits for the device: statistics stay there as tensors until they are
logged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gans import schema, seeds
from gans.compute import devices
from gans.config import Resolved, TwoPlayerConfig
from gans.data.batches import Batch, Batches
from gans.data.images import Split
from gans.errors import InputError
from gans.models import build_generator
from gans.models.inputs import GeneratorInput, Labels, shares
from gans.models.layers import Shape
from gans.training.losses import mixture
from gans.training.trainables import Discriminator, Learner, Statistics, Trainable

# makes the workers of a rule that has some, from (experiment, shape, each worker's images on the device, with
# labels if the networks are conditional); what it makes is between it and the rule
WorkerFactory = Callable[[Resolved, Shape, Sequence[Split]], Any]


@dataclass(frozen=True)
class Context:
    """What an update rule works with, beside its settings.

    Attributes:
        images: the training images, uint8 (n, c, h, w), on the device where the rule computes.
        labels: their classes, int64 (n,), if they have any.
        worker_factory: makes the workers of a rule that has some; None: they live in this process.
    """

    images: Tensor
    labels: Tensor | None = None
    worker_factory: WorkerFactory | None = None

    def classes(self, shape: Shape) -> Tensor | None:
        """The labels where the images are, if networks of this shape take them."""
        if not shape.classes:
            return None
        assert self.labels is not None
        return self.labels.to(self.images.device)


class Update(ABC):
    """A rule for one training step.

    Attributes:
        generator: the network that learns to draw, with its optimiser.
        images_per_step: real images that the last step showed to the discriminators, all of them together; once
            the next is prepared, what it is going to show.
        rngs: all random generators that playing draws from.
        distributed: whether its workers can have processes of their own.
    """

    images_per_step: int
    distributed = False

    def __init__(self, experiment: Resolved, shape: Shape, context: Context) -> None:
        self.experiment, self.shape = experiment, shape
        self.device = context.images.device
        self.rngs: list[torch.Generator] = []
        labels = context.classes(shape)
        self.labels = None
        if labels is not None:
            self.labels = Labels(shares(labels, shape.classes, experiment.labels), self.device)
        network = build_generator(shape, experiment.networks, experiment.seed)
        network = devices.place(network, self.device)
        optimizer = experiment.optimizer
        self.generator = Trainable(network, optimizer.lr_g, optimizer, experiment.precision, experiment.anneal)

    @classmethod
    def check(cls, experiment: Resolved, images: int, labels: Tensor | None = None) -> None:
        """Raise `InputError`, before anything is built, if the rule cannot work on these images.

        A plan asks this of one cell for all training seeds, so a seed must not decide on it.

        Args:
            experiment: what is to be trained.
            images: how many training images there are.
            labels: their classes, int64 (images,), if they have any.
        """
        if experiment.batch > images:
            raise InputError(
                f"batch = {experiment.batch} exceeds the {images} training images; take a smaller one"
            )

    def step(self, images: int) -> Statistics:
        """One step after `images` images. Returns scalars on the device, by the names that are tracked."""
        self.schedule(images)
        self.prepare(images)
        statistics = self.compute()
        self.finish()
        return statistics

    def schedule(self, images: int) -> None:
        """Move what is annealed, of all trainables in this process, to where it is after `images` images."""
        progress = self.experiment.progress(images)
        for trainable in self.trainables:
            trainable.schedule(progress)

    @abstractmethod
    def prepare(self, images: int) -> None:
        """Put what the step after `images` images depends on into buffers and generators that stay in place."""

    @abstractmethod
    def compute(self) -> Statistics:
        """The arithmetic of the step that was prepared, by the rules of `gans.compute.graphs.Step`."""

    def finish(self) -> None:  # noqa: B027  # most rules have nothing to do then
        """What comes after a step and is no part of its arithmetic."""

    @property
    def kind(self) -> Hashable:
        """Of the step that was prepared: those of one kind are alike to a recording; None: it is called."""
        return "step"

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
        return {"generator": self.generator, **self.opponents()}

    @property
    def trainables(self) -> list[Trainable]:
        """Those that live in this process: the generator's, then all others in their order."""
        return [trainable for learner in self.learners().values() for trainable in learner.trainables]

    # --- what rules draw

    def rng(self) -> torch.Generator:
        """A random generator of the rule's own, which `seed` is to seed before every step."""
        self.rngs.append(torch.Generator(self.device))
        return self.rngs[-1]

    def seed(self, rng: torch.Generator, purpose: str, images: int, *labels: int) -> None:
        """What it draws next is a function of the training seed, the purpose, the images seen and the labels."""
        rng.manual_seed(seeds.mix_ahead(self.experiment.seed, purpose, images, self.images_per_step, *labels))

    def generator_input(self, rng: torch.Generator) -> GeneratorInput:
        """What a batch is generated from: z ~ N(0, 1) and, by conditional networks, labels."""
        batch, latent = self.experiment.batch, self.experiment.networks.latent
        z = torch.randn((batch, latent), generator=rng, device=self.device)
        return GeneratorInput(z) if self.labels is None else GeneratorInput(z, self.labels.draw(batch, rng))

    def generated(self, rng: torch.Generator) -> Batch:
        """A batch of the generator's images, whose graph leads to its weights."""
        given = self.generator_input(rng)
        return Batch(self.generator.forward(*given), given.labels)


def averaged(statistics: Sequence[Statistics]) -> Statistics:
    """The means of workers' statistics, all under the same names."""
    names = list(statistics[0])
    rows = torch.stack([torch.stack([one[name] for name in names]) for one in statistics])
    return dict(zip(names, rows.mean(dim=0), strict=True))


@dataclass(frozen=True)
class Inputs:
    """What a discriminator step takes from outside.

    Attributes:
        places: of the real images: int64 (batch,), filled before every step.
        codes: draws what the generated batch is made from; seeded before every step.
        mix: likewise for the gradient penalty; None without one.
    """

    places: Tensor
    codes: torch.Generator
    mix: torch.Generator | None


class TwoPlayer(Update):
    """Simultaneous game of one generator and one discriminator (Goodfellow et al. 2014, algorithm 1).

    The last discriminator step and the generator step share one generated batch, which saves a forward pass
    of the generator.
    """

    def __init__(self, experiment: Resolved, shape: Shape, context: Context) -> None:
        super().__init__(experiment, shape, context)
        assert isinstance(experiment.update, TwoPlayerConfig)
        steps, batch = experiment.update.d_steps, experiment.batch
        self.images_per_step = steps * batch
        self.discriminator = Discriminator(experiment, shape, self.device)
        self.batches = Batches(context.images, experiment.seed, labels=context.classes(shape))
        self.places = torch.zeros(steps * batch, dtype=torch.int64, device=self.device)
        penalised = self.discriminator.penalties.gp > 0
        self.inputs = [
            Inputs(places, self.rng(), self.rng() if penalised else None) for places in self.places.split(batch)
        ]
        self.augmentation = self.discriminator.augmentation
        if self.augmentation:
            self.rngs.append(self.augmentation.rng)

    def opponents(self) -> Mapping[str, Learner]:
        return {"discriminator": self.discriminator}

    def prepare(self, images: int) -> None:
        self.places.copy_(self.batches.indices(images, len(self.places)))
        *extra, last = self.inputs
        for step, inputs in enumerate(extra):
            self.seed(inputs.codes, "latents", images, step)
        self.seed(last.codes, "latents", images)
        for step, inputs in enumerate(self.inputs):
            if inputs.mix:
                self.seed(inputs.mix, "penalty", images, step)
        if self.augmentation:  # all calls of the discriminator in this step draw from it, one after the other
            self.seed(self.augmentation.rng, "augment", images)

    def compute(self) -> Statistics:
        *extra, last = self.inputs
        for inputs in extra:
            with torch.no_grad():
                fake = self.generated(inputs.codes)
            self.learn(inputs, self.batches.of(inputs.places), fake)
        fake = self.generated(last.codes)
        real = self.batches.of(last.places)
        learned = self.learn(last, real, fake.detach())
        loss = self.discriminator.generator_loss(real, fake)
        self.generator.apply(self.generator.gradients(loss))
        return {**learned, schema.LOSS_G: loss.detach()}

    def learn(self, inputs: Inputs, real: Batch, fake: Batch) -> Statistics:
        """A discriminator step."""
        mix = mixture(len(real.images), inputs.mix) if inputs.mix else None
        return self.discriminator.learn(real, fake, mix)
