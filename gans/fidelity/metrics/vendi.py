"""Vendi score: the effective number of different images. Friedman and Dieng 2023 (2210.02410)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gans.fidelity.metric import Measured, Metric

if TYPE_CHECKING:
    from gans.fidelity.comparison import Comparison


def measure(compared: Comparison) -> Measured:
    return score(compared.generated.features)


def score(features: Tensor) -> Measured:
    """The exponential of the entropy of the eigenvalues of K / n, K the cosine similarities of n features.

    These are the eigenvalues of C = X^T X / n, X the features (n, d) of length 1. The error is the delta method's:
    one image x moves the entropy -tr C log C by (-x^T log(C) x - entropy) / n.
    """
    x = torch.nn.functional.normalize(features.double())
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    logarithms = values.clamp(min=torch.finfo(values.dtype).eps).log()
    entropy = -(values * logarithms).sum()
    influence = -((x @ vectors).square() @ logarithms)
    return Measured(entropy.exp().item(), (entropy.exp() * influence.std() / len(x) ** 0.5).item())


VENDI = Metric("vendi", "↑", "effective number of different images, by cosine similarity", measure, scale="ratio")
