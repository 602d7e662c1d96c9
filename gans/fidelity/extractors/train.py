"""Train and pin a data set's own feature extractor: `python -m gans.fidelity.extractors.train digits`."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from gans.data.datasets import load
from gans.data.images import ImageData
from gans.errors import InputError, Parser, exit_code
from gans.fidelity.extractors.cards import SHIPPED, Card, sha256
from gans.fidelity.extractors.classifiers import FEATURES, RECIPES, accuracy, train


def pin(data: ImageData, name: str, output: Path, command: str) -> Card:
    """Train a classifier on the training images, measure it on the test images, write weights and card.

    Both files go to the directory `output`, as `<name>.safetensors` and `<name>.json`. The same data, torch
    version and machine give the same bytes. Raises `InputError` for a data set without labels or test images.
    """
    labels, test_labels = _labels(data)
    model = train(data.train, labels, classes=len(data.classes))
    output.mkdir(parents=True, exist_ok=True)
    weights = output / f"{name}.safetensors"
    weights.write_bytes(save({key: value.contiguous() for key, value in model.state_dict().items()}))
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


def _labels(data: ImageData) -> tuple[Tensor, Tensor]:
    if data.train_labels is None or data.test_labels is None:
        raise InputError(
            f"data set '{data.name}' has no labels; put each class in a folder of its own, or use inception"
        )
    if len(data.test) == 0:
        raise InputError(f"data set '{data.name}' has no test images to measure the classifier on")
    return data.train_labels, data.test_labels


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m gans.fidelity.extractors.train", description=__doc__)
    parser.add_argument("data", help="a data set with labels: digits, mnist, cifar10-jpeg, folder:PATH, ...")
    parser.add_argument("--name", help="the extractor's name (default: the data set's)")
    parser.add_argument(
        "--resolution", type=int, help="side of the images in pixels (default: the data set's own)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=SHIPPED,
        help="directory for weights and card, named by GANS_EXTRACTORS later on (default: the shipped ones)",
    )
    return parser


def _run(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    data = load(options.data, resolution=options.resolution)
    name = options.name or re.sub(r"[^a-z0-9]+", "-", options.data.lower()).strip("-")
    card = pin(data, name, options.output, _command(options))
    print(f"{card.weights}: {card.accuracy:.2%} of {len(data.test)} test images right")
    return 0


def _command(options: argparse.Namespace) -> str:
    """What makes the same extractor again, wherever its files went."""
    words = ["python", "-m", "gans.fidelity.extractors.train", options.data]
    for flag in ("name", "resolution"):
        if value := getattr(options, flag):
            words += [f"--{flag}", str(value)]
    return shlex.join(words)


def main() -> int:
    """The command's entry point; returns its exit code."""
    return exit_code(lambda: _run(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
