"""Metrics of nearest neighbours against brute force in NumPy and scikit-learn."""

import numpy as np
import pytest
import torch

from gans.fidelity.metrics import neighbours
from gans.fidelity.metrics.neighbours import closer, nearest, neighbourhood


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two sets of features that overlap in part."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(120, 6, generator=generator), torch.randn(150, 6, generator=generator) * 1.3 + 0.5


def distances(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    return np.linalg.norm(a.double().numpy()[:, None] - b.double().numpy()[None], axis=2)


def ball(points: torch.Tensor, k: int) -> np.ndarray:
    """Distance from each point to its k-th nearest other one."""
    return np.sort(distances(points, points), axis=1)[:, k]


def test_all_four_equal_brute_force(pair, monkeypatch):
    monkeypatch.setattr(neighbours, "ROWS", 37)  # several blocks, the last one smaller
    generated, real = pair[0], pair[1][:100]
    across = distances(real, generated)
    found = neighbourhood(generated, real)
    inside = across < ball(real, 5)[:, None]
    assert found.precision.value == pytest.approx((across <= ball(real, 3)[:, None]).any(0).mean())
    assert found.recall.value == pytest.approx((across <= ball(generated, 3)).any(1).mean())
    assert found.density.value == pytest.approx(inside.sum() / (5 * 120))
    assert found.coverage.value == pytest.approx(inside.any(1).mean())


def test_errors_equal_leaving_out_one_image_after_another(pair):
    """The jackknife by brute force, with the balls as they are."""
    generated, real = pair
    across = distances(real, generated)
    inside, reached = across < ball(real, 5)[:, None], across <= ball(generated, 3)

    def jackknife(statistic) -> float:
        without = [statistic(np.delete(np.arange(120), i)) for i in range(120)]
        return (119 / 120 * ((without - np.mean(without)) ** 2).sum()) ** 0.5

    found = neighbourhood(generated, real)
    assert found.coverage.error == pytest.approx(jackknife(lambda kept: inside[:, kept].any(1).mean()))
    assert found.recall.error == pytest.approx(jackknife(lambda kept: reached[:, kept].any(1).mean()))
    assert found.density.error == pytest.approx(jackknife(lambda kept: inside[:, kept].sum(0).mean() / 5))
    share = found.precision.value
    assert found.precision.error == pytest.approx((share * (1 - share) / 119) ** 0.5)


def test_nearest_equals_brute_force(pair):
    found, index = nearest(*pair)
    expected = distances(*pair)
    assert np.allclose(found, expected.min(1), atol=1e-3)
    assert np.array_equal(index, expected.argmin(1))


def test_memorisation_is_the_chance_of_being_closer():
    generated, held_out = torch.tensor([0.5, 1.0, 3.0, 4.0]), torch.tensor([3.0, 1.0, 2.0])
    pairs = np.sign(held_out.numpy()[None] - generated.numpy()[:, None])  # a tie counts half
    assert closer(generated, held_out).value == pytest.approx((pairs + 1).mean() / 2)
    assert closer(held_out, held_out).value == 0.5
    assert closer(torch.zeros(9), held_out).value == 1
    assert closer(torch.full((9,), 9.0), held_out).value == 0
