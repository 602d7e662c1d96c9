"""Metrics of classes: the distance of class shares, intra FID, and agreement with the data's classifier."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from gans.fidelity.comparison import Comparison, Features
from gans.fidelity.metric import Measured, Metric
from gans.fidelity.metrics import frechet
from gans.fidelity.protocol import SEED

RESAMPLINGS = 200
FEWEST = 20  # images of a class on either side: fewer give no useful covariance


# --- shares of classes


def class_distance(compared: Comparison) -> Measured:
    assert compared.real.classes is not None  # the metric needs classes
    return variation(compared.classes.cpu(), compared.real.classes.cpu(), len(compared.generated))


def variation(generated: Tensor, real: Tensor, n: int) -> Measured:
    """Total variation distance of class shares (classes,), in [0, 1]; the bootstrap's error at n images.

    0 for equal histograms, 1 for disjoint ones: the share of images that would have to change class.
    """
    drawn = np.random.default_rng(SEED).multinomial(n, generated.numpy(), size=RESAMPLINGS) / n
    spread = np.abs(drawn - real.numpy()).sum(1) / 2
    return Measured((generated - real).abs().sum().item() / 2, float(spread.std(ddof=1)))


# --- within each class


def intra_frechet(compared: Comparison) -> Measured:
    """The mean of the Frechet distances within classes that have enough images; NaN if none has."""
    assert compared.labelled is not None  # the metric needs labels
    assert compared.real.labels is not None
    labels, real_labels = compared.labelled.labels.to(compared.real.labels.device), compared.real.labels
    generated, real = compared.generated.features, compared.real.features
    return average(
        {
            label: distance(generated[labels == label], real[real_labels == label])
            for label in enough(labels, real_labels)
        }
    )


def enough(generated: Tensor, real: Tensor) -> list[int]:
    """The classes with `FEWEST` images on both sides, by the labels of generated (n,) and real images (m,)."""
    size = int(real.max()) + 1
    fewer = generated.bincount(minlength=size)[:size].minimum(real.bincount())
    return (fewer >= FEWEST).nonzero().flatten().tolist()


def distance(generated: Tensor, real: Tensor) -> Measured:
    """The Frechet distance and its error, of features (n, dimensions) and (m, dimensions)."""
    one, other = Features(generated), Features(real)
    return Measured(frechet.distance(one, other), other.gaussian.error(generated, one.gaussian))


def average(classes: Mapping[int, Measured]) -> Measured:
    """The mean of the classes' values, with equal weights; their images are drawn independently."""
    if not classes:
        return Measured(float("nan"), float("nan"))
    values, errors = np.array([(one.value, one.error) for one in classes.values()]).T
    return Measured(float(values.mean()), float((errors**2).sum() ** 0.5 / len(errors)), classes=classes)


# --- agreement


def agreement(compared: Comparison) -> Measured:
    assert compared.labelled is not None  # the metric needs labels
    assert compared.generated.logits is not None
    return agreeing(compared.generated.logits.argmax(1).cpu(), compared.labelled.labels.cpu())


def agreeing(predicted: Tensor, labels: Tensor) -> Measured:
    """The share of images whose predicted class (n,) is their label (n,), and its binomial error."""
    right = (predicted == labels).double()
    classes = {int(label): Measured(*_binomial(right[labels == label])) for label in torch.unique(labels)}
    return Measured(*_binomial(right), classes=classes)


def _binomial(right: Tensor) -> tuple[float, float]:
    share = right.mean().item()
    return share, (share * (1 - share) / len(right)) ** 0.5


# Only extractors that were trained on the data's classes give "classes": Inception does not.
CLASS_DISTANCE = Metric(
    "class_distance",
    "↓",
    "share of images that would have to change class to match the data",
    class_distance,
    needs=frozenset({"logits", "classes"}),
    scale="share",
)
# Miyato and Koyama 2018 (1802.05637)
INTRA_FRECHET = Metric(
    "intra_fd",
    "↓",
    "Fréchet distance within each class, mean over classes; more biased than the whole's",
    intra_frechet,
    published="intra_fid",
    needs=frozenset({"labels"}),
    scale="ratio",
)
AGREEMENT = Metric(
    "agreement",
    "↑",
    "share of images that the data's classifier assigns to the generated class",
    agreement,
    needs=frozenset({"logits", "classes", "labels of its classes"}),
    scale="share",
)
