"""Ways through latent space."""

import math

import numpy as np
import pytest
import torch

from gans.generate import latents


@pytest.mark.parametrize("seed", [3, latents.LARGEST_SEED])
def test_latents_of_a_seed_do_not_depend_on_how_many_are_drawn(seed):
    many = latents.draw(100, 7, seed)
    for count in (1, 15, 17, 40):
        assert torch.equal(latents.draw(count, 7, seed), many[:count])
    assert not torch.equal(latents.draw(1, 7, seed=4), many[:1])
    assert torch.equal(latents.chosen([f"{seed}:0", f"{seed}:99", f"{seed}:20"], 7), many[[0, 99, 20]])


def test_truncated_latents_are_those_within_the_limit_and_others_for_the_rest():
    z = latents.draw(1000, 16, seed=0)
    cut = latents.truncated(z, 1.0, seed=0)
    inside = z.abs() <= 1
    assert torch.equal(cut[inside], z[inside])
    assert cut.abs().max() <= 1
    # variance of a standard normal cut at 1: 1 - 2 phi(1) / (2 Phi(1) - 1)
    expected = 1 - 2 * math.exp(-0.5) / math.sqrt(2 * math.pi) / math.erf(1 / math.sqrt(2))
    assert cut.var().item() == pytest.approx(expected, abs=0.02)
    assert torch.equal(latents.truncated(z, 1.0, seed=0), cut)


@pytest.mark.parametrize(
    ("a", "b", "w"), [([2.0, 0.0], [0.0, 2.0], math.pi / 2), ([3.0, 0.0], [1.0, 1.0], math.pi / 4)]
)
def test_slerp_is_the_formula(a, b, w):
    t, a, b = np.array([0.0, 0.3, 0.5, 0.9, 1.0])[:, None], np.array(a), np.array(b)
    expected = np.sin((1 - t) * w) / math.sin(w) * a + np.sin(t * w) / math.sin(w) * b
    found = latents.slerp(torch.tensor(a), torch.tensor(b), torch.tensor(t[:, 0]))
    assert np.allclose(found.numpy(), expected)


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0])
def test_slerp_without_a_circle_is_the_straight_line(factor):
    a, t = latents.draw(1, 16, seed=0)[0], torch.tensor([0.0, 0.25, 1.0])
    straight = a + t[:, None] * (factor - 1) * a
    assert torch.allclose(latents.lerp(a, factor * a, t), straight, atol=1e-6)
    assert torch.allclose(latents.slerp(a, factor * a, t), straight, atol=1e-3)


def test_a_path_passes_its_stops():
    stops = latents.draw(3, 8, seed=0)
    way = latents.path(stops, 5, latents.slerp)
    assert way.shape == (11, 8)
    assert torch.allclose(way[[0, 5, 10]], stops, atol=1e-6)
    circle = latents.path(stops, 5, latents.slerp, closed=True)
    assert circle.shape == (15, 8)
    assert torch.allclose(circle[:10], way[:10])
    # its last step leads back to the first stop
    home = latents.slerp(stops[2], stops[0], torch.tensor([0.8]))[0]
    assert torch.allclose(circle[14], home, atol=1e-6)


def test_a_plane_has_its_corners_and_the_fourth_that_they_imply():
    corners = latents.draw(3, 32, seed=2)
    square = latents.plane(corners, 4, latents.lerp)
    assert square.shape == (16, 32)
    fourth = corners[1] + corners[2] - corners[0]
    fourth = fourth / fourth.norm() * corners.norm(dim=1).mean()
    assert torch.allclose(square[[0, 3, 12, 15]], torch.stack([*corners, fourth]), atol=1e-5)
    assert torch.allclose(square[1], corners[0] + (corners[1] - corners[0]) / 3, atol=1e-5)


def test_directions_of_a_linear_generator_are_its_singular_vectors():
    rng = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 6, generator=rng)).Q
    weights = torch.diag(torch.tensor([9.0, 4, 1, 0.5, 0.2, 0.1])) @ basis.T  # images = weights z
    z = latents.draw(20_000, 6, seed=0)
    found = latents.directions(z, (z @ weights.T)[:, None], 2)
    assert torch.allclose(found.norm(dim=1), torch.ones(2), atol=1e-5)
    for direction, expected in zip(found, basis.T, strict=False):
        assert abs(float(direction @ expected)) > 0.995
        assert direction[direction.abs().argmax()] > 0


def test_a_grid_around_a_latent_changes_along_its_axes_only():
    center = latents.draw(1, 5, seed=0)[0]
    axes = torch.eye(5)[[1, 3]]
    square = latents.around(center, axes, 3, 2.0)
    assert torch.equal(square[:, [0, 2, 4]], center[[0, 2, 4]].expand(9, 3))
    assert square[:, [1, 3]].tolist() == [[x, y] for y in (-2, 0, 2) for x in (-2, 0, 2)]


def test_noise_about_a_latent_is_uniform():
    around = latents.nearby(torch.full((1000,), 5.0), 8, 0.25, seed=0)
    assert around.shape == (8, 1000)
    assert (around - 5).abs().max() <= 0.25
    assert (around - 5).std().item() == pytest.approx(0.5 / math.sqrt(12), abs=0.003)
