"""Scores of images that carry labels: against the whole's own functions, by hand, and on toys."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from gans.data.datasets import load
from gans.data.images import ImageData
from gans.fidelity import require
from gans.fidelity.comparison import Comparison, Features, Labelled, Real
from gans.fidelity.extractors.extractor import Extractor
from gans.fidelity.gaussian import Gaussian
from gans.fidelity.metric import INCEPTION, error_of, label_of, scale_of, whole, within
from gans.fidelity.metrics import classes, classification_accuracy, frechet
from gans.fidelity.metrics.classes import agreeing
from gans.fidelity.scorer import Scorer
from tests.conftest import single_thread

CPU = torch.device("cpu")
NAMES = ["intra_fd_digits", "agreement_digits", "cas_digits"]


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load("digits")


@pytest.fixture(scope="module", autouse=True)
def one_thread(tmp_path_factory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, single_thread():
        patch.setenv("GANS_DATA", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture
def short(monkeypatch) -> None:
    """Trainings of a few steps, where their result does not matter."""
    monkeypatch.setattr(classification_accuracy, "STEPS", 2)
    monkeypatch.setattr(classification_accuracy, "TRAININGS", 2)


def compared(generated: Tensor, labels: Tensor, real: Tensor, own: Tensor) -> Comparison:
    there = Real(real, measure_held_out=lambda: torch.ones(1), labels=own)
    return Comparison(Features(generated), there, 10, Labelled(torch.empty(len(labels), 1, 1, 1), labels))


def test_the_distance_within_a_class_is_that_of_its_images_alone():
    rng = torch.Generator().manual_seed(0)
    generated, real = torch.randn(150, 6, generator=rng), torch.randn(200, 6, generator=rng) + 0.5
    labels, own = torch.arange(150) % 3, torch.arange(200) % 3
    found = classes.intra_frechet(compared(generated, labels, real, own))
    alone = [frechet.distance(Features(generated[labels == c]), Features(real[own == c])) for c in range(3)]
    errors = [
        Gaussian.of(real[own == c]).error(generated[labels == c], Gaussian.of(generated[labels == c]))
        for c in range(3)
    ]
    assert [part.value for part in found.classes.values()] == alone
    assert [part.error for part in found.classes.values()] == errors
    assert found.value == pytest.approx(sum(alone) / 3)
    assert found.error == pytest.approx(math.hypot(*errors) / 3)


def test_a_class_of_few_images_on_either_side_is_left_out():
    rng = torch.Generator().manual_seed(1)
    generated, real = torch.randn(79, 4, generator=rng), torch.randn(99, 4, generator=rng)
    labels = torch.tensor([0] * 30 + [1] * 30 + [2] * 19)
    own = torch.tensor([0] * 40 + [1] * 19 + [2] * 20 + [3] * 20)
    found = classes.intra_frechet(compared(generated, labels, real, own))
    assert list(found.classes) == [0]
    assert found.value == found.classes[0].value
    nothing = classes.intra_frechet(compared(generated[:30], labels[:30], real[40:], own[40:]))
    assert math.isnan(nothing.value)
    assert not nothing.classes


def test_agreement_by_hand():
    seen, labels = torch.tensor([0, 0, 1, 2, 2, 2, 0, 0]), torch.tensor([0, 0, 0, 0, 2, 2, 2, 2])
    found = agreeing(seen, labels)
    assert (found.value, found.error) == (0.5, pytest.approx((0.25 / 8) ** 0.5))
    assert {c: (part.value, part.error) for c, part in found.classes.items()} == {0: (0.5, 0.25), 2: (0.5, 0.25)}


def stripes(count: int, seed: int) -> Labelled:
    """Images of one bright quarter on noise: which one is their class."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=rng)
    images = torch.randint(0, 120, (count, 1, 16, 16), generator=rng, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, 4 * label : 4 * label + 4] += 100
    return Labelled(images, labels)


def test_classifiers_learn_from_labels_that_are_right_and_nothing_from_shuffled_ones(monkeypatch):
    monkeypatch.setattr(classification_accuracy, "STEPS", 40)  # are enough for stripes
    given, judges = stripes(300, 0), stripes(400, 1)
    right = classification_accuracy.score(given, judges, CPU)
    assert right.value > 0.99
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    shuffled = Labelled(given.images, given.labels[order])
    chance = classification_accuracy.score(shuffled, judges, CPU)
    assert chance.value == pytest.approx(0.25, abs=0.1)
    # the error is that of so many real images and of so many trainings
    assert chance.spread is not None
    assert chance.error**2 == pytest.approx(chance.value * (1 - chance.value) / 400 + chance.spread**2 / 3)


def test_labels_add_metrics_and_leave_the_others_as_they_are(digits, short):
    scorer = Scorer(digits, "digits", 300, CPU)
    images, labels = digits.test[:300], digits.test_labels[:300]
    plain, found = scorer.score(images), scorer.score(images, labels)
    assert {name: found[name] for name in plain} == plain
    more = [name for name in found if name not in plain]
    assert {whole(name) for name in more} == {*NAMES, *map(error_of, NAMES), "cas_digits_std"}
    assert list(scorer.class_metrics) == [*scorer.names, *NAMES]
    assert found["agreement_digits"] > 0.98
    parts = [found[within("intra_fd_digits", c)] for c in range(10)]
    assert found["intra_fd_digits"] == pytest.approx(sum(parts) / 10)
    # by labels that are wrong by one, the distances are the classes' from each other
    wrong = scorer.score(images, (labels + 1) % 10)
    assert wrong["fd_digits"] == found["fd_digits"]
    assert wrong["intra_fd_digits"] > 10 * found["intra_fd_digits"]
    assert wrong["agreement_digits"] < 0.02


def test_what_needs_the_data_s_classes_is_not_had_of_other_ones():
    own, other = require("digits"), Extractor(name=INCEPTION, hash="0" * 64, network=torch.nn.Identity)
    assert list(own.metrics(classes=own.labels))[-3:] == NAMES
    assert [name for name in own.metrics(classes=("cats", "dogs")) if name not in own.metrics()] == NAMES[:1]
    assert [name for name in other.metrics(classes=own.labels) if name not in other.metrics()] == ["intra_fid"]
    assert scale_of("intra_fid") == scale_of("intra_fd_digits") == "ratio"
    assert scale_of("cas_digits") == "share"
    assert label_of("intra_fd_digits") is None  # no distance that models are ranked by
