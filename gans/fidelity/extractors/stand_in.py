"""What scores data that have no extractor of their own on a machine that cannot get Inception's weights.

Data with labels get a classifier of their own, trained once and kept in a cache; others get the shipped classifier
of small photographs.
"""

from __future__ import annotations

import logging
from functools import cache

from gans.data.images import ImageData
from gans.fidelity.extractors.cards import MADE, TO_BE_MADE
from gans.fidelity.extractors.classifiers import RECIPES
from gans.fidelity.extractors.pin import pin
from gans.fidelity.extractors.resized import RESIZED
from gans.files import cache as cache_folder
from gans.files import slug

log = logging.getLogger("gans")

FEWEST = 20  # training images of a class, on average, that a classifier is trained on unasked
LARGEST = 2**30  # pixels that such a training looks at: minutes on two cores; 64x64 is within it, 128x128 not


def stand_in(data: ImageData) -> str:
    """The name of the extractor, trained if need be."""
    if trainable(data):
        return train(data)
    say(
        f"{data.title} has no extractor of its own, and Inception's weights cannot be had: scores are by "
        f"'{RESIZED}', a classifier of small photographs, on images resized to 32x32"
    )
    return RESIZED


def name_of(data: ImageData) -> str:
    """What `stand_in` would return; nothing is trained."""
    return own_name(data) if trainable(data) else RESIZED


def trainable(data: ImageData) -> bool:
    """Whether a classifier of these data is worth training, and takes minutes at most."""
    if data.train_labels is None or data.test_labels is None or data.channels not in RECIPES or not len(data.test):
        return False
    enough = len(data.classes) > 1 and len(data.train) >= FEWEST * len(data.classes)
    return enough and RECIPES[data.channels].pixels(len(data.train), data.resolution) <= LARGEST


def train(data: ImageData) -> str:
    """Train the classifier and keep it in the cache, where its hash finds it from now on."""
    folder, name = cache_folder(MADE), own_name(data)
    say(
        f"{data.title} has no extractor of its own, and Inception's weights cannot be had: a classifier is "
        f"trained on its {len(data.classes)} classes, once, and kept in {folder}"
    )
    card = pin(data, name, folder, f"gans extractor {data.name} --resolution {data.resolution} --name {name}")
    say(f"'{name}' gets {card.accuracy:.1%} of {len(data.test)} test images right")
    return name


def own_name(data: ImageData) -> str:
    """Readable, and different for different images: `own-photos-1a2b3c4d`."""
    return f"{TO_BE_MADE}{slug(data.title).lower()[:32]}-{data.hash[:8]}"


@cache
def say(text: str) -> None:
    """Once in a process, however many cells ask."""
    log.warning(text)
