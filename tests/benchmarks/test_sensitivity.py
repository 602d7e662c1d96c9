"""The damage in the sensitivity report is what it says, and the metrics notice what they are made for."""

from itertools import pairwise

import pandas as pd
import pytest
import torch

from benchmarks import sensitivity
from benchmarks.sensitivity import DAMAGES, DROPPED, Subject, in_standard_errors, measure
from gans.data.datasets import load
from gans.data.images import ImageData
from gans.errors import InputError
from gans.fidelity.scorer import Scorer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject.of(load("digits"), most=80)


def apply(subject: Subject, name: str, level: float) -> torch.Tensor:
    return next(d for d in DAMAGES if d.name == name).apply(subject, level)


def distinct(images: torch.Tensor) -> int:
    return len(images.flatten(1).unique(dim=0))


def inside(images: torch.Tensor, others: torch.Tensor) -> float:
    """The share of images that equal one of the others."""
    known = {bytes(image.numpy()) for image in others}
    return sum(bytes(image.contiguous().numpy()) in known for image in images) / len(images)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.name)
def test_the_first_level_is_no_damage_and_n_stays(damage, subject):
    none, *others = (damage.apply(subject, level) for level in damage.levels)
    assert torch.equal(none, subject.held_out)
    for images in others:
        assert (images.shape, images.dtype) == (none.shape, torch.uint8)
        assert not torch.equal(images, none)


def test_damage_is_as_strong_as_its_level(subject):
    real, data = subject.held_out, subject.data
    assert torch.equal(apply(subject, "shift", 3)[..., 3:], real[..., :-3])
    assert torch.equal(apply(subject, "contrast", 0.5), (real / 2).round().byte())
    assert distinct(apply(subject, "duplicates", 8)) == 10
    middle = (real > 100) & (real < 155)  # nothing is cut off here
    moved = (apply(subject, "noise", 16).float() - real.float())[middle]
    assert moved.std().item() == pytest.approx(16, rel=0.1)
    assert inside(apply(subject, "training copies", 0.25), data.train) == pytest.approx(0.25, abs=0.02)
    kept = apply(subject, "dropped classes", 0.4)
    assert inside(kept, data.test[data.test_labels >= 4]) == 1
    variation = [apply(subject, "blur", s).float().diff(dim=-1).abs().mean().item() for s in (0, 0.7, 1.5)]
    assert variation == sorted(variation, reverse=True)


def test_as_many_images_as_the_strongest_drop_leaves(subject):
    digits = subject.data
    assert Subject.of(digits).n == int((digits.test_labels >= round(10 * DROPPED[-1])).sum())
    assert (subject.n, len(subject.held_out)) == (80, 80)
    unlabelled = ImageData("x", "X", digits.train, digits.test, None, None, (), "x")
    with pytest.raises(InputError, match="has no classes to drop"):
        Subject.of(unlabelled)
    few = ImageData(
        "x", "X", digits.train, digits.test[:9], digits.train_labels, digits.test_labels[:9], digits.classes, "x"
    )
    with pytest.raises(InputError, match="held-out images of few classes; 50 are needed"):
        Subject.of(few)


def test_metrics_notice_duplicates_dropped_classes_and_copies(subject, tmp_path, monkeypatch):
    monkeypatch.setenv("GANS_DATA", str(tmp_path))
    scorer = Scorer(subject.data, "digits", subject.n, torch.device("cpu"))
    measured = measure(scorer, subject, DAMAGES[-3:])

    def values(damage: str, metric: str) -> list[float]:
        own = measured[(measured["damage"] == damage) & (measured["metric"] == f"{metric}_digits")]
        return own["value"].tolist()

    def grows(values: list[float]) -> bool:
        return all(a < b for a, b in pairwise(values))

    assert grows(values("dropped classes", "fd"))
    assert grows(values("dropped classes", "class_distance"))
    assert grows([-value for value in values("dropped classes", "coverage")])
    assert grows([-value for value in values("duplicates", "coverage")])
    assert values("duplicates", "recall")[-1] < 0.2 < values("duplicates", "recall")[0]
    assert grows(values("training copies", "memorisation"))
    assert values("training copies", "memorisation")[-1] == 1
    text = sensitivity.page(measured, scorer, subject, tmp_path).read_text()
    assert "80 held-out images of Digits take the place of generated ones" in text
    figure = sensitivity.draw(measured, scorer, subject)
    assert len(figure.axes) == 3 * (1 + 10)
    line = figure.axes[3].lines[1]  # below the first example: the first metric
    assert line.get_ydata().tolist() == values("dropped classes", "fd")


def test_movements_are_in_standard_errors():
    rows = [("noise", 0.0, "fd", 1.0, 3.0), ("noise", 5.0, "fd", 2.0, 1.0), ("noise", 9.0, "fd", 26.0, 4.0)]
    rows += [("noise", 0.0, "kd", 1.0, 0.0), ("noise", 5.0, "kd", 1.0, 1.0), ("noise", 9.0, "kd", -1.0, 2.0)]
    measured = pd.DataFrame(rows, columns=["damage", "level", "metric", "value", "error"])
    found = in_standard_errors(measured)
    assert found.loc["fd", "noise"] == 5
    assert found.loc["kd", "noise"] == -1
