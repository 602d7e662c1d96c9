"""The networks. A model is one file, here with a line in `gans.registry`, or anywhere else.

The file defines a `Model`: hyperparameters with their help texts, two networks, recipe and search space.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from gans import seeds
from gans.config import NetworkConfig
from gans.data.images import ImageData
from gans.errors import InputError
from gans.models.layers import Shape
from gans.registry import MODELS, kind_of

Build = Callable[[Shape, Any], nn.Module]


@dataclass(frozen=True)
class Model:
    """A pair of networks, their recipe, search space and measured precisions.

    Attributes:
        config: its hyperparameters, a subclass of `NetworkConfig`; `networks` in a matrix file is read as this.
        generator: built as `generator(shape, config)`; maps latents (n, latent) to images (n, channels, side,
            side) in [-1, 1].
        discriminator: built as `discriminator(shape, config)`; maps such images to logits (n,); the sigmoid is
            part of the loss.
        conditional: how the networks use classes if `shape.classes` is not 0; None: they have no conditional form.
            The generator is then called with latents and labels, int64 (n,). `auxiliary`: the discriminator maps
            images to (n, 1 + classes), the logit and then those of the classes (Odena et al. 2017). `projection`:
            it is called with images and labels, and maps them to logits (n,) (Miyato & Koyama 2018).
        recipe: settings that override the defaults of `gans.config`: the paper's, or others that work.
        space: what `make sweep` searches, in the notation of `sweeps.space`; empty: learning rates and width.
        bf16: whether a measurement showed equal scores in bfloat16 on CPUs.
        cuda: the precision with equal scores on CUDA; None: not measured.
        about: a description for `gans config`.
    """

    config: type[NetworkConfig]
    generator: Build
    discriminator: Build
    recipe: Mapping[str, Any] = field(default_factory=dict)
    space: Mapping[str, Any] = field(default_factory=dict)
    bf16: bool = False
    cuda: Literal["bf16", "tf32"] | None = None
    about: str = ""
    conditional: Literal["auxiliary", "projection"] | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.config, type) and issubclass(self.config, NetworkConfig)):
            raise TypeError(f"config of a Model is {kind_of(self.config)}, not a subclass of NetworkConfig")
        for name in ("generator", "discriminator"):
            if not callable(getattr(self, name)):
                raise TypeError(f"{name} of a Model is {kind_of(getattr(self, name))}, not a function")
        for name in ("recipe", "space"):
            if not isinstance(getattr(self, name), Mapping):
                raise TypeError(f"{name} of a Model is {kind_of(getattr(self, name))}, not a table")
        if self.conditional not in (None, "auxiliary", "projection"):
            raise TypeError(f"conditional of a Model is {self.conditional!r}, not 'auxiliary' or 'projection'")


def shape_of(data: ImageData, config: NetworkConfig) -> Shape:
    """What networks are built for: the shape of a data set's images, with its classes if they are conditional.

    An InputError if the model has no conditional form, or the data have fewer than two classes.
    """
    if not config.conditional:
        return Shape(data.channels, data.resolution)
    if MODELS[config.name].conditional is None:
        raise InputError(f"model {config.name} has no conditional form; set networks.conditional = false")
    labels = data.train_labels
    if labels is None or not data.classes:
        raise InputError(
            f"conditional networks need labelled images, which {data.name} has not; sort them into one folder per "
            "class, or set networks.conditional = false"
        )
    if len(labels.unique()) < 2:
        raise InputError(
            f"conditional networks need two classes, and the training images of {data.name} are of one; "
            "set networks.conditional = false"
        )
    return Shape(data.channels, data.resolution, len(data.classes))


def build_generator(shape: Shape, config: NetworkConfig, seed: int) -> nn.Module:
    """The generator; its initial weights are a function of the seed, the same on every device."""
    return _build(MODELS[config.name].generator, shape, config, seeds.mix(seed, "generator"))


def build_discriminator(shape: Shape, config: NetworkConfig, seed: int, worker: int = 0) -> nn.Module:
    """The discriminator, also a function of the seed; each worker of MD-GAN starts from its own weights."""
    return _build(MODELS[config.name].discriminator, shape, config, seeds.mix(seed, "discriminator", worker))


def _build(build: Build, shape: Shape, config: NetworkConfig, seed: int) -> nn.Module:
    with seeds.forked(seed):
        return build(shape, config)
