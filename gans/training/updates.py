"""Update rules: what one training step does to the networks.

An update rule owns the networks and their optimisers and is built as `rule(experiment, shape, images)`. It
never waits for the device: statistics stay there as tensors until the loop reads them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gans import seeds
from gans.compute import devices, precision
from gans.config import OptimizerConfig, Resolved, Settled, TwoPlayerConfig
from gans.data.batches import Batches
from gans.data.images import ImageData
from gans.errors import InputError
from gans.models import build_discriminator, build_generator
from gans.models.layers import Shape
from gans.registry import LOSSES
from gans.training.losses import gradient_penalty, mixture

if TYPE_CHECKING:
    from gans.training.mdgan.workers import Hire

# what every step reports, in this order; D() is the sigmoid of the logit
STATISTICS = ("loss_d", "loss_g", "d_real", "d_fake")


class Player:
    """A network with its Adam optimiser.

    Attributes:
        network: what is trained, as it is saved and scored.
        compute: the same network as training computes it, in the experiment's precision; float32 comes out.
    """

    def __init__(self, network: nn.Module, lr: float, optimizer: OptimizerConfig, settled: Settled) -> None:
        self.network = network
        self.compute = precision.computing(network, settled)
        self.parameters = list(network.parameters())
        self.adam = torch.optim.Adam(self.parameters, lr=lr, betas=(optimizer.beta1, optimizer.beta2), fused=True)

    @property
    def size(self) -> int:
        """Trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters)

    def gradients(
        self, outputs: Tensor | Sequence[Tensor], grad_outputs: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, ...]:
        """Gradients of `outputs` in this player's parameters alone: none are computed for the other player."""
        return torch.autograd.grad(outputs, self.parameters, grad_outputs)

    def apply(self, gradients: Iterable[Tensor]) -> None:
        """One Adam step along these gradients."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            # laid out otherwise by double backward through a convolution, for one
            parameter.grad = laid_out_as(parameter, gradient)
        self.adam.step()

    def finite(self) -> bool:
        """Whether all parameters are finite numbers."""
        return all(bool(parameter.isfinite().all()) for parameter in self.parameters)

    def state(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "adam": self.adam.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.adam.load_state_dict(state["adam"])
        for group in self.adam.param_groups:
            group["capturable"] = False  # the checkpoint's, if a graph wrote it; a graph sets it again
        for parameter, moments in self.adam.state.items():
            for name, moment in moments.items():
                moments[name] = laid_out_as(parameter, moment)


def laid_out_as(parameter: Tensor, tensor: Tensor) -> Tensor:
    """`tensor` in the parameter's order in memory.

    Fused Adam walks raw memory: a gradient, or a moment of a checkpoint from another device, that is laid out
    otherwise would be applied to the wrong weights without a word.
    """
    if tensor.shape != parameter.shape or tensor.stride() == parameter.stride():
        return tensor
    return torch.empty_like(parameter).copy_(tensor)


def normalises(network: nn.Module) -> bool:
    """Whether the network has BatchNorm, which mixes the images of a batch."""
    return any(isinstance(layer, _BatchNorm) for layer in network.modules())


class Discriminator(Player):
    """A discriminator that learns on a real and a generated batch."""

    def __init__(self, experiment: Resolved, shape: Shape, device: torch.device, worker: int = 0) -> None:
        network = build_discriminator(shape, experiment.networks, experiment.seed, worker)
        network = devices.place(network, device)
        super().__init__(network, experiment.optimizer.lr_d, experiment.optimizer, experiment.precision)
        self.loss = LOSSES[experiment.loss.name]
        self.penalty = experiment.loss.penalty if self.loss.penalised else 0.0
        # BatchNorm must see real and generated images apart (Radford et al. 2015); others take both at once
        self.normalises = normalises(network)

    def learn(self, real: Tensor, fake: Tensor, mix: torch.Generator | Tensor | None = None) -> Tensor:
        """One optimiser step; `fake` is taken as data. Returns loss, D(x), D(G(z)) as a tensor (3,).

        `mix` is what the gradient penalty mixes them with; wanted if there is one.
        """
        real_logits, fake_logits = self.logits(real, fake)
        loss = self.loss.d_loss(real_logits, fake_logits)
        if self.penalty:
            assert mix is not None
            loss = loss + self.penalty * gradient_penalty(self.compute, real, fake, mix)
        self.apply(self.gradients(loss))
        with torch.no_grad():
            return torch.stack([loss, real_logits.sigmoid().mean(), fake_logits.sigmoid().mean()])

    def judge(self, fake: Tensor) -> Tensor:
        """Logits for the generator's loss: their graph leads to the images and not to this player's weights."""
        for parameter in self.parameters:
            parameter.requires_grad_(False)
        try:
            return self.compute(fake)
        finally:
            for parameter in self.parameters:
                parameter.requires_grad_(True)

    def logits(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        if self.normalises:
            return self.compute(real), self.compute(fake)
        real_logits, fake_logits = self.compute(torch.cat([real, fake])).split([len(real), len(fake)])
        return real_logits, fake_logits


class Update(ABC):
    """A rule for one training step.

    Attributes:
        generator: the network that learns to draw.
        images_per_step: real images that the last step showed to the discriminators, all of them together; before
            the first, what it is going to show.
        distributed: whether its workers can have processes of their own.
    """

    images_per_step: int
    distributed = False

    def __init__(self, experiment: Resolved, shape: Shape, images: Tensor) -> None:
        self.experiment, self.shape = experiment, shape
        self.device = images.device
        network = build_generator(shape, experiment.networks, experiment.seed)
        network = devices.place(network, self.device)
        self.player = Player(network, experiment.optimizer.lr_g, experiment.optimizer, experiment.precision)

    @classmethod
    def build(
        cls, experiment: Resolved, shape: Shape, data: ImageData, device: torch.device, hire: Hire | None = None
    ) -> Update:
        """The rule on a data set; `hire` makes the workers of a rule that has some."""
        return cls(experiment, shape, data.train.to(device))

    @classmethod
    def check(cls, experiment: Resolved, images: int, labels: Tensor | None = None) -> None:
        """Raise `InputError`, before anything is built, if the rule cannot work on these images.

        Args:
            experiment: what is to be trained.
            images: how many training images there are.
            labels: their classes, int64 (images,), if they have any.
        """
        if experiment.batch > images:
            raise InputError(
                f"batch = {experiment.batch} exceeds the {images} training images; take a smaller one"
            )

    @property
    def generator(self) -> nn.Module:
        return self.player.network

    @abstractmethod
    def step(self, images: int) -> Tensor:
        """One step after `images` images. Returns `STATISTICS` as a tensor (4,) on the device."""

    @abstractmethod
    def discriminators(self) -> Sequence[Discriminator]:
        """The discriminators that live in this process, in the order of their workers."""

    # --- what the training loop asks

    @property
    def fragile(self) -> bool:
        """Whether a part of the state can be lost while this process lives: then it is saved from the start."""
        return False

    @property
    def trained(self) -> bool:
        """Whether the generator is the result of training yet, and not its initial weights."""
        return True

    def discriminator_size(self) -> int:
        """Trainable parameters of all discriminators together."""
        return sum(player.size for player in self.discriminators())

    def finite(self) -> bool:
        """Whether all weights are finite numbers; waits for the device."""
        return all(player.finite() for player in [self.player, *self.discriminators()])

    def metrics(self) -> dict[str, float]:
        """What else there is to log of the steps so far."""
        return {}

    def remark(self) -> str:
        """What whoever reads the result should know; mostly nothing."""
        return ""

    def state(self) -> dict[str, Any]:
        """Everything to resume from: tensors and plain values only."""
        return {
            "generator": self.player.state(),
            "discriminators": [player.state() for player in self.discriminators()],
        }

    def load(self, state: dict[str, Any]) -> None:
        self.player.load(state["generator"])
        for player, saved in zip(self.discriminators(), state["discriminators"], strict=True):
            player.load(saved)

    def latents(self, images: int, *labels: int) -> Tensor:
        """A batch of z ~ N(0, 1): (batch, latent), a function of the seed, the images seen and the labels."""
        shape = (self.experiment.batch, self.experiment.networks.latent)
        return torch.randn(shape, generator=self.rng("latents", images, *labels), device=self.device)

    def rng(self, purpose: str, images: int, *labels: int) -> torch.Generator:
        seed = seeds.mix_ahead(self.experiment.seed, purpose, images, self.images_per_step, *labels)
        return torch.Generator(self.device).manual_seed(seed)


class Turn(NamedTuple):
    """What a discriminator step takes from outside; its shapes are the same in every step."""

    z: Tensor  # float (batch, latent)
    real: Tensor  # float (batch, c, h, w) in [-1, 1]
    mix: Tensor  # float (batch, 1, 1, 1), or (0, 1, 1, 1) if the loss takes no penalty


class TwoPlayer(Update):
    """Simultaneous game of one generator and one discriminator (Goodfellow et al. 2014, algorithm 1).

    The last discriminator step and the generator step share one generated batch, which saves a forward pass
    of the generator. A step is drawn first, which depends on the position, and then played: arithmetic alone,
    the same for every position, so that a CUDA graph can replay it (`gans.training.graphs`).
    """

    def __init__(self, experiment: Resolved, shape: Shape, images: Tensor) -> None:
        super().__init__(experiment, shape, images)
        assert isinstance(experiment.update, TwoPlayerConfig)
        self.steps = experiment.update.d_steps
        self.images_per_step = self.steps * experiment.batch
        self.discriminator = Discriminator(experiment, shape, self.device)
        self.batches = Batches(images, experiment.seed)

    def discriminators(self) -> Sequence[Discriminator]:
        return [self.discriminator]

    def step(self, images: int) -> Tensor:
        return self.play(self.draw(images))

    def draw(self, images: int) -> list[Turn]:
        """Latents and real images of the step after `images` images, one turn for each discriminator step."""
        return [self.turn(images, step) for step in range(self.steps)]

    def turn(self, images: int, step: int) -> Turn:
        batch = self.experiment.batch
        z = self.latents(images, *([step] if step < self.steps - 1 else []))
        real = self.batches.at(images + step * batch, batch)
        penalised = self.discriminator.penalty > 0
        mix = mixture(batch, self.rng("penalty", images, step)) if penalised else real.new_empty((0, 1, 1, 1))
        return Turn(z, real, mix)

    def play(self, turns: list[Turn]) -> Tensor:
        """The arithmetic of a step. Returns `STATISTICS` as a tensor (4,) on the device."""
        *extra, last = turns
        for turn in extra:
            with torch.no_grad():
                fake = self.player.compute(turn.z)
            self.discriminator.learn(turn.real, fake, turn.mix)
        fake = self.player.compute(last.z)
        learned = self.discriminator.learn(last.real, fake.detach(), last.mix)
        loss = self.discriminator.loss.g_loss(self.discriminator.judge(fake))
        self.player.apply(self.player.gradients(loss))
        return torch.stack([learned[0], loss.detach(), learned[1], learned[2]])
