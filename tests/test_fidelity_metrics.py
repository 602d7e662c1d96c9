"""Each metric against a second implementation: SciPy, scikit-learn, or a closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors

from gans.fidelity import require
from gans.fidelity.metrics import Features, compare, frechet, precision_recall, sample, settings, statistics


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two sets of correlated features that overlap in part."""
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(6, 6, generator=generator)
    generated = torch.randn(120, 6, generator=generator) @ mixing
    real = torch.randn(150, 6, generator=generator) @ mixing * 1.3 + 0.5
    return generated, real


def exactly_normal(mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """Features whose sample mean is `mean` and whose sample covariance is diag(deviation ** 2)."""
    drawn = torch.randn(500, len(mean), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    centred = drawn - drawn.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(centred.T.cov()), centred.T, upper=False).T
    return (white * deviation + mean).float()


def test_frechet_distance_equals_scipys_matrix_square_root(pair):
    generated, real = (features.double().numpy() for features in pair)
    a, b = np.cov(generated.T), np.cov(real.T)
    expected = ((generated.mean(0) - real.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet(pair[0], statistics(pair[1])) == pytest.approx(expected, rel=1e-5)


def test_frechet_distance_of_diagonal_gaussians_has_a_closed_form():
    means = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([0.5, 1.0, 1.0])
    deviations = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([3.0, 2.0, 1.0])
    expected = (means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum()
    first, second = (exactly_normal(m, s) for m, s in zip(means, deviations, strict=True))
    assert frechet(first, statistics(second)) == pytest.approx(expected.item(), rel=1e-4)


def test_kernel_distance_equals_scikit_learns_cubic_kernel(pair):
    generated, real = pair[0], pair[1][:120]  # subsets of all images: every one gives the same number
    both = ((generated, generated), (real, real), (generated, real))
    xx, yy, xy = (polynomial_kernel(a.double(), b.double()) for a, b in both)
    n = len(generated)
    expected = (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (n * (n - 1)) - 2 * xy.mean()
    extractor = require("digits")
    scores = compare(extractor, Features(generated, torch.zeros(n, 10)), real, statistics(real))
    assert scores["kd_digits"] == pytest.approx(expected, rel=1e-4)
    assert scores["kd_digits_std"] == pytest.approx(0, abs=1e-3)


def test_kernel_distance_of_one_distribution_is_zero_within_its_error():
    features = torch.randn(1000, 16, generator=torch.Generator().manual_seed(3))
    generated, real = Features(features[:500], torch.zeros(500, 10)), features[500:]
    scores = compare(require("digits"), generated, real, statistics(real))
    assert abs(scores["kd_digits"]) < 0.02
    assert scores["is_digits"] == pytest.approx(1)  # logits that say nothing


def test_precision_and_recall_equal_scikit_learns_neighbours(pair):
    generated, real = pair[0], pair[1][sample(150, 120)]

    def covered(points: torch.Tensor, balls: torch.Tensor) -> float:
        radii = NearestNeighbors(n_neighbors=4).fit(balls).kneighbors(balls)[0][:, 3]
        return (torch.cdist(points, balls) <= torch.from_numpy(radii)).any(1).double().mean().item()

    options = settings(require("digits"), 120, 150)
    found = precision_recall(pair[0], pair[1], options)
    assert found == pytest.approx((covered(generated, real), covered(real, generated)), abs=1 / 120)


def test_sample_is_fixed_sorted_and_without_repeats():
    chosen = sample(100, 30)
    assert len(chosen.unique()) == 30
    assert torch.equal(chosen, chosen.sort().values)
    assert torch.equal(chosen, sample(100, 30))
    assert torch.equal(sample(7, 7), torch.arange(7))


def test_subsets_never_exceed_the_images():
    assert settings(require("digits"), 40, 1000)["kid_subset_size"] == 40
    assert settings(require("digits"), 1000, 30)["kid_subset_size"] == 30
    assert settings(require("digits"), 5000, 5000)["kid_subset_size"] == 500
