"""Which feature extractors there are, and whether they can be had.

Light to import: torch-fidelity is loaded by the first network that is.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from gans.errors import InputError, unknown
from gans.fidelity.extractors.cards import INCEPTION_SHA256, Card, cards
from gans.fidelity.extractors.extractor import Extractor
from gans.fidelity.metric import INCEPTION
from gans.registry import EXTRACTORS

if TYPE_CHECKING:
    from torch import nn

    from gans.data.images import ImageData


def names() -> list[str]:
    """Every extractor that has a name: pinned classifiers, `inception`, and those of installed packages."""
    return [*sorted(cards()), *EXTRACTORS.names()]


def default_extractor(data: ImageData) -> str:
    """The name of the extractor that was trained on this data set, at this size, or else `inception`."""
    same = (data.name, data.channels, data.resolution)
    own = (card.name for card in cards().values() if (card.data, card.channels, card.resolution) == same)
    return next(own, INCEPTION)


def require(name: str) -> Extractor:
    """The extractor of a name, once its weights are known to be here, whole and loadable.

    Raises:
        InputError: there is none of this name, or its weights are missing, damaged or unobtainable, so that a run
            fails before it trains.
    """
    known = cards()
    if name in known:
        return _pinned(known[name])
    if name not in EXTRACTORS:
        raise unknown("extractor", name, names())
    return _registered(name)


def published(name: str) -> Extractor:
    """The extractor of a name as it was published, whether or not its weights are here: enough to plan with.

    Raises:
        InputError: none of this name was published, so that only its weights can tell what it is.
    """
    known = cards()
    if name in known:
        return _described(known[name])
    if name == INCEPTION:
        return Extractor(name=INCEPTION, hash=INCEPTION_SHA256, network=partial(_load, INCEPTION))
    return require(name)


def _pinned(card: Card) -> Extractor:
    card.verify()
    return _described(card)


def _described(card: Card) -> Extractor:
    return Extractor(
        name=card.name,
        hash=card.sha256,
        network=partial(_load, card.name),
        channels=card.channels,
        resolution=card.resolution,
        labels=card.labels,
        gives=frozenset({"logits", "classes"}),
        kid_subset_size=500,
        image_bytes=512 * card.resolution**2,  # three copies of 32 maps of its size, float32, and what is smaller
    )


def _load(name: str) -> nn.Module:
    from gans.fidelity.extractors.pinned import load

    return load(name)


def _registered(name: str) -> Extractor:
    """Of one from outside this repository the file of code is part of the hash: weights alone decide nothing."""
    make = EXTRACTORS[name]
    found = make() if callable(make) else make
    if not isinstance(found, Extractor):
        raise InputError(
            f"extractor '{name}' gives a {type(found).__name__}, not a gans.fidelity.Extractor; name another"
        )
    code = EXTRACTORS.code(name)
    if code is None:
        return found
    return replace(found, name=name, hash=hashlib.sha256(f"{found.hash} {code}".encode()).hexdigest())
