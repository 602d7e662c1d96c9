"""Nearest neighbours among features, and the metrics that count them: precision, recall, density, coverage.

torch-fidelity has the first two only, and keeps no counts per image, which the errors need. Both are equal to
its own to the last digit; all four come from one matrix of distances. All is computed on the features' device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gans.fidelity.measured import Measured

MANIFOLD_NEIGHBOURS = 3  # precision and recall, as in the paper
DENSITY_NEIGHBOURS = 5  # density and coverage, as in the paper
ROWS = 2_000  # of a matrix of distances at a time, for memory


@dataclass(frozen=True)
class Neighbourhood:
    """How two sets of features lie among each other; see `neighbourhood`."""

    precision: Measured
    recall: Measured
    density: Measured
    coverage: Measured


def nearest(points: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to, and index of, the nearest of `others` (m, d) for each of `points` (n, d)."""
    parts = [torch.cdist(part, others).min(dim=1) for part in points.split(max(1, ROWS // 4))]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def radii(points: Tensor, *neighbours: int) -> list[Tensor]:
    """For each number k, the distance (n,) from every point to the k-th nearest of the others."""
    most = min(max(neighbours), len(points) - 1)
    parts = [
        torch.cdist(part, points).topk(most + 1, largest=False, sorted=True).values for part in points.split(ROWS)
    ]
    distances = torch.cat(parts)  # the first column is the point itself
    return [distances[:, min(k, most)] for k in neighbours]


def neighbourhood(generated: Tensor, real: Tensor) -> Neighbourhood:
    """Four metrics of generated (n, d) against real features (m, d), with errors over generated images.

    Improved precision and recall (Kynkäänniemi et al. 2019, 1904.06991): the share of generated images within
    the balls that reach from each real image to its third nearest, and the reverse. Density and coverage
    (Naeem et al. 2020, 2002.09797): how many balls, to the fifth nearest, a generated image lies in, over
    5 (about 1 for real images, above 1 where images gather in dense places); and the share of real images'
    balls that hold a generated image.

    The errors take the real images, and the radii of the generated images' balls, as fixed: precision and
    density are means over generated images; recall and coverage, which are not, use the jackknife.
    """
    (own,) = radii(generated, MANIFOLD_NEIGHBOURS)
    narrow, wide = radii(real, MANIFOLD_NEIGHBOURS, DENSITY_NEIGHBOURS)
    within = torch.zeros(len(generated), dtype=torch.bool, device=generated.device)
    balls = torch.zeros(len(generated), device=generated.device)
    recall, coverage = _Covered(generated), _Covered(generated)
    for part, near, far in zip(real.split(ROWS), narrow.split(ROWS), wide.split(ROWS), strict=True):
        distances = torch.cdist(part, generated)
        within |= (distances <= near[:, None]).any(0)
        inside = distances < far[:, None]
        balls += inside.sum(0)
        coverage.add(inside)
        recall.add(distances <= own)
    return Neighbourhood(
        mean(within.double()), recall.measured, mean(balls.double() / DENSITY_NEIGHBOURS), coverage.measured
    )


class _Covered:
    """The share of real images that some generated image covers, and how it hangs on single ones."""

    def __init__(self, generated: Tensor):
        self.covered = self.real = 0
        self.alone = torch.zeros(len(generated), dtype=torch.float64, device=generated.device)

    def add(self, covers: Tensor) -> None:
        """A bool matrix (real, generated): who covers whom."""
        count = covers.sum(1)
        self.real += len(covers)
        self.covered += int((count > 0).sum())
        self.alone += covers[count == 1].sum(0)  # without this generated image these would be uncovered

    @property
    def measured(self) -> Measured:
        n = len(self.alone)
        variance = (n - 1) / n * (self.alone - self.alone.mean()).square().sum().item()
        # torch-fidelity rounds shares to float32: so its numbers and ours are the same to the last digit
        return Measured(float(np.float32(self.covered / self.real)), variance**0.5 / self.real)


def mean(values: Tensor) -> Measured:
    """The mean of one value per image, float64 (n,), and its standard error."""
    return Measured(values.mean().float().item(), (values.std() / len(values) ** 0.5).item())
