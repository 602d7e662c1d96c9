"""Damaged files that are read back: one line names each and what was done about it; no result is wrong unseen."""

import json
import logging
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gans import files
from gans.config import read_toml
from gans.data.folders import cached_folder, load_folder
from gans.errors import InputError
from gans.fidelity.extractors import cards
from gans.pictures import film, grids
from gans.schema import CHECKPOINT, GENERATOR, PREVIOUS
from gans.training.loop import train
from reports import results, studies
from tests.chaos import plan
from tests.conftest import CPU, StubScorer, train_and_score

Damage = Callable[[bytes], bytes]


DAMAGES: dict[str, Damage] = {
    **plan.DAMAGES,
    "a pickle": lambda content: pickle.dumps({"images": 1}),
    "zeros": lambda content: bytes(len(content)),
}


def spoil(path: Path, damage: Damage) -> None:
    path.write_bytes(damage(path.read_bytes()))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# --- checkpoints


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> SimpleNamespace:
    """The files of undisturbed trainings, by their settings; each is trained once."""
    return SimpleNamespace(root=tmp_path_factory.mktemp("whole"), outcomes={})


@pytest.fixture
def interrupted(tiny, blobs, stub_scorer, recorder, one_thread, whole, tmp_path):
    """A training that stopped after its third checkpoint, and the outcome of one that did not."""
    made = tiny({"networks": {"name": "gan"}})
    if not whole.outcomes:
        whole.outcomes["end"] = train_and_score(made, blobs(), whole.root / "end")
        stop = recorder(lambda event, count: (event, count) == ("flush", 4))
        with pytest.raises(KeyboardInterrupt):
            train_and_score(made, blobs(), whole.root / "cut", CPU, stop)
    shutil.copytree(whole.root / "cut", tmp_path / "cell")
    return SimpleNamespace(made=made, folder=tmp_path / "cell", whole=whole.outcomes["end"], data=blobs())


def go_on(cell: SimpleNamespace) -> SimpleNamespace:
    return train_and_score(cell.made, cell.data, cell.folder)


def same_weights(one: Path, other: Path) -> bool:
    a, b = (files.load_weights(folder / GENERATOR)[0] for folder in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("damage", ["cut", "a byte inverted", "a pickle"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(interrupted, damage, whole, caplog):
    cell = interrupted
    last, before = (files.load(cell.folder / name, CPU)["images"] for name in (CHECKPOINT, PREVIOUS))
    assert 0 < before < last
    spoil(cell.folder / CHECKPOINT, DAMAGES[damage])
    found = go_on(cell)
    (line,) = warnings(caplog)
    assert str(cell.folder / CHECKPOINT) in line
    assert "the previous checkpoint is used" in line
    assert found.reason == line
    assert (found.scores, found.chosen) == (cell.whole.scores, cell.whole.chosen)
    assert same_weights(cell.folder, whole.root / "end")
    assert (cell.folder / f"damaged-{CHECKPOINT}").exists()
    assert files.load(cell.folder / CHECKPOINT, CPU)["images"] == cell.made.budget


def test_without_a_whole_checkpoint_the_cell_starts_anew(interrupted, whole, caplog):
    cell = interrupted
    for name, damage in ((CHECKPOINT, "cut"), (PREVIOUS, "zeros")):
        spoil(cell.folder / name, DAMAGES[damage])
    found = go_on(cell)
    lines = warnings(caplog)
    assert len(lines) == 2
    assert "the cell starts again" in lines[-1]
    assert (found.scores, found.chosen) == (cell.whole.scores, cell.whole.chosen)
    assert same_weights(cell.folder, whole.root / "end")


def test_any_byte_of_a_checkpoint_counts(tmp_path):
    state = {"images": 640, "nested": {"x": torch.arange(6.0), "y": [torch.arange(3)]}}
    path = tmp_path / CHECKPOINT
    files.save(path, state)
    content = path.read_bytes()
    for place in [*range(0, len(content), 11), *range(len(content) - files.SEAL.size, len(content))]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        with pytest.raises(files.Damaged):
            files.load(path, CPU)


def another_seed(cell: SimpleNamespace, folder: Path) -> None:
    made = cell.made.model_copy(update={"seed": 1})
    train(made, cell.data, folder, CPU, StubScorer(cell.data, "stub", 100, CPU))


def another_model(cell: SimpleNamespace, folder: Path) -> None:
    state = files.load(cell.folder / CHECKPOINT, CPU)
    state["update"] = {name: torch.zeros(2) for name in state["update"]}
    files.save(folder / CHECKPOINT, state)


@pytest.mark.parametrize("make", [another_seed, another_model])
def test_a_whole_checkpoint_of_something_else_is_refused_with_a_remedy(interrupted, make, tmp_path):
    """It may be valuable: it is neither used nor renamed."""
    other = tmp_path / "other"
    other.mkdir()
    make(interrupted, other)
    shutil.copy(other / CHECKPOINT, interrupted.folder / CHECKPOINT)
    with pytest.raises(InputError) as caught:
        go_on(interrupted)
    text = str(caught.value)
    assert str(interrupted.folder / CHECKPOINT) in text
    assert "move it away" in text
    assert len(text.splitlines()) == 1


def refused(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_both_checkpoints_are_kept_without_links_and_when_the_disk_is_full(tmp_path, monkeypatch):
    last, before = tmp_path / CHECKPOINT, tmp_path / PREVIOUS
    files.save(last, {"images": 1}, before)
    monkeypatch.setattr("os.link", refused)
    files.save(last, {"images": 2}, before)
    monkeypatch.setattr(torch, "save", refused)
    with pytest.raises(OSError, match="No space"):
        files.save(last, {"images": 3}, before)
    assert [files.load(path, CPU)["images"] for path in (last, before)] == [2, 1]


# --- files that can be made again: the same comes back, with one line that names the damaged one


Kept = tuple[Path, Callable[[], Any]]  # a file, and how it is read; what is read is compared


def decoded_folder(folder: Path) -> Kept:
    images = folder / "images"
    images.mkdir()
    for n in range(12):
        Image.fromarray(np.full((16, 16), 20 * n, dtype=np.uint8)).save(images / f"{n}.png")

    def read() -> str:
        cached_folder.cache_clear()
        return load_folder(f"folder:{images}", folder, None).hash

    read()
    return next((folder / "cache").glob("*.safetensors")), read


def grids_of_a_film(folder: Path) -> Kept:
    pictures = {}
    for kimg in range(4):
        path = pictures[f"{kimg}kimg.png"] = folder / f"{kimg}kimg.png"
        # not random: a byte of noise can be another one without any trace
        grids.save_picture(grids.picture(torch.arange(64 * 256).reshape(64, 1, 16, 16).to(torch.uint8)), path)
    pictures["note-kimg.png"] = folder / "note-kimg.png"  # a name that is no number
    made = folder / "film.gif"
    tracks = [film.Track("gan", film.grids(pictures))]
    return pictures["2kimg.png"], lambda: film.save_film(tracks, 16, made) and made.is_file()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("make", [decoded_folder, grids_of_a_film])
def test_what_can_be_had_elsewhere_is(make, damage, tmp_path, caplog):
    path, read = make(tmp_path)
    expected = read()
    assert "damaged" not in caplog.text
    spoil(path, DAMAGES[damage])
    assert read() == expected
    (line,) = (line for line in warnings(caplog) if str(path) in line)
    assert len(line.splitlines()) == 1


# --- files that cannot be made again: one line that names them, and a remedy


ABOUT_A_PLAN = {"matrix": "digits", "experiment": "digits", "budget": 1.0, "protocol": 2, "command": "make bench"}
PLAN = json.dumps(ABOUT_A_PLAN | {"description": "", "cells": [], "floors": []})
PRESET = "batch = 64\n[optimizer]\nlr_g = 0.001\n[networks]\nwidth = 32\n"
# how it is written, and how it is read
REFUSED: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    GENERATOR: (
        lambda path: files.save_weights(path, {"w": torch.arange(500.0)}, {"images": 5, "note": "x" * 300}),
        files.load_weights,
    ),
    "tuned.toml": (lambda path: path.write_text(PRESET), read_toml),
    "digits.json": (lambda path: shutil.copy(cards.SHIPPED / "digits.json", path), cards._read),
    "cells.json": (lambda path: path.write_text(PLAN), lambda path: results._parse(path, "digits")),
    "sweep.json": (lambda path: path.write_text('{"study": "x", "model": "gan"}'), studies.read_record),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_had_elsewhere_is_refused_in_one_line(name, damage, tmp_path):
    if name == "tuned.toml" and damage in ("empty", "cut"):
        return  # no damage: it sets less
    path, (write, read) = tmp_path / name, REFUSED[name]
    write(path)
    spoil(path, DAMAGES[damage])
    with pytest.raises(InputError) as caught:
        read(path)
    text = str(caught.value)
    assert str(path) in text
    assert len(text.splitlines()) == 1


# --- what decorates


def test_what_decorates_never_fails_what_counts(interrupted, monkeypatch, caplog):
    monkeypatch.setattr(grids, "save_picture", refused)
    found = go_on(interrupted)
    assert found.status == "finished"
    assert found.scores == interrupted.whole.scores
    lines = warnings(caplog)
    assert all("samples/" in line and "is left out" in line for line in lines)
    assert any("final.png" in line for line in lines)
