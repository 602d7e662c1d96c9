"""What is said of a matrix before it runs."""

from __future__ import annotations

import torch

from benchmarks import estimate
from benchmarks.estimate import Estimate, Tried, size
from gans.commands import main
from gans.commands.progress import Cost
from gans.runs import cell as cells
from gans.runs.cell import Cell
from tests.conftest import CPU


def test_the_size_of_a_state_is_that_of_its_tensors():
    state = {
        "a": torch.zeros(10),
        "b": [torch.zeros(3, dtype=torch.float64), {"c": torch.zeros(5, dtype=torch.uint8)}],
    }
    assert size(state | {"step": 7, "name": "x", "none": None}) == 40 + 24 + 5


def test_a_trial_of_some_steps_tells_pace_and_disk(tiny, blobs, monkeypatch):
    """The checkpoint of a tiny dcgan in bytes, counted as its file's tensors are."""
    monkeypatch.setattr(Cell, "images", property(lambda self: blobs()))
    cell = Cell("dcgan", tiny(), "0" * 16, "fd_stub")
    found = estimate.attempt(cell, CPU)
    assert found.cost.image > 0 and found.cost.rest == 0
    training = estimate.Training(cell.experiment, blobs(), CPU)
    generator = size(training.ema.state())
    trainables = sum(size(dict(trainable.network.state_dict())) for trainable in training.update.trainables)
    at_least = 3 * trainables + 5 * generator + estimate.PICTURES  # networks without the optimisers' moments
    assert at_least < found.disk < at_least + 3 * 3 * trainables


def test_a_model_is_tried_once_for_all_data_of_one_shape(tiny, blobs, monkeypatch):
    """A gan on two data sets, with twice the budget on one, and one with larger batches: two tries for three."""
    monkeypatch.setattr(Cell, "images", property(lambda self: blobs()))
    tried: list[str] = []
    monkeypatch.setattr(
        estimate, "attempt", lambda cell, device: tried.append(cell.name) or Tried(Cost(0.05, 0.0), 2**20)
    )
    one, other, large = (
        Cell("gan", tiny({"dataset": "blobs"}), "0" * 16, "fd_stub"),
        Cell("gan", tiny({"dataset": "more", "kimg": 0.2, "seed": 3}), "1" * 16, "fd_stub"),
        Cell("gan-large", tiny({"batch": 16}), "2" * 16, "fd_stub"),
    )
    found = estimate.estimate([one, other, large], {}, CPU, abreast=1)
    assert tried == [one.name, large.name]
    assert set(found.tried) == {"gan/blobs", "gan/more", "gan-large/blobs"}


def test_a_long_step_is_taken_once(tiny, blobs, monkeypatch):
    monkeypatch.setattr(Cell, "images", property(lambda self: blobs()))
    cell = Cell("gan", tiny(), "0" * 16, "fd_stub")
    taken: list[int] = []
    monkeypatch.setattr(estimate, "timed", lambda training, count: taken.append(count) or (1.0, 10 * count))
    for brief, long, steps in ((1e9, 1e9, [1, estimate.STEPS]), (0.0, 1e9, [1, 1]), (0.0, 0.0, [1])):
        monkeypatch.setattr(estimate, "BRIEF", brief)
        monkeypatch.setattr(estimate, "LONG", long)
        taken.clear()
        assert estimate.attempt(cell, CPU).cost.image == 1 / (10 * steps[-1])
        assert taken == steps


def test_what_is_left_is_the_sum_over_kinds_by_cells_at_a_time(tiny, blobs, monkeypatch):
    """Two seeds of one model that is known, one of another that was tried: 2 * 5.6 + 4.8 s, by two at a time."""
    monkeypatch.setattr(Cell, "images", property(lambda self: blobs()))
    monkeypatch.setattr(estimate, "attempt", lambda cell, device: Tried(Cost(0.05, 0.0), 2**20))
    experiment = tiny()
    budget = experiment.budget
    seeds = [experiment.model_copy(update={"seed": seed}) for seed in (0, 1)]
    gans = [Cell("gan", one, "0" * 16, "fd_stub") for one in seeds]
    other = Cell("dcgan", seeds[0], "1" * 16, "fd_stub")
    known = {"gan/blobs": Cost(0.01, 4.0), "sagan/blobs": Cost(9.0, 9.0)}
    found = estimate.estimate([*gans, other], known, CPU, abreast=2)
    assert found.seconds == (2 * (0.01 * budget + 4.0) + 0.05 * budget) / 2
    assert (found.disk, found.measured, found.tried) == (3 * 2**20, ("gan/blobs",), ("dcgan/blobs",))


def test_an_estimate_says_what_it_is_made_of():
    said = str(Estimate(5430.0, 3 * 2**20, ("gan/digits",), ("sagan/digits",)))
    assert said == (
        "expected: 1 h 30 min, 3 MiB of disk; scores not included, from a few steps on this machine: "
        "sagan/digits; from finished cells: gan/digits"
    )


def test_a_dry_run_needs_no_weights(tmp_path, monkeypatch, capsys):
    """Identities are those of the published Inception; what is lacking is said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANS_INCEPTION", "/no/such/file")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(estimate, "attempt", lambda cell, device: Tried(Cost(0.05, 0.0), 2**20))
    cells.extractor.cache_clear()
    (tmp_path / "own.toml").write_text(
        'seeds = [0]\n[defaults]\nkimg = 2\nscore.extractors = ["inception"]\n[datasets.digits]\n[models.gan]\n'
    )
    monkeypatch.setattr("sys.argv", ["gans", "bench", "own.toml", "--dry-run"])
    assert main.main() == 0
    said = capsys.readouterr().out.splitlines()
    assert "gan/digits/0" in said[0] and said[0].endswith("to do")
    assert said[1].startswith("first needed: Inception weights: /no/such/file is not a file")
    assert said[2].startswith("expected: ")
    monkeypatch.setattr("sys.argv", ["gans", "bench", "own.toml"])
    assert main.main() == 2
    assert capsys.readouterr().err.startswith("error: Inception weights")
