"""One small part of every kind except models: the examples of docs/extending.md.

`gans train gan docs.examples.parts:bars --set loss.name=docs.examples.parts:LOGISTIC` uses the first two.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gans import schema
from gans.config import Resolved
from gans.data.batches import Batches
from gans.data.images import Source, Split, fit_all
from gans.fidelity import Extractor, Measured, Metric
from gans.fidelity.comparison import Comparison
from gans.models.layers import Shape
from gans.training.two_player import Discriminator, Loss
from gans.training.updates import Context, Learner, Statistics, Update


def bars(root: Path) -> Source:
    """Horizontal or vertical bars, 16 x 16: 600 training and 200 test images."""
    rng, lying = torch.Generator().manual_seed(0), torch.arange(800) % 2 == 0
    images = torch.zeros(800, 1, 16, 16, dtype=torch.uint8)
    for image, place in zip(images, torch.randint(14, (800,), generator=rng).tolist(), strict=True):
        image[:, place : place + 2] = 255
    images = torch.where(lying[:, None, None, None], images, images.transpose(2, 3))
    train, test = (Split(images[part], (~lying[part]).long()) for part in (slice(600), slice(600, 800)))
    return Source("Bars", train, test, ("lying", "standing"), fit_all)


def d_loss(real: Tensor, fake: Tensor) -> Tensor:
    return (softplus(-real).mean() + softplus(fake).mean()) / 2


def g_loss(fake: Tensor) -> Tensor:
    return softplus(-fake).mean()


LOGISTIC = Loss(d_loss, g_loss)


class Alternating(Update):
    """One generator, one discriminator; each learns from its own generated images."""

    def __init__(self, experiment: Resolved, shape: Shape, context: Context) -> None:
        super().__init__(experiment, shape, context)
        self.images_per_step = experiment.batch
        self.discriminator = Discriminator(experiment, shape, self.device)
        self.batches = Batches(context.images, experiment.seed, labels=context.classes(shape))
        self.indices = torch.zeros(experiment.batch, dtype=torch.int64, device=self.device)
        self.input_rngs, self.penalty_rng = [self.rng(), self.rng()], self.rng()
        self.augmentation = self.discriminator.augmentation
        if self.augmentation:
            self.rngs.append(self.augmentation.rng)

    def opponents(self) -> Mapping[str, Learner]:
        return {"discriminator": self.discriminator}

    def prepare(self, images: int) -> None:
        self.indices.copy_(self.batches.indices(images, len(self.indices)))
        for place, rng in enumerate(self.input_rngs):
            self.seed(rng, "latents", images, place)
        self.seed(self.penalty_rng, "penalty", images)
        if self.augmentation:
            self.seed(self.augmentation.rng, "augment", images)

    def compute(self) -> Statistics:
        real, (first, second) = self.batches.of(self.indices), self.input_rngs
        statistics = self.discriminator.learn(real, self.generated(first).detach(), self.penalty_rng)
        loss = self.discriminator.generator_loss(real, self.generated(second))
        self.generator.apply(self.generator.gradients(loss))
        return {**statistics, schema.LOSS_G: loss.detach()}


def measure(compared: Comparison) -> Measured:
    away = (compared.generated.features - compared.real.features.mean(dim=0)).norm(dim=1)
    return Measured(away.mean().item(), away.std().item() / len(away) ** 0.5)


AWAY = Metric("away", "↓", "mean distance from the mean of the real images", measure, scale="ratio")


class Pixels(nn.Module):
    """Images (n, channels, side, side) -> mean grey values of 4 x 4 fields, (n, 16); no logits."""

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        grey = images.float().mean(dim=1, keepdim=True) / 255
        return nn.functional.adaptive_avg_pool2d(grey, 4).flatten(1), None


def pixels() -> Extractor:
    return Extractor("pixels", hash="", network=Pixels, gives=frozenset())
