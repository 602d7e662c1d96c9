"""GAN losses on logits: pairs d_loss(real_logits, fake_logits), g_loss(fake_logits).

Logits are float (n,), the discriminator's output before any sigmoid; every loss is the mean over the batch.
Logarithms of sigmoids are computed as softplus, which neither overflows nor loses small values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus


@dataclass(frozen=True)
class Loss:
    """The two players' losses, and whether the discriminator's takes a gradient penalty on top."""

    d_loss: Callable[[Tensor, Tensor], Tensor]
    g_loss: Callable[[Tensor], Tensor]
    penalised: bool = False


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


def gradient_penalty(
    discriminator: nn.Module, real: Tensor, fake: Tensor, mix: torch.Generator | Tensor
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
