"""Steps that are recorded: on a CPU by a recorder that checks what a CUDA graph rests on, and on CUDA."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gans import files, schema
from gans.compute import precision
from gans.compute.graphs import WARM_UP, Graph, ParallelStreams, StepRunner
from gans.config import Resolved
from gans.data.images import ImageData
from gans.errors import InputError
from gans.models import dcgan, gan, r3gan, resnet, sagan
from gans.registry import MODELS
from gans.training.checkpoints import Checkpoints
from gans.training.evaluation import Curve
from gans.training.loop import Session
from gans.training.recorder import Recorder
from gans.training.state import Training

pytestmark = pytest.mark.usefixtures("one_thread")
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
STEPS, CLASSES = 12, 3


def gpu(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.gpu(pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")(test))


GP = {"name": "wasserstein-gp"}
# all that a discriminator can do, and rates and weights that move; beta2, which a recording holds as a
# number, does so in none of the first twelve steps
MODERN = {
    "kimg": 2.0,
    "loss": {"name": "relativistic"},
    "penalties": {"r1": 1.0, "r2": 2.0, "gp": 3.0},
    "augment": "color,translation,cutout,flip",
    "anneal": {"shape": "cosine", "lr": 0.1, "beta2": 0.1, "penalty": 0.1},
}
# spectral norm, BatchNorm in both networks, the penalty, several discriminator steps; swaps after every second
# iteration, workers that share batches, crashes; rounds after every second iteration
CASES: dict[str, dict[str, Any]] = {
    "gan": {"networks": {"name": "gan"}},
    "dcgan": {"networks": {"name": "dcgan"}},
    "sagan": {"networks": {"name": "sagan"}, "loss": {"name": "hinge"}},
    "penalty": {"networks": {"name": "dcgan-nobn"}, "loss": GP, "update": {"d_steps": 2}},
    "rmsprop": {"networks": {"name": "gan"}, "optimizer": {"name": "rmsprop"}},
    "sgd": {"networks": {"name": "gan"}, "optimizer": {"name": "sgd", "momentum": 0.9}},
    "mdgan, modern": {
        **MODERN,
        "networks": {"name": "gan"},
        "penalties": {"r1": 1.0},
        "update": {"rule": "mdgan", "workers": 2, "swap_epochs": 0.8},
    },
    "mdgan": {"networks": {"name": "dcgan"}, "update": {"rule": "mdgan", "workers": 3, "swap_epochs": 0.8}},
    "mdgan, k = 2": {
        "networks": {"name": "gan"},
        "loss": GP,
        "update": {"rule": "mdgan", "workers": 3, "batches": 2, "d_steps": 2, "swap_epochs": 0.8},
    },
    "mdgan, crashes": {
        "networks": {"name": "gan"},
        "kimg": 0.072,
        "update": {"rule": "mdgan", "workers": 2, "batches": 2, "swap_epochs": 0.8, "crashes": True},
    },
    "fl-gan": {"networks": {"name": "dcgan"}, "update": {"rule": "fl-gan", "workers": 3, "average_epochs": 0.8}},
    "classes": {**MODERN, "networks": {"name": "gan", "conditional": True}, "update": {"d_steps": 2}},
    "wgan-gp": {"networks": {"name": "wgan-gp"}, "loss": GP, "update": {"d_steps": 2}},
    "sagan, classes": {"networks": {"name": "sagan", "conditional": True}, "loss": {"name": "hinge"}},
    "projection": {"networks": {"name": "sngan", "conditional": True}, "loss": {"name": "hinge"}},
    "r3gan, classes": {
        "networks": {"name": "r3gan", "blocks": 1, "conditional": True},
        "penalties": {"r1": 1.0, "r2": 1.0},
    },
    "mdgan, classes": {
        "networks": {"name": "dcgan", "conditional": True},
        "labels": "uniform",
        "update": {"rule": "mdgan", "workers": 3, "batches": 2, "swap_epochs": 0.8},
    },
}
case = pytest.mark.parametrize("case", CASES)
# on a CPU; their operations are in other cases too
SLOW = {"sagan", "sagan, classes", "wgan-gp", "r3gan, classes", "mdgan, classes"}


# --- a recorder for a CPU

SYNCING = ("aten._local_scalar_dense", "aten.nonzero", "aten.lift_fresh", "aten.is_nonzero", "aten.equal.")


class Watch(TorchDispatchMode):
    """Writes down the operations of a step, and the addresses of tensors that it did not make itself."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[object] = []
        self.reads: list[int] = []
        self.seeds: set[int] = set()  # of the generators that were drawn from
        # held, lest the memory of one be taken for another's
        self.made: dict[int, Tensor] = {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        given = tree_leaves((args, kwargs or {}))
        self.operations.append((str(operation), *map(described, given)))
        self.seeds |= {one.initial_seed() for one in given if isinstance(one, torch.Generator)}
        assert not str(operation).startswith(SYNCING), f"{operation} waits for the device"
        for tensor in tensors(given):
            assert tensor.device.type == "cpu", f"{operation}: a tensor was made without saying where"
            if storage(tensor) not in self.made:
                self.reads.append(tensor.data_ptr())
        result = operation(*args, **(kwargs or {}))
        outside = {storage(tensor) for tensor in tensors(given)} - self.made.keys()
        for tensor in tensors(tree_leaves(result)):
            if storage(tensor) not in outside:
                self.made[storage(tensor)] = tensor
        return result


def tensors(leaves: Sequence[object]) -> list[Tensor]:
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def described(leaf: object) -> object:
    if isinstance(leaf, Tensor):
        return (leaf.dtype, tuple(leaf.shape), leaf.stride())
    return leaf if isinstance(leaf, bool | int | float | str | None) else type(leaf)


class Strict:
    """Replays by calling, and holds every replay to the first: the same operations on the same memory.

    A factory call without a device makes a tensor on one that computes nothing. Of the generators that are
    not registered, nothing may be drawn.
    """

    def __init__(self) -> None:
        self.warm_ups, self.recordings, self.replays = 0, 0, 0

    def warm_up(self, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        self.warm_ups += 1
        return compute()

    def record(self, compute: Callable[[], Any], rngs: Sequence[torch.Generator]) -> Graph:
        self.recordings += 1
        result: dict[str, Tensor] = {}
        first = Watch()

        def replay() -> None:
            self.replays += 1
            with Watch() as watch, torch.device("meta"):
                result.update(compute())
            assert watch.seeds <= {rng.initial_seed() for rng in rngs}
            first.operations, first.reads = first.operations or watch.operations, first.reads or watch.reads
            assert watch.operations == first.operations
            assert watch.reads == first.reads

        return Graph(result, replay)


def trained(made: Resolved, data: ImageData, runner: StepRunner, steps: int = STEPS) -> Training:
    training = Training(made, data, CPU)
    training.runner = runner
    run(training, steps)
    return training


def run(training: Training, steps: int) -> None:
    for _ in range(steps):
        training.step()


def assert_same_state(one: Training, other: Training) -> None:
    pairs = zip(tree_leaves(one.state()), tree_leaves(other.state()), strict=True)
    assert all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def assert_same(one: Training, other: Training) -> None:
    """To the bit: all that is saved, and the sums of the statistics."""
    assert_same_state(one, other)
    assert one.means.fetch()() == other.means.fetch()()
    assert one.means.images == other.means.images


# --- on a CPU


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if case in SLOW else ()) for case in CASES]
)
def test_recorded_steps_are_plain_ones_also_across_checkpoints(case: str, tiny, blobs, tmp_path) -> None:
    """To the bit; every replay does what was recorded, at the same addresses."""
    made, recorder, data = tiny(CASES[case], batch=4), Strict(), blobs(n=60, classes=CLASSES)
    training, plain = trained(made, data, StepRunner(recorder)), trained(made, data, StepRunner())
    assert_same(training, plain)
    rounds = 3 if case.startswith("fl-gan") else 0  # m = 20, b = 4: after every fourth iteration
    kinds = 2 if case == "mdgan, crashes" else 1
    assert recorder.recordings == kinds
    assert recorder.warm_ups == WARM_UP * kinds + rounds
    assert recorder.replays == STEPS - recorder.warm_ups
    # from a recorded run to a plain one, and back to a recorded one
    for runner, steps in ((StepRunner(), 2), (StepRunner(Strict()), WARM_UP + 2)):
        files.save(tmp_path / "state.pt", training.state())
        training = trained(made, data, runner, 0)
        training.load(files.load(tmp_path / "state.pt", CPU))
        run(training, steps)
        run(plain, steps)
    assert_same_state(plain, training)


@pytest.mark.parametrize("kind", ["float32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_power_iterations_of_all_layers_at_once_can_be_recorded(kind: str, tiny, blobs, monkeypatch) -> None:
    """As on CUDA, with classes."""
    monkeypatch.setattr(precision, "by_launches", lambda device: True)
    made, recorder = tiny(CASES["projection"], batch=4, precision=kind), Strict()
    data = blobs(n=60, classes=CLASSES)
    assert_same(trained(made, data, StepRunner(recorder)), trained(made, data, StepRunner()))
    assert recorder.replays == STEPS - WARM_UP


def test_loading_into_a_run_that_has_recorded_records_anew(tiny, blobs) -> None:
    made, data, recorder = tiny(CASES["dcgan"]), blobs(), Strict()
    training = trained(made, data, StepRunner(recorder), 6)
    state = copy.deepcopy(training.state())
    run(training, 3)
    training.load(state)
    run(training, 6)
    assert (recorder.recordings, recorder.warm_ups) == (2, 2 * WARM_UP)
    assert_same_state(training, trained(made, data, StepRunner(), 12))


@pytest.mark.parametrize(
    "broken",
    [
        lambda training, step: training.held.add_(step),  # a number that changes
        lambda training, step: setattr(training, "held", training.held.clone()),  # memory that moves
        lambda training, step: training.held.sum().item(),  # waits for the device
        lambda training, step: training.held + torch.ones(2),  # on no device
        lambda training, step: training.held if step % 2 else training.held + 1,  # other operations
    ],
)
def test_the_strict_recorder_refuses_what_a_graph_cannot_record(broken, tiny, blobs) -> None:
    training = Training(tiny(CASES["gan"]), blobs(), CPU)
    training.runner, whole, step = StepRunner(Strict()), training.compute, count()
    training.held = torch.zeros(2)
    training.compute = lambda: (broken(training, next(step)), whole())[1]
    with pytest.raises((AssertionError, NotImplementedError)):
        run(training, STEPS)


def test_a_cpu_is_refused(tiny, blobs) -> None:
    with pytest.raises(InputError, match="GRAPH=1 needs a CUDA device"):
        Training(tiny({}), blobs(), CPU, graph=True)
    assert Training(tiny({}), blobs(), CPU).runner.recorder is None


# --- on CUDA

GENERATORS = (gan.Generator, dcgan.Generator, sagan.Generator, resnet.Generator, r3gan.Generator)


def on_cuda(made: Resolved, data: ImageData, graph: bool, steps: int = STEPS) -> Training:
    training = Training(made, data, CUDA, graph)
    run(training, steps)
    return training


def idle(network: nn.Module, made: Resolved) -> set[str]:
    """Parameters without a gradient, such as the bias of a convolution before BatchNorm, which takes it out again.

    What an optimiser sees there is rounding, which Adam scales to full steps of random sign.
    """
    double = copy.deepcopy(network).double().requires_grad_(True)
    device = next(double.parameters()).device
    rng = torch.Generator(device).manual_seed(0)
    latents = isinstance(double, GENERATORS)
    shape = (8, made.networks.latent) if latents else (8, 1, 16, 16)
    given = [torch.randn(shape, generator=rng, device=device, dtype=torch.float64)]
    if made.networks.conditional and (latents or MODELS[made.networks.name].conditional == "projection"):
        given.append(torch.arange(8, device=device) % CLASSES)
    found = double(*given)
    push = torch.randn(found.shape, generator=rng, device=device, dtype=torch.float64)
    names, parameters = zip(*double.named_parameters(), strict=True)
    gradients = torch.autograd.grad((found * push).sum(), parameters)
    sizes = [float(gradient.abs().max()) for gradient in gradients]
    return {name for name, size in zip(names, sizes, strict=True) if size < 1e-10 * max(sizes)}


def assert_alike(a: nn.Module, b: nn.Module, skipped: set[str], rtol: float, atol: float) -> None:
    """Weights and buffers; where biases are skipped, so are BatchNorm's running means, which contain them."""
    found = b.state_dict()
    for name, value in a.state_dict().items():
        if name not in skipped and not (skipped and name.endswith("running_mean")):
            assert torch.allclose(value, found[name], rtol=rtol, atol=atol), name


def assert_close(one: Training, other: Training, rtol: float = 1e-3, atol: float = 1e-4) -> None:
    """Weights, BatchNorm's and spectral norm's buffers, the average, and the statistics."""
    for a, b in zip(one.update.trainables, other.update.trainables, strict=True):
        assert_alike(a.network, b.network, idle(a.network, one.experiment), rtol, atol)
    skipped = idle(one.update.generator.network, one.experiment)
    assert_alike(one.ema.generator, other.ema.generator, skipped, rtol, atol)
    expected, found = one.means.fetch()(), other.means.fetch()()
    assert found.keys() == expected.keys()
    assert all(found[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-4) for name in expected)


@gpu
@case
def test_graph_and_eager_agree_also_across_checkpoints(case: str, tiny, blobs, tmp_path) -> None:
    """Over swaps, a crash and rounds, twelve steps on; then to eager steps and back."""
    made, data = tiny(CASES[case], batch=4), blobs(n=60, classes=CLASSES)
    eager, training = (on_cuda(made, data, graph) for graph in (False, True))
    assert training.runner.recorder
    assert training.runner.graph is not None
    assert_close(eager, training)
    for graph in (False, True):
        files.save(tmp_path / "state.pt", training.state())
        training = on_cuda(made, data, graph, 0)
        training.load(files.load(tmp_path / "state.pt", CUDA))
        run(training, STEPS)
        run(eager, STEPS)
    for a, b in zip(eager.update.trainables, training.update.trainables, strict=True):
        assert_alike(a.network, b.network, idle(a.network, made), rtol=1e-2, atol=1e-3)


@gpu
@case
@pytest.mark.parametrize("graph", [False, True])
def test_no_step_waits_for_the_device(case: str, graph: bool, tiny, blobs, tmp_path) -> None:
    """Within an epoch and across its end; a graph's first steps and its recording may wait."""
    training = Training(tiny(CASES[case], batch=4, kimg=100), blobs(classes=CLASSES), CUDA, graph)
    curve, recorder = Curve(None, training, tmp_path), Recorder(CUDA)
    session = Session(training, curve, recorder, tmp_path, Checkpoints(tmp_path))
    for _ in range(WARM_UP + 2):
        session.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            session.step()
        session.log()  # the first of a session has none before it to read
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert recorder.pending is not None
    session.wait()
    assert recorder.pending is None
    assert [images for images, _ in recorder.history[schema.TRAINING]] == [training.images]


@gpu
def test_streams_are_streams_that_wait_for_the_main_one_and_it_for_them() -> None:
    streams, start = ParallelStreams(CUDA), torch.ones(2048, 2048, device=CUDA)
    start = start @ start  # still under way when the streams begin
    found = streams.run([lambda n=n: (start + n).sum() for n in range(4)])
    assert len({stream.cuda_stream for stream in streams.streams}) == 4
    expected = [2048.0**3 + n * 2048.0**2 for n in range(4)]
    assert torch.stack(found).tolist() == pytest.approx(expected, rel=1e-5)


@gpu
def test_trainings_on_streams_of_their_own_in_threads(tiny, blobs) -> None:
    """Four at a time do what each does alone: recording in one thread leaves the others be."""
    data = blobs(n=60, classes=CLASSES)
    made = [tiny(CASES[name], batch=4) for name in ("gan", "dcgan", "sagan", "mdgan")]
    alone = [on_cuda(one, data, True) for one in made]
    together: dict[int, Training] = {}

    def work(n: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream(CUDA)):
            together[n] = on_cuda(made[n], data, True)
            torch.cuda.current_stream(CUDA).synchronize()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(made))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(together) == len(made)
    for n, one in enumerate(alone):
        assert_close(one, together[n])


@gpu
@pytest.mark.parametrize("kind", ["tf32", "bf16"])
def test_other_precisions_stay_near_float32(kind: str, tiny, blobs) -> None:
    data = blobs(n=60, classes=CLASSES)
    means = [
        on_cuda(tiny(CASES["dcgan"], precision=one), data, False).means.fetch()() for one in ("float32", kind)
    ]
    assert means[0] != means[1]
    assert all(means[1][name] == pytest.approx(means[0][name], rel=0.05, abs=0.02) for name in means[0])
