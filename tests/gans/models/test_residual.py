"""Residual networks of WGAN-GP, SNGAN and R3GAN: sizes, operations and initial weights, computed another way."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, conv_transpose2d, interpolate, leaky_relu

from gans.config import experiment
from gans.models import r3gan, resnet
from gans.models.layers import Shape
from gans.recipes import recipe
from tests.gans.models import pair, size

pytestmark = pytest.mark.usefixtures("one_thread")
LINEAR = (nn.Conv2d, nn.Linear)


def sizes(name: str, side: int = 32, **fields) -> list[int]:
    """Parameters of networks for colour images."""
    return [size(network) for network in pair(name, Shape(3, side), **fields)]


def conv(inputs: int, outputs: int, kernel: int) -> int:
    return kernel**2 * inputs * outputs + outputs


@pytest.mark.parametrize(("name", "width"), [("sngan", 256), ("wgan-gp", 128)])
def test_sizes_are_those_of_the_tables_of_layers(name: str, width: int) -> None:
    """Miyato et al. 2018, table 4, and Gulrajani et al. 2017, appendix F, added up layer by layer."""
    up = 2 * conv(width, width, 3) + conv(width, width, 1) + 2 * 2 * width
    generator = 129 * 16 * width + 3 * up + 2 * width + conv(width, 3, 3)
    first = conv(3, 128, 3) + conv(128, 128, 3) + conv(3, 128, 1)
    second = 2 * conv(128, 128, 3) + conv(128, 128, 1)
    discriminator = first + second + 2 * 2 * conv(128, 128, 3) + 129
    found = sizes(name, **experiment(recipe(name).settings).networks.model_dump(exclude={"name"}))
    assert found == [generator, discriminator]
    assert found == [{256: 4_276_739, 128: 1_204_483}[width], 1_053_825]


def test_r3gan_has_the_sizes_of_its_code_for_cifar10() -> None:
    """768 channels, 96 groups, two blocks in each of four stages, but for the labels."""
    block = 768 * 1536 + 1536 + 9 * 1536 * 1536 // 96 + 1536 + 1536 * 768
    generator = 16 * 768 + 64 * 768 + 8 * block + 3 * 768
    discriminator = 3 * 768 + 8 * block + 16 * 768 + 768
    assert sizes("r3gan", latent=64, width=768) == [generator, discriminator]


# WGAN-GP and SNGAN


def unnormed(layer: nn.Module) -> nn.Module:
    return layer


def test_blocks_compute_the_papers_order_of_operations() -> None:
    """Shortcuts are upsampled before, and pooled after, their 1x1 convolution in the papers."""
    torch.manual_seed(0)
    x = torch.randn(2, 6, 4, 4)
    up = resnet.UpBlock(6).eval()
    one, two = [layer for layer in up.second if isinstance(layer, nn.Conv2d)]
    residual = interpolate(torch.relu(x / (1 + 1e-5) ** 0.5), scale_factor=2)  # BatchNorm as initialised
    residual = torch.relu(conv2d(residual, one.weight, one.bias, padding=1) / (1 + 1e-5) ** 0.5)
    residual = conv2d(residual, two.weight, two.bias, padding=1)
    shortcut = conv2d(interpolate(x, scale_factor=2), up.shortcut.weight, up.shortcut.bias)
    assert torch.allclose(up(x), residual + shortcut, atol=1e-5)

    for block, leading in ((resnet.DownBlock, torch.relu), (resnet.FirstDownBlock, lambda y: y)):
        down = block(6, 5, unnormed)
        one, two = [layer for layer in down.residual if isinstance(layer, nn.Conv2d)]
        residual = torch.relu(conv2d(leading(x), one.weight, one.bias, padding=1))
        residual = conv2d(residual, two.weight, two.bias, padding=1)
        shortcut = conv2d(x, down.shortcut.weight, down.shortcut.bias)
        assert torch.allclose(down(x), avg_pool2d(residual + shortcut, 2), atol=1e-5)


def test_residual_weights_start_as_glorots_times_the_root_of_two() -> None:
    generator, discriminator = pair("wgan-gp", Shape(3, 32), latent=8, width=16)
    inner = [layer for block in discriminator.blocks for layer in getattr(block, "residual", [])]
    inner += [layer for block in generator.layers for layer in getattr(block, "second", [])]
    for network in (generator, discriminator):
        for layer in network.modules():
            if not isinstance(layer, LINEAR):
                continue
            fan = layer.weight.shape[0] + layer.weight.shape[1]
            area = layer.weight[0, 0].numel() if layer.weight.ndim == 4 else 1
            largest = math.sqrt((12 if any(layer is one for one in inner) else 6) / (fan * area))
            top = layer.weight.abs().max().item()
            # of n uniform draws the largest is beyond 1 - 10/n of the range, but for a chance of e^-10
            assert largest * (1 - 10 / layer.weight.numel()) < top <= largest * (1 + 1e-6)
            assert not layer.bias.any()


# R3GAN


def test_resampling_is_the_papers_filter_with_zeros_beyond_the_edge() -> None:
    """[1 3 3 1], as a convolution, and as a transposed one that inserts zeros."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    tent = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
    kernel = torch.outer(tent, tent).expand(3, 1, 4, 4)
    assert torch.allclose(r3gan.Downsample()(x), conv2d(x, kernel, stride=2, padding=1, groups=3), atol=1e-12)
    doubled = conv_transpose2d(x, 4 * kernel, stride=2, padding=1, groups=3)
    assert torch.allclose(r3gan.Upsample()(x), doubled, atol=1e-12)
    # what penalties differentiate twice
    for layer in (r3gan.Downsample(), r3gan.Upsample()):
        small = x[:1, :1, :4, :4].clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda y, layer=layer: layer(y).square(), small)
        assert torch.autograd.gradgradcheck(lambda y, layer=layer: layer(y).square(), small)


def test_a_block_starts_as_the_identity_and_computes_an_inverted_bottleneck() -> None:
    torch.manual_seed(0)
    block, x = r3gan.Block(24, total=8).double(), torch.randn(2, 24, 4, 4, dtype=torch.float64)
    assert torch.equal(block(x), x)
    one, first, two, second, three = block.layers
    with torch.no_grad():
        for part in (three.weight, first.bias, second.bias):
            part.normal_()
    y = torch.einsum("oi,nihw->nohw", one.weight[:, :, 0, 0], x) + first.bias[:, None, None]
    y = leaky_relu(y, 0.2)
    groups = [conv2d(y[:, i : i + 16], two.weight[i : i + 16], padding=1) for i in (0, 16, 32)]
    y = leaky_relu(torch.cat(groups, dim=1) + second.bias[:, None, None], 0.2)
    expected = x + torch.einsum("oi,nihw->nohw", three.weight[:, :, 0, 0], y)
    assert torch.allclose(block(x), expected, atol=1e-10)


def test_weights_start_as_hes_scaled_for_the_depth() -> None:
    """Of eight blocks: two convolutions of deviation sqrt(2 / 1.04) 8^(-1/4) / sqrt(fan in), and one of zeros."""
    generator, discriminator = pair("r3gan", Shape(3, 32), latent=64, width=64)
    for network in (generator, discriminator):
        blocks = [layer for layer in network.modules() if isinstance(layer, r3gan.Block)]
        assert len(blocks) == 8
        for block in blocks:
            one, _, two, _, three = block.layers
            assert not three.weight.any()
            for layer in (one, two):
                expected = math.sqrt(2 / 1.04) * 8**-0.25 / math.sqrt(layer.weight[0].numel())
                deviation = 5 / math.sqrt(2 * layer.weight.numel())  # five standard errors
                assert layer.weight.std().item() == pytest.approx(expected, rel=deviation)
        biased = [layer for layer in network.modules() if isinstance(layer, LINEAR) and layer.bias is not None]
        assert biased == []
        assert not any("Norm" in type(layer).__name__ for layer in network.modules())
