import numpy as np
import pytest
import torch
from torch.nn.functional import relu, softplus

from gans.config import experiment
from gans.registry import LOSSES
from gans.training.two_player import Loss, gradient_penalty, penalties_of

REAL = np.array([-3.0, -0.5, 0.0, 0.25, 1.0, 4.0])
FAKE = np.array([-2.0, -1.0, 0.0, 0.75, 1.5, 5.0])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# the papers' formulas, with probabilities where they have probabilities
CLOSED = {
    "non-saturating": (
        lambda r, f: -np.log(sigmoid(r)).mean() - np.log(1 - sigmoid(f)).mean(),
        lambda r, f: -np.log(sigmoid(f)).mean(),
    ),
    "minimax": (
        lambda r, f: -np.log(sigmoid(r)).mean() - np.log(1 - sigmoid(f)).mean(),
        lambda r, f: np.log(1 - sigmoid(f)).mean(),
    ),
    "hinge": (
        lambda r, f: -np.minimum(0, r - 1).mean() - np.minimum(0, -f - 1).mean(),
        lambda r, f: -f.mean(),
    ),
    "least-squares": (
        lambda r, f: ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2,
        lambda r, f: ((f - 1) ** 2).mean() / 2,
    ),
    "wasserstein-gp": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
    "relativistic": (
        lambda r, f: -np.log(sigmoid(r - f)).mean(),
        lambda r, f: -np.log(sigmoid(f - r)).mean(),
    ),
}
# exact values where every real logit is r and every fake one f = (d_loss, g_loss), at both extremes
BIG = 1e4
EXTREME = {
    "non-saturating": {(BIG, -BIG): (0, BIG), (-BIG, BIG): (2 * BIG, 0)},
    "minimax": {(BIG, -BIG): (0, 0), (-BIG, BIG): (2 * BIG, -BIG)},
    "hinge": {(BIG, -BIG): (0, BIG), (-BIG, BIG): (2 * BIG + 2, -BIG)},
    "least-squares": {
        (BIG, -BIG): (0.5 * (BIG - 1) ** 2 + 0.5 * BIG**2, 0.5 * (BIG + 1) ** 2),
        (-BIG, BIG): (0.5 * (BIG + 1) ** 2 + 0.5 * BIG**2, 0.5 * (BIG - 1) ** 2),
    },
    "wasserstein-gp": {(BIG, -BIG): (-2 * BIG, BIG), (-BIG, BIG): (2 * BIG, -BIG)},
    "relativistic": {(BIG, -BIG): (0, 2 * BIG), (-BIG, BIG): (2 * BIG, 0)},
}


def generator_loss(loss: Loss, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    return loss.g_loss(real, fake) if loss.relative else loss.g_loss(fake)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_equal_their_closed_forms(name: str) -> None:
    loss = LOSSES[name]
    real, fake = torch.from_numpy(REAL), torch.from_numpy(FAKE)
    # float64, where softplus turns linear at 20 these logits stay below
    found = [loss.d_loss(real, fake).item(), generator_loss(loss, real, fake).item()]
    assert found == pytest.approx([formula(REAL, FAKE) for formula in CLOSED[name]], rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_give_exact_values_and_finite_gradients(name: str) -> None:
    for (r, f), (d_loss, g_loss) in EXTREME[name].items():
        real, fake = torch.full((5,), r, requires_grad=True), torch.full((5,), f, requires_grad=True)
        d, g = LOSSES[name].d_loss(real, fake), generator_loss(LOSSES[name], real, fake)
        assert d.item() == np.float32(d_loss)
        assert g.item() == np.float32(g_loss)
        gradients = [*torch.autograd.grad(d, (real, fake)), *torch.autograd.grad(g, fake)]
        assert all(gradient.isfinite().all() for gradient in gradients)


def test_whose_penalty_counts() -> None:
    def weights(**tables) -> tuple[float, float, float]:
        found = penalties_of(experiment(tables))
        return found.r1, found.r2, found.gp

    gp = {"name": "wasserstein-gp"}
    assert weights() == (0, 0, 0)
    assert weights(loss={"name": "hinge", "penalty": 5.0}) == (0, 0, 0)
    assert weights(loss=gp) == (0, 0, 10)
    assert weights(loss={**gp, "penalty": 5.0}, penalties={"r1": 1.0}) == (1, 0, 5)
    assert weights(loss={**gp, "penalty": 5.0}, penalties={"gp": 3.0}) == (0, 0, 3)
    assert weights(loss={"name": "hinge"}, penalties={"gp": 3.0, "r2": 2.0}) == (0, 2, 3)


@pytest.mark.parametrize("norm", [0.0, 0.25, 1.0, 3.0])
def test_penalty_of_a_linear_discriminator(norm: float) -> None:
    """(|w| - 1)^2 whatever the images, and its gradient in w is 2 (|w| - 1) w / |w|."""
    rng = torch.Generator().manual_seed(0)
    w = torch.randn(12, generator=rng, dtype=torch.float64)
    w = (norm * w / w.norm()).requires_grad_()
    real, fake = torch.randn(2, 5, 3, 2, 2, generator=rng, dtype=torch.float64)
    penalty = gradient_penalty(lambda x: x.flatten(1) @ w + 7, real, fake, rng)
    assert penalty.item() == pytest.approx((norm - 1) ** 2, abs=1e-12)
    (slope,) = torch.autograd.grad(penalty, w)
    expected = 2 * (norm - 1) * w / norm if norm else torch.zeros(12)
    assert torch.allclose(slope, expected.to(slope), atol=1e-12)


def test_penalty_mixes_per_image_between_real_and_fake_and_leaves_the_generator_alone() -> None:
    seen = []
    real, fake = torch.ones(200, 1, 2, 2), torch.zeros(200, 1, 2, 2, requires_grad=True)
    w = torch.ones(4, requires_grad=True)
    rng = torch.Generator().manual_seed(1)
    gradient_penalty(lambda x: (seen.append(x.detach()), x.flatten(1) @ w)[1], real, fake, rng).backward()
    assert fake.grad is None
    shares = seen[0][:, 0, 0, 0]
    assert (seen[0] == shares[:, None, None, None]).all()  # one share per image
    # uniform on [0, 1]: Kolmogorov-Smirnov distance below the 0.1 % level, 1.95 / sqrt(n)
    grid = torch.arange(1, 201) / 200
    assert (shares.sort().values - grid).abs().max() < 1.95 / 200**0.5


@pytest.mark.parametrize("n", [16, 24, 100])
@pytest.mark.parametrize("name", ["non-saturating", "hinge"])
def test_losses_are_two_means_to_the_bit_whatever_the_batch_and_the_layout(name: str, n: int) -> None:
    """A CPU computes the last numbers of a tensor in another way than whole vectors of them."""
    own, logits = LOSSES[name], 3 * torch.randn(2, n, 11)
    one = (lambda x: softplus(x)) if name == "non-saturating" else (lambda x: relu(1 + x))
    for real, fake in (logits[..., 0], logits[..., 0].contiguous()):
        assert torch.equal(own.d_loss(real, fake), one(-real).mean() + one(fake).mean())
        expected = one(-fake).mean() if name == "non-saturating" else -fake.mean()
        assert torch.equal(own.g_loss(fake), expected)
