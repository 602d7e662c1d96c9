"""What `make speed` times, and how it sums up."""

import copy
import io
import json
import os
import time

import pandas as pd
import pytest
import torch
from rich.console import Console
from rich.markdown import Markdown
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.matrix import cells, read_matrix
from benchmarks.options import Selection
from benchmarks.speed import tutorial
from benchmarks.speed.measurement import count, counted, slug, step_sections, write
from benchmarks.speed.steps import Step, Timing, contenders
from benchmarks.speed.tutorial import Tutorial, plain
from benchmarks.speed.workloads import SIZES, colour, small
from gans.models import build_generator
from gans.models.layers import Shape
from tests.conftest import CPU

TIMING = Timing(CPU, threads=1, rounds=2, seconds=0.01)
pytestmark = pytest.mark.usefixtures("one_thread")


# --- what is timed


@pytest.mark.parametrize("model", SIZES)
def test_small_workloads_are_the_cells_of_the_digits_matrix(model: str) -> None:
    """They agree in all settings that cost time."""
    (cell,) = cells(read_matrix("digits"), Selection([model], None, [0]), CPU)
    ours, theirs = small(model).trained_in(cell.experiment.precision).experiment, cell.experiment
    for part in ("batch", "networks", "update", "loss", "optimizer", "ema", "precision"):
        assert getattr(ours, part) == getattr(theirs, part), part
    assert colour(model).shape == Shape(3, 32)
    assert set(SIZES) == set(read_matrix("digits").file.models)


@pytest.mark.parametrize(
    "model",
    ["gan", "dcgan-nobn", "mdgan", *(pytest.param(model, marks=pytest.mark.slow) for model in ("dcgan", "sagan"))],
)
def test_every_contender_trains(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # each worker of a loader is waited for when that is freed, five seconds
    monkeypatch.setattr(tutorial, "DataLoader", lambda data, **how: DataLoader(data, **how | {"num_workers": 0}))
    workload = small(model)
    for step in TIMING.ours(workload).values():
        step()
        step()
    trainer = Tutorial(workload, CPU, io.StringIO())
    before = copy.deepcopy(trainer.g.state_dict())
    trainer.step()
    trainer.step()
    assert trainer.log.getvalue().startswith("[0] D ")
    assert any(not torch.equal(value, before[key]) for key, value in trainer.g.state_dict().items())
    assert type(trainer.adam_ds[0]) is torch.optim.Adam


@pytest.mark.parametrize("model", ["dcgan", "sagan"])
def test_the_tutorial_runs_torchs_layers_on_the_same_function(model: str) -> None:
    workload = small(model)
    # no deep copy, which shares the parametrized classes with its original
    ours, theirs = (build_generator(workload.shape, workload.experiment.networks, 0) for _ in range(2))
    plain(theirs)
    kinds = {type(layer) for layer in theirs.modules() if isinstance(layer, nn.ConvTranspose2d)}
    norms = {type(norm).__name__ for norm in theirs.modules() if type(norm).__name__.endswith("SpectralNorm")}
    assert (kinds, norms) == (({nn.ConvTranspose2d}, set()) if model == "dcgan" else (kinds, {"_SpectralNorm"}))
    z = torch.randn(4, workload.experiment.networks.latent)
    assert torch.allclose(ours(z), theirs(z), atol=1e-6)
    for (key, value), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.equal(value, other) or key.endswith("num_batches_tracked"), key


@pytest.mark.parametrize("model", ["dcgan", "sagan"])
def test_the_tutorials_discriminator_loss_is_ours(model: str) -> None:
    """The loss is propagated in two parts, with the value and the gradient of the whole."""
    trainer = Tutorial(small(model), CPU, io.StringIO())
    d = trainer.ds[0].eval()  # spectral norm stands still
    real, fake = torch.randn(2, 8, 1, 16, 16).unbind()
    loss = trainer.loss.d_loss(d(real), d(fake))
    expected = torch.autograd.grad(loss, list(d.parameters()))
    found, _, _ = trainer.learn(0, real, fake)
    assert found == pytest.approx(loss.item(), rel=1e-5)
    for parameter, gradient in zip(d.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


# --- turns


def counting() -> dict[str, Step]:
    """A contender that sleeps, and one whose process exits."""
    torch.set_num_threads(2)
    return {"sleep": lambda: time.sleep(0.02), "exit": lambda: os._exit(3)}


def test_contenders_have_a_process_of_their_own() -> None:
    with contenders(counting, CPU) as turns:
        assert 0.02 <= turns["sleep"](5) < 0.2
        assert torch.get_num_threads() == 1
        with pytest.raises(RuntimeError, match="terminated abruptly"):
            turns["exit"](1)


@pytest.mark.slow
def test_a_workload_is_timed_in_its_precision() -> None:
    found = TIMING.measure(small("gan"), "bf16")
    assert list(found["precision"]) == ["bf16"] * 2
    assert (found[["ours", "bare", "tutorial"]] > 0).all(axis=None)


# --- the page


def test_a_page_is_called_after_its_device() -> None:
    assert slug("Intel(R) Xeon(R) Processor (2 cores)") == "intel-xeon-2-cores"
    assert slug("Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz") == "intel-core-i7-8650u-1-90ghz"


def rounds(name: str = "dcgan-nobn 32x32") -> pd.DataFrame:
    times = {"ours": [0.102, 0.1, 0.104], "bare": 0.1, "tutorial": [0.2, 0.3, 0.2]}
    what = {"workload": name, "precision": "float32", "default": "float32"}
    return pd.DataFrame({**what, **times, "is": "a note"})


def test_steps_are_one_table_that_fits_a_terminal_and_figures_for_programs(tmp_path) -> None:
    page = write(tmp_path, "A processor", "Speed", {"device": "a processor"}, step_sections(rounds()))
    text = page.read_text()
    assert "| dcgan-nobn 32x32 | float32 | 102 | +2.0 % | 200 | **1.96 (1.92–3.00)** |" in text
    assert "| dcgan-nobn 32x32 | a note |" in text
    console = Console(file=io.StringIO(), width=80)
    console.print(Markdown(text))
    heads = [line.split() for line in console.file.getvalue().splitlines() if "overhead" in line]
    assert ["workload", "in", "ours", "overhead", "tutorial", "tutorial", "/", "ours"] in heads
    figures = json.loads(page.with_suffix(".json").read_text())
    assert figures["machine"] == {"device": "a processor"}
    assert figures["Steps"][1]["tutorial"] == 0.3


def test_operations_are_counted_and_bf16_adds_few() -> None:
    """In float32, gan has 22 products of matrices, 6 sums of biases' gradients, and 42 others."""
    found = counted([small("gan")]).table.iloc[0]
    assert found.to_dict() == {"workload": "gan digits", "float32": 70, "bf16": 80, "casts in bf16": 6}
    counts = count(small("gan"), "float32")
    assert counts["aten.mm.default"] + counts["aten.addmm.default"] == 22
