"""A folder without an extractor of its own, on a machine without Inception: all commands take one default."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.matrix import Selection, cells, read_matrix
from gans.commands import main
from gans.config import experiment
from gans.recipes import recipe
from gans.runs.cell import described, resolve
from tests.conftest import CPU


@pytest.fixture
def offline(tmp_path, monkeypatch) -> Path:
    """The data folder of a machine without a network."""
    monkeypatch.setattr("gans.fidelity.extractors.published.Published.in_reach", lambda _: False)
    monkeypatch.setenv("GANS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "data"


def pictures(folder: Path, labelled: bool) -> str:
    rng = torch.Generator().manual_seed(0)
    for number in range(80):
        place = folder / ("dark" if number % 2 else "bright") if labelled else folder
        place.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 128, (16, 16), generator=rng) + 127 * (number % 2)
        Image.fromarray(pixels.byte().numpy()).save(place / f"{number:03}.png")
    return f"folder:{folder}"


@pytest.mark.parametrize("labelled", [True, False])
def test_bench_train_and_score_take_the_same_default(labelled, offline, tmp_path, monkeypatch, capsys, one_thread):
    name = pictures(tmp_path / "mine", labelled)
    wanted = Selection(models=["dcgan"], datasets=[name], seeds=[0], precision="float32")
    (planned,) = cells(read_matrix("digits"), wanted, CPU, described)
    (benched,) = cells(read_matrix("digits"), wanted, CPU)
    given = {"dataset": name, "precision": "float32", "batch": 16}
    trained = resolve("dcgan", experiment(recipe("dcgan").settings, given), CPU)
    np.savez(tmp_path / "some.npz", images=torch.randint(256, (30, 1, 16, 16)).byte().numpy())
    words = ["gans", "score", str(tmp_path / "some.npz"), "--reference", name, "--device", "cpu", "--json"]
    monkeypatch.setattr("sys.argv", words)
    assert main.main() == 0
    scored = json.loads(capsys.readouterr().out)

    used = benched.experiment.score.extractors
    assert (
        used
        == trained.experiment.score.extractors
        == (scored["extractor"],)
        == planned.experiment.score.extractors
    )
    assert scored["extractor"] == "cifar10-resized"
    assert benched.metric == trained.metric == planned.metric == "fd_cifar10_resized"
    assert benched.metric in scored["scores"]
    assert planned.identity == benched.identity
    assert not (offline / "cache/extractors").exists()  # nothing is trained unasked
