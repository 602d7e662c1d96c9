"""`gans extractor` as a user runs it."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gans.commands import main
from gans.data.images import ImageData
from gans.errors import exit_code
from gans.fidelity import default_extractor, require
from gans.fidelity.extractors.classifiers import RECIPES


def command(*words: object) -> int:
    """Run `gans extractor` with these words; returns the exit code."""
    return exit_code(lambda: main.run(["extractor", *map(str, words)]))


@pytest.fixture
def striped(monkeypatch) -> ImageData:
    """Two classes that are easy to separate, in place of whatever data set is named; learnt in few steps."""
    lines = (torch.arange(16) % 4 < 2).to(torch.uint8) * 255
    across = lines.view(1, 1, -1, 1).expand(40, 1, 16, 16)
    images, labels = torch.cat([across, across.mT]).contiguous(), torch.arange(2).repeat_interleave(40)
    data = ImageData("striped", "Striped", images, images, labels, labels, ("across", "down"), hash="striped")
    monkeypatch.setattr("gans.data.datasets.load", lambda *_, **__: data)
    monkeypatch.setitem(RECIPES, 1, replace(RECIPES[1], minimum_steps=40, epochs=1, batch=16))
    return data


def test_it_pins_an_extractor_that_can_be_required(striped, tmp_path, monkeypatch, capsys):
    output = tmp_path / "mine"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stripes").mkdir()
    assert command("folder:stripes", "--resolution", 16, "--output", output) == 0
    assert "100.00% of 80 test images" in capsys.readouterr().out
    monkeypatch.setenv("GANS_EXTRACTORS", str(output))
    made = require("folder-stripes")
    assert default_extractor(striped) == made.name
    assert made.prefix == "fd_folder_stripes"
    card = json.loads((output / "folder-stripes.json").read_text())
    assert card["command"] == "gans extractor folder:stripes --resolution 16"
    assert (card["data"], card["data_hash"], card["accuracy"]) == ("striped", "striped", 1)
    assert (card["network"], card["labels"]) == ("plain", ["across", "down"])
    assert [tuple(layer.shape) for layer in made.network()(striped.test)] == [(80, 96), (80, 2)]


def test_data_without_labels_is_one_line(striped, tmp_path, monkeypatch, capsys):
    bare = replace(striped, train_labels=None, test_labels=None, classes=())
    monkeypatch.setattr("gans.data.datasets.load", lambda *_, **__: bare)
    assert command(f"folder:{tmp_path}", "--output", tmp_path) == 2
    error = capsys.readouterr().err
    assert "has no labels; put each class in a folder of its own" in error
    assert len(error.splitlines()) == 1


def test_without_output_it_writes_among_the_users_own_and_over_nothing(striped, monkeypatch, tmp_path, capsys):
    pinned = []

    def pin(data: ImageData, name: str, folder: Path, command: str) -> SimpleNamespace:
        pinned.append((name, folder, command))
        return SimpleNamespace(weights=folder / name, accuracy=1.0)

    monkeypatch.setattr("gans.fidelity.extractors.pinned.pin", pin)
    monkeypatch.delenv("GANS_EXTRACTORS", raising=False)
    monkeypatch.setenv("GANS_OUTPUTS", str(tmp_path))
    own = tmp_path / "extractors"
    assert command("digits", "--name", "mine") == 0
    own.mkdir()
    (own / "mine.safetensors").touch()
    assert command("digits", "--name", "mine") == 2
    assert command("digits") == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {own}/mine.safetensors exists; name another file, or overwrite it with --force",
        "error: the name 'digits' belongs to an extractor that ships; give yours another --name",
    ]
    assert command("digits", "--name", "mine", "--force") == 0
    mine = ("mine", own, "gans extractor digits --name mine")
    assert pinned == [mine, mine]
