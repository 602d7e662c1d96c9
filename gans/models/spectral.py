"""Spectral norm: weights divided by an estimate of their largest singular value (Miyato et al. 2018, 1802.05957).

Initial vectors, random numbers, buffers and arithmetic are those of torch.nn.utils.parametrizations.spectral_norm,
to the bit. Two things torch's does not do: stay in the weight's own precision under autocast, and take the power
iterations of all layers of a network at once (`join_iterations`). Taken one by one, they and their gradients are
half of the launches of a SAGAN step on a GPU.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize, pad
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
        self.places: Places | None = None  # of all weights of a network, at its first norm

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


def join_iterations(network: nn.Module) -> None:
    """Let a network on a GPU take the power iterations of all its layers at once, from now on."""
    pairs = normalised(network)
    if pairs and precision.by_launches(pairs[0][1].device):
        # here, for the numbers depend on values: compiled code could not make them
        pairs[0][0].places = placed([weight for _, weight in pairs])


def normalised(network: nn.Module) -> list[tuple[SpectralNorm, Tensor]]:
    """The spectral norms of a network's layers, with the weights that they divide."""
    lists = (layer for layer in network.modules() if isinstance(layer, ParametrizationList))
    return [(layer[0], layer.original) for layer in lists if isinstance(layer[0], SpectralNorm)]


def iterate_ahead(network: nn.Module) -> None:
    """The power iterations that a network's layers are about to take, at once after `join_iterations`.

    For the start of a network's forward pass. Without it each layer iterates as it is used, to the same effect;
    so it is on a CPU, which gains nothing and would round differently.
    """
    pairs = normalised(network)
    places = pairs[0][0].places if pairs and network.training else None
    if places is None:
        return
    norms, weights = zip(*pairs, strict=True)
    for norm, quotient in zip(norms, _Quotients.apply(norms, places, *weights), strict=True):
        norm.ahead = quotient


class Places(NamedTuple):
    """Where the elements of weights stand in their matrices (h, w).

    n elements of all weights are one vector, row by row, within a row in the order of memory; all u are one vector
    (sum of h,), all v are one (sum of w,). Numbers are int32.

    Attributes:
        heights, widths: of the matrices.
        rows, columns: the places of each element's row in all u, and of its column in all v: (n,).
        by_column: the elements column by column: (n,).
        row_starts, column_starts: where each row, and then each column, begins, and n.
        weight_starts: where each weight's rows begin, and their number.
    """

    heights: list[int]
    widths: list[int]
    rows: Tensor
    columns: Tensor
    by_column: Tensor
    row_starts: Tensor
    column_starts: Tensor
    weight_starts: Tensor

    def __deepcopy__(self, memo: object) -> Self:
        return self  # constants


def placed(weights: Sequence[Tensor]) -> Places:
    """The places of weights on their device."""
    heights, widths = [len(weight) for weight in weights], [weight[0].numel() for weight in weights]
    vectors = (torch.arange(sum(sizes)).split(sizes) for sizes in (heights, widths))
    grids = zip(*(torch.meshgrid(*pair, indexing="ij") for pair in zip(*vectors, strict=True)), strict=True)
    rows, columns = (
        joined([grid.reshape(weight.shape) for grid, weight in zip(each, weights, strict=True)], weights)
        for each in grids
    )
    counts = rows.bincount(), columns.bincount(), torch.tensor(heights)
    numbers = [rows, columns, columns.argsort(stable=True), *(pad(count.cumsum(0), (1, 0)) for count in counts)]
    return Places(heights, widths, *(each.to(weights[0].device, torch.int32) for each in numbers))


def joined(tensors: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """All elements, one tensor after another, each in the order in memory of its weight."""
    orders = [sorted(range(weight.ndim), key=weight.stride, reverse=True) for weight in weights]
    return torch.cat([tensor.permute(order).flatten() for tensor, order in zip(tensors, orders, strict=True)])


def parted(flat: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """What `joined` joined, as views with the weights' shapes and orders in memory."""
    parts = flat.split([weight.numel() for weight in weights])
    return [part.as_strided(each.shape, each.stride()) for part, each in zip(parts, weights, strict=True)]


def units(vectors: Tensor, sizes: list[int]) -> tuple[Tensor, Sequence[Tensor]]:
    """Vectors of these sizes, one after another, at length 1, and the lengths () that they had."""
    lengths = torch._foreach_clamp_min(torch._foreach_norm(vectors.split(sizes)), EPS)
    return vectors / spread(lengths, sizes), lengths


def spread(scalars: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Each scalar () as often as its size says, one after another."""
    return torch.cat([scalar.expand(size) for scalar, size in zip(scalars, sizes, strict=True)])


def summed(values: Tensor, starts: Tensor) -> Tensor:
    """The sum from each start to the next one; torch's check of the starts would wait for the device."""
    return torch.segment_reduce(values, "sum", offsets=starts, unsafe=True)


class _Quotients(torch.autograd.Function):
    """W / sigma of each layer after a power iteration: algorithm 1 of Miyato et al. 2018 on all matrices at once.

    u = W v at length 1, v = W^T u at length 1, sigma = u^T W v. With G the gradient in W / sigma, W has
    (G - <G, W / sigma> u v^T) / sigma: in the paper the analysis of the gradient.
    """

    @staticmethod
    def forward(ctx: Any, norms: Sequence[SpectralNorm], places: Places, *weights: Tensor) -> tuple[Tensor, ...]:
        flat, v = joined(weights, weights), torch.cat([norm._v for norm in norms])
        u, _ = units(summed(flat * v.index_select(0, places.columns), places.row_starts), places.heights)
        products = (flat * u.index_select(0, places.rows)).index_select(0, places.by_column)
        # u^T W v = |W^T u|, as v is W^T u at length 1: no third product
        v, sigmas = units(summed(products, places.column_starts), places.widths)
        kept = [norm._u for norm in norms] + [norm._v for norm in norms]
        torch._foreach_copy_(kept, [*u.split(places.heights), *v.split(places.widths)])
        ctx.u, ctx.v, ctx.places, ctx.weights = u, v, places, [weight.detach() for weight in weights]
        ctx.divisors = spread(sigmas, [weight.numel() for weight in weights])
        ctx.quotients = flat / ctx.divisors
        exact = parted(ctx.quotients.detach(), weights)
        in_bf16 = torch.is_autocast_enabled(flat.device.type)
        lowered = parted(ctx.quotients.bfloat16(), weights) if in_bf16 else exact
        return tuple(low if norm.lowered else one for norm, one, low in zip(norms, exact, lowered, strict=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        slopes, places = joined(gradients, ctx.weights), ctx.places
        shares = summed(summed(slopes * ctx.quotients, places.row_starts), places.weight_starts)
        u = spread(shares.unbind(), places.heights) * ctx.u
        rows, columns = u.index_select(0, places.rows), ctx.v.index_select(0, places.columns)
        found = torch.addcmul(slopes, rows, columns, value=-1) / ctx.divisors
        return None, None, *parted(found, ctx.weights)
