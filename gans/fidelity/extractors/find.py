"""Feature extractors by name, and the default for a data set. Fast to import."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from gans.errors import InputError, unknown
from gans.fidelity.extractors.cards import PHOTOGRAPHS, Card, cards
from gans.fidelity.extractors.extractor import Extractor
from gans.fidelity.metric import INCEPTION
from gans.fidelity.protocol import MINIMUM_IMAGES
from gans.registry import EXTRACTORS, kind_of

if TYPE_CHECKING:
    from torch import nn

    from gans.data.images import ImageData

log = logging.getLogger("gans")

RESIZED = "cifar10-resized"  # the classifier of small photographs on images of any size
RESIZING = 1  # version of how images are resized; part of the hash
FEWEST = 20  # training images of a class, on average, that a classifier can be trained on
_reported: set[str] = set()  # hashes of data sets whose default was logged


def names() -> list[str]:
    """All extractors with a name: pinned classifiers, `inception`, and those of installed packages."""
    return [*sorted(cards()), *EXTRACTORS.names()]


def own_extractor(data: ImageData) -> str | None:
    """The name of the extractor that was trained on this data set, at this size; None if there is none."""
    same = (data.name, data.channels, data.resolution)
    for card in cards().values():
        # also by content: a folder has many spellings
        if (card.data, card.channels, card.resolution) == same or card.data_hash == data.hash:
            return card.name
    return None


def default_extractor(data: ImageData) -> str:
    """The name of a data set's default extractor; nothing is downloaded or trained.

    The first of these that is available: the extractor trained on this data set, at this size; `inception`, if its
    weights are on this machine or their server answers; the shipped classifier of small photographs, with a
    line in the log that names the command for a better one.
    """
    own = own_extractor(data)
    if own is not None:
        return own
    if EXTRACTORS[INCEPTION].in_reach():
        return INCEPTION
    if data.hash not in _reported:
        _reported.add(data.hash)
        enough = data.test_labels is not None and len(data.train) >= FEWEST * len(data.classes) > FEWEST
        command = f"gans extractor '{data.name}' --resolution {data.resolution}"
        better = f"; `{command}` trains one on its {len(data.classes)} classes, once" if enough else ""
        log.warning(
            "%s has no extractor of its own, and Inception's weights are unavailable: scores use '%s', "
            "a classifier of small photographs, on images resized to 32x32%s",
            data.title,
            RESIZED,
            better,
        )
    return RESIZED


def check_images(extractor: Extractor, data: ImageData, n: int = MINIMUM_IMAGES) -> None:
    """Raise an InputError for data that the extractor does not take, or too few images on either side."""
    shape, taken = (data.channels, data.resolution), (extractor.channels, extractor.resolution)
    if any(want not in (None, got) for got, want in zip(shape, taken, strict=True)):
        channels, side = (want or "any" for want in taken)
        raise InputError(
            f"extractor '{extractor.name}' takes {channels}-channel images of side {side}, but "
            f"'{data.name}' has {shape[0]} and {shape[1]}; use 'inception' or train one for it"
        )
    if min(n, len(data.train)) < MINIMUM_IMAGES:
        raise InputError(
            f"scoring '{data.name}' on {n} generated and {len(data.train)} real images; "
            f"at least {MINIMUM_IMAGES} of each are needed"
        )


def require(name: str) -> Extractor:
    """The extractor of a name.

    An InputError if it is unknown, or its weights are missing, damaged or unavailable: a run fails before it
    trains.
    """
    card = cards().get(name)
    if card is not None:
        card.verify()
        return _of_card(card)
    if name not in EXTRACTORS:
        raise unknown("extractor", name, names())
    with EXTRACTORS.calling(name):
        found = EXTRACTORS[name]()
    if not isinstance(found, Extractor):
        raise InputError(f"{name} gives {kind_of(found)}, not a gans.fidelity.Extractor; name another")
    code = EXTRACTORS.code(name)
    if code is None:
        return replace(found, name=name)
    # the hash covers the file of code from outside, besides the weights
    digest = hashlib.sha256(f"{found.hash} {code}".encode()).hexdigest()
    return replace(found, name=name, hash=digest, network=partial(_tried, name, found))


def published(name: str) -> Extractor:
    """The published extractor of a name, for plans; its weights need not be here.

    An InputError if none of this name was published: its description needs its weights.
    """
    card = cards().get(name)
    if card is not None:
        return _of_card(card)
    described = getattr(EXTRACTORS[name], "described", None) if name in EXTRACTORS.entries else None
    return described() if described else require(name)


def resized() -> Extractor:
    """The classifier of small photographs on images of any size."""
    card = cards()[PHOTOGRAPHS]
    card.verify()
    digest = hashlib.sha256(f"{card.sha256} {RESIZED} {RESIZING}".encode()).hexdigest()
    return Extractor(name=RESIZED, hash=digest, network=partial(_network, RESIZED), kid_subset_size=500)


def card_of(name: str) -> str:
    """What a classifier is and how well it does, for readers of its distances; empty for other extractors."""
    card = cards().get(PHOTOGRAPHS if name == RESIZED else name)
    resized = "; images are resized to 32x32, whatever they show" if name == RESIZED else ""
    return f"a classifier of {card.data}, {card.accuracy:.1%} of held-out images right{resized}" if card else ""


def _of_card(card: Card) -> Extractor:
    return Extractor(
        name=card.name,
        hash=card.sha256,
        network=partial(_network, card.name),
        channels=card.channels,
        resolution=card.resolution,
        labels=card.labels,
        gives=frozenset({"logits", "classes"}),
        kid_subset_size=500,
        image_bytes=512 * card.resolution**2,  # three copies of 32 maps of its size, float32, and smaller ones
    )


def _network(name: str) -> nn.Module:
    from gans.fidelity.extractors import pinned  # seconds to import: only when images are scored

    return pinned.Resized() if name == RESIZED else pinned.load(name)


def _tried(name: str, extractor: Extractor) -> nn.Module:
    """The network of an extractor from outside, after a test on two images."""
    import torch

    side = extractor.resolution or 32
    images = torch.zeros(2, extractor.channels or 3, side, side, dtype=torch.uint8)
    with EXTRACTORS.calling(name), torch.no_grad():
        network = extractor.network().eval()
        given = dict(zip(("features", "logits"), network(images), strict=True))
        for what in ("features", *sorted(extractor.gives & {"logits"})):
            if not kind_of(given[what]).startswith("float32 (2, "):
                raise InputError(f"{name}: {what} are {kind_of(given[what])}, not float32 (2, ...)")
    return network
