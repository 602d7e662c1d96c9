"""Random numbers by position, and torch's global state, which threads share."""

from concurrent.futures import ThreadPoolExecutor

import torch

from gans import seeds
from gans.models import build_generator
from gans.models.layers import Shape
from tests.conftest import networks


def test_networks_built_at_once_are_those_built_one_after_the_other():
    config = networks("dcgan", latent=8, width=8)

    def build(seed: int) -> torch.Tensor:
        return torch.cat([part.flatten() for part in build_generator(Shape(1, 32), config, seed).parameters()])

    alone = [build(seed) for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        at_once = list(pool.map(build, range(16)))
    assert all(torch.equal(one, other) for one, other in zip(alone, at_once, strict=True))
    assert not torch.equal(alone[0], alone[1])


def test_the_global_state_is_put_back():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with seeds.forked(5):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(inside, torch.rand(3, generator=torch.Generator().manual_seed(5)))
