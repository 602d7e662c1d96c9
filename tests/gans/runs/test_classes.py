"""Scores with classes are those of conditional generators, and what was scored without them stays complete."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from benchmarks.plan import floor_of
from benchmarks.runner import measured
from gans import schema
from gans.config import experiment
from gans.data.images import ImageData
from gans.fidelity import require
from gans.runs.cell import Cell, identify
from gans.runs.execute import tags
from gans.runs.scores import ScoreKey, record
from tests.conftest import CPU, train_and_score

CLASSES = tuple("0123456789")


def cell(conditional: bool) -> Cell:
    table = {"dataset": "digits", "networks": {"name": "gan", "conditional": conditional}}
    return identify("cgan" if conditional else "gan", experiment(table), CPU)


def test_a_run_without_classes_stays_complete_and_one_with_them_needs_more() -> None:
    extractor = require("digits")
    plain, more = list(extractor.metrics()), list(extractor.metrics(classes=CLASSES))
    assert more == [*plain, "intra_fd_digits", "agreement_digits", "cas_digits"]
    kept = record(extractor, plain)
    assert kept.complete(extractor)
    assert not kept.complete(extractor, CLASSES)
    assert record(extractor, more).complete(extractor, CLASSES)
    # a number of each class would not fit into a tag
    assert record(extractor, [*more, "intra_fd_digits/0", "intra_fd_digits_se/0"]).metrics == tuple(more)


def test_a_conditional_cell_has_classes_and_says_them() -> None:
    assert cell(False).classes == ()
    assert schema.CLASSES not in tags(cell(False))
    assert json.loads(tags(cell(True))[schema.CLASSES]) == list(CLASSES)


def test_a_tag_has_room_for_the_names_of_the_first_of_many_classes(monkeypatch) -> None:
    names = tuple(f"{'名' * 250}{place:03}" for place in range(200))
    monkeypatch.setattr(Cell, "classes", names)
    found = tags(cell(True))[schema.CLASSES]
    assert json.loads(found) == [name[:200] for name in names[:20]]
    assert len(found) < 5_000


def test_the_floor_of_a_conditional_cell_is_the_same_with_more_numbers() -> None:
    plain, labelled = (floor_of(cell(with_classes), ScoreKey("digits", 1000)) for with_classes in (False, True))
    assert replace(labelled, classes=()) == plain
    names = require("digits").metrics()
    metrics = {f"{kind}/{name}": 1.0 for kind in ("half", "test") for name in names}
    run = SimpleNamespace(tags={schema.STATUS: schema.FINISHED}, metrics=metrics)
    assert measured(run, plain)
    assert not measured(run, labelled)
    more = require("digits").metrics(classes=CLASSES)
    metrics |= {f"{kind}/{name}": 1.0 for kind in ("half", "test") for name in more}
    assert measured(run, labelled)
    assert measured(run, plain)


@pytest.fixture
def labelled(blobs) -> ImageData:
    data = blobs()
    labels = torch.arange(len(data.train)) % 3
    return replace(data, train_labels=labels, test_labels=labels[:10], classes=("a", "b", "c"))


def test_a_conditional_generator_is_scored_with_the_labels_labels_seen_for(
    tiny, labelled, stub_scorer, recorder, monkeypatch, tmp_path
):
    labels_seen = []
    assess = stub_scorer.assess
    monkeypatch.setattr(
        stub_scorer, "assess", lambda self, images, labels=None: labels_seen.append(labels) or assess(self, images)
    )
    observer = recorder()
    made = tiny({"networks": {"name": "gan", "conditional": True}})
    train_and_score(made, labelled, tmp_path, CPU, observer)
    (labels,) = labels_seen
    assert labels.shape == (100,)
    assert set(labels.tolist()) == {0, 1, 2}
    assert [path.name for path in observer.pictures][-3:] == ["final.png", "each-class.png", "neighbours.png"]
    train_and_score(tiny({"networks": {"name": "gan"}}), labelled, tmp_path / "plain", CPU)
    assert labels_seen[1] is None
    assert not (tmp_path / "plain" / schema.SAMPLES / schema.CLASS_GRID).exists()
