"""`gans extractor`: train and pin a classifier in whose features images of a data set are scored."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from gans.commands import options
from gans.commands.checks import dataset
from gans.commands.options import Option


@dataclass(frozen=True)
class Extractor:
    """Train a data set's own feature extractor, and pin its weights with a card."""

    data: Annotated[
        str, Option("a data set with labels: digits, mnist, cifar10-jpeg, folder:PATH, ...", positional=True)
    ]
    name: Annotated[str, Option("the extractor's name; the data set's if not given")] = ""
    resolution: Annotated[
        int | None, Option("side of the images in pixels; the data set's own if not given", least=16, most=4096)
    ] = None
    output: Annotated[
        Path | None,
        Option(
            "directory for weights and card, named by GANS_EXTRACTORS later on; where the shipped ones are if not "
            "given",
            repeated=False,
        ),
    ] = None


def add(commands: Any) -> None:
    """Add the command to the parser."""
    options.add(commands, "extractor", Extractor, run)


def run(asked: Extractor) -> int:
    """Train, measure on the test images, and write weights and card."""
    dataset(asked.data)
    from gans.data import datasets
    from gans.fidelity.extractors.cards import SHIPPED
    from gans.fidelity.extractors.pin import pin

    data = datasets.load(asked.data, resolution=asked.resolution)
    name = asked.name or re.sub(r"[^a-z0-9]+", "-", asked.data.lower()).strip("-")
    card = pin(data, name, asked.output or SHIPPED, options.command_line("gans extractor", asked))
    print(f"{card.weights}: {card.accuracy:.2%} of {len(data.test)} test images right")
    return 0
