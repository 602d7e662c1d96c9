"""What networks do with classes, against formulae and published sizes."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gans.models.layers import ConditionalBatchNorm, Shape, labelled
from tests.gans.models import pair as plain_pair
from tests.gans.models import size

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = Shape(1, 16, 3)
LABELS = torch.tensor([0, 2, 1, 2, 0])


def pair(name: str, shape: Shape = SHAPE, **fields) -> tuple[nn.Module, nn.Module]:
    return plain_pair(name, shape, conditional=True, **{"latent": 6, "width": 4, **fields})


def test_gan_has_the_sizes_of_the_mdgan_paper() -> None:
    """Hardy et al. 2019, on MNIST: G 716,560 and D 670,219 with 11 outputs; z of 90 and ten classes are 100."""
    generator, discriminator = pair("gan", Shape(1, 28, 10), latent=90, width=512)
    assert size(generator) == 716_560
    assert size(discriminator) == 670_219
    assert discriminator(torch.zeros(2, 1, 28, 28)).shape == (2, 11)


@pytest.mark.parametrize("name", ["gan", "dcgan", "dcgan-nobn"])
def test_a_label_is_an_embedding_that_the_first_layer_adds(name: str) -> None:
    """W [z, onehot(y)] = W_z z + W_y: one column of the first layer for each class."""
    z = torch.randn(5, 6)
    together = labelled(z, LABELS, 3)
    assert together.shape == (5, 9)
    assert torch.equal(together[:, :6], z)
    assert together[:, 6:].argmax(dim=1).tolist() == LABELS.tolist()
    assert torch.equal(together[:, 6:].sum(dim=1), torch.ones(5))
    generator, _ = pair(name)
    first = generator.layers[0]
    # (outputs, 9), of a linear layer and of a transposed convolution of 1x1 maps
    weight = first.weight if name == "gan" else first.weight.flatten(1).T
    bias = 0 if first.bias is None else first.bias if name == "gan" else first.bias.repeat_interleave(16)
    expected = z @ weight[:, :6].T + weight.T[6:][LABELS] + bias
    found = first(together if name == "gan" else together[:, :, None, None]).flatten(1)
    assert torch.allclose(found, expected, atol=1e-6)


def test_conditional_batch_norm_is_batch_norm_with_a_scale_and_a_shift_for_each_class() -> None:
    layer, plain = ConditionalBatchNorm(4, 3), nn.BatchNorm2d(4)
    x = 3 * torch.randn(5, 4, 2, 2) + 1
    assert torch.allclose(layer(x, LABELS), plain(x), atol=1e-6)  # as it starts
    with torch.no_grad():
        layer.scale.weight.copy_(torch.randn(3, 4))
        layer.shift.weight.copy_(torch.randn(3, 4))
    found = layer(x, LABELS)
    mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)
    for i, label in enumerate(LABELS):
        for c in range(4):
            scale, shift = layer.scale.weight[label, c], layer.shift.weight[label, c]
            expected = scale * (x[i, c] - mean[c]) / (variance[c] + 1e-5).sqrt() + shift
            assert torch.allclose(found[i, c], expected, atol=1e-5)
    plain(x)
    assert torch.allclose(layer.norm.running_mean, plain.running_mean)


def divided(layer: nn.Module) -> Tensor:
    """A layer's weight by its largest singular value, as power iteration has it."""
    original, norm = layer.parametrizations.weight.original, layer.parametrizations.weight[0]
    return original / (norm._u @ original @ norm._v)


@pytest.mark.parametrize("name", ["sagan", "sngan"])
def test_the_projection_discriminator(name: str) -> None:
    """D(x, y) = psi(phi(x)) + <V y, phi(x)> (Miyato & Koyama 2018, equation 4), V under spectral norm."""
    discriminator = pair(name)[1].double().eval()
    x = torch.randn(5, 1, 16, 16, dtype=torch.float64)
    features = discriminator.blocks(x).sum(dim=(2, 3))  # phi(x)
    end, table = discriminator.end, divided(discriminator.project)
    expected = linear(features, divided(end), end.bias).squeeze(1)
    expected = expected + torch.stack([table[label] @ phi for label, phi in zip(LABELS, features, strict=True)])
    assert torch.allclose(discriminator(x, LABELS), expected, rtol=1e-10)
    assert torch.linalg.matrix_norm(table, 2).item() == pytest.approx(1, abs=1e-3)  # fifteen iterations


def test_r3gan_embeds_labels_beside_z_and_projects_features_onto_them() -> None:
    generator, discriminator = (network.double() for network in pair("r3gan", width=16))
    z, x = torch.randn(5, 6, dtype=torch.float64), torch.randn(5, 1, 16, 16, dtype=torch.float64)
    together = torch.cat([z, generator.embed.weight[LABELS]], dim=1)
    assert together.shape == (5, 12)
    assert torch.equal(generator(z, LABELS), generator.layers(together))
    features = discriminator.layers(x)
    assert features.shape == (5, 16)
    expected = torch.stack([features[i] @ discriminator.project.weight[c] for i, c in enumerate(LABELS)])
    assert torch.allclose(discriminator(x, LABELS), expected, rtol=1e-12)
    # one-hot labels are 1 in one of C places: He's weights of such a linear map have variance 1 / C
    wide, deep = pair("r3gan", Shape(1, 16, 100), latent=64, width=64)
    assert wide.embed.weight.std().item() == pytest.approx(100**-0.5, rel=0.05)
    assert deep.project.weight.std().item() == pytest.approx((100 * 64) ** -0.5, rel=0.05)


def test_wgan_gp_has_a_classifier_beside_its_critic() -> None:
    _, discriminator = pair("wgan-gp")
    discriminator.double()
    x = torch.randn(5, 1, 16, 16, dtype=torch.float64)
    features, end = discriminator.blocks(x).mean(dim=(2, 3)), discriminator.end
    found = discriminator(x)
    assert torch.allclose(found[:, 0], features @ end.weight[0] + end.bias[0])
    assert torch.allclose(found[:, 1:], features @ end.weight[1:].T + end.bias[1:])
