"""Trainables: a network with its optimiser, and the discriminator's way to learn."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD, Adam, Optimizer, RMSprop

from gans import schema
from gans.compute import devices, precision
from gans.compute.compiled import Forward, compiled
from gans.config import AnnealConfig, OptimizerConfig, Resolved
from gans.data.batches import Batch
from gans.models import build_discriminator
from gans.models.layers import Shape
from gans.registry import LOSSES, MODELS
from gans.schema import Settled
from gans.training import schedules
from gans.training.augment import Augmentation
from gans.training.losses import Penalties, gradient_penalty, zero_centred_penalties

# What a step tells of itself: scalars on the device, by the names that are tracked. A rule may tell what it likes.
Statistics = dict[str, Tensor]


class Learner(Protocol):
    """What an update rule teaches: a trainable, a team of them wherever they live, or a rule of its own."""

    @property
    def trainables(self) -> Sequence[Trainable]:
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


class Trainable:
    """A network with its optimiser.

    Args:
        network: on its device.
        lr: learning rate.
        optimizer: which one, and its other settings.
        settled: the precision of training.
        annealed: how learning rate and beta2 move while the budget is spent.

    Attributes:
        network: what is trained, as it is saved and scored.
        plain: the same network in the experiment's precision; float32 comes out.
        compute: what training computes it by: that, or its compiled code.
    """

    def __init__(
        self,
        network: nn.Module,
        lr: float,
        optimizer: OptimizerConfig,
        settled: Settled,
        annealed: AnnealConfig = AnnealConfig(),  # noqa: B008  # frozen
    ) -> None:
        self.network = network
        self.plain = precision.computing(network, settled)
        self.forward: Forward = self.plain
        self.parameters = list(network.parameters())
        self.lr, self.beta2, self.annealed = lr, optimizer.beta2, annealed
        # on the device, where a recorded step reads it, if it moves
        self.rate = None if annealed.lr == 1 else self.parameters[0].new_tensor(lr)
        self.optimizer = build_optimizer(self.parameters, lr if self.rate is None else self.rate, optimizer)

    def schedule(self, progress: float) -> None:
        """For a step that begins when this share of the budget is spent."""
        if self.rate is not None:
            self.rate.fill_(self.lr * schedules.factor(self.annealed, self.annealed.lr, progress))
        if self.annealed.beta2 != 1 and self.betas:
            for group in self.optimizer.param_groups:
                group["betas"] = (group["betas"][0], schedules.beta2(self.annealed, self.beta2, progress))

    @property
    def betas(self) -> Hashable:
        """Adam's, which are numbers in a recorded step; None of another optimiser."""
        return self.optimizer.param_groups[0].get("betas")

    def compile(self, backend: str = "inductor") -> None:
        """Compute by compiled code from now on; `backend` is torch's."""
        self.forward = compiled(self.plain, backend)

    @property
    def trainables(self) -> list[Trainable]:
        return [self]

    @property
    def size(self) -> int:
        """Trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters)

    def gradients(
        self, outputs: Tensor | Sequence[Tensor], grad_outputs: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, ...]:
        """Gradients of `outputs` in this network's parameters; none are computed for the other network."""
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
        if self.rate is not None:  # this very tensor is read and written; the next step sets it
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate
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

    Fused Adam walks raw memory: a gradient, or a moment of a checkpoint from another device, that is laid out
    otherwise would be applied to the wrong weights without a word.
    """
    if tensor.shape != parameter.shape or tensor.stride() == parameter.stride():
        return tensor
    return torch.empty_like(parameter).copy_(tensor)


def normalises(network: nn.Module) -> bool:
    """Whether the network has BatchNorm, which mixes the images of a batch."""
    return any(isinstance(layer, _BatchNorm) for layer in network.modules())


class DiscriminatorOutput(NamedTuple):
    """What a discriminator says of a batch.

    Attributes:
        logits: whether the images are real: (n,). The only ones that adversarial losses and penalties see.
        classes: which classes they are of, logits (n, classes); None without an auxiliary classifier.
    """

    logits: Tensor
    classes: Tensor | None = None

    def split(self, sizes: list[int]) -> list[DiscriminatorOutput]:
        """The outputs of the parts of a batch."""
        classes = [None] * len(sizes) if self.classes is None else self.classes.split(sizes)
        return [DiscriminatorOutput(*parts) for parts in zip(self.logits.split(sizes), classes, strict=True)]


class Discriminator(Trainable):
    """A discriminator that learns on a real and a generated batch.

    Attributes:
        conditional: what it does with classes, as `gans.models.Model.conditional`; None: nothing.
        auxiliary: the weight of the class cross-entropy, where it has a classifier.
        penalties: the weights of those that it learns under.
        augmentation: what images pass through before it sees them; None: nothing. It is to be seeded before steps.
    """

    def __init__(self, experiment: Resolved, shape: Shape, device: torch.device, worker: int = 0) -> None:
        network = build_discriminator(shape, experiment.networks, experiment.seed, worker)
        network = devices.place(network, device)
        optimizer, annealed = experiment.optimizer, experiment.anneal
        super().__init__(network, optimizer.lr_d, optimizer, experiment.precision, annealed)
        self.conditional = MODELS[experiment.networks.name].conditional if shape.classes else None
        self.loss, self.auxiliary = LOSSES[experiment.loss.name], experiment.loss.auxiliary
        self.penalties = Penalties.of(experiment)
        self.augmentation = Augmentation.of(experiment.augment, device)
        # what the penalties are multiplied by: on the device if it moves
        self.strength = None if annealed.penalty == 1 else torch.ones((), device=device)
        # BatchNorm must see real and generated images apart (Radford et al. 2015); others take both at once, but
        # then a penalty on one kind alone would lead its gradient through the other
        self.apart = normalises(network) or (self.penalties.r1 > 0) != (self.penalties.r2 > 0)

    def schedule(self, progress: float) -> None:
        super().schedule(progress)
        if self.strength is not None:
            self.strength.fill_(schedules.factor(self.annealed, self.annealed.penalty, progress))

    def compile(self, backend: str = "inductor") -> None:
        """As any trainable, unless it is to have second derivatives, which compiled code has not."""
        if not self.penalties.zero_centred:
            super().compile(backend)

    def learn(self, real: Batch, fake: Batch, mix: Tensor | None = None) -> Statistics:
        """One optimiser step; `fake` is taken as data. D() is the sigmoid of the logit.

        Args:
            real, fake: of one size.
            mix: what WGAN-GP's penalty mixes them with, (batch, 1, 1, 1); wanted if there is that penalty.
        """
        if self.penalties.zero_centred:
            real, fake = real.watched(), fake.watched()
        on_real, on_fake = self.outputs(real, fake)
        real_logits, fake_logits = on_real.logits, on_fake.logits
        loss = self.loss.d_loss(real_logits, fake_logits)
        if self.conditional == "auxiliary":
            loss = loss + (self.class_loss(on_real, real) + self.class_loss(on_fake, fake))
        if self.penalties.zero_centred:
            both = (real_logits, fake_logits), (real.images, fake.images)
            loss = loss + self.weighed(self.zero_centred(*both))
        if self.penalties.gp:
            assert mix is not None
            penalty = gradient_penalty(self.judging(real.labels), real.images.detach(), fake.images, mix)
            loss = loss + self.weighed(self.penalties.gp * penalty)
        self.apply(self.gradients(loss))
        with torch.no_grad():
            return {
                schema.LOSS_D: loss.detach(),
                schema.D_REAL: real_logits.sigmoid().mean(),
                schema.D_FAKE: fake_logits.sigmoid().mean(),
            }

    def zero_centred(self, logits: Sequence[Tensor], images: Sequence[Tensor]) -> Tensor:
        """gamma/2 E |grad D|^2 on real and on generated images, as far as they are wanted."""
        gammas = (self.penalties.r1, self.penalties.r2)
        wanted = [place for place, gamma in enumerate(gammas) if gamma]
        squares = zero_centred_penalties([logits[i] for i in wanted], [images[i] for i in wanted])
        return torch.stack([gammas[i] / 2 * square for i, square in zip(wanted, squares, strict=True)]).sum()

    def weighed(self, penalty: Tensor) -> Tensor:
        """A penalty at this point of training."""
        return penalty if self.strength is None else self.strength * penalty

    def class_loss(self, output: DiscriminatorOutput, batch: Batch) -> Tensor:
        """-E log P(C = c | x), weighed: ACGAN's L_C on one batch (Odena et al. 2017, equation 3)."""
        assert output.classes is not None
        assert batch.labels is not None
        return self.auxiliary * cross_entropy(output.classes, batch.labels)

    def generator_loss(self, real: Batch, fake: Batch) -> Tensor:
        """The generator's loss on its images; if that is relative, beside these real ones."""
        beside = []
        if self.loss.relative:
            with torch.no_grad():
                beside = [self.output(real).logits]
        output = self.judge(fake)
        loss = self.loss.g_loss(*beside, output.logits)
        return loss + self.class_loss(output, fake) if self.conditional == "auxiliary" else loss

    def judge(self, fake: Batch) -> DiscriminatorOutput:
        """For the generator's loss: its graph leads to the images and not to this trainable's weights."""
        for parameter in self.parameters:
            parameter.requires_grad_(False)
        try:
            return self.output(fake)
        finally:
            for parameter in self.parameters:
                parameter.requires_grad_(True)

    def outputs(self, real: Batch, fake: Batch) -> list[DiscriminatorOutput]:
        if self.apart:
            return [self.output(real), self.output(fake)]
        labels = None
        if real.labels is not None and fake.labels is not None:
            labels = torch.cat([real.labels, fake.labels])
        both = self.output(Batch(torch.cat([real.images, fake.images]), labels))
        return both.split([len(real.images), len(fake.images)])

    def output(self, batch: Batch) -> DiscriminatorOutput:
        """Of images as they are seen."""
        return self.read(self.forward(*self.shown(batch)))

    def judging(self, labels: Tensor | None) -> Callable[[Tensor], Tensor]:
        """Logits of images with these labels, not by compiled code, which has no second derivatives."""
        return lambda images: self.read(self.plain(*self.shown(Batch(images, labels)))).logits

    def shown(self, batch: Batch) -> list[Tensor]:
        """What the network is called with."""
        given = [self.seen(batch.images)]
        if self.conditional == "projection":
            assert batch.labels is not None
            given.append(batch.labels)
        return given

    def read(self, outputs: Tensor) -> DiscriminatorOutput:
        """What the network gave out: logits (n,), or (n, 1 + classes)."""
        if self.conditional != "auxiliary":
            return DiscriminatorOutput(outputs)
        return DiscriminatorOutput(outputs[:, 0], outputs[:, 1:])

    def seen(self, images: Tensor) -> Tensor:
        """The images as the discriminator is shown them."""
        return self.augmentation(images) if self.augmentation else images
