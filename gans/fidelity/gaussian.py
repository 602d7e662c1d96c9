"""Gaussians of features: their Frechet distance, its sampling error, and its value for infinitely many images.

Everything is in float64, on the features' device, and uses the square root of the real covariance, so that each
distance costs one symmetric eigenvalue problem: tr (S R)^(1/2) = tr (R^(1/2) S R^(1/2))^(1/2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from gans.fidelity.metric import Measured
from gans.fidelity.protocol import SEED

# the set is cut into 1, 2, .. this many parts, as long as a part has so many images per feature dimension
LARGEST_CUT = 4
IMAGES_PER_DIMENSION = 4
# smaller eigenvalues, relative to the largest, are rounding: fewer images than dimensions have such
RANK_TOLERANCE = 1e-10


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean (d,) and covariance (d, d) of features, float64."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Gaussian:
        """Fitted to features (n, d)."""
        features = features.double()
        return cls(features.mean(0), features.T.cov())

    @cached_property
    def root(self) -> Tensor:
        """The covariance's symmetric square root, (d, d)."""
        values, vectors = torch.linalg.eigh(self.covariance)
        return (vectors * values.clamp(min=0).sqrt()) @ vectors.T

    def distance(self, other: Gaussian, shift: Tensor | None = None) -> float:
        """The Frechet distance of two Gaussians: Heusel et al. 2017, eq. 6.

        `shift` (d,) is the difference of the means, if not that of the fitted means.
        """
        cross = torch.linalg.eigvalsh(self.root @ other.covariance @ self.root).clamp(min=0).sqrt().sum()
        apart = (other.mean - self.mean if shift is None else shift.double()).square().sum()
        return (apart + other.covariance.trace() + self.covariance.trace() - 2 * cross).item()

    def error(self, features: Tensor, fitted: Gaussian) -> float:
        """The standard error of `distance(fitted)` over draws of the n images (n, d) that it was fitted to.

        By the delta method. With A = R^(1/2), S the generated covariance and M = A (A S A)^(-1/2) A, the
        derivative of the distance is 2 (mu - mu_R) . d mu + tr (I - M) dS; one image x moves mu by x - mu and S
        by (x - mu)(x - mu)^T - S, each over n.
        """
        values, vectors = torch.linalg.eigh(self.root @ fitted.covariance @ self.root)
        inverse = torch.where(values > RANK_TOLERANCE * values.max(), values.clamp(min=1e-300).rsqrt(), 0)
        moved = vectors.T @ self.root
        transport = moved.T @ (inverse[:, None] * moved)
        centred = features.double() - fitted.mean
        turned = (centred.square() - centred * (centred @ transport)).sum(1)
        influence = centred @ (2 * (fitted.mean - self.mean)) + turned
        return (influence.std() / len(features) ** 0.5).item()

    def at_infinity(self, features: Tensor, error: float) -> Measured:
        """The distance of features (n, d), extrapolated to infinitely many (Chong and Forsyth 2020, 1911.07023).

        The bias falls as 1 / n: the distance is measured on the whole set, on its halves, thirds, ... (the
        mean over the parts of one seeded shuffle, where the paper's subsets overlap), and the least-squares
        line over 1 / n is evaluated at 0. `error` is that of `distance`; the error of the line is added. With few
        images per dimension there are two points, and the error of the line is its change under halves, quarters.
        """
        count, dimensions = features.shape
        largest = min(LARGEST_CUT, max(2, count // (IMAGES_PER_DIMENSION * dimensions)))
        order = torch.randperm(count, generator=torch.Generator().manual_seed(SEED))
        points = [self._parts(features[order], cuts) for cuts in range(1, largest + 1)]
        x, y = np.array(points).T
        design = np.stack([np.ones_like(x), x], axis=1)
        line, *_ = np.linalg.lstsq(design, y, rcond=None)
        if largest == 2:
            _, quarters = self._parts(features[order], 4)
            variance = (line[0] - (2 * y[1] - quarters)) ** 2
        else:
            spread = ((y - design @ line) ** 2).sum() / (len(x) - 2)
            variance = spread * np.linalg.inv(design.T @ design)[0, 0]
        return Measured(float(line[0]), float((error**2 + variance) ** 0.5))

    def _parts(self, features: Tensor, cuts: int) -> tuple[float, float]:
        size = len(features) // cuts
        parts = (features[i * size : (i + 1) * size] for i in range(cuts))
        return 1 / size, sum(self.distance(Gaussian.of(part)) for part in parts) / cuts
