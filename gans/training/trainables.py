"""Networks with their optimisers, and the schedules that these follow."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer, RMSprop

from gans.compute import precision
from gans.compute.compiled import Forward, compiled
from gans.config import AnnealConfig, OptimizerConfig, Resolved

# Adam takes beta2 as a number, not from the device: a recorded step is recorded anew when it changes
BETA2_STEPS = 20


class Learner(Protocol):
    """What an update rule trains: a network, a team of workers, or a rule of its own."""

    @property
    def trainables(self) -> Sequence[Trainable]:
        """Those in this process."""

    @property
    def size(self) -> int:
        """How many parameters are trained."""

    def finite(self) -> bool:
        """Whether all parameters are finite numbers; waits for the device."""

    def state(self) -> dict[str, Any]:
        """Everything to resume from: tensors and plain values only."""

    def load(self, state: dict[str, Any]) -> None:
        """The opposite of `state`."""


class Trainable:
    """A network, on its device, with its optimiser.

    Attributes:
        network: what is trained, as it is saved and scored.
        plain: the same network in the experiment's precision; float32 comes out.
        forward: what training calls: `plain`, or its compiled code.
    """

    def __init__(self, network: nn.Module, lr: float, experiment: Resolved) -> None:
        self.network = network
        self.plain = precision.computing(network, experiment.precision)
        self.forward: Forward = self.plain
        self.parameters = list(network.parameters())
        self.lr, self.beta2, self.anneal = lr, experiment.optimizer.beta2, experiment.anneal
        # a learning rate that moves is on the device, where a recorded step reads it
        self.rate = None if self.anneal.lr == 1 else self.parameters[0].new_tensor(lr)
        self.optimizer = build_optimizer(
            self.parameters, lr if self.rate is None else self.rate, experiment.optimizer
        )

    @property
    def trainables(self) -> list[Trainable]:
        return [self]

    @property
    def size(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters)

    @property
    def betas(self) -> Hashable:
        """Adam's, which are numbers in a recorded step; None of another optimiser."""
        return self.optimizer.param_groups[0].get("betas")

    def compile(self, backend: str = "inductor") -> None:
        """Call compiled code from now on; `backend` is torch's."""
        self.forward = compiled(self.plain, backend)

    def schedule(self, progress: float) -> None:
        """Set learning rate and beta2 for a step that begins when this share of the budget is spent."""
        if self.rate is not None:
            self.rate.fill_(self.lr * factor(self.anneal, self.anneal.lr, progress))
        if self.anneal.beta2 != 1 and self.betas:
            for group in self.optimizer.param_groups:
                group["betas"] = (group["betas"][0], moved_beta2(self.anneal, self.beta2, progress))

    def gradients(
        self, outputs: Tensor | Sequence[Tensor], grad_outputs: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, ...]:
        """Gradients of `outputs` in this network's parameters; none are computed in those of another."""
        return torch.autograd.grad(outputs, self.parameters, grad_outputs)

    def apply(self, gradients: Iterable[Tensor]) -> None:
        """One step of the optimiser along these gradients."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = laid_out_as(parameter, gradient)
        self.optimizer.step()

    def finite(self) -> bool:
        return all(bool(parameter.isfinite().all()) for parameter in self.parameters)

    def state(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.rate is not None:  # the optimiser goes on with this very tensor
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate
        self.count_on_device(False)
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


def build_optimizer(parameters: Sequence[nn.Parameter], lr: float | Tensor, config: OptimizerConfig) -> Optimizer:
    """Adam (1412.6980), gradient descent with momentum, or RMSprop, in torch's formulae.

    A learning rate that moves is a tensor () on the parameters' device.
    """
    match config.name:
        case "adam":
            return Adam(parameters, lr=lr, betas=(config.beta1, config.beta2), fused=True)
        case "sgd":
            # only the fused one reads a rate from the device without waiting for it
            fused = True if isinstance(lr, Tensor) else None
            return SGD(parameters, lr=lr, momentum=config.momentum, fused=fused)
        case "rmsprop":
            return RMSprop(parameters, lr=lr, alpha=config.alpha)


def laid_out_as(parameter: Tensor, tensor: Tensor) -> Tensor:
    """`tensor` in the parameter's order in memory.

    Fused Adam walks raw memory. Gradients of double backward passes, and moments of a checkpoint from another
    device, may be laid out otherwise: it would silently apply them to the wrong weights.
    """
    if tensor.shape != parameter.shape or tensor.stride() == parameter.stride():
        return tensor
    return torch.empty_like(parameter).copy_(tensor)


# --- settings that follow the share of the budget that is spent (`anneal`)


def position(shape: str, progress: float) -> float:
    """How far a setting has come, from 0 to 1, at a share t of the budget: t, or (1 - cos(pi t)) / 2."""
    return (1 - math.cos(math.pi * progress)) / 2 if shape == "cosine" else progress


def factor(config: AnnealConfig, last: float, progress: float) -> float:
    """What a setting is multiplied by, from 1 to `last` in the end."""
    return 1 + position(config.shape, progress) * (last - 1)


def moved_beta2(config: AnnealConfig, first: float, progress: float) -> float:
    """Adam's beta2 that starts at `first`; it moves in `BETA2_STEPS` equal steps."""
    moved = round(position(config.shape, progress) * BETA2_STEPS) / BETA2_STEPS
    return first + (1 - first) * (1 - config.beta2) * moved
