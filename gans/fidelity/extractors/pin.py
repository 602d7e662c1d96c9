"""Training a data set's own feature extractor and pinning it: weights and card."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from gans.data.images import ImageData
from gans.errors import InputError
from gans.fidelity.extractors.cards import Card, sha256
from gans.fidelity.extractors.classifiers import FEATURES, RECIPES, accuracy, seconds, train
from gans.files import write_bytes

log = logging.getLogger("gans")


def pin(data: ImageData, name: str, output: Path, command: str) -> Card:
    """Train a classifier on the training images, measure it on the test images, write weights and card.

    The log says beforehand how long that takes. Both files go to the directory `output`, as `<name>.safetensors`
    and `<name>.json`. The same data, torch version and machine give the same bytes. `command` is what makes it
    again, for the card.

    Raises:
        InputError: the data set has no labels, or no test images.
    """
    labels, test_labels = _labels(data)
    log.warning("training the extractor '%s' on %s: %s", name, data.title, duration(seconds(data.train, labels)))
    model = train(data.train, labels, classes=len(data.classes))
    weights = output / f"{name}.safetensors"
    write_bytes(weights, save({key: value.contiguous() for key, value in model.state_dict().items()}))
    card = Card(
        name=name,
        data=data.name,
        data_hash=data.hash,
        channels=data.channels,
        resolution=data.resolution,
        classes=len(data.classes),
        features=FEATURES,
        accuracy=round(accuracy(model, data.test, test_labels), 6),
        command=command,
        torch=torch.__version__,
        sha256=sha256(weights),
        network=RECIPES[data.channels].network,
        labels=data.classes,
        directory=output,
    )
    card.write()
    return card


def duration(seconds: float) -> str:
    """How long something will take, for people."""
    if seconds < 60:
        return "less than a minute"
    minutes = round(seconds / 60)
    return f"about {minutes} minute{'s' if minutes > 1 else ''}"


def _labels(data: ImageData) -> tuple[Tensor, Tensor]:
    if data.train_labels is None or data.test_labels is None:
        raise InputError(
            f"data set '{data.name}' has no labels; put each class in a folder of its own, or use inception"
        )
    if len(data.test) == 0:
        raise InputError(f"data set '{data.name}' has no test images to measure the classifier on")
    return data.train_labels, data.test_labels
