"""What `make speed` times, and how it sums up."""

from __future__ import annotations

import copy
import io
import os
import time
from dataclasses import asdict

import pytest
import torch
from torch import nn

from benchmarks.matrix import cells, read_matrix
from benchmarks.options import Selection
from benchmarks.speed import contenders
from benchmarks.speed.page import Page, Row, slug
from benchmarks.speed.rounds import Ratio, Steps, Times, Turn, interleave
from benchmarks.speed.stage import Stage
from benchmarks.speed.tutorial import Tutorial, plain
from benchmarks.speed.workloads import SIZES, colour, small
from gans.models import build_generator
from gans.models.layers import Shape
from tests.conftest import latents

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_model_of_the_digits_matrix_is_timed() -> None:
    assert set(SIZES) == set(read_matrix("digits").file.models)


@pytest.mark.parametrize("model", SIZES)
def test_small_workloads_are_the_cells_of_the_digits_matrix(model: str) -> None:
    """In all that costs time."""
    (cell,) = cells(read_matrix("digits"), Selection([model], None, [0]), CPU)
    ours, theirs = small(model, cell.experiment.precision).experiment, cell.experiment
    for part in ("batch", "networks", "update", "loss", "optimizer", "ema", "precision"):
        assert getattr(ours, part) == getattr(theirs, part), part
    assert colour(model).shape == Shape(3, 32)


@pytest.mark.parametrize("model", SIZES)
def test_every_contender_trains_every_model(model: str) -> None:
    workload = small(model)
    ours = contenders.trainer(workload, CPU, threads=1)
    assert list(ours) == ["ours", "bare", "product"]
    for steps in ours.values():
        steps(2)
    assert contenders.operations(workload, CPU) > 0
    trainer = Tutorial(workload, CPU, io.StringIO())
    before = copy.deepcopy(trainer.g.net.state_dict())
    for _ in range(2):
        trainer.step()
    assert trainer.log.getvalue().startswith("[0] D ")
    assert len(trainer.d_losses) == 2
    assert any(not torch.equal(value, before[key]) for key, value in trainer.g.net.state_dict().items())
    assert type(trainer.ds[0].optimizer) is torch.optim.Adam


def test_the_tutorial_runs_torchs_layers_on_the_same_function() -> None:
    workload = small("dcgan")
    ours = build_generator(workload.shape, workload.experiment.networks, 0)
    theirs = plain(copy.deepcopy(ours))
    kinds = {type(layer) for layer in theirs.modules() if isinstance(layer, nn.ConvTranspose2d)}
    assert kinds == {nn.ConvTranspose2d}
    z = torch.randn(4, workload.experiment.networks.latent)
    assert torch.allclose(ours(z), theirs(z), atol=1e-6)


def test_the_tutorial_has_torchs_spectral_norm() -> None:
    workload = small("sagan")
    ours, theirs = (build_generator(workload.shape, workload.experiment.networks, 0) for _ in range(2))
    plain(theirs)  # no deep copy, which shares the parametrized classes with its original
    norms = {type(norm).__name__ for norm in theirs.modules() if type(norm).__name__.endswith("SpectralNorm")}
    assert norms == {"_SpectralNorm"}
    z = torch.randn(4, workload.experiment.networks.latent)
    assert torch.equal(ours(z), theirs(z))
    for (key, value), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.equal(value, other), key


def test_the_tutorials_discriminator_loss_is_ours() -> None:
    """Propagated in two parts, it has the value and the gradient of the whole."""
    for model in ("dcgan", "sagan"):
        workload = small(model)
        trainer = Tutorial(workload, CPU, io.StringIO())
        d = trainer.ds[0]
        d.net.eval()  # spectral norm stands still
        real, fake = torch.randn(2, 8, 1, 16, 16).unbind()
        loss = trainer.loss.d_loss(d.net(real), d.net(fake))
        expected = torch.autograd.grad(loss, list(d.net.parameters()))
        found, _, _ = trainer.learn(d, real, fake)
        assert found == pytest.approx(loss.item(), rel=1e-5)
        for parameter, gradient in zip(d.net.parameters(), expected, strict=True):
            assert torch.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_operations_are_counted_as_by_hand() -> None:
    """The fully connected GAN: 2 b in out for each product; no gradient of D's weights in G's step.

    Forward and weight gradients cost one product each per layer, the gradient of the input another, which neither
    G's nor (in its own step) D's first layer needs.
    """
    workload = small("gan")
    b, g, d = 32, [(64, 256), (256, 256), (256, 256)], [(256, 256), (256, 256), (256, 1)]

    def products(layers: list[tuple[int, int]], batch: int) -> int:
        return sum(2 * batch * inputs * outputs for inputs, outputs in layers)

    learn = 2 * products(d, 2 * b) + products(d[1:], 2 * b)  # real and generated images at once
    draw = 2 * products(g, b) + products(g[1:], b) + 2 * products(d, b)  # through D to its input
    assert contenders.operations(workload, CPU) == learn + draw


def test_turns_are_interleaved_and_reversed() -> None:
    calls: list[tuple[str, int]] = []

    def make(name: str):
        def turn(count: int) -> Turn:
            calls.append((name, count))
            return Turn(0.1, 0.1)

        return turn

    times = interleave({"a": make("a"), "b": make("b")}, rounds=4, seconds=1.0, lead_in=4)
    timed = calls[-16:][1::2]
    assert timed == [("a", 10), ("b", 10), ("b", 10), ("a", 10), ("a", 10), ("b", 10), ("b", 10), ("a", 10)]
    assert all(count == 4 for _, count in calls[-16:][::2])
    assert [len(t.wall) for t in times.values()] == [4, 4]


def test_arithmetic_is_timed_on_the_networks_that_ours_trains() -> None:
    """Two programs alike in all but their place in memory differ by several percent."""
    for model in ("gan", "mdgan"):
        run = contenders.session(small(model), CPU).training
        before = copy.deepcopy(run.update.state())
        contenders.bare(run)(1)
        assert not equal(before, run.update.state())
        assert run.images == 0
        drawn = [latents(run.update, images, 0) for images in (0, 96)]
        assert not torch.equal(*drawn)  # nothing is held


def equal(one: object, other: object) -> bool:
    if isinstance(one, dict):
        return all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return all(equal(a, b) for a, b in zip(one, other, strict=True))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def counting() -> dict[str, Steps]:
    """A contender that takes its time, one whose process dies, and one that fails."""
    torch.set_num_threads(2)

    def fail(count: int) -> None:
        raise FileNotFoundError(f"no image {count}")

    return {"sleep": lambda count: time.sleep(0.02 * count), "exit": lambda count: os._exit(3), "fail": fail}


def test_a_stage_is_a_process_of_its_own() -> None:
    before = torch.get_num_threads()
    with Stage(counting, CPU) as stage:
        everyone = stage.contenders()
        assert list(everyone) == ["sleep", "exit", "fail"]
        assert 0.02 <= everyone["sleep"](5).wall < 0.2
        assert torch.get_num_threads() == before
        for name in ("exit", "sleep"):
            with pytest.raises(RuntimeError, match="ended with code 3"):
                everyone[name](1)
    assert not stage.process.is_alive()


def test_a_contenders_own_error_is_not_taken_for_the_end_of_the_pipe() -> None:
    with Stage(counting, CPU) as stage, pytest.raises(RuntimeError, match="ended with code 1"):
        stage.turn("fail", 7)


def test_ratios_are_taken_round_by_round() -> None:
    ratio = Ratio.of([2.0, 30.0, 3.0], [1.0, 10.0, 2.0])
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 1.5, 3.0)
    assert str(ratio) == "2.00 (1.50–3.00)"


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("Intel(R) Xeon(R) Processor (2 cores)", "intel-xeon-2-cores"),
        ("Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz (8 cores)", "intel-core-i7-8650u-1-90ghz-8-cores"),
        ("NVIDIA H100 80GB HBM3 quick", "nvidia-h100-80gb-hbm3-quick"),
    ],
)
def test_a_page_is_called_after_its_device(device: str, expected: str) -> None:
    assert slug(device) == expected


def test_the_page_states_ratios_and_rates() -> None:
    def times(*seconds: float) -> Times:
        return Times(seconds, seconds)

    row = Row(
        name="dcgan 32x32",
        note="a note",
        batch=128,
        times={
            "ours float32": times(0.102, 0.1, 0.104),
            "bare float32": times(0.1, 0.1, 0.1),
            "tutorial": times(0.2, 0.3, 0.2),
        },
        operations=5_000_000_000,
        default="float32",
        product={"float32": 100e9},
    )
    page = Page({"device": "a processor", "device type": "cpu"}, rows=[row])
    text = page.markdown()
    assert "| 102.0 ms | 200.0 ms | +2.0 % (+0.0–+4.0) | **1.96 (1.92–3.00)** |" in text
    assert "| 5.00 G | 1,255 | 50 G/s | 50 % |" in text
    assert asdict(page)["rows"][0]["times"]["bare float32"]["wall"] == (0.1, 0.1, 0.1)


def test_a_measurement_is_written_beside_earlier_ones(tmp_path):
    page = Page({"device": "a processor", "device type": "cpu"})
    first = page.write("A processor", tmp_path)
    first.write_text("mine")
    assert page.write("A processor", tmp_path) == (second := first.with_stem(f"{first.stem}-2"))
    assert first.read_text() == "mine"
    assert '"device": "a processor"' in second.with_suffix(".json").read_text()
