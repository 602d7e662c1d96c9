"""The scores of a trained cell, and those that are missing. Does not import torch, so that planning is fast.

A score is identified by the trained cell, the extractor (its hash), the number of generated images and the version
of scoring. A run has one tag per extractor and number of images, with hash, version and metrics.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from gans import schema
from gans.fidelity import SCORING_VERSION, Extractor
from gans.fidelity.metric import whole


@dataclass(frozen=True, order=True)
class ScoreKey:
    """An extractor, and how many generated images it scores."""

    extractor: str
    count: int

    @property
    def tag(self) -> str:
        """The tag of a run that holds the record of this score."""
        return f"{schema.SCORED}{self.extractor}.{self.count}"

    def __str__(self) -> str:
        return f"{self.extractor} at {self.count:,}"


@dataclass(frozen=True)
class ScoreRecord:
    """What a score was made with."""

    sha256: str  # of the extractor's weights
    version: int  # SCORING_VERSION then
    metrics: Sequence[str]  # all numbers, errors included; those within classes come and go with the whole's

    def text(self) -> str:
        """As a tag holds it."""
        return json.dumps(asdict(self))

    def complete(self, extractor: Extractor, classes: Sequence[str] = ()) -> bool:
        """Whether nothing is missing that the extractor would give today, of a generator with these classes."""
        same = (self.sha256, self.version) == (extractor.hash, SCORING_VERSION)
        return same and extractor.metrics(classes=classes).keys() <= set(self.metrics)


def record(extractor: Extractor, metrics: Iterable[str]) -> ScoreRecord:
    """Of a score that was made now."""
    # a tag has no room for a number of each of a hundred classes
    return ScoreRecord(extractor.hash, SCORING_VERSION, tuple(name for name in metrics if name == whole(name)))


def records(tags: Mapping[str, str]) -> dict[ScoreKey, ScoreRecord]:
    """All that a run was scored with, by its tags."""
    found = {}
    for tag, text in tags.items():
        if tag.startswith(schema.SCORED):
            extractor, _, count = tag.removeprefix(schema.SCORED).rpartition(".")
            found[ScoreKey(extractor, int(count))] = ScoreRecord(**json.loads(text))
    return found


def missing(
    wanted: Iterable[ScoreKey], tags: Mapping[str, str], classes: Sequence[str], find: Callable[[str], Extractor]
) -> tuple[ScoreKey, ...]:
    """The scores that a run with these tags lacks, by extractors as `find` gives them."""
    known = records(tags)
    return tuple(
        key for key in wanted if key not in known or not known[key].complete(find(key.extractor), classes)
    )


def metric(name: str, count: int, tags: Mapping[str, str]) -> str:
    """What a score on `count` images is logged as, in a run with these tags."""
    own = tags.get(schema.COUNT) == str(count)
    return schema.score(name) if own else schema.score(name, count)
