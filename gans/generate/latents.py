"""Paths in latent space: interpolation, arithmetic, planes. Latents are standard normal, (n, length)."""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gans import seeds
from gans.errors import InputError

LARGEST_SEED = 10**18 - 1  # what SEED:INDEX can name, and so what is drawn
MOST = 10**6  # latents of a seed
PURPOSE = "samples"  # of their random numbers

Between = Callable[[Tensor, Tensor, Tensor], Tensor]

NEARLY_PARALLEL = 1e-6  # sine of the angle below which two latents have no circle through them


def draw(count: int, length: int, seed: int) -> Tensor:
    """Latents (count, length) of a seed, on the CPU; the first ones do not depend on how many follow.

    `gans sample --seed SEED` shows their images, row by row, so that latent `SEED:INDEX` can be read off its grid.
    """
    return seeds.normal_rows(count, length, seed, PURPOSE)


def chosen(names: Sequence[str], length: int) -> Tensor:
    """The latents (n, length) of names `SEED:INDEX`; an InputError for other names, or too large numbers."""
    return torch.stack([_one(name, length) for name in names])


def _one(name: str, length: int) -> Tensor:
    if not re.fullmatch(r"[0-9]{1,18}:[0-9]{1,6}", name):
        raise InputError(f"'{name}' is not a latent; 0:17 is that of image 17 of `gans sample --seed 0`")
    seed, index = map(int, name.split(":"))
    return draw(index + 1, length, seed)[index]


def truncated(z: Tensor, limit: float, seed: int) -> Tensor:
    """Latents with every number beyond ±limit drawn again until it is within (Brock et al. 2019, section 3.1)."""
    generator = seeds.generator(seed, "truncation")
    outside = z.abs() > limit
    while outside.any():
        z = torch.where(outside, torch.randn(z.shape, generator=generator), z)
        outside = z.abs() > limit
    return z


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The straight line: (1 - t) a + t b. Its middle is shorter than the latents that a generator was trained on.

    a and b are (length,) or (n, length), t are n places from 0 to 1; returns (n, length).
    """
    return (1 - t[:, None]) * a + t[:, None] * b


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The great circle (White 2016, arXiv 1609.04468): sin((1 - t) w) / sin w a + sin(t w) / sin w b.

    w is the angle between a and b; latents of one length keep it. Where a and b point the same way, or opposite
    ways, there is no one circle, and the straight line is taken. Arguments as for `lerp`.
    """
    a, b = torch.broadcast_tensors(a, b)
    angle = torch.acos(torch.cosine_similarity(a.double(), b.double(), dim=-1).clamp(-1, 1))
    where, sine = t.double(), torch.sin(angle)
    first, second = torch.sin((1 - where) * angle) / sine, torch.sin(where * angle) / sine
    circle = (first[:, None] * a + second[:, None] * b).to(a.dtype)
    return torch.where((sine < NEARLY_PARALLEL)[..., None], lerp(a, b, t), circle)


BETWEEN: dict[str, Between] = {"slerp": slerp, "lerp": lerp}


def path(stops: Tensor, steps: int, between: Between, closed: bool = False) -> Tensor:
    """From stop to stop, `steps` from one to the next; (k, length) become ((k - 1) * steps + 1, length).

    A closed path continues from the last stop to the first, which is not repeated: (k * steps, length).
    """
    t = torch.arange(steps) / steps
    ends = [*stops[1:], stops[0]] if closed else stops[1:]
    parts = [between(start, end, t) for start, end in zip(stops, ends, strict=closed)]
    return torch.cat(parts if closed else [*parts, stops[-1:]])


def plane(corners: Tensor, size: int, between: Between) -> Tensor:
    """The square whose corners are three latents, top left, top right and bottom left, and what they imply.

    The fourth corner is top right + bottom left - top left, brought to their mean length (a J-diagram: White 2016,
    section 3.2). Returns (size * size, length), row by row.
    """
    a, b, c = corners
    d = b + c - a
    d = d * corners.norm(dim=1).mean() / d.norm().clamp_min(1e-12)
    t = torch.linspace(0, 1, size)
    left, right = between(a, c, t), between(b, d, t)
    return torch.cat([between(start, end, t) for start, end in zip(left, right, strict=True)])


def directions(z: Tensor, images: Tensor, count: int) -> Tensor:
    """The orthogonal latent directions along which images change most, on average over all latents.

    By Stein's lemma the covariance of standard normal latents (n, length) with the pixels (n, ...) is the
    generator's mean derivative; its left singular vectors are these directions, the strongest first. Returns
    (count, length), of length 1 each, the largest entry of each positive.
    """
    pixels = images.flatten(1).double()
    covariance = z.double().T @ (pixels - pixels.mean(dim=0)) / len(z)
    found = torch.linalg.svd(covariance, full_matrices=False).U[:, :count].T
    largest = found.gather(1, found.abs().argmax(dim=1, keepdim=True))
    return (found * largest.sign()).to(z.dtype)


def around(center: Tensor, axes: Tensor, size: int, reach: float) -> Tensor:
    """A square grid of latents that differ from `center` only along two orthogonal directions of length 1.

    Along each, they go from -reach to reach standard deviations. Returns (size * size, length), row by row.
    """
    rest = center - (axes @ center) @ axes
    steps = torch.linspace(-reach, reach, size)
    return torch.cat([rest + y * axes[1] + steps[:, None] * axes[0] for y in steps])


def most_like(logits: Tensor, wanted: int, count: int) -> list[int]:
    """At most `count` samples that look most like a class to a classifier with these logits (n, classes).

    The most certain come first; samples with another most likely class do not count.
    """
    shares = logits.double().softmax(dim=1)[:, wanted]
    seen = logits.argmax(dim=1) == wanted
    order = shares.masked_fill(~seen, -1).argsort(descending=True, stable=True)
    return order[: min(count, int(seen.sum()))].tolist()


def analogy(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """mean(a) - mean(b) + mean(c) of latents (n, length): king - man + woman (DCGAN, figure 7).

    The paper averages three latents each, since single ones gave unstable results.
    """
    return a.mean(dim=0) - b.mean(dim=0) + c.mean(dim=0)


def nearby(z: Tensor, count: int, scale: float, seed: int) -> Tensor:
    """`count` latents about one, (length,): with uniform noise of ±scale on every number (DCGAN, figure 7)."""
    noise = torch.rand(count, len(z), generator=seeds.generator(seed, "nearby"))
    return z + scale * (2 * noise - 1)
