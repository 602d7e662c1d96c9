"""A CUDA graph does, to rounding, what the same steps do one launch at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.speed.contenders import Unasked
from gans import files
from gans.compute import precision
from gans.config import Experiment
from gans.errors import InputError
from gans.models.layers import Shape
from gans.registry import RULES
from gans.training import graphs
from gans.training.ema import EMA
from gans.training.evaluation import Curve
from gans.training.loop import Session
from gans.training.recorder import Recorder
from gans.training.state import Training
from gans.training.updates import Context
from tests.conftest import values

CPU = torch.device("cpu")
SHAPE = Shape(1, 16)
STEPS = 12
gpu = pytest.mark.gpu
without = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
# spectral norm, BatchNorm in both networks, the penalty, several discriminator steps
CASES: dict[str, dict[str, Any]] = {
    "gan": {"networks": {"name": "gan"}},
    "dcgan": {"networks": {"name": "dcgan"}},
    "sagan": {"networks": {"name": "sagan"}, "loss": {"name": "hinge"}},
    "penalty": {"networks": {"name": "dcgan-nobn"}, "loss": {"name": "wasserstein-gp"}, "update": {"d_steps": 2}},
}


def test_a_cpu_is_refused(tiny, blobs) -> None:
    with pytest.raises(InputError, match="GRAPH=1 needs a CUDA device"):
        Training(tiny({}), blobs(), CPU, graph=True)


def test_a_rule_whose_steps_differ_stays_as_it_is(tiny, blobs) -> None:
    made = tiny({"networks": {"name": "gan"}, "update": {"rule": "mdgan", "workers": 2}})
    update = RULES["mdgan"](made, SHAPE, Context(blobs().train))
    assert graphs.graphed(update) is update


def test_a_step_takes_the_same_shapes_at_every_position(tiny, blobs) -> None:
    """What a graph rests on; across the end of an epoch too (60 images, batches of 8)."""
    update = RULES["two-player"](tiny(CASES["penalty"]), SHAPE, Context(blobs().train))
    prepared = [update.prepare(images) for images in (0, 16, 48, 56)]
    shapes = [[[value.shape for value in inputs] for inputs in step] for step in prepared]
    assert shapes == [[[(8, 8), (8, 1, 16, 16), (8, 1, 1, 1)]] * 2] * 4


def test_a_checkpoint_that_a_graph_wrote_goes_on_without_one(tiny, blobs, tmp_path, one_thread) -> None:
    """Its Adam groups say capturable=True, of which Adam warns outside a graph; nothing else may change."""
    made, images = tiny(CASES["dcgan"]), blobs().train
    before, after = (RULES["two-player"](made, SHAPE, Context(images)) for _ in range(2))
    before.step(0)
    state = before.state()
    for player in (state["generator"], state["discriminator"]):
        for group in player["optimizer"]["param_groups"]:
            assert not group["capturable"]
            group["capturable"] = True
    files.save(tmp_path / "training.pt", state)
    after.load(files.load(tmp_path / "training.pt", torch.device("cpu")))
    for player in (after.player, after.discriminator):
        assert [group["capturable"] for group in player.optimizer.param_groups] == [False]
    assert torch.equal(values(before.step(8)), values(after.step(8)))
    pairs = zip(before.generator.state_dict().items(), after.generator.state_dict().values(), strict=True)
    for (key, value), found in pairs:
        assert torch.equal(value, found), key


def state(made: Experiment, images: torch.Tensor, graph: bool) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """All weights, buffers and averages after some steps, and the sum of statistics."""
    update = RULES["two-player"](made, SHAPE, Context(images))
    ema = EMA(update.generator, 0.05)
    steps = graphs.graphed(update) if graph else update
    total = torch.zeros(4, device=images.device)
    for i in range(STEPS):
        with precision.tf32(made.precision == "tf32"):
            total += values(steps.step(i * update.images_per_step))
        ema.update((i + 1) * update.images_per_step, update.images_per_step)
    networks = {"g": update.generator, "d": update.discriminator.network, "ema": ema.generator}
    return {f"{n}.{key}": v.clone() for n, net in networks.items() for key, v in net.state_dict().items()}, total


@gpu
@without
@pytest.mark.parametrize("case", CASES)
def test_graph_and_eager_agree(case: str, tiny, blobs) -> None:
    """Weights, BatchNorm's and spectral norm's buffers, the average and the statistics, twelve steps on."""
    images = blobs().train.cuda()
    made = tiny(CASES[case])
    (eager, total), (replayed, other) = (state(made, images, graph) for graph in (False, True))
    assert eager.keys() == replayed.keys()
    for key, value in eager.items():
        assert torch.allclose(value, replayed[key], rtol=1e-3, atol=1e-4), key
    assert torch.allclose(total, other, rtol=1e-3, atol=1e-3)


@gpu
@without
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("graph", [False, True])
def test_no_step_waits_for_the_device(case: str, graph: bool, tiny, blobs, tmp_path, stub_scorer) -> None:
    """Within an epoch and across its end; a graph's first steps and its recording may wait."""
    device = torch.device("cuda", 0)
    training = Training(tiny(CASES[case], kimg=100), blobs(), device, graph)
    run = Session(training, Curve(Unasked(), training, tmp_path), Recorder(device), tmp_path)
    for _ in range(graphs.Graph.WARM_UP + 2):
        run.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            run.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@gpu
@without
@pytest.mark.parametrize("kind", ["tf32", "bf16"])
def test_other_precisions_stay_near_float32(kind: str, tiny, blobs) -> None:
    images = blobs().train.cuda()
    _, total = state(tiny(CASES["dcgan"]), images, graph=False)
    _, other = state(tiny(CASES["dcgan"], precision=kind), images, graph=False)
    assert not torch.equal(total, other)
    assert torch.allclose(total, other, rtol=0.05, atol=0.2)
