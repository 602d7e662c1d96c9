"""Precision of the networks, and the parts that always stay in float32.

- `float32`: IEEE single precision, the reference.
- `tf32`: float32 storage, products of matrices and convolutions on TensorFloat-32 cores (CUDA).
- `bf16`: the networks run under autocast to bfloat16. Weights, their gradients, Adam's moments, the average of
  weights, BatchNorm's statistics, spectral norm's power iteration, logits and losses stay in float32; so do
  generated pixels and their gradients where more than layers read them (MD-GAN's feedback, a penalty's slope).
- `auto`: `resolve` makes it one of these, by the device.

Scores are computed in float32 always, so that those of different precisions compare.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from gans.compute import bfloat16
from gans.errors import InputError
from gans.schema import Precision, Settled

if TYPE_CHECKING:
    from gans.models import Model


def resolve(setting: Precision, device: torch.device, networks: Model) -> Settled:
    """The precision to train in: `auto` becomes a lower one where that is faster at equal scores, else float32.

    For equal scores there is evidence by model: reports/results/compare on CPUs (widths up to 48),
    reports/results/h200/compare on CUDA. Whether bf16 is faster on this CPU a trial says.
    """
    if setting != "auto":
        return setting
    if device.type == "cuda":
        return networks.cuda if networks.cuda and is_ampere(device) else "float32"
    return "bf16" if networks.bf16 and device.type == "cpu" and bfloat16.faster() else "float32"


def unmeasured(setting: Precision, device: torch.device, networks: Model) -> bool:
    """Whether the networks train in float32 because no lower precision was measured on CUDA."""
    return setting == "auto" and device.type == "cuda" and networks.cuda is None and is_ampere(device)


def require(precision: Settled, device: torch.device) -> None:
    """Refuse a precision that the device does not have.

    Raises:
        InputError: naming the device and what it can do.
    """
    if precision == "tf32" and device.type != "cuda":
        raise InputError("precision = tf32 needs a CUDA device; use float32 or bf16 on a CPU")
    if precision == "bf16" and not has_bf16(device):
        kind = "this CPU" if device.type == "cpu" else "this GPU"
        raise InputError(f"precision = bf16: {kind} has no bfloat16 arithmetic and would be slower; use float32")


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 products are computed by the hardware."""
    return is_ampere(device) if device.type == "cuda" else device.type == "cpu" and bfloat16.here()


def is_ampere(device: torch.device) -> bool:
    """Whether a CUDA device has the cores for bfloat16 and TensorFloat-32: from compute capability 8.0 on."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


def computing(network: nn.Module, precision: Settled) -> nn.Module:
    """What a training step calls: in bf16 a module around the network, otherwise the network itself.

    The network, which is trained, averaged, saved and scored, is the same in every precision.
    """
    return InBF16(network) if precision == "bf16" else network


class InBF16(nn.Module):
    """A network under autocast to bfloat16.

    On a GPU it computes with copies of its weights and biases, which are cast all at once when they have changed,
    by `refresh` or another state: autocast would cast one by one and in each pass, a third of the launches.
    """

    output = torch.float32  # the type of what comes out

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        wanted = by_launches(next(network.parameters()).device)
        self.cast = {
            f"{name}.{kind}": parameter
            for name, layer in network.named_modules()
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
            for kind, parameter in layer.named_parameters(recurse=False)
            if wanted and kind not in getattr(layer, "in_float32", ())
        }
        self.copies = [torch.empty_like(each, dtype=torch.bfloat16) for each in self.cast.values()]
        self.refresh()
        if self.copies:
            network.register_load_state_dict_post_hook(lambda *_: self.refresh())

    @torch.no_grad()
    def refresh(self) -> None:
        if self.copies:
            torch._foreach_copy_(self.copies, list(self.cast.values()))

    def forward(self, *given: Tensor) -> Tensor:
        with torch.autocast(given[0].device.type, torch.bfloat16):
            # compiled code joins casts to other operations
            if not self.cast or torch.compiler.is_compiling():
                output: Tensor = self.network(*given)
            else:
                copies = dict(zip(self.cast, _Cast.apply(self.copies, *self.cast.values()), strict=True))
                output = functional_call(self.network, copies, given)
        return output.to(self.output)


def stay_lowered(computing: nn.Module) -> None:
    """On a GPU, leave the pixels of a generator in the type that they have, for a discriminator that takes it."""
    if isinstance(computing, InBF16) and computing.copies:
        computing.output = torch.bfloat16


def by_launches(device: torch.device) -> bool:
    """Whether a launch takes longer than arithmetic on small tensors, so that few of them are better."""
    return device.type == "cuda"


class _Cast(torch.autograd.Function):
    """Copies of parameters in bfloat16, and the parameters' gradients in float32, cast in one launch."""

    @staticmethod
    def forward(ctx: Any, copies: list[Tensor], *parameters: Tensor) -> tuple[Tensor, ...]:
        return tuple(copy.detach() for copy in copies)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        found = [torch.empty_like(gradient, dtype=torch.float32) for gradient in gradients]
        torch._foreach_copy_(found, gradients)
        return None, *found


class Units:
    """How CUDA multiplies float32 numbers: one setting of the process, of which its threads need different values.

    Blocks of one kind run at once. A block of another kind waits until they end, and later ones wait behind it.
    """

    def __init__(self) -> None:
        self.turn = threading.Lock()  # of the thread that enters next
        self.changed = threading.Condition()
        self.inside = 0  # threads in a block
        self.own = threading.local()  # `kind`: that of the block that this thread is in
        self.before: list[str] = []

    @contextmanager
    def of(self, kind: str) -> Iterator[None]:
        """A block whose products are of this kind: `ieee` or `tf32`."""
        outer = getattr(self.own, "kind", None)
        self.move(outer, kind)
        try:
            yield
        finally:
            self.move(kind, outer)

    def rest(self, kind: str) -> None:
        """Make this the kind of products outside of all blocks, once blocks of another kind have ended."""
        with self.of(kind):
            self.before = [kind, kind]

    def move(self, here: str | None, there: str | None) -> None:
        """From a block of one kind into one of another; None is outside."""
        if here != there:
            if here:
                self.leave()
            if there:
                self.enter(there)
            self.own.kind = there

    def leave(self) -> None:
        with self.changed:
            self.inside -= 1
            if not self.inside:
                self.set(self.before)
            self.changed.notify_all()

    def enter(self, kind: str) -> None:
        with self.turn, self.changed:
            self.changed.wait_for(lambda: not self.inside or self.kinds() == [kind, kind])
            if not self.inside:
                self.before = self.kinds()
                self.set([kind, kind])
            self.inside += 1

    def kinds(self) -> list[str]:
        return [switch.fp32_precision for switch in self.switches()]

    def set(self, kinds: list[str]) -> None:
        for switch, kind in zip(self.switches(), kinds, strict=True):
            switch.fp32_precision = kind

    @staticmethod
    def switches() -> tuple[Any, Any]:
        """Of products of matrices, and of convolutions."""
        return torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]


UNITS = Units()


def products(precision: Settled, device: torch.device) -> AbstractContextManager[None]:
    """What training and scoring run in: CUDA's float32 products on TF32 cores or in IEEE; nothing on a CPU."""
    return UNITS.of("tf32" if precision == "tf32" else "ieee") if device.type == "cuda" else nullcontext()
