"""`gans extractor`: train and pin a classifier in whose features images of a data set are scored."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from gans.commands import options
from gans.commands.checks import dataset
from gans.commands.options import Option
from gans.errors import InputError
from gans.files import file_name
from gans.places import taken


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
            "directory for weights and card; if not given GANS_EXTRACTORS, else outputs/extractors, where they "
            "are found; another has to be named by GANS_EXTRACTORS later on",
            repeated=False,
        ),
    ] = None
    force: Annotated[bool, Option("write over weights and card that are there", repeated=False)] = False


def add(commands: Any) -> None:
    """Add the command to the parser."""
    options.add(commands, "extractor", Extractor, run)


def run(asked: Extractor) -> int:
    """Train, measure on the test images, and write weights and card."""
    dataset(asked.data)
    from gans.data import datasets
    from gans.fidelity.extractors.pinned import pin

    name = asked.name or re.sub(r"[^a-z0-9]+", "-", asked.data.lower())[-100:].strip("-")
    folder = place(name, asked)
    data = datasets.load(asked.data, resolution=asked.resolution)
    card = pin(data, name, folder, options.command_line("gans extractor", asked))
    print(f"{card.weights}: {card.accuracy:.2%} of {len(data.test)} test images right")
    return 0


def place(name: str, asked: Extractor) -> Path:
    """The directory that weights and card go to.

    Raises:
        InputError: they would take the place of others, in the directory or by their name.
    """
    from gans.fidelity.extractors.cards import SHIPPED, own

    file_name(name, "extractor")
    if asked.output is None and (SHIPPED / f"{name}.json").exists():
        raise InputError(f"an extractor '{name}' ships, which scores are by; give yours another --name")
    folder = asked.output or own()
    for path in (folder / f"{name}{suffix}" for suffix in (".safetensors", ".json")):
        if path.exists() and not asked.force:
            raise taken(path)
    return folder
