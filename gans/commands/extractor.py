"""`gans extractor`: train and pin a classifier in whose features images of a data set are scored."""

import re
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated

from gans.commands.options import ONCE, check_dataset, command_line, flat, option
from gans.errors import InputError
from gans.files import file_name, taken


@flat
@dataclass(frozen=True)
class Extractor:
    data: Annotated[
        str, option("a data set with labels: digits, mnist, cifar10-jpeg, folder:PATH, ...", check=check_dataset)
    ]
    _: KW_ONLY
    name: Annotated[str, option("name of the extractor; default: the data set's")] = ""
    resolution: Annotated[
        int | None, option("side of the images in pixels; default: the data set's", least=16, most=4096)
    ] = None
    output: Annotated[
        Path | None,
        option(
            "directory for weights and card; default: GANS_EXTRACTORS, or else outputs/extractors; set "
            "GANS_EXTRACTORS to any other directory in later commands"
        ),
        ONCE,
    ] = None
    force: Annotated[bool, option("overwrite existing weights and card"), ONCE] = False


def extractor(options: Extractor) -> int:
    from gans.data import datasets
    from gans.fidelity.extractors.pinned import pin

    name = options.name or re.sub(r"[^a-z0-9]+", "-", options.data.lower())[-100:].strip("-")
    folder = place(file_name(name, "extractor"), options)
    data = datasets.load(options.data, resolution=options.resolution)
    card = pin(data, name, folder, command_line("gans extractor", options))
    print(f"{card.weights}: {card.accuracy:.2%} of {len(data.test)} test images classified correctly")
    return 0


def place(name: str, options: Extractor) -> Path:
    """The directory that weights and card go to, where they take the place of no others."""
    from gans.fidelity.extractors.cards import SHIPPED, own

    if options.output is None and (SHIPPED / f"{name}.json").exists():
        raise InputError(f"the name '{name}' belongs to an extractor that ships; give yours another --name")
    folder = options.output or own()
    for path in (folder / f"{name}{suffix}" for suffix in (".safetensors", ".json")):
        if path.exists() and not options.force:
            raise taken(path)
    return folder
