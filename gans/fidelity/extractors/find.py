"""Which feature extractors there are, and whether they can be had.

Light to import: torch-fidelity is loaded by the first network that is.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from gans.errors import InputError, unknown
from gans.fidelity.extractors.cards import INCEPTION_SHA256, TO_BE_MADE, Card, cards
from gans.fidelity.extractors.extractor import Extractor
from gans.fidelity.metric import INCEPTION
from gans.fidelity.protocol import MINIMUM_IMAGES
from gans.registry import EXTRACTORS, load

if TYPE_CHECKING:
    from torch import nn

    from gans.data.images import ImageData

# what gives the published ones, whether or not their weights are here
DESCRIBED = {name: f"gans.fidelity.extractors.{name}:described" for name in ("clip", "dinov2")}


def names() -> list[str]:
    """Every extractor that has a name: pinned classifiers, `inception`, and those of installed packages."""
    return [*sorted(cards()), *EXTRACTORS.names()]


def own_extractor(data: ImageData) -> str | None:
    """The name of the extractor that was trained on this data set, at this size; None if there is none.

    One that was pinned by name comes first. One that was made on demand is known by the data's hash.
    """
    same = (data.name, data.channels, data.resolution)
    known = cards().values()
    # by its content, too: a folder has many spellings
    pinned = (
        card
        for card in known
        if not card.made and ((card.data, card.channels, card.resolution) == same or card.data_hash == data.hash)
    )
    made = (card for card in known if card.made and card.data_hash == data.hash)
    return next((card.name for card in (*pinned, *made)), None)


def default_extractor(data: ImageData) -> str:
    """The name of the extractor that scores are by where none is asked for; its weights are here.

    The first of these that there is: the one that was trained on this data set, at this size; `inception`, if its
    weights are on this machine or can be downloaded; else a stand-in, which may be trained now (the log says
    so, and how long it takes).

    Raises:
        InputError: GANS_INCEPTION names no file.
    """
    own = own_extractor(data)
    if own is not None:
        return own
    from gans.fidelity.extractors.inception import at_hand

    if at_hand():
        return INCEPTION
    from gans.fidelity.extractors.stand_in import stand_in

    return stand_in(data)


def planned_extractor(data: ImageData) -> str:
    """The name that `default_extractor` would give; nothing is fetched or trained: its weights may be missing."""
    own = own_extractor(data)
    if own is not None:
        return own
    from gans.fidelity.extractors.inception import in_reach

    if in_reach():
        return INCEPTION
    from gans.fidelity.extractors.stand_in import name_of

    return name_of(data)


def check_images(extractor: Extractor, data: ImageData, n: int = MINIMUM_IMAGES) -> None:
    """Refuse to score `n` generated images against data that the extractor does not take, or too few of either.

    Raises:
        InputError: with the remedy.
    """
    shape, taken = (data.channels, data.resolution), (extractor.channels, extractor.resolution)
    if any(want not in (None, got) for got, want in zip(shape, taken, strict=True)):
        channels, side = (want or "any" for want in taken)
        raise InputError(
            f"extractor '{extractor.name}' takes {channels}-channel images of side {side}, but "
            f"'{data.name}' has {shape[0]} and {shape[1]}; use 'inception' or train one for it"
        )
    if min(n, len(data.train)) < MINIMUM_IMAGES:
        raise InputError(
            f"scoring '{data.name}' with {n} generated and {len(data.train)} real images; "
            f"at least {MINIMUM_IMAGES} of each are needed"
        )


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
    if name.startswith(TO_BE_MADE):  # no cell was trained with what is not there yet
        return Extractor(name=name, hash="not trained yet", network=partial(_load, name))
    if name == INCEPTION:
        return Extractor(name=INCEPTION, hash=INCEPTION_SHA256, network=partial(_load, INCEPTION))
    if name in DESCRIBED:
        return load("extractor", DESCRIBED[name])()
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
