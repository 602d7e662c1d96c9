"""Classification accuracy score, CAS: accuracy on real images of a classifier trained on generated ones.

Ravuri and Vinyals 2019 (1905.10887).
"""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gans import seeds
from gans.data.images import to_float
from gans.fidelity.comparison import Comparison, Labelled, sample
from gans.fidelity.extractors.classifiers import Classifier, accuracy, build, minimise, one_thread
from gans.fidelity.metric import Measured, Metric
from gans.fidelity.protocol import SEED

# One budget for all generators and data sets, so that scores compare: seconds on one core. The paper trains a
# ResNet on as many images as the data set has.
TRAININGS = 3
STEPS, BATCH = 100, 64
RATE, WEIGHT_DECAY = 3e-3, 0.05
SIDE = 32  # larger images are averaged down to it
JUDGES = 10_000  # real images, at most


def measure(compared: Comparison) -> Measured:
    assert compared.labelled is not None  # the metric needs labels
    if compared.real.others is None:
        return Measured(float("nan"), float("nan"))
    return score(compared.labelled, compared.real.others, compared.generated.features.device)


def score(generated: Labelled, real: Labelled, device: torch.device) -> Measured:
    """The mean accuracy on real images of three classifiers, each trained from scratch on generated ones.

    They differ in initial weights and in the order of images: `spread` is the deviation that this makes. The error
    is that of their mean, joined with the binomial one of so many real images.
    """
    judges = real[sample(len(real.labels), JUDGES)]
    classes = int(max(generated.labels.max(), judges.labels.max())) + 1
    with one_thread() if device.type == "cpu" else nullcontext():
        models = [train(generated, classes, SEED + i, device) for i in range(TRAININGS)]
        prepare = partial(_input, device=device)
        found = [accuracy(model, judges.images, judges.labels, prepare) for model in models]
    mean, spread = float(np.mean(found)), float(np.std(found, ddof=1))
    error = (spread**2 / TRAININGS + mean * (1 - mean) / len(judges.labels)) ** 0.5
    return Measured(mean, error, spread)


def train(given: Labelled, classes: int, seed: int, device: torch.device) -> Classifier:
    """The network `small` after its budget, in eval mode; on a CPU with one thread always the same."""
    with seeds.forked(seed):
        model = build("small", given.images.shape[1], classes).to(device)
    order = seeds.generator(seed, "classification accuracy")

    def losses() -> Iterator[Tensor]:
        for _ in range(STEPS):
            batch = given[torch.randint(len(given.labels), (BATCH,), generator=order)]
            _, logits = model(_input(batch.images, device))
            yield F.cross_entropy(logits, batch.labels.to(device))

    with torch.enable_grad():
        minimise(model, losses(), STEPS, RATE, WEIGHT_DECAY)
    return model.eval()


def _input(images: Tensor, device: torch.device) -> Tensor:
    pixels = to_float(images.to(device))
    return F.adaptive_avg_pool2d(pixels, SIDE) if pixels.shape[-1] > SIDE else pixels


# Its value does not depend on the extractor. It needs "classes" so that a table has it once.
CLASSIFICATION_ACCURACY = Metric(
    "cas",
    "↑",
    "accuracy on real images of small classifiers trained on generated ones",
    measure,
    needs=frozenset({"classes", "labels of its classes"}),
    scale="share",
)
