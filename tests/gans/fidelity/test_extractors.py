"""The pinned extractors: what they take, how good they are, and that damage is noticed before training."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gans.data.datasets import load
from gans.data.images import ImageData
from gans.errors import InputError
from gans.fidelity import default_extractor, names, published, require
from gans.fidelity.extractors import cards, classifiers
from gans.fidelity.extractors.classifiers import RECIPES, accuracy
from gans.fidelity.extractors.published import Published
from gans.fidelity.gaussian import Gaussian
from gans.fidelity.scorer import Scorer
from gans.registry import allow

# of the training images; measured when the weights were pinned
SUM_OF_FEATURES = 44774.48936652293

SHARES = ("precision", "recall", "density", "coverage", "memorisation", "class_distance")


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load("digits")


@pytest.fixture
def shipped(tmp_path, monkeypatch) -> Path:
    """A copy of the shipped extractors that a test may damage."""
    copy = tmp_path / "weights"
    shutil.copytree(cards.SHIPPED, copy)
    monkeypatch.setattr(cards, "SHIPPED", copy)
    return copy


def striped(resolution: int = 16, channels: int = 1, count: int = 40) -> ImageData:
    """Two classes that anything can tell apart: stripes across and stripes down."""
    lines = (torch.arange(resolution) % 4 < 2).to(torch.uint8) * 255
    across = lines.view(1, 1, -1, 1).expand(count, channels, resolution, resolution)
    images = torch.cat([across, across.mT]).contiguous()
    labels = torch.arange(2).repeat_interleave(count)
    return ImageData("striped", "Striped", images, images, labels, labels, ("across", "down"), hash="striped")


@pytest.mark.parametrize("name", sorted(cards.cards()))
def test_shipped_extractors_match_their_cards(name):
    card = cards.cards()[name]
    card.verify()
    least = {"digits": 0.97, "mnist": 0.99, "fashion-mnist": 0.91, "cifar10": 0.85}
    assert card.accuracy > least.get(name, 0)
    assert card.weights.stat().st_size < (2_000_000 if name == "cifar10" else 1_000_000)
    trained_on = {"cifar10": "cifar10-jpeg --name cifar10"}
    assert card.command == f"gans extractor {trained_on.get(name, name)}"
    assert len(card.labels) == card.classes


def test_digits_accuracy_is_what_the_card_says_when_measured_again(digits):
    network = require("digits").network()
    measured = accuracy(network.classifier, digits.test, digits.test_labels)
    assert measured > 0.97
    assert measured == pytest.approx(network.card.accuracy, abs=1e-6)
    assert network.card.data_hash == digits.hash


def test_features_have_no_dead_or_copied_dimension(digits):
    features, logits = require("digits").network()(digits.train)
    assert features.shape == (len(digits.train), 96)
    assert logits.shape == (len(digits.train), 10)
    assert features.std(0).min() > 0.05 * features.std(0).max()
    assert torch.linalg.eigvalsh(features.T.cov())[0] > 0
    assert features.double().sum().item() == pytest.approx(SUM_OF_FEATURES, rel=1e-6)  # they never change


def test_names_of_metrics_keep_fid_for_inception():
    extractor = require("digits")
    assert extractor.prefix == "fd_digits"
    known = [f"{name}_digits" for name in ("fd", "fdinf", "kd", "is", *SHARES)]
    assert list(extractor.metrics())[: len(known)] == known
    assert require("fashion-mnist").prefix == "fd_fashion_mnist"
    others = [published(name).prefix for name in names() if name != "inception"]
    assert all(prefix.startswith("fd_") for prefix in others)


@pytest.fixture
def online(monkeypatch) -> Callable[[bool], None]:
    """Says whether Inception's weights can be had; at first they can."""

    def turn(on: bool) -> None:
        monkeypatch.setattr(Published, "in_reach", lambda _: on)

    turn(True)
    return turn


def test_default_extractor_is_the_data_sets_own(digits, online):
    assert default_extractor(digits) == "digits"
    assert default_extractor(striped()) == "inception"
    assert default_extractor(load("digits", resolution=32)) == "inception"


@pytest.mark.parametrize("damage", [lambda file: file[:-1], lambda file: file[:-4] + bytes(4)])
def test_damaged_weights_are_noticed(shipped, damage):
    weights = shipped / "digits.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    with pytest.raises(InputError, match="not the file on its card; restore it with git, or train it again"):
        require("digits")


def test_missing_weights_and_broken_cards_are_noticed(shipped):
    (shipped / "digits.safetensors").unlink()
    with pytest.raises(InputError, match="is missing"):
        require("digits")
    (shipped / "digits.json").write_text("{")
    with pytest.raises(InputError, match="is not an extractor's card"):
        names()


@pytest.fixture
def quick(monkeypatch):
    for channels, recipe in RECIPES.items():
        monkeypatch.setitem(RECIPES, channels, replace(recipe, minimum_steps=40, epochs=1, batch=16))


@pytest.mark.parametrize(("resolution", "channels"), [(16, 1), pytest.param(32, 3, marks=pytest.mark.slow)])
def test_training_learns_and_repeats_bit_for_bit(quick, resolution, channels):
    data = striped(resolution, channels)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = classifiers.train(data.train, data.train_labels, 2)
    assert torch.equal(state, torch.get_rng_state())
    second = classifiers.train(data.train, data.train_labels, 2)
    assert accuracy(first, data.test, data.test_labels) == 1
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))


# --- without Inception


@pytest.mark.parametrize(
    ("resolution", "channels", "count", "labelled", "advised"),
    [(16, 1, 40, True, True), (32, 3, 40, True, True), (16, 1, 15, True, False), (64, 3, 40, False, False)],
)
def test_offline_data_are_scored_by_the_classifier_of_photographs(
    resolution, channels, count, labelled, advised, online, caplog
):
    """One line says so once and, where a classifier could be trained, the command."""
    online(False)
    data = replace(striped(resolution, channels, count), hash=f"{resolution} {channels} {count} {labelled}")
    if not labelled:
        data = replace(data, train_labels=None, test_labels=None, classes=())
    assert {default_extractor(data) for _ in range(3)} == {"cifar10-resized"}
    (line,) = caplog.messages
    assert "scores use 'cifar10-resized', a classifier of small photographs, on images resized" in line
    command = f"`gans extractor 'striped' --resolution {resolution}` trains one on its 2 classes, once"
    assert (command in line) == advised
    scores = Scorer(data, "cifar10-resized", 20, torch.device("cpu")).score(data.test[:20])
    assert "fd_cifar10_resized" in scores
    assert not any(name.startswith("class_distance") for name in scores)  # its classes are not the data's


def test_the_resized_extractor_gives_the_pinned_ones_features():
    """At its own size nothing is resized; grey is repeated; one colour stays that colour at any size."""
    small = torch.randint(256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    plain, resized = require("cifar10"), require("cifar10-resized")
    network, expected = resized.network(), plain.network()
    assert all(map(torch.equal, network(small), expected(small)))
    assert plain.hash != resized.hash
    assert torch.equal(network(small[:, :1])[0], expected(small[:, :1].expand(-1, 3, -1, -1))[0])
    flat = torch.tensor([0, 128, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    for side in (16, 50, 128):
        found = network(flat.expand(-1, 3, side, side))[0]
        torch.testing.assert_close(found, expected(flat.expand(-1, 3, 32, 32))[0])


# Extractors from outside the repository

PIXELS = """
import torch
from torch import nn
from gans.fidelity import Extractor

class Rows(nn.Module):
    def forward(self, images):
        rows = images.float().mean(3).flatten(1) / 255
        return rows, {logits}

def rows():
    return Extractor("rows", "no weights", Rows, channels=1, resolution=16, {gives})"""


def outside(folder: Path, logits: str = "None", gives: str = "gives=frozenset()") -> None:
    (folder / f"{folder.name}_features.py").write_text(PIXELS.format(logits=logits, gives=gives))
    allow(f"{folder.name}_features")


def test_an_extractor_from_a_file_scores_what_it_gives(digits, tmp_path, monkeypatch):
    """Without logits no Inception score, without the data's classes no class distance; the code is in the hash."""
    monkeypatch.setenv("GANS_DATA", str(tmp_path / "data"))
    monkeypatch.syspath_prepend(tmp_path)
    outside(tmp_path)
    name = f"{tmp_path.name}_features:rows"
    scorer = Scorer(digits, name, 60, torch.device("cpu"))
    scores = scorer.score(digits.test[:60])
    assert (scorer.extractor.name, scorer.metric) == (name, f"fd_{tmp_path.name}_features_rows")
    label = scorer.extractor.label
    assert {f"{metric}_{label}" for metric in ("fd", "fdinf", "kd", *SHARES[:-1])} <= set(scorer.names)
    assert not {f"{metric}_{label}" for metric in ("is", SHARES[-1])} & set(scorer.names)
    assert set(scorer.names) < set(scores)
    rows = digits.test[:60].double().mean(3).flatten(1) / 255, digits.train.double().mean(3).flatten(1) / 255
    assert scores[f"fd_{label}"] == pytest.approx(Gaussian.of(rows[1]).distance(Gaussian.of(rows[0])), rel=1e-4)
    before = require(name).hash
    outside(tmp_path, "rows", "")
    assert require(name).hash != before
