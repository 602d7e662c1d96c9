"""Update rules, which define a training step, and networks with their optimisers.

A rule owns the networks and is built as `rule(experiment, shape, context)`. `prepare` writes all that depends on
the position in training; `compute` is device arithmetic only, which `gans.compute.graphs` may record. A rule never
waits for the device: statistics stay there until they are logged.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer, RMSprop

from gans import seeds
from gans.compute import devices, precision
from gans.compute.compiled import Forward, compiled
from gans.config import AnnealConfig, OptimizerConfig, Resolved
from gans.data.batches import Batch
from gans.data.images import Split
from gans.errors import InputError
from gans.models import build_generator
from gans.models.inputs import GeneratorInput, Labels, shares
from gans.models.layers import Shape
from gans.models.spectral import join_iterations

# Adam takes beta2 as a number, not from the device: a step is recorded again when it changes
BETA2_STEPS = 20
# what a step returns: scalars on the device, by the names that are tracked; each rule chooses its own
Statistics = dict[str, Tensor]
# makes the workers of a rule from (experiment, shape, each worker's images on the device, with labels if the
# networks are conditional); the rule decides what they are
WorkerFactory = Callable[[Resolved, Shape, Sequence[Split]], Any]


@dataclass(frozen=True)
class Context:
    """Inputs of an update rule besides its settings.

    Attributes:
        images: the training images, uint8 (n, c, h, w); on the device, or on the CPU (`Update.images_on_host`).
        labels: their classes, int64 (n,), if they have any.
        worker_factory: makes the workers of a rule with workers; None: they are in this process.
        device: where the rule computes; None: where the images are.
    """

    images: Tensor
    labels: Tensor | None = None
    worker_factory: WorkerFactory | None = None
    device: torch.device | None = None

    def classes(self, shape: Shape) -> Tensor | None:
        """The labels on the device, if networks of this shape take them."""
        if not shape.classes:
            return None
        assert self.labels is not None
        return self.labels.to(self.device or self.images.device)


class Update(ABC):
    """A rule for one training step.

    Attributes:
        generator: the generator with its optimiser.
        images_per_step: real images that all discriminators see in the last or, once prepared, the next step.
        rngs: all random generators that `compute` draws from.
        distributed: whether its workers can run in separate processes.
        images_on_host: whether it takes images that are not on its device.
    """

    images_per_step: int
    distributed = images_on_host = False

    def __init__(self, experiment: Resolved, shape: Shape, context: Context) -> None:
        self.experiment, self.shape = experiment, shape
        self.device = context.device or context.images.device
        self.rngs: list[torch.Generator] = []
        labels = context.classes(shape)
        proportions = () if labels is None else shares(labels, shape.classes, experiment.labels)
        self.labels = Labels(proportions, self.device) if proportions else None
        network = build_generator(shape, experiment.networks, experiment.seed)
        self.generator = Trainable(devices.place(network, self.device), experiment.optimizer.lr_g, experiment)

    @classmethod
    def check(cls, experiment: Resolved, images: int, labels: Tensor | None = None) -> None:
        """Raise `InputError`, before anything is built, if these images do not suit the rule.

        A plan checks one cell for all training seeds, so the result must not depend on the seed. `images` is the
        number of training images, `labels` are their classes, int64 (images,), if they have any.
        """
        if experiment.batch > images:
            raise InputError(
                f"batch = {experiment.batch} exceeds the {images} training images; take a smaller one"
            )

    def step(self, images: int) -> Statistics:
        """One step after `images` images."""
        self.schedule(images)
        self.prepare(images)
        statistics = self.compute()
        self.finish()
        return statistics

    def schedule(self, images: int) -> None:
        """Set scheduled values of all networks in this process for a step after `images` images."""
        progress = self.experiment.progress(images)
        for trainable in self.trainables:
            trainable.schedule(progress)

    @abstractmethod
    def prepare(self, images: int) -> None:
        """Write the inputs of the step after `images` images into buffers and generators that stay in place."""

    @abstractmethod
    def compute(self) -> Statistics:
        """The arithmetic of the step that was prepared, by the rules of `gans.compute.graphs.Step`."""

    def finish(self) -> None:  # noqa: B027  # most rules have nothing to do then
        """Everything after a step that is not arithmetic."""

    @property
    def kind(self) -> Hashable:
        """Steps of one kind can share a recording; a step whose kind is None is called."""
        return "step"

    @abstractmethod
    def opponents(self) -> Mapping[str, Learner]:
        """Everything trained except the generator, by name, in this process or in others: the discriminators."""

    # --- what the training loop calls

    @property
    def fragile(self) -> bool:
        """Whether training can continue after losing a part of the state: then the initial state is saved too."""
        return False

    @property
    def trained(self) -> bool:
        """Whether the generator has other weights than its initial ones."""
        return True

    def discriminator_size(self) -> int:
        """Trainable parameters of all discriminators together."""
        return sum(opponent.size for opponent in self.opponents().values())

    @property
    def size(self) -> int:
        return sum(learner.size for learner in self.learners().values())

    def finite(self) -> bool:
        """Whether all weights are finite numbers; waits for the device."""
        return all(learner.finite() for learner in self.learners().values())

    def metrics(self) -> dict[str, float]:
        """Further metrics after a step."""
        return {}

    def remark(self) -> str:
        """A remark for the result of the run; usually empty."""
        return ""

    def state(self) -> dict[str, Any]:
        """Everything to resume from: tensors and plain values only. A rule adds what it counts."""
        return {name: learner.state() for name, learner in self.learners().items()}

    def load(self, state: dict[str, Any]) -> None:
        for name, learner in self.learners().items():
            learner.load(state[name])

    def learners(self) -> dict[str, Learner]:
        return {"generator": self.generator, **self.opponents()}

    @property
    def trainables(self) -> list[Trainable]:
        """All networks in this process, the generator first."""
        return [trainable for learner in self.learners().values() for trainable in learner.trainables]

    # --- random draws of rules

    def rng(self) -> torch.Generator:
        """A new random generator; `seed` seeds it before every step."""
        self.rngs.append(torch.Generator(self.device))
        return self.rngs[-1]

    def seed(self, rng: torch.Generator, purpose: str, images: int, *labels: int) -> None:
        """Seed `rng` as a function of the training seed, the purpose, the images seen and the labels."""
        rng.manual_seed(seeds.mix_ahead(self.experiment.seed, purpose, images, self.images_per_step, *labels))

    def generator_input(self, rng: torch.Generator) -> GeneratorInput:
        """Inputs of a batch: z ~ N(0, 1) and, for conditional networks, labels."""
        batch, latent = self.experiment.batch, self.experiment.networks.latent
        z = torch.randn((batch, latent), generator=rng, device=self.device)
        return GeneratorInput(z) if self.labels is None else GeneratorInput(z, self.labels.draw(batch, rng))

    def generated(self, rng: torch.Generator) -> Batch:
        """A batch of the generator's images, with gradients to its weights."""
        given = self.generator_input(rng)
        return Batch(self.generator.forward(*given), given.labels)


# --- networks with their optimisers


class Learner(Protocol):
    """What an update rule trains: a network, a team of workers, or another rule; methods as `Trainable`'s."""

    @property
    def trainables(self) -> Sequence[Trainable]:
        """Those in this process."""

    @property
    def size(self) -> int: ...

    def finite(self) -> bool: ...

    def state(self) -> dict[str, Any]: ...

    def load(self, state: dict[str, Any]) -> None: ...


class Trainable:
    """A network, on its device, with its optimiser.

    Attributes:
        network: the trained network, as it is saved and scored.
        plain: the same network in the experiment's precision, with float32 output.
        forward: `plain`, or its compiled code, for training.
    """

    def __init__(self, network: nn.Module, lr: float, experiment: Resolved) -> None:
        self.network = network
        join_iterations(network)
        self.plain = precision.computing(network, experiment.precision)
        self.forward: Forward = self.plain
        self.parameters = list(network.parameters())
        self.one = self.parameters[0].new_ones(())  # a loss's gradient in itself, which torch would make each time
        self.lr, self.beta2, self.anneal = lr, experiment.optimizer.beta2, experiment.anneal
        # a learning rate that moves is on the device, where a recorded step reads it
        self.rate = None if self.anneal.lr == 1 else self.parameters[0].new_tensor(lr)
        rate = lr if self.rate is None else self.rate
        self.optimizer = build_optimizer(self.parameters, rate, experiment.optimizer)

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
        """Use compiled code from now on; `backend` is torch's."""
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
        """Gradients of `outputs` with respect to this network's parameters only."""
        if grad_outputs is None and isinstance(outputs, Tensor) and outputs.ndim == 0:
            grad_outputs = [self.one]
        return torch.autograd.grad(outputs, self.parameters, grad_outputs)

    def gradients_of_passes(self, loss: Tensor, *passes: Sequence[Tensor | None]) -> Sequence[Tensor]:
        """Those of a loss of two passes' outputs alone, summed in one launch; torch adds them one by one."""
        first, second = ([output for output in outputs if output is not None] for outputs in passes)
        slopes = torch.autograd.grad(loss, first + second, self.one)
        of_first = self.gradients(first, slopes[: len(first)])
        return torch._foreach_add(of_first, self.gradients(second, slopes[len(first) :]))

    def apply(self, gradients: Iterable[Tensor]) -> None:
        """One step of the optimiser along these gradients."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = laid_out_as(parameter, gradient)
        self.optimizer.step()
        if isinstance(self.plain, precision.InBF16):
            self.plain.refresh()

    def finite(self) -> bool:
        return all(bool(parameter.isfinite().all()) for parameter in self.parameters)

    def state(self) -> dict[str, Any]:
        """Everything to resume from: tensors and plain values only."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.rate is not None:  # the optimiser keeps using this tensor
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


# --- schedules over the spent share of the budget (`anneal`)


def position(shape: str, progress: float) -> float:
    """Progress of a schedule, from 0 to 1, at a share t of the budget: t, or (1 - cos(pi t)) / 2."""
    return (1 - math.cos(math.pi * progress)) / 2 if shape == "cosine" else progress


def factor(config: AnnealConfig, last: float, progress: float) -> float:
    """Factor of a setting, from 1 at the start to `last` at the end."""
    return 1 + position(config.shape, progress) * (last - 1)


def moved_beta2(config: AnnealConfig, first: float, progress: float) -> float:
    """Adam's beta2 that starts at `first`; it moves in `BETA2_STEPS` equal steps."""
    moved = round(position(config.shape, progress) * BETA2_STEPS) / BETA2_STEPS
    return first + (1 - first) * (1 - config.beta2) * moved
