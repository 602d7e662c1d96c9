"""Update rules: what one training step does to the networks.

A rule owns the networks with their optimisers and is built as `rule(experiment, shape, context)`. A step is
prepared, which depends on the position in training, and then computed: device arithmetic alone, which
`gans.compute.graphs` may record. A rule never waits for the device: statistics stay there until they are logged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gans import seeds
from gans.compute import devices
from gans.config import Resolved
from gans.data.batches import Batch
from gans.data.images import Split
from gans.errors import InputError
from gans.models import build_generator
from gans.models.inputs import GeneratorInput, Labels, shares
from gans.models.layers import Shape
from gans.training.trainables import Learner, Trainable

# what a step returns: scalars on the device, by the names that are tracked; each rule chooses its own
Statistics = dict[str, Tensor]
# makes the workers of a rule from (experiment, shape, each worker's images on the device, with labels if the
# networks are conditional); the rule decides what they are
WorkerFactory = Callable[[Resolved, Shape, Sequence[Split]], Any]


@dataclass(frozen=True)
class Context:
    """What an update rule works with, apart from its settings.

    Attributes:
        images: the training images, uint8 (n, c, h, w), on the device where the rule computes.
        labels: their classes, int64 (n,), if they have any.
        worker_factory: makes the workers of a rule that has some; None: they are in this process.
    """

    images: Tensor
    labels: Tensor | None = None
    worker_factory: WorkerFactory | None = None

    def classes(self, shape: Shape) -> Tensor | None:
        """The labels on the images' device, if networks of this shape take them."""
        if not shape.classes:
            return None
        assert self.labels is not None
        return self.labels.to(self.images.device)


class Update(ABC):
    """A rule for one training step.

    Attributes:
        generator: the generator with its optimiser.
        images_per_step: real images that all discriminators together saw in the last step; once the next step is
            prepared, those that they will see in it.
        rngs: all random generators that `compute` draws from.
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
        self.generator = Trainable(devices.place(network, self.device), experiment.optimizer.lr_g, experiment)

    @classmethod
    def check(cls, experiment: Resolved, images: int, labels: Tensor | None = None) -> None:
        """Raise `InputError`, before anything is built, if the rule cannot work on these images.

        A plan checks one cell for all training seeds, so the result must not depend on the seed. `images` is the
        number of training images, `labels` are their classes, int64 (images,), if they have any.
        """
        if experiment.batch > images:
            raise InputError(
                f"batch = {experiment.batch} exceeds the {images} training images; take a smaller one"
            )

    def step(self, images: int) -> Statistics:
        """One step after `images` images."""
        self.schedule(images)
        self.prepare(images)
        statistics = self.compute()
        self.finish()
        return statistics

    def schedule(self, images: int) -> None:
        """Set what follows a schedule, in all networks in this process, for a step after `images` images."""
        progress = self.experiment.progress(images)
        for trainable in self.trainables:
            trainable.schedule(progress)

    @abstractmethod
    def prepare(self, images: int) -> None:
        """Write what the step after `images` images depends on into buffers and generators that stay in place."""

    @abstractmethod
    def compute(self) -> Statistics:
        """The arithmetic of the step that was prepared, by the rules of `gans.compute.graphs.Step`."""

    def finish(self) -> None:  # noqa: B027  # most rules have nothing to do then
        """What follows a step and is no part of its arithmetic."""

    @property
    def kind(self) -> Hashable:
        """Steps of one kind can share a recording; a step whose kind is None is called."""
        return "step"

    @abstractmethod
    def opponents(self) -> Mapping[str, Learner]:
        """All that is trained but the generator, by name, in this process or in others: the discriminators."""

    # --- what the training loop calls

    @property
    def fragile(self) -> bool:
        """Whether this process can lose a part of the state and go on: then the initial state is saved too."""
        return False

    @property
    def trained(self) -> bool:
        """Whether the generator has been trained, and is no longer its initial weights."""
        return True

    def discriminator_size(self) -> int:
        """Trainable parameters of all discriminators together."""
        return sum(opponent.size for opponent in self.opponents().values())

    @property
    def size(self) -> int:
        return sum(learner.size for learner in self.learners().values())

    def finite(self) -> bool:
        """Whether all weights are finite numbers; waits for the device."""
        return all(learner.finite() for learner in self.learners().values())

    def metrics(self) -> dict[str, float]:
        """What else is logged after a step."""
        return {}

    def remark(self) -> str:
        """A remark for the result of the run; mostly none."""
        return ""

    def state(self) -> dict[str, Any]:
        """Everything to resume from: tensors and plain values only. A rule adds what it counts."""
        return {name: learner.state() for name, learner in self.learners().items()}

    def load(self, state: dict[str, Any]) -> None:
        for name, learner in self.learners().items():
            learner.load(state[name])

    def learners(self) -> dict[str, Learner]:
        return {"generator": self.generator, **self.opponents()}

    @property
    def trainables(self) -> list[Trainable]:
        """All networks in this process, the generator first."""
        return [trainable for learner in self.learners().values() for trainable in learner.trainables]

    # --- what rules draw

    def rng(self) -> torch.Generator:
        """A new random generator; `seed` seeds it before every step."""
        self.rngs.append(torch.Generator(self.device))
        return self.rngs[-1]

    def seed(self, rng: torch.Generator, purpose: str, images: int, *labels: int) -> None:
        """Make what `rng` draws a function of the training seed, the purpose, the images seen and the labels."""
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
