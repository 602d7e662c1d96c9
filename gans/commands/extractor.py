"""`gans extractor`: train and pin a classifier in whose features images of a data set are scored."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command to the parser."""
    from gans.fidelity.extractors.cards import SHIPPED

    text = "train a data set's own feature extractor, and pin its weights with a card"
    extractor = commands.add_parser("extractor", help=text, description=text)
    extractor.add_argument("data", help="a data set with labels: digits, mnist, cifar10-jpeg, folder:PATH, ...")
    extractor.add_argument("--name", help="the extractor's name (default: the data set's)")
    side = "side of the images in pixels (default: the data set's own)"
    extractor.add_argument("--resolution", type=int, help=side)
    extractor.add_argument(
        "--output",
        type=Path,
        default=SHIPPED,
        help="directory for weights and card, named by GANS_EXTRACTORS later on (default: the shipped ones)",
    )
    extractor.set_defaults(run=run)


def run(asked: argparse.Namespace) -> int:
    """Train, measure on the test images, and write weights and card."""
    from gans.data import datasets
    from gans.fidelity.extractors.pin import pin

    data = datasets.load(asked.data, resolution=asked.resolution)
    name = asked.name or re.sub(r"[^a-z0-9]+", "-", asked.data.lower()).strip("-")
    card = pin(data, name, asked.output, command(asked))
    print(f"{card.weights}: {card.accuracy:.2%} of {len(data.test)} test images right")
    return 0


def command(asked: argparse.Namespace) -> str:
    """What makes the same extractor again, wherever its files went."""
    words = ["gans", "extractor", asked.data]
    for flag in ("name", "resolution"):
        if value := getattr(asked, flag):
            words += [f"--{flag}", str(value)]
    return shlex.join(words)
