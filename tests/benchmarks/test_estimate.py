"""What is said of a matrix before it runs."""

import copy

import pytest

from benchmarks import plan
from gans import schema
from gans.commands import main
from gans.runs import cell as cells
from gans.runs.cell import Cell
from gans.training.checkpoints import Checkpoints
from gans.training.state import Training
from tests.conftest import CPU


def test_some_steps_show_pace_and_disk(tiny, blobs, monkeypatch, tmp_path):
    monkeypatch.setattr(Cell, "images", property(lambda self: blobs()))
    cell = Cell("dcgan", tiny(), "0" * 16, "fd_stub")
    pace, disk = plan.attempt(cell, CPU)
    assert pace > 0
    training = Training(cell.experiment, blobs(), CPU)
    training.step()
    generator = training.ema.state()
    best = copy.deepcopy(generator)  # shared tensors would be written once
    Checkpoints(tmp_path).save(training.state() | {"best": best})
    checkpoint = (tmp_path / schema.CHECKPOINT).stat().st_size
    expected = 3 * checkpoint + 2 * plan.bytes_of(generator)
    assert disk - plan.PICTURES == pytest.approx(expected, rel=0.02)


def test_what_is_left_is_the_sum_over_cells_by_cells_at_a_time(tiny, blobs, monkeypatch):
    """There are two seeds of one model and one of another: (2 * 10,000 * 0.5 + 10,000 * 0.1) / 2 s."""
    monkeypatch.setattr(plan, "attempt", lambda cell, device: (0.5 if cell.model == "gan" else 0.1, 2**20))
    gans = [Cell("gan", tiny({"kimg": 10, "seed": seed}), "0" * 16, "fd_stub") for seed in (0, 1)]
    other = Cell("dcgan", tiny({"kimg": 10}), "1" * 16, "fd_stub")
    said = plan.estimate([*gans, other], CPU, parallel=2)
    assert said == "estimated from some steps of each model: 1 h 32 min of training, without scores; 3 MiB of disk"


def test_a_dry_run_needs_no_weights(tmp_path, monkeypatch, capsys):
    """Identities are those of the published Inception; a line names the missing weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANS_INCEPTION", "/no/such/file")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(plan, "attempt", lambda cell, device: (0.05, 2**20))
    monkeypatch.setattr("benchmarks.executors.processes.preload", lambda *modules: None)
    cells.extractor.cache_clear()
    (tmp_path / "own.toml").write_text(
        'seeds = [0]\n[defaults]\nkimg = 2\nscore.extractors = ["inception"]\n[datasets.digits]\n[models.gan]\n'
    )
    monkeypatch.setattr("sys.argv", ["gans", "bench", "own.toml", "--dry-run"])
    assert main.main() == 0
    said = capsys.readouterr().out.splitlines()
    assert "gan/digits/0" in said[0] and said[0].endswith("to do")
    assert said[1].startswith("first needed: Inception weights: /no/such/file is not a file")
    assert said[2] == "1 of 1 cells to do"
    assert said[3].startswith("estimated from some steps")
    monkeypatch.setattr("sys.argv", ["gans", "bench", "own.toml"])
    assert main.main() == 2
    assert capsys.readouterr().err.startswith("error: Inception weights")
