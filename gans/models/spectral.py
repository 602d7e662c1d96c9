"""Spectral norm: weights divided by an estimate of their largest singular value (Miyato et al. 2018, 1802.05957).

Initial vectors, random numbers, buffers and arithmetic are those of torch.nn.utils.parametrizations.spectral_norm,
to the bit. Two things torch's does not do: stay in the weight's own precision under autocast, and take the power
iterations of all layers of a network at once (`iterate_ahead`). Taken one by one, they and their gradients are
half of the launches of a SAGAN step on a GPU.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize
from torch.nn.utils.parametrize import ParametrizationList, register_parametrization

from gans.compute import precision

EPS = 1e-12  # a length below it counts as this
FIRST_ITERATIONS = 15


def spectral_norm(layer: nn.Conv2d | nn.Linear | nn.Embedding) -> nn.Module:
    """The layer with its weight divided by its spectral norm.

    To be called when the initial weights are set: the power iteration starts from them.
    """
    register_parametrization(layer, "weight", SpectralNorm(layer.weight, not isinstance(layer, nn.Embedding)))
    return layer


class SpectralNorm(nn.Module):
    """W -> W / sigma with sigma = u^T W v, one power iteration a use in training mode and none in eval mode.

    Args:
        weight: (outputs, ...); what follows the first dimension is one, as in the paper.
        lowered: whether its layer takes it in bfloat16 under autocast.
    """

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, lowered: bool = False) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        for name, size in zip(("_u", "_v"), matrix.shape, strict=True):
            self.register_buffer(name, normalize(matrix.new_empty(size).normal_(), dim=0, eps=EPS))
        for _ in range(0 if weight.is_meta else FIRST_ITERATIONS):  # of sizes alone there are no vectors
            self.iterate(matrix)
        self.lowered = lowered
        self.ahead: Tensor | None = None  # W / sigma of an iteration already taken, for the next use

    def forward(self, weight: Tensor) -> Tensor:
        if weight.is_meta:  # of shapes alone there are no products, which would import torch's compiler
            return weight.clone()
        if self.ahead is not None:
            quotient, self.ahead = self.ahead, None
            return quotient
        kind = weight.device.type
        if not torch.is_autocast_enabled(kind):
            return self.normalised(weight)
        with torch.autocast(kind, enabled=False):
            return self.normalised(weight)

    def normalised(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        if self.training:
            self.iterate(matrix)
        # cloned, since another forward pass may iterate before this one's backward pass
        u, v = self._u.clone(), self._v.clone()
        return weight / torch.vdot(u, torch.mv(matrix, v))

    @torch.no_grad()
    def iterate(self, matrix: Tensor) -> None:
        normalize(torch.mv(matrix, self._v), dim=0, eps=EPS, out=self._u)
        normalize(torch.mv(matrix.T, self._u), dim=0, eps=EPS, out=self._v)


def iterate_ahead(network: nn.Module) -> None:
    """The power iterations that the layers of a network are about to take, at once where that is faster.

    For the start of a network's forward pass. Without it each layer iterates as it is used, to the same effect;
    so it is on a CPU, which gains nothing and would round differently.
    """
    pairs = list(iterating(network))
    if pairs and precision.by_launches(pairs[0][1].device):
        iterate_together(pairs)


def iterating(network: nn.Module) -> Iterator[tuple[SpectralNorm, Tensor]]:
    """The spectral norms of a network that are in training mode, with the weights that they divide."""
    for layer in network.modules():
        if isinstance(layer, ParametrizationList) and isinstance(layer[0], SpectralNorm) and layer[0].training:
            yield layer[0], layer.original


def iterate_together(pairs: Sequence[tuple[SpectralNorm, Tensor]]) -> None:
    """One power iteration of each norm on its weight: two products for each layer, nearly all else at once."""
    kind = pairs[0][1].device.type
    with torch.autocast(kind, enabled=False):
        quotients = _Quotients.apply(list(estimated(pairs)), *(weight for _, weight in pairs))
        for (norm, _), quotient in zip(pairs, quotients, strict=True):
            norm.ahead = quotient
    if torch.is_autocast_enabled(kind) and not torch.compiler.is_compiling():  # which joins casts to other code
        norms = [norm for norm, _ in pairs if norm.lowered]
        kept = [norm.ahead for norm in norms if norm.ahead is not None]
        for norm, quotient in zip(norms, precision.lowered(kept) if norms else (), strict=True):
            norm.ahead = quotient


@torch.no_grad()
def estimated(pairs: Sequence[tuple[SpectralNorm, Tensor]]) -> Iterator[tuple[Tensor, ...]]:
    """For each norm u (h,), v (w,) and sigma () after one iteration; the vectors are the norm's from now on."""
    norms = [norm for norm, _ in pairs]
    matrices = [weight.flatten(1) for _, weight in pairs]
    us, _ = units([torch.mv(matrix, norm._v) for matrix, norm in zip(matrices, norms, strict=True)])
    # u^T W v = |W^T u|, as v is W^T u at length 1: no third product
    vs, sigmas = units([torch.mv(matrix.T, u) for matrix, u in zip(matrices, us, strict=True)])
    torch._foreach_copy_([norm._u for norm in norms] + [norm._v for norm in norms], [*us, *vs])
    return zip(us, vs, sigmas, strict=True)


def units(vectors: list[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """The vectors (any,) at length 1, and the lengths () that they had, in as many launches as for one."""
    lengths = torch._foreach_clamp_min(torch._foreach_norm(vectors), EPS)
    sizes = [len(vector) for vector in vectors]
    return (torch.cat(vectors) / spread(lengths, sizes)).split(sizes), lengths


def spread(scalars: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Each scalar () as often as its size says, one after another."""
    return torch.cat([scalar.expand(size) for scalar, size in zip(scalars, sizes, strict=True)])


def joined(tensors: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """All elements, one tensor after another, each in the order in memory of its weight."""
    orders = [sorted(range(weight.ndim), key=weight.stride, reverse=True) for weight in weights]
    return torch.cat([each.permute(order).flatten() for each, order in zip(tensors, orders, strict=True)])


def parted(flat: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What `joined` joined, as views with the weights' shapes and orders in memory."""
    parts = flat.split([weight.numel() for weight in weights])
    return tuple(
        part.as_strided(weight.shape, weight.stride(), part.storage_offset())
        for part, weight in zip(parts, weights, strict=True)
    )


class _Quotients(torch.autograd.Function):
    """W / sigma of each layer, given u, v and sigma = u^T W v of each.

    With G the gradient in W / sigma, W has (G - <G, W / sigma> u v^T) / sigma: in Miyato et al. 2018 the analysis
    of the gradient. What it does to all weights alike it does to all at once.
    """

    @staticmethod
    def forward(ctx: Any, estimates: Sequence[tuple[Tensor, ...]], *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.us, ctx.vs, sigmas = zip(*estimates, strict=True)
        ctx.divisors = spread(sigmas, [weight.numel() for weight in weights])
        ctx.quotients = joined(weights, weights) / ctx.divisors
        ctx.weights = [weight.detach() for weight in weights]  # for their shapes
        return parted(ctx.quotients.detach(), weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        slopes = joined(gradients, ctx.weights)
        shares = [part.sum() for part in (slopes * ctx.quotients).split([w.numel() for w in ctx.weights])]
        sizes = [len(u) for u in ctx.us]
        rows = (spread(shares, sizes) * torch.cat(ctx.us)).split(sizes)
        for slope, row, v in zip(parted(slopes, ctx.weights), rows, ctx.vs, strict=True):
            columns = v.unflatten(0, (1, *slope.shape[1:]))
            slope.addcmul_(row.unflatten(0, (-1, *[1] * (slope.ndim - 1))), columns, value=-1)
        return None, *parted(slopes / ctx.divisors, ctx.weights)
