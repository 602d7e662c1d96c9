"""What the networks compute in, and what stays in float32 under every precision."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from functools import partial
from threading import Event, Thread

import pytest
import torch
from torch import Tensor, nn

from gans.compute import devices, precision
from gans.config import NetworkConfig
from gans.errors import InputError
from gans.models import Model, build_discriminator, build_generator
from gans.models.layers import Shape
from gans.models.spectral import SpectralNorm
from gans.registry import MODELS, RULES
from gans.training.ema import EMA
from gans.training.two_player import Discriminator
from gans.training.updates import Context
from tests.conftest import networks, values

CPU = torch.device("cpu")
SHAPE = Shape(1, 16)
MINE = Model(NetworkConfig, lambda shape, config: nn.Identity(), lambda shape, config: nn.Identity())
pytestmark = pytest.mark.usefixtures("one_thread")
needs_bf16 = pytest.mark.skipif(not precision.has_bf16(CPU), reason="this CPU has no bfloat16 arithmetic")


def generator(name: str, kind: str = "bf16") -> nn.Module:
    """The generator as training computes it in a precision."""
    network = devices.place(build_generator(SHAPE, networks(name=name, latent=8, width=8), 0), CPU)
    return precision.computing(network, kind)


@pytest.mark.parametrize(
    ("kind", "able", "says"),
    [("tf32", True, "tf32 needs a CUDA device"), ("bf16", False, "no bfloat16 arithmetic")],
)
def test_what_the_device_lacks_is_refused(kind: str, able: bool, says: str, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    precision.require("float32", CPU)
    with pytest.raises(InputError, match=says):
        precision.require(kind, CPU)


@pytest.mark.parametrize(
    ("able", "name", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "sagan", "bf16"),
        ({"avx512_bf16": True, "amx_bf16": False}, "sagan", "float32"),
        ({"amx_bf16": True}, "dcgan-nobn", "bf16"),
        ({"amx_bf16": True}, "gan", "float32"),
        ({"amx_bf16": True}, "mine", "float32"),
        ({"bf16": True}, "dcgan", "float32"),  # an Arm CPU: not measured
        ({"avx2": True}, "dcgan", "float32"),
    ],
)
def test_the_default_is_bf16_where_it_was_measured_to_pay(able, name, expected, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    model = {**MODELS, "mine": MINE}[name]
    assert precision.resolve("auto", CPU, model) == expected
    assert precision.resolve("tf32", CPU, model) == "tf32"


@pytest.mark.parametrize(
    ("capability", "name", "expected"),
    [
        ((9, 0), "sagan", "bf16"),
        ((8, 0), "dcgan", "bf16"),
        ((8, 6), "dcgan-nobn", "bf16"),
        ((9, 0), "gan", "tf32"),
        ((7, 5), "dcgan", "float32"),  # Turing: neither
        ((7, 5), "gan", "float32"),
        ((9, 0), "mine", "float32"),
    ],
)
def test_the_default_on_cuda_is_what_was_measured(capability, name, expected, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    cuda, model = torch.device("cuda", 0), {**MODELS, "mine": MINE}[name]
    assert precision.resolve("auto", cuda, model) == expected
    assert precision.resolve("float32", cuda, model) == "float32"
    assert precision.unmeasured("auto", cuda, model) == (name == "mine")
    assert not precision.unmeasured("float32", cuda, model)
    assert not precision.unmeasured("auto", CPU, model)
    if capability < (8, 0):
        with pytest.raises(InputError, match="this GPU has no bfloat16"):
            precision.require("bf16", cuda)


@needs_bf16
@pytest.mark.parametrize("name", ["gan", "dcgan", "sagan"])
def test_networks_compute_in_bf16_and_their_ends_in_float32(name: str) -> None:
    network = generator(name)
    inside: set[torch.dtype] = set()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.register_forward_hook(lambda module, args, out: inside.add(out.dtype))
    pixels = network(torch.randn(4, 8))
    assert inside == {torch.bfloat16}
    assert pixels.dtype == torch.float32
    logits = build_discriminator(SHAPE, networks(name=name, width=8), 0)
    assert precision.computing(devices.place(logits, CPU), "bf16")(pixels).dtype == torch.float32
    assert {p.dtype for p in network.parameters()} == {torch.float32}


@needs_bf16
def test_power_iterations_stay_in_float32() -> None:
    """Spectral norm's vectors are, to the bit, those of a float32 network after as many steps."""
    one, other = generator("sagan"), generator("sagan", "float32")
    for seed in range(3):
        z = torch.randn(4, 8, generator=torch.Generator().manual_seed(seed))
        one(z), other(z)
    vectors = [layer for layer in one.modules() if isinstance(layer, SpectralNorm)]
    others = [layer for layer in other.modules() if isinstance(layer, SpectralNorm)]
    assert len(vectors) == len(others) > 5
    for layer, theirs in zip(vectors, others, strict=True):
        assert torch.equal(layer._u, theirs._u)
        assert layer._u.dtype == torch.float32


@needs_bf16
def test_a_copy_computes_with_its_own_weights_and_the_average_in_float32() -> None:
    computing = generator("dcgan").eval()
    z = torch.randn(4, 8)
    copied = copy.deepcopy(computing)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert copied(z).abs().max() == 0
    assert computing(z).abs().max() > 0
    scored = EMA(computing.network, 1.0).generator
    assert torch.equal(scored(z), generator("dcgan", "float32").eval()(z))
    assert not torch.equal(scored(z), computing(z))


DISCRIMINATORS = {
    "two-player": lambda update: [update.discriminator],
    "mdgan": lambda update: update.team.trainables,
    "fl-gan": lambda update: [worker.discriminator for worker in update.workers],
}


@pytest.mark.parametrize("kind", ["float32", "tf32", "bf16"])
@pytest.mark.parametrize("rule", DISCRIMINATORS)
def test_no_precision_alters_the_networks(rule: str, kind: str, tiny, blobs) -> None:
    """They are built, saved and scored as those of float32: the same modules under the same keys."""
    workers = {"workers": 2} if rule != "two-player" else {}
    update = RULES[rule](
        tiny({"update": {"rule": rule, **workers}}, precision=kind), SHAPE, Context(blobs().train)
    )
    for trainable in update.trainables:
        build = build_discriminator if isinstance(trainable, Discriminator) else build_generator
        plain = build(SHAPE, update.experiment.networks, 0)
        assert trainable.network.state_dict().keys() == plain.state_dict().keys()
        assert [type(layer) for layer in trainable.network.modules()] == [type(layer) for layer in plain.modules()]
        assert not any("forward" in vars(layer) for layer in trainable.network.modules())
        assert (trainable.forward is trainable.network) == (kind != "bf16")
        assert list(trainable.forward.parameters()) == trainable.parameters


@needs_bf16
@pytest.mark.parametrize("loss", ["non-saturating", "hinge", "wasserstein-gp"])
@pytest.mark.parametrize("rule", ["two-player", "mdgan"])
def test_a_step_in_bf16_is_near_one_in_float32(rule: str, loss: str, tiny, blobs) -> None:
    """Losses within bfloat16's eight bits, gradients float32; MD-GAN's feedback and the penalty's slope too."""
    table = {"networks": {"name": "dcgan-nobn"}, "loss": {"name": loss}, "update": {"rule": rule}}
    workers = {"workers": 2} if rule == "mdgan" else {}
    statistics = []
    seen: set[torch.dtype] = set()
    for kind in ("float32", "bf16"):
        made = tiny(table, {"update": {"rule": rule, **workers}}, precision=kind)
        update = RULES[rule](made, SHAPE, Context(blobs().train))
        gradients = update.generator.gradients

        def spy(outputs, grad_outputs=None, gradients=gradients) -> tuple[Tensor, ...]:
            found = gradients(outputs, grad_outputs)
            seen.update(gradient.dtype for gradient in (*found, *(grad_outputs or ())))
            return found

        update.generator.gradients = spy
        statistics.append(values(update.step(0)))
    assert seen == {torch.float32}
    assert not torch.equal(*statistics)
    assert torch.allclose(*statistics, rtol=0.03, atol=0.01)


def test_moments_of_another_layout_are_put_in_order(tiny, blobs) -> None:
    """A checkpoint from a device with another layout in memory; fused Adam reads memory in its own order."""
    made = tiny({"networks": {"name": "dcgan"}})
    whole, resumed = (RULES["two-player"](made, SHAPE, Context(blobs().train)) for _ in range(2))
    whole.step(0)
    state = copy.deepcopy(whole.state())
    for trainable in (state["generator"], state["discriminator"]):
        for moments in trainable["optimizer"]["state"].values():
            moments.update({name: moment.contiguous() for name, moment in moments.items()})
    resumed.load(state)
    assert torch.equal(values(whole.step(8)), values(resumed.step(8)))
    for one, other in zip(whole.generator.parameters, resumed.generator.parameters, strict=True):
        assert torch.equal(one, other)


def test_tf32_is_allowed_in_its_block_only() -> None:
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [switch.fp32_precision for switch in switches]
    with precision.UNITS.of("tf32"):
        assert [switch.fp32_precision for switch in switches] == ["tf32", "tf32"]
    with precision.UNITS.of("ieee"):
        assert [switch.fp32_precision for switch in switches] == ["ieee", "ieee"]
    assert [switch.fp32_precision for switch in switches] == before


def test_threads_that_want_other_products_wait() -> None:
    """Three threads; each looks at the switches in the middle of its blocks."""
    units = precision.Units()
    before, wrong = units.kinds(), list[list[str]]()

    def wants(kinds: list[str]) -> None:
        for kind in kinds:
            with units.of(kind):
                time.sleep(1e-4)
                if units.kinds() != [kind, kind]:
                    wrong.append(units.kinds())

    run_at_once([partial(wants, kinds) for kinds in (["ieee", "tf32"] * 50, ["tf32"] * 100, ["ieee"] * 100)])
    assert wrong == []
    assert units.kinds() == before


def run_at_once(calls: Sequence[Callable[[], None]]) -> None:
    threads = [Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)


def test_products_may_be_others_within_a_block() -> None:
    units = precision.Units()
    with units.of("tf32"), units.of("tf32"):
        with units.of("ieee"):
            assert units.kinds() == ["ieee", "ieee"]
        assert units.kinds() == ["tf32", "tf32"]
    assert units.inside == 0


def test_whoever_comes_first_computes_first() -> None:
    """Threads in one kind's blocks that overlap without end do not keep another kind waiting for ever."""
    units = precision.Units()
    done = Event()

    def overlapping() -> None:
        while not done.is_set():
            with units.of("ieee"):
                time.sleep(1e-3)

    threads = [Thread(target=overlapping, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    other = Thread(target=lambda: [units.move(None, "tf32"), done.set(), units.move("tf32", None)], daemon=True)
    other.start()
    assert done.wait(timeout=30)
    for thread in threads:
        thread.join(timeout=30)
