"""Players: a network with its optimiser, and the discriminator's way to learn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD, Adam, Optimizer, RMSprop

from gans import schema
from gans.compute import devices, precision
from gans.compute.compiled import Compute, compiled
from gans.config import OptimizerConfig, Resolved
from gans.models import build_discriminator
from gans.models.layers import Shape
from gans.registry import LOSSES
from gans.schema import Settled
from gans.training.losses import gradient_penalty

# What a step tells of itself: scalars on the device, by the names that are tracked. A rule may tell what it likes.
Statistics = dict[str, Tensor]


class Learner(Protocol):
    """What an update rule teaches: a player, a team of them wherever they live, or a rule of its own."""

    @property
    def players(self) -> Sequence[Player]:
        """Those that live in this process."""

    @property
    def size(self) -> int:
        """Trainable parameters."""

    def finite(self) -> bool:
        """Whether all parameters are finite numbers; waits for the device."""

    def state(self) -> dict[str, Any]:
        """Everything to resume from: tensors and plain values only."""

    def load(self, state: dict[str, Any]) -> None:
        """The opposite of `state`."""


class Player:
    """A network with its optimiser.

    Args:
        network: on its device.
        lr: learning rate.
        optimizer: which one, and its other settings.
        settled: the precision of training.

    Attributes:
        network: what is trained, as it is saved and scored.
        plain: the same network in the experiment's precision; float32 comes out.
        compute: what training computes it by: that, or its compiled code.
    """

    def __init__(self, network: nn.Module, lr: float, optimizer: OptimizerConfig, settled: Settled) -> None:
        self.network = network
        self.plain = precision.computing(network, settled)
        self.compute: Compute = self.plain
        self.parameters = list(network.parameters())
        self.optimizer = build_optimizer(self.parameters, lr, optimizer)

    def compile(self, backend: str = "inductor") -> None:
        """Compute by compiled code from now on; `backend` is torch's."""
        self.compute = compiled(self.plain, backend)

    @property
    def players(self) -> list[Player]:
        return [self]

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
        """One step of the optimiser along these gradients."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            # laid out otherwise by double backward through a convolution, for one
            parameter.grad = laid_out_as(parameter, gradient)
        self.optimizer.step()

    def finite(self) -> bool:
        """Whether all parameters are finite numbers."""
        return all(bool(parameter.isfinite().all()) for parameter in self.parameters)

    def state(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.count_on_device(False)  # the checkpoint may say otherwise; who records steps asks for it again
        for parameter, moments in self.optimizer.state.items():
            for name, moment in moments.items():
                moments[name] = laid_out_as(parameter, moment)

    def count_on_device(self, wanted: bool) -> None:
        """Whether an optimiser that counts its steps does so on the device, as a CUDA graph needs it."""
        groups = [group for group in self.optimizer.param_groups if "capturable" in group]
        for group in groups:
            group["capturable"] = wanted
        if groups and wanted:
            for parameter, moments in self.optimizer.state.items():
                moments["step"] = moments["step"].to(parameter.device)


def build_optimizer(parameters: Sequence[nn.Parameter], lr: float, config: OptimizerConfig) -> Optimizer:
    """Adam (1412.6980), gradient descent with momentum, or RMSprop, in torch's formulae."""
    match config.name:
        case "adam":
            return Adam(parameters, lr=lr, betas=(config.beta1, config.beta2), fused=True)
        case "sgd":
            return SGD(parameters, lr=lr, momentum=config.momentum)
        case "rmsprop":
            return RMSprop(parameters, lr=lr, alpha=config.alpha)


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

    def learn(self, real: Tensor, fake: Tensor, mix: Tensor | None = None) -> Statistics:
        """One optimiser step; `fake` is taken as data. D() is the sigmoid of the logit.

        Args:
            real, fake: float (batch, c, h, w).
            mix: what the gradient penalty mixes them with, (batch, 1, 1, 1); wanted if there is a penalty.
        """
        real_logits, fake_logits = self.logits(real, fake)
        loss = self.loss.d_loss(real_logits, fake_logits)
        if self.penalty:
            assert mix is not None
            # compiled code has no second derivative
            loss = loss + self.penalty * gradient_penalty(self.plain, real, fake, mix)
        self.apply(self.gradients(loss))
        with torch.no_grad():
            return {
                schema.LOSS_D: loss.detach(),
                schema.D_REAL: real_logits.sigmoid().mean(),
                schema.D_FAKE: fake_logits.sigmoid().mean(),
            }

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
