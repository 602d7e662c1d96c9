"""The two-player game, from top to bottom: losses, gradient penalties, the discriminator, the update rule.

Logits are float (n,), a discriminator's output before any sigmoid; every loss is the mean over a batch. Logarithms
of sigmoids are computed as softplus, which neither overflows nor loses small values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, relu, softplus

from gans import schema
from gans.compute import devices, precision
from gans.compute.compiled import Forward
from gans.config import Experiment, PenaltiesConfig, Resolved, TwoPlayerConfig
from gans.data.batches import Batch, batches_on
from gans.models import build_discriminator
from gans.models.layers import Shape, has_batch_norm
from gans.registry import LOSSES, MODELS
from gans.training.augment import Augmentation
from gans.training.updates import Context, Learner, Statistics, Trainable, Update, factor


@dataclass(frozen=True)
class Loss:
    """The losses of discriminator and generator.

    Attributes:
        d_loss: the discriminator's, of (real_logits, fake_logits).
        g_loss: the generator's, of (fake_logits); of a relative loss, of (real_logits, fake_logits).
        penalised: whether WGAN-GP's penalty is added to the discriminator's.
        relative: whether the generator's loss also depends on the logits of real images.
    """

    d_loss: Callable[[Tensor, Tensor], Tensor]
    g_loss: Callable[..., Tensor]
    penalised: bool = False
    relative: bool = False


def of_both(function: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """A function of the logits of both batches, (2, n).

    At once on a GPU. A CPU computes whole vectors of numbers in another way than the rest, so that there the last
    bits would depend on what else is in the tensor.
    """
    if precision.by_launches(real.device):
        return function(torch.stack([real, fake]))
    return torch.stack([function(real), function(fake)])


def cross_entropy_d(real: Tensor, fake: Tensor) -> Tensor:
    """-E log D(x) - E log(1 - D(G(z))) with D = sigmoid(logit) (Goodfellow et al. 2014, equation 1)."""
    return of_both(softplus, -real, fake).mean(dim=1).sum()


def non_saturating_g(fake: Tensor) -> Tensor:
    """-E log D(G(z)) (Goodfellow et al. 2014, section 3)."""
    # with this beta it is -softplus(-x); of a view it would differ in last bits, as in `of_both`
    return softplus(fake.contiguous(), beta=-1).sum() / -len(fake)


def minimax_g(fake: Tensor) -> Tensor:
    """E log(1 - D(G(z))): the saturating generator loss (Goodfellow et al. 2014, equation 1)."""
    return softplus(fake).sum() / -len(fake)


def hinge_d(real: Tensor, fake: Tensor) -> Tensor:
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))) (Zhang et al. 2018, equation 4)."""
    return relu(1 + torch.stack([-real, fake])).mean(dim=1).sum()


def linear_g(fake: Tensor) -> Tensor:
    """-E D(G(z)): the generator's hinge and Wasserstein loss."""
    return fake.sum() / -len(fake)


def least_squares_d(real: Tensor, fake: Tensor) -> Tensor:
    """1/2 E (D(x) - 1)^2 + 1/2 E D(G(z))^2 (Mao et al. 2017, equation 9)."""
    return 0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()


def least_squares_g(fake: Tensor) -> Tensor:
    """1/2 E (D(G(z)) - 1)^2 (Mao et al. 2017, equation 9)."""
    return 0.5 * (fake - 1).square().mean()


def wasserstein_d(real: Tensor, fake: Tensor) -> Tensor:
    """E D(G(z)) - E D(x) (Arjovsky et al. 2017)."""
    return fake.mean() - real.mean()


def relativistic_d(real: Tensor, fake: Tensor) -> Tensor:
    """E softplus(-(D(x) - D(G(z)))), real and generated images in pairs (Huang et al. 2024, equation 2)."""
    return softplus(fake - real).mean()


def relativistic_g(real: Tensor, fake: Tensor) -> Tensor:
    """E softplus(-(D(G(z)) - D(x))), the same pairs (Huang et al. 2024, equation 2)."""
    return softplus(real - fake).mean()


NON_SATURATING = Loss(cross_entropy_d, non_saturating_g)
MINIMAX = Loss(cross_entropy_d, minimax_g)
HINGE = Loss(hinge_d, linear_g)
LEAST_SQUARES = Loss(least_squares_d, least_squares_g)
WASSERSTEIN_GP = Loss(wasserstein_d, linear_g, penalised=True)
RELATIVISTIC = Loss(relativistic_d, relativistic_g, relative=True)

# --- gradient penalties; all exclude BatchNorm, which couples the gradients of a batch's images


def penalties_of(experiment: Experiment) -> PenaltiesConfig:
    """The weights of an experiment's penalties, including that of its loss."""
    own = experiment.loss.penalty if LOSSES[experiment.loss.name].penalised else 0.0
    return experiment.penalties.model_copy(update={"gp": experiment.penalties.gp or own})


def zero_centred_penalty(terms: Sequence[tuple[float, Tensor, Tensor]]) -> Tensor:
    """The sum of gamma/2 E |grad D(x)|^2 (Roth et al. 2017; Mescheder et al. 2018, equation 9).

    A term is gamma, the logits (n,) of a batch and its images (n, c, h, w), which require gradients.
    """
    gammas, logits, images = zip(*terms, strict=True)
    slopes = torch.autograd.grad([each.sum() for each in logits], images, create_graph=True)
    squares = [slope.flatten(1).square().sum(dim=1).mean() for slope in slopes]
    return torch.stack([gamma / 2 * square for gamma, square in zip(gammas, squares, strict=True)]).sum()


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, rng: torch.Generator
) -> Tensor:
    """E (|grad D(x^)| - 1)^2 at x^ = e x + (1 - e) G(z), e ~ U[0, 1] (Gulrajani et al. 2017, equation 3).

    The discriminator maps images (n, c, h, w) to logits; `rng` draws e, one number an image.
    """
    mix = torch.rand((len(real), 1, 1, 1), generator=rng, device=rng.device)
    between = (mix * real + (1 - mix) * fake).detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()


# --- the discriminator


class DiscriminatorOutput(NamedTuple):
    """A discriminator's output on a batch.

    Attributes:
        logits: real or generated, (n,): the only input of adversarial losses and penalties.
        classes: the logits of their classes, (n, classes); None without an auxiliary classifier.
    """

    logits: Tensor
    classes: Tensor | None = None


class Discriminator(Trainable):
    """A discriminator that learns on a real and a generated batch.

    Attributes:
        conditional: use of classes, as in `gans.models.Model.conditional`; None: none.
        augmentation: of the network's input images, if any; seeded before every step.
        penalty_factor: current factor of the penalties, on the device: ().
        in_float32: whether more than layers read the pixels, in float32.
    """

    def __init__(self, experiment: Resolved, shape: Shape, device: torch.device, worker: int = 0) -> None:
        network = devices.place(build_discriminator(shape, experiment.networks, experiment.seed, worker), device)
        super().__init__(network, experiment.optimizer.lr_d, experiment)
        self.conditional = MODELS[experiment.networks.name].conditional if shape.classes else None
        self.loss, self.auxiliary = LOSSES[experiment.loss.name], experiment.loss.auxiliary
        self.penalties = penalties_of(experiment)
        self.augmentation = Augmentation.of(experiment.augment, device)
        self.penalty_factor = torch.ones((), device=device)
        self.in_float32 = bool(self.augmentation or any((self.penalties.r1, self.penalties.r2, self.penalties.gp)))
        # BatchNorm needs separate batches of real and generated images (Radford et al. 2015), and a penalty on
        # only one of them does too; otherwise one batch has both
        self.apart = has_batch_norm(network) or (self.penalties.r1 > 0) != (self.penalties.r2 > 0)

    def mirrored(self, real: Batch) -> Batch:
        """The real images, a random half of them mirrored if the augmentation has flips."""
        return real._replace(images=self.augmentation.mirrored(real.images)) if self.augmentation else real

    def schedule(self, progress: float) -> None:
        super().schedule(progress)
        if self.anneal.penalty != 1:
            self.penalty_factor.fill_(factor(self.anneal, self.anneal.penalty, progress))

    def compile(self, backend: str = "inductor") -> None:
        # compiled code has no second derivatives; `gradient_penalty` calls the plain network
        if not (self.penalties.r1 or self.penalties.r2):
            super().compile(backend)

    def learn(self, real: Batch, fake: Batch, penalty_rng: torch.Generator | None = None) -> Statistics:
        """One step of the optimiser; `fake` counts as data. WGAN-GP's penalty draws from `penalty_rng`."""
        r1, r2, gp = self.penalties.r1, self.penalties.r2, self.penalties.gp
        if r1 or r2:
            real, fake = real.watched(), fake.watched()
        on_real, on_fake = self.outputs(real, fake)
        loss = self.loss.d_loss(on_real.logits, on_fake.logits)
        if self.conditional == "auxiliary":
            loss = loss + (self.class_loss(on_real, real) + self.class_loss(on_fake, fake))
        if r1 or r2:
            terms = [(r1, on_real.logits, real.images), (r2, on_fake.logits, fake.images)]
            loss = loss + self.penalty_factor * zero_centred_penalty([term for term in terms if term[0]])
        if gp:
            assert penalty_rng is not None
            given = (real.images, fake.images, penalty_rng)
            penalty = gradient_penalty(lambda x: self.output(Batch(x, real.labels), self.plain).logits, *given)
            loss = loss + self.penalty_factor * (gp * penalty)
        passes = precision.by_launches(self.one.device) and self.apart and not (r1 or r2 or gp)
        self.apply(self.gradients_of_passes(loss, on_real, on_fake) if passes else self.gradients(loss))
        with torch.no_grad():
            d_real, d_fake = of_both(torch.sigmoid, on_real.logits, on_fake.logits).mean(dim=1)
        return {schema.LOSS_D: loss.detach(), schema.D_REAL: d_real, schema.D_FAKE: d_fake}

    def generator_loss(self, real: Batch, fake: Batch) -> Tensor:
        """The generator's loss on its images; a relative loss also uses these real ones."""
        self.network.requires_grad_(False)  # gradients flow to the images, not to these weights
        real_logits = [self.output(real).logits] if self.loss.relative else []
        output = self.output(fake)
        self.network.requires_grad_(True)
        loss = self.loss.g_loss(*real_logits, output.logits)
        return loss + self.class_loss(output, fake) if self.conditional == "auxiliary" else loss

    def class_loss(self, output: DiscriminatorOutput, batch: Batch) -> Tensor:
        """-E log P(C = c | x), weighted: ACGAN's L_C on one batch (Odena et al. 2017, equation 3)."""
        assert output.classes is not None
        assert batch.labels is not None
        return self.auxiliary * cross_entropy(output.classes, batch.labels)

    def outputs(self, real: Batch, fake: Batch) -> list[DiscriminatorOutput]:
        """The outputs on two batches of one size."""
        if self.apart:
            return [self.output(real), self.output(fake)]
        labels = None
        if real.labels is not None and fake.labels is not None:
            labels = torch.cat([real.labels, fake.labels])
        both = Batch(torch.cat([real.images.to(fake.images.dtype), fake.images]), labels)
        halves = zip(*(part.chunk(2) for part in self.output(both) if part is not None), strict=True)
        return [DiscriminatorOutput(*half) for half in halves]

    def output(self, batch: Batch, network: Forward | None = None) -> DiscriminatorOutput:
        images = self.augmentation(batch.images) if self.augmentation else batch.images
        labels = [batch.labels] if self.conditional == "projection" else []
        output = (network or self.forward)(images, *labels)
        if self.conditional != "auxiliary":
            return DiscriminatorOutput(output)
        return DiscriminatorOutput(output[:, 0], output[:, 1:])


# --- the update rule


class TwoPlayer(Update):
    """Simultaneous game of one generator and one discriminator (Goodfellow et al. 2014, algorithm 1).

    The last discriminator step and the generator step share one generated batch, which saves a forward pass.
    """

    images_on_host = True

    def __init__(self, experiment: Resolved, shape: Shape, context: Context) -> None:
        super().__init__(experiment, shape, context)
        assert isinstance(experiment.update, TwoPlayerConfig)
        steps, batch = experiment.update.d_steps, experiment.batch
        self.images_per_step = steps * batch
        self.discriminator = Discriminator(experiment, shape, self.device)
        if not self.discriminator.in_float32:
            precision.stay_lowered(self.generator.plain)
        given = context.images, experiment.seed, context.classes(shape)
        self.batches = batches_on(self.device, *given, steps * batch)
        self.indices = torch.zeros(steps * batch, dtype=torch.int64, device=self.device)  # of the real images
        self.input_rngs = [self.rng() for _ in range(steps)]
        self.penalty_rngs = [self.rng() for _ in range(steps if self.discriminator.penalties.gp else 0)]
        self.augmentation = self.discriminator.augmentation
        if self.augmentation:
            self.rngs.append(self.augmentation.rng)

    def opponents(self) -> Mapping[str, Learner]:
        return {"discriminator": self.discriminator}

    def prepare(self, images: int) -> None:
        self.indices.copy_(self.batches.indices(images, len(self.indices)))
        *extra, last = self.input_rngs
        self.seed(last, "latents", images)
        for step, rng in enumerate(extra):
            self.seed(rng, "latents", images, step)
        for step, rng in enumerate(self.penalty_rngs):
            self.seed(rng, "penalty", images, step)
        if self.augmentation:  # all calls of the discriminator in this step draw from it in turn
            self.seed(self.augmentation.rng, "augment", images)

    def compute(self) -> Statistics:
        indices = self.indices.split(self.experiment.batch)
        for places, input_rng, penalty_rng in zip_longest(indices, self.input_rngs, self.penalty_rngs):
            with torch.set_grad_enabled(input_rng is self.input_rngs[-1]):  # the generator learns on the last one
                fake = self.generated(input_rng)
            real = self.discriminator.mirrored(self.batches.of(places))
            statistics = self.discriminator.learn(real, fake.detach(), penalty_rng)
        loss = self.discriminator.generator_loss(real, fake)
        self.generator.apply(self.generator.gradients(loss))
        return {**statistics, schema.LOSS_G: loss.detach()}
