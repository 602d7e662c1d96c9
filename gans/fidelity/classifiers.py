"""The small classifier behind a data set's own feature extractor, and the one recipe that trains it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gans.data import to_float

WIDTHS = (32, 64, 128)
FEATURES = 96
EPOCHS = 9
MINIMUM_STEPS = 800
BATCH = 128
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05
SHIFT = 1
SEED = 0


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    # SiLU and average pooling: a Frechet distance needs features without dead or clipped dimensions
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()]


class Classifier(nn.Module):
    """Four convolutions, the first three each followed by a halving, a global average, and one linear layer.

    `features` are the averages, (n, 96); `logits` are a linear map of them, (n, classes).
    Images are float in [-1, 1], (n, channels, side, side), with a side of at least 8.
    """

    LAYERS = ("features", "logits")

    def __init__(self, channels: int, classes: int):
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((channels, *WIDTHS)):
            layers += [*_convolution(inputs, outputs), nn.AvgPool2d(2)]
        self.trunk = nn.Sequential(*layers, *_convolution(WIDTHS[-1], FEATURES))
        self.head = nn.Linear(FEATURES, classes)
        self.to(memory_format=torch.channels_last)  # a third faster on a CPU

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of float images."""
        features = self.trunk(images).mean(dim=(2, 3))
        return features, self.head(features)


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Seeded, deterministic and on one thread inside; the caller's random state and settings come back."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)  # the order of summation depends on the number of threads
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            torch.set_num_threads(threads)


def _shifted(images: Tensor) -> Tensor:
    side = images.shape[-1]
    top, left = torch.randint(0, 2 * SHIFT + 1, (2,)).tolist()
    padded = F.pad(images, (SHIFT,) * 4, mode="replicate")
    return padded[:, :, top : top + side, left : left + side]


def _batches(count: int, steps: int) -> Iterator[Tensor]:
    size, done = min(BATCH, count), 0
    while done < steps:
        for batch in torch.randperm(count).split(size):
            if len(batch) == size and done < steps:
                done += 1
                yield batch


def train(images: Tensor, labels: Tensor, classes: int, seed: int = SEED) -> Classifier:
    """The classifier trained on uint8 images (n, channels, side, side) and int64 labels (n,), on the CPU.

    The same input gives the same weights, bit for bit, on the same machine and torch version.
    """
    with reproducible(seed):
        model = Classifier(images.shape[1], classes)
        steps = max(MINIMUM_STEPS, EPOCHS * len(images) // BATCH)
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps)
        for batch in _batches(len(images), steps):
            _, logits = model(_shifted(to_float(images[batch])))
            optimizer.zero_grad()
            F.cross_entropy(logits, labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: Classifier, images: Tensor, labels: Tensor) -> float:
    """The fraction of uint8 images, (n, channels, side, side), whose largest logit is their label's."""
    model.eval()
    predicted = torch.cat([model(to_float(part))[1].argmax(dim=1) for part in images.split(512)])
    return (predicted == labels).double().mean().item()
