import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate

from gans.errors import InputError
from gans.models import build_discriminator, build_generator, sagan
from gans.models.layers import Fold, SelfAttention, Shape, ToPixels, Unfold
from gans.registry import MODELS
from tests.conftest import networks
from tests.gans.models import pair, size

pytestmark = pytest.mark.usefixtures("one_thread")
LINEAR = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def convolutions(network: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]


# published sizes


def test_dcgan_has_the_sizes_of_the_pytorch_tutorial() -> None:
    """Its G has 3,576,704 parameters and its D 2,765,568, without any bias.

    Ours have biases where no BatchNorm follows: 3 at G's output; 64 at D's input and 1 at its output.
    """
    generator, discriminator = pair("dcgan", Shape(3, 64), latent=100, width=64)
    assert size(generator) == 3_576_704 + 3
    assert size(discriminator) == 2_765_568 + 64 + 1


# DCGAN's rules (Radford et al. 2015, section 3 and 4)


def test_dcgan_computes_what_the_pytorch_tutorial_computes() -> None:
    """The tutorial's networks, typed in anew, with our weights."""
    n = 4
    up = [(100, 8 * n, 1, 0), (8 * n, 4 * n, 2, 1), (4 * n, 2 * n, 2, 1), (2 * n, n, 2, 1)]
    layers: list[nn.Module] = []
    for inputs, outputs, stride, padding in up:
        layers += [nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False)]
        layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
    netg = nn.Sequential(*layers, nn.ConvTranspose2d(n, 3, 4, 2, 1, bias=False), nn.Tanh())
    layers = [nn.Conv2d(3, n, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for inputs, outputs in [(n, 2 * n), (2 * n, 4 * n), (4 * n, 8 * n)]:
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
    netd = nn.Sequential(*layers, nn.Conv2d(8 * n, 1, 4, 1, 0, bias=False))

    generator, discriminator = pair("dcgan", Shape(3, 64), latent=100, width=n)
    for ours, theirs in ((generator, netg), (discriminator, netd)):
        copied = {key.removeprefix("layers."): value for key, value in ours.state_dict().items()}
        _, unexpected = theirs.load_state_dict(copied, strict=False)
        # our extra biases start at 0, so they change nothing
        assert all(key.endswith("bias") and not copied[key].any() for key in unexpected)
    z = torch.randn(5, 100)
    images = generator(z)
    assert torch.allclose(images, netg(z[:, :, None, None]), atol=1e-6)
    assert torch.allclose(discriminator(images), netd(images).flatten(), atol=1e-6)


@pytest.mark.parametrize("name", ["dcgan", "dcgan-nobn"])
def test_dcgan_starts_from_normal_weights(name: str) -> None:
    """N(0, 0.02): mean within 5 standard errors, deviation within 5 / sqrt(2n); BatchNorm N(1, 0.02)."""
    for network in pair(name, Shape(3, 32), latent=64, width=32):
        for layer in convolutions(network):
            n = layer.weight.numel()
            assert abs(layer.weight.mean().item()) < 5 * 0.02 / n**0.5
            assert layer.weight.std().item() == pytest.approx(0.02, rel=5 / (2 * n) ** 0.5)
            assert layer.bias is None or not layer.bias.any()
        scales = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
        assert bool(scales) == (name == "dcgan")
        for layer in scales:
            n = layer.weight.numel()
            assert layer.weight.mean().item() == pytest.approx(1, abs=5 * 0.02 / n**0.5)
            assert layer.weight.std().item() == pytest.approx(0.02, rel=5 / (2 * n) ** 0.5)
            assert not layer.bias.any()


# the fully connected GAN


def test_gan_is_two_hidden_layers_written_out() -> None:
    generator, discriminator = pair("gan", Shape(3, 16))
    g = [layer for layer in generator.modules() if isinstance(layer, nn.Linear)]
    d = [layer for layer in discriminator.modules() if isinstance(layer, nn.Linear)]
    z = torch.randn(5, 8)
    hidden = (z @ g[0].weight.T + g[0].bias).clamp(min=0)
    hidden = (hidden @ g[1].weight.T + g[1].bias).clamp(min=0)
    images = torch.tanh(hidden @ g[2].weight.T + g[2].bias).reshape(5, 3, 16, 16)
    assert torch.allclose(generator(z), images, atol=1e-6)
    x = images.reshape(5, -1) @ d[0].weight.T + d[0].bias
    x = torch.maximum(x, 0.2 * x) @ d[1].weight.T + d[1].bias
    logits = (torch.maximum(x, 0.2 * x) @ d[2].weight.T + d[2].bias)[:, 0]
    assert torch.allclose(discriminator(images), logits, atol=1e-6)


# SAGAN


def test_sagan_spectral_norms_are_those_of_the_full_svd() -> None:
    """After enough forward passes, one power iteration each, every layer's largest singular value is 1."""
    torch.manual_seed(0)
    generator, discriminator = pair("sagan", Shape(3, 16), width=4)
    with torch.no_grad():
        for _ in range(150):
            discriminator(generator(torch.randn(2, 8)))
    for network in (generator.eval(), discriminator.eval()):
        for name, layer in network.named_modules():
            if not isinstance(layer, LINEAR):
                continue
            effective = torch.linalg.svdvals(layer.weight.flatten(1).double())[0].item()
            assert effective == pytest.approx(1, abs=2e-3), name
            raw = layer.parametrizations.weight.original
            sigma = (raw.norm() / layer.weight.norm()).item()
            assert sigma == pytest.approx(torch.linalg.svdvals(raw.flatten(1).double())[0].item(), rel=2e-3)


def test_self_attention_equals_the_equations_of_the_paper() -> None:
    """Zhang et al. 2018, equations 1 to 3, with sums written out; keys and values max-pooled 2x2."""
    torch.manual_seed(0)
    channels, (h, w) = 16, (6, 4)
    attention = SelfAttention(channels).double().eval()
    with torch.no_grad():
        attention.gamma.fill_(0.7)
        for conv in (attention.query, attention.key, attention.value, attention.out):
            conv.bias.normal_()
    x = torch.randn(3, channels, h, w, dtype=torch.float64) * 3

    def apply(conv: nn.Module, y: Tensor) -> Tensor:
        return torch.einsum("oc,ncij->noij", conv.weight[:, :, 0, 0], y) + conv.bias[:, None, None]

    def pool(y: Tensor) -> Tensor:
        return y.reshape(*y.shape[:2], h // 2, 2, w // 2, 2).amax(dim=(3, 5)).flatten(2)

    f, g, v = apply(attention.query, x).flatten(2), pool(apply(attention.key, x)), pool(apply(attention.value, x))
    assert (f.shape[1], g.shape[1], v.shape[1]) == (channels // 8, channels // 8, channels // 2)
    weights = torch.einsum("ncj,nci->nji", f, g).exp()
    weights = weights / weights.sum(dim=2, keepdim=True)  # over the places i that are looked at
    o = apply(attention.out, torch.einsum("nji,nci->ncj", weights, v).reshape(3, -1, h, w))
    assert torch.allclose(attention(x), x + 0.7 * o, rtol=1e-12, atol=1e-12)
    assert (attention(x) - x).abs().max() > 0.1


def test_sagans_block_computes_the_papers_order_of_operations() -> None:
    """The shortcut is upsampled before its 1x1 convolution in the paper; the other blocks are SNGAN's."""
    torch.manual_seed(0)
    x = torch.randn(2, 6, 4, 4)
    up = sagan.UpBlock(6, 5).eval()
    residual = interpolate(torch.relu(x / (1 + 1e-5) ** 0.5), scale_factor=2)  # BatchNorm as initialised
    residual = conv2d(residual, up.conv.weight, up.conv.bias, padding=1)
    residual = torch.relu(residual / (1 + 1e-5) ** 0.5)
    residual = conv2d(residual, up.second[2].weight, up.second[2].bias, padding=1)
    shortcut = conv2d(interpolate(x, scale_factor=2), up.shortcut.weight, up.shortcut.bias)
    assert torch.allclose(up(x), residual + shortcut, atol=1e-5)


# sides


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("side", "first"), [(24, 6), (40, 5), (72, 9), (96, 6)])
def test_any_multiple_of_8_is_doubled_from_maps_of_4_or_more(name: str, side: int, first: int) -> None:
    generator, discriminator = pair(name, Shape(3, side), latent=4, width=4)
    sizes = set()
    for layer in [*generator.modules(), *discriminator.modules()]:
        layer.register_forward_hook(lambda layer, given, out: sizes.add(out.shape[-1] if out.dim() == 4 else 1))
    images = generator(torch.randn(2, 4))
    assert images.shape == (2, 3, side, side) and discriminator(images).shape == (2,)
    kernels = {1, 3}  # weights under spectral norm
    maps = {first * 2**n for n in range(side.bit_length()) if first * 2**n <= side}
    assert sizes - kernels == ({side} if name == "gan" else maps)


@pytest.mark.parametrize("side", [0, -16, 8, 28, 100])
def test_other_sides_are_refused(side: int) -> None:
    with pytest.raises(InputError, match="multiple of 8"):
        build_generator(Shape(1, side), networks(name="dcgan", latent=4, width=4), 0)


# initial weights from the seed


@pytest.mark.parametrize("name", MODELS)
def test_initial_weights_are_a_function_of_the_seed_and_nothing_else(name: str) -> None:
    shape, config = Shape(1, 16), networks(name=name, latent=8, width=8)

    def weights(network: nn.Module) -> Tensor:
        return torch.cat([value.flatten().double() for value in network.state_dict().values()])

    before = torch.get_rng_state()
    first = weights(build_generator(shape, config, 1)), weights(build_discriminator(shape, config, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(77)
    again = weights(build_generator(shape, config, 1)), weights(build_discriminator(shape, config, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], weights(build_generator(shape, config, 2)))
    assert not torch.equal(first[1], weights(build_discriminator(shape, config, 2, 2)))
    assert not torch.equal(first[1], weights(build_discriminator(shape, config, 1, 3)))


# the same function, computed faster


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("layer", "sizes", "side"),
    [
        (ToPixels, (6, None, 4, 2, 1), 4),
        (ToPixels, (6, None, 4, 2, 1), 7),
        (Unfold, (6, None, 4), 1),
        (Fold, (6, 1, 4), 4),
    ],
)
def test_fast_layers_compute_what_torchs_layer_computes(layer, sizes, side: int, channels: int, layout) -> None:
    """Output, both gradients, and the gradient of a gradient (the penalty's), in float64."""
    rng = torch.Generator().manual_seed(channels)
    ours = layer(*(channels if size is None else size for size in sizes)).double()
    ours.to(memory_format=layout)
    nn.init.normal_(ours.bias, generator=rng)
    base = next(base for base in layer.__mro__[1:] if base.__module__.startswith("torch.nn"))
    found, expected = ([] for _ in range(2))
    x = torch.randn(5, 6, side, side, generator=rng, dtype=torch.float64)
    push = None
    for forward, results in ((layer.forward, found), (base.forward, expected)):
        leaf = x.clone().requires_grad_()
        y = forward(ours, leaf)
        push = torch.randn(y.shape, generator=rng, dtype=torch.float64) if push is None else push
        weights = (leaf, ours.weight, ours.bias)
        first = torch.autograd.grad((y * y * push).sum(), weights, create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), (leaf, ours.weight))
        results += [y, *first, *second]
    assert len(found) == 6
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)
