"""Layers and initialisations that several networks share."""

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import conv2d, max_pool2d, pixel_shuffle, pixel_unshuffle

from gans.compute import precision
from gans.errors import InputError
from gans.models.spectral import spectral_norm

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class Shape(NamedTuple):
    """Square images: channels, side in pixels, and classes that networks are conditional on; 0: they are not."""

    channels: int
    side: int
    classes: int = 0


def has_batch_norm(network: nn.Module) -> bool:
    """Whether a layer mixes the images of a batch."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    return any(isinstance(layer, kinds) for layer in network.modules())


def stages(side: int) -> int:
    """Doublings from `first_side` to this side; an InputError if it is not a multiple of 8 from 16 up."""
    if side < 16 or side % 8:
        raise InputError(f"an image side of {side} is not a multiple of 8 from 16 up; set resolution = 32, say")
    return max(n for n in range(side.bit_length()) if side % 2**n == 0 and side >> n >= 4)


def first_side(side: int) -> int:
    """Side of a network's smallest maps: 4 for powers of two; 6 for 24, 48, 96, 192; 5 for 40, 80, 160; ..."""
    return side >> stages(side)


def normal_init(module: nn.Module) -> None:
    """DCGAN's initial weights: N(0, 0.02), BatchNorm scales N(1, 0.02), biases 0 (1511.06434, section 4)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def labelled(z: Tensor, labels: Tensor | None, classes: int) -> Tensor:
    """Latents with one-hot labels appended: (n, latent + classes); without labels the latents.

    The first linear layer thus adds a learned embedding of the class.
    """
    if labels is None:
        return z
    if labels.is_floating_point():  # between classes
        return torch.cat([z, labels.to(z.dtype)], dim=1)
    # torch's one_hot checks the labels, which waits for the device
    one_hot = labels[:, None] == torch.arange(classes, device=z.device)
    return torch.cat([z, one_hot.to(z.dtype)], dim=1)


def looked_up(table: nn.Embedding, labels: Tensor) -> Tensor:
    """The vectors (n, length) of labels int64 (n,); of mixtures of classes, float (n, classes), their means."""
    return labels @ table.weight.to(labels.dtype) if labels.is_floating_point() else table(labels)


class Labelled(nn.Module):
    """A layer that is called with its input and labels, int64 (n,), or None if networks are not conditional."""


class Chain(nn.Sequential, Labelled):
    """Layers in sequence; labels are passed to those that take them."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        for layer in self:
            x = layer(x, labels) if isinstance(layer, Labelled) else layer(x)
        return x


class BatchNorm(nn.BatchNorm2d):
    """Torch's, but for the count of its batches: a launch in each pass, for a number that is not used here."""

    def forward(self, x: Tensor) -> Tensor:
        means, variances = self.running_mean, self.running_var
        return F.batch_norm(x, means, variances, self.weight, self.bias, self.training, eps=self.eps)


class ConditionalBatchNorm(Labelled):
    """BatchNorm with a scale and a shift for each class, 1 and 0 at the start (de Vries et al. 2017, 1707.00683).

    Maps (n, channels, h, w) and labels (n,) to the same shape. Statistics are those of the whole batch.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = BatchNorm(channels, affine=False)
        self.scale, self.shift = nn.Embedding(classes, channels), nn.Embedding(classes, channels)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        x = self.norm(x)
        scale, shift = (
            looked_up(table, labels).to(x.dtype)[:, :, None, None] for table in (self.scale, self.shift)
        )
        return torch.addcmul(shift, scale, x)


def batch_norm(channels: int, classes: int) -> nn.Module:
    """BatchNorm, conditional if there are classes."""
    return ConditionalBatchNorm(channels, classes) if classes else BatchNorm(channels)


def projected(logits: Tensor, features: Tensor, project: nn.Module | None, labels: Tensor | None) -> Tensor:
    """psi(phi(x)) + <V y, phi(x)> (Miyato & Koyama 2018, equation 4); without labels the logits.

    `logits` are psi(phi(x)), (n,), `features` phi(x), (n, length); `project` is V and maps labels y, int64 (n,),
    to (n, length).
    """
    return logits if project is None else logits + (project(labels) * features).sum(dim=1)


class Unfold(nn.ConvTranspose2d):
    """A transposed convolution of 1x1 maps: (n, inputs, 1, 1) -> (n, outputs, k, k).

    Computed as a matrix product, which is three times faster on a CPU.
    """

    in_float32 = ("bias",)  # in every precision it is added to the product

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        weight = self.weight
        if is_channels_last(weight):  # the output has the memory layout of the next layer, without a copy
            weight = weight.permute(0, 2, 3, 1)
            y = (x.flatten(1) @ weight.flatten(1)).unflatten(1, weight.shape[1:]).permute(0, 3, 1, 2)
        else:
            y = (x.flatten(1) @ weight.flatten(1)).unflatten(1, weight.shape[1:])
        return y if self.bias is None else y + self.bias[:, None, None]


class Fold(nn.Conv2d):
    """A convolution of maps of its kernel's size: (n, inputs, k, k) -> (n, outputs, 1, 1).

    Also a matrix product: oneDNN takes longer, and the layout of its gradient slows the previous layer.
    """

    in_float32 = ("bias",)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if is_channels_last(weight):
            x, weight = x.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1)
        y = x.flatten(1) @ weight.flatten(1).T
        return (y if self.bias is None else y + self.bias)[:, :, None, None]


def is_channels_last(weight: Tensor) -> bool:
    """Whether a 4D tensor is channels-last and not in torch's default order."""
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


class ToPixels(nn.ConvTranspose2d):
    """A transposed 4x4 convolution of stride 2 to few channels: (n, inputs, h, w) -> (n, outputs, 2h, 2w).

    On a CPU it runs as one ordinary 2x2 convolution for each of the four output pixels of an input pixel
    (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?"), with interleaved
    outputs. oneDNN's transposed convolution to one or three channels takes four times as long.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if precision.by_launches(x.device):
            return super().forward(x, output_size)
        # output pixel 2q + a takes kernel rows a and a + 2 from the inputs q and q - 1: reversed, a convolution's
        kernel = pixel_unshuffle(self.weight, 2).flip(2, 3).transpose(0, 1)  # (4 outputs, inputs, 2, 2)
        bias = None if self.bias is None else self.bias.repeat_interleave(4)
        return pixel_shuffle(conv2d(x, kernel, bias, padding=1), 2)[:, :, 1:-1, 1:-1]


def sn_conv(inputs: int, outputs: int, kernel: int) -> nn.Module:
    """A same-size convolution under spectral norm; Xavier weights, as SAGAN's reference code.

    A network of such layers calls `iterate_ahead` first, which saves launches on a GPU.
    """
    return spectral_norm(glorot(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)))


def sn_linear(inputs: int, outputs: int) -> nn.Module:
    """A linear layer under spectral norm."""
    return spectral_norm(glorot(nn.Linear(inputs, outputs)))


def sn_embedding(classes: int, length: int) -> nn.Module:
    """A vector for each class, under spectral norm; Xavier weights, as the projection discriminator's code."""
    layer = nn.Embedding(classes, length)
    nn.init.xavier_uniform_(layer.weight)
    return spectral_norm(layer)


def glorot(layer: Layer, gain: float = 1.0) -> Layer:
    """The layer with weights of U[-a, a], a = gain sqrt(6 / (fan in + fan out)), and biases of 0."""
    nn.init.xavier_uniform_(layer.weight, gain)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class SelfAttention(nn.Module):
    """y = x + gamma o(softmax(f(x)^T g(x)) h(x)), gamma = 0 at the start (Zhang et al. 2018, section 3).

    Queries and keys have C/8 channels, values C/2; keys and values are max-pooled 2x2, as in the paper's
    memory-saving variant. Every convolution is 1x1 under spectral norm. Maps (n, C, h, w) to the same shape;
    h and w are even.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow, middle = max(1, channels // 8), max(1, channels // 2)
        self.query = sn_conv(channels, narrow, 1)
        self.key = sn_conv(channels, narrow, 1)
        self.value = sn_conv(channels, middle, 1)
        self.out = sn_conv(middle, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).flatten(2)  # (n, C/8, hw)
        key = max_pool2d(self.key(x), 2).flatten(2)  # (n, C/8, hw/4)
        value = max_pool2d(self.value(x), 2).flatten(2)  # (n, C/2, hw/4)
        # the paper does not scale the products by the channel count
        attention = torch.bmm(query.transpose(1, 2), key).softmax(dim=-1)  # (n, hw, hw/4)
        mixed = torch.bmm(value, attention.transpose(1, 2))  # (n, C/2, hw)
        return x + self.gamma * self.out(mixed.unflatten(2, x.shape[2:]))
