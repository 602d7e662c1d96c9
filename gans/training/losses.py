"""GAN losses on logits, pairs d_loss(real_logits, fake_logits), g_loss(fake_logits); and gradient penalties.

Logits are float (n,), the discriminator's output before any sigmoid; every loss is the mean over the batch.
Logarithms of sigmoids are computed as softplus, which neither overflows nor loses small values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from gans.config import Experiment
from gans.registry import LOSSES


@dataclass(frozen=True)
class Loss:
    """The two trainables' losses.

    Attributes:
        d_loss: the discriminator's, of (real_logits, fake_logits).
        g_loss: the generator's, of (fake_logits); of a relative loss, of (real_logits, fake_logits).
        penalised: whether WGAN-GP's penalty comes on top of the discriminator's.
        relative: whether the generator's too depends on the logits of real images.
    """

    d_loss: Callable[[Tensor, Tensor], Tensor]
    g_loss: Callable[..., Tensor]
    penalised: bool = False
    relative: bool = False


def cross_entropy_d(real: Tensor, fake: Tensor) -> Tensor:
    """-E log D(x) - E log(1 - D(G(z))) with D = sigmoid(logit) (Goodfellow et al. 2014, equation 1)."""
    return softplus(-real).mean() + softplus(fake).mean()


def non_saturating_g(fake: Tensor) -> Tensor:
    """-E log D(G(z)) (Goodfellow et al. 2014, section 3)."""
    return softplus(-fake).mean()


def minimax_g(fake: Tensor) -> Tensor:
    """E log(1 - D(G(z))): the saturating generator loss (Goodfellow et al. 2014, equation 1)."""
    return -softplus(fake).mean()


def hinge_d(real: Tensor, fake: Tensor) -> Tensor:
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))) (Zhang et al. 2018, equation 4)."""
    return relu(1 - real).mean() + relu(1 + fake).mean()


def linear_g(fake: Tensor) -> Tensor:
    """-E D(G(z)): the generator of the hinge and the Wasserstein loss."""
    return -fake.mean()


def least_squares_d(real: Tensor, fake: Tensor) -> Tensor:
    """1/2 E (D(x) - 1)^2 + 1/2 E D(G(z))^2 (Mao et al. 2017, equation 9)."""
    return 0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()


def least_squares_g(fake: Tensor) -> Tensor:
    """1/2 E (D(G(z)) - 1)^2 (Mao et al. 2017, equation 9)."""
    return 0.5 * (fake - 1).square().mean()


def wasserstein_d(real: Tensor, fake: Tensor) -> Tensor:
    """E D(G(z)) - E D(x) (Arjovsky et al. 2017); `gradient_penalty` comes on top."""
    return fake.mean() - real.mean()


def relativistic_d(real: Tensor, fake: Tensor) -> Tensor:
    """E softplus(-(D(x) - D(G(z)))): each real image beside a generated one (Huang et al. 2024, equation 2)."""
    return softplus(fake - real).mean()


def relativistic_g(real: Tensor, fake: Tensor) -> Tensor:
    """E softplus(-(D(G(z)) - D(x))): the same game from the other side (Huang et al. 2024, equation 2)."""
    return softplus(real - fake).mean()


@dataclass(frozen=True)
class Penalties:
    """The weights of gradient penalties.

    Attributes:
        r1, r2: gamma of gamma/2 E |grad D|^2, on real and on generated images.
        gp: weight of WGAN-GP's.
    """

    r1: float
    r2: float
    gp: float

    @classmethod
    def of(cls, experiment: Experiment) -> Self:
        """What an experiment asks for, by itself or by its loss."""
        asked, loss = experiment.penalties, experiment.loss
        own = loss.penalty if LOSSES[loss.name].penalised else 0.0
        return cls(asked.r1, asked.r2, asked.gp or own)

    @property
    def zero_centred(self) -> bool:
        return self.r1 > 0 or self.r2 > 0

    def __bool__(self) -> bool:
        return self.zero_centred or self.gp > 0


def zero_centred_penalties(logits: Sequence[Tensor], images: Sequence[Tensor]) -> list[Tensor]:
    """E |grad D(x)|^2 over each of some batches (Roth et al. 2017; Mescheder et al. 2018, equation 9).

    Args:
        logits: of each batch, (n,), by a discriminator without BatchNorm.
        images: what they are of, (n, c, h, w), which require gradients.
    """
    slopes = torch.autograd.grad([each.sum() for each in logits], list(images), create_graph=True)
    return [slope.flatten(1).square().sum(dim=1).mean() for slope in slopes]


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: torch.Generator | Tensor
) -> Tensor:
    """E (|grad D(x^)| - 1)^2 at x^ = e x + (1 - e) G(z), e ~ U[0, 1] (Gulrajani et al. 2017, equation 3).

    Args:
        discriminator: a network without BatchNorm, which would couple the samples' gradients.
        real, fake: float (n, c, h, w).
        mix: e as `mixture` draws it, or a generator on their device to draw it from.
    """
    if isinstance(mix, torch.Generator):
        mix = mixture(len(real), mix)
    between = (mix * real + (1 - mix) * fake.detach()).requires_grad_()
    logits = discriminator(between).sum()
    (slope,) = torch.autograd.grad(logits, between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()


def mixture(count: int, rng: torch.Generator) -> Tensor:
    """e ~ U[0, 1] for each of `count` images: float (count, 1, 1, 1), on the generator's device."""
    return torch.rand((count, 1, 1, 1), generator=rng, device=rng.device)


# named in `gans.registry`
NON_SATURATING = Loss(cross_entropy_d, non_saturating_g)
MINIMAX = Loss(cross_entropy_d, minimax_g)
HINGE = Loss(hinge_d, linear_g)
LEAST_SQUARES = Loss(least_squares_d, least_squares_g)
WASSERSTEIN_GP = Loss(wasserstein_d, linear_g, penalised=True)
RELATIVISTIC = Loss(relativistic_d, relativistic_g, relative=True)
