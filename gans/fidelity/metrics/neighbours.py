"""Metrics of nearest neighbours among features: precision, recall, density, coverage, memorisation, authenticity.

The first four come from one matrix of distances. torch-fidelity has only the first two and keeps no counts per
image, which the errors need; both equal its own to the last digit. All is computed on the features' device.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gans.fidelity.comparison import Comparison, sample
from gans.fidelity.metric import Measured, Metric, Scale
from gans.fidelity.protocol import PRC_IMAGES

MANIFOLD_NEIGHBOURS = 3  # precision and recall, as in the paper
DENSITY_NEIGHBOURS = 5  # density and coverage, as in the paper
ROWS = 2_000  # of a matrix of distances at a time, for memory


@dataclass(frozen=True)
class Neighbourhood:
    """Four metrics of two sets of features; see `neighbourhood`."""

    precision: Measured
    recall: Measured
    density: Measured
    coverage: Measured


def shared(compared: Comparison) -> Neighbourhood:
    return compared.once(lambda: of_equal_sizes(compared.generated.features, compared.real.features), "neighbours")


def of_equal_sizes(generated: Tensor, real: Tensor) -> Neighbourhood:
    """`neighbourhood` of as many real images as generated ones, as in the papers: the numbers depend on it."""
    count = min(len(generated), len(real), PRC_IMAGES)  # sampled, since either may be sorted by class
    return neighbourhood(generated[sample(len(generated), count)], real[sample(len(real), count)])


def nearest(points: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to, and index of, the nearest of `others` (m, d) for each of `points` (n, d)."""
    parts = [torch.cdist(part, others).min(dim=1) for part in points.split(max(1, ROWS // 4))]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def radii(points: Tensor, *neighbours: int, among: Tensor | None = None) -> list[Tensor]:
    """For each number k, the distance (n,) from every point to the k-th nearest of the others.

    `among` are all points, if `points` are some of them.
    """
    all_points = points if among is None else among
    most = min(max(neighbours), len(all_points) - 1)
    parts = [
        torch.cdist(part, all_points).topk(most + 1, largest=False, sorted=True).values
        for part in points.split(ROWS)
    ]
    distances = torch.cat(parts)  # the first column is the point itself
    return [distances[:, min(k, most)] for k in neighbours]


def neighbourhood(generated: Tensor, real: Tensor) -> Neighbourhood:
    """Four metrics of generated (n, d) against real features (m, d), with errors over generated images.

    Improved precision and recall (Kynkäänniemi et al. 2019, 1904.06991): the share of generated images within
    the balls that reach from each real image to its third nearest, and the reverse. Density and coverage
    (Naeem et al. 2020, 2002.09797): the number of balls, to the fifth nearest, that contain a generated image,
    over 5 (about 1 for real images, above 1 if images concentrate in dense regions); and the share of real images'
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
    """The share of real images that some generated image covers, and how much it depends on single ones."""

    def __init__(self, generated: Tensor):
        self.covered = self.real = 0
        self.alone = torch.zeros(len(generated), dtype=torch.float64, device=generated.device)

    def add(self, covers: Tensor) -> None:
        """Count real images of a bool matrix (real, generated)."""
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


def closer(generated: Tensor, held_out: Tensor) -> Measured:
    """The probability that a generated image is closer to the training images than a held-out one is.

    From the distances to the nearest training image of generated (n,) and of held-out images (m,): the
    Mann-Whitney statistic behind the data-copying test of Meehan, Chaudhuri and Dasgupta 2020
    (2004.05675), without its division into cells. Fresh real images give 0.5, copies of training images 1;
    less than 0.5 means further from the training images than real ones are. The error takes the held-out
    images as fixed.
    """
    ordered = held_out.sort().values
    farther = len(ordered) - torch.searchsorted(ordered, generated, right=True).double()
    ties = torch.searchsorted(ordered, generated, right=True) - torch.searchsorted(ordered, generated)
    return mean((farther + ties / 2) / len(ordered))


def nearest_real(compared: Comparison) -> tuple[Tensor, Tensor]:
    """`nearest`, of the generated images among the real ones."""
    return compared.once(lambda: nearest(compared.generated.features, compared.real.features), "nearest")


def memorisation(compared: Comparison) -> Measured:
    return closer(nearest_real(compared)[0], compared.real.held_out)


def authenticity(compared: Comparison) -> Measured:
    """A generated image is authentic if its nearest training image has another one that is nearer."""
    distances, indices = nearest_real(compared)
    chosen, place = indices.unique(return_inverse=True)
    (own,) = radii(compared.real.features[chosen], 1, among=compared.real.features)
    share = mean((own[place] < distances).double())
    return Measured(100 * share.value, 100 * share.error)


def among(name: str, meaning: str, scale: Scale) -> Metric:
    """A metric that a `Neighbourhood` has under this name."""
    return Metric(name, "↑", meaning, lambda compared: getattr(shared(compared), name), scale=scale)


PRECISION = among("precision", "share of generated images within the manifold of real ones", "share")
RECALL = among("recall", "share of real images within the manifold of generated ones", "share")
DENSITY = among("density", "real neighbourhoods around a generated image; about 1 for real images", "ratio")
COVERAGE = among("coverage", "share of real images with a generated one in their neighbourhood", "share")
MEMORISATION = Metric(
    "memorisation",
    "→ 0.5",
    "probability of being closer to the training images than held-out ones; copies: 1",
    memorisation,
    scale="share",
)
# Alaa et al. 2022 (2102.08921)
AUTHENTICITY = Metric(
    "authpct",
    "↑",
    "percentage of images that are no near copies: their training image has a nearer neighbour",
    authenticity,
    scale="ratio",
)
