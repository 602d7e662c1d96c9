"""What the networks compute in, and what stays in float32 under every precision."""

from __future__ import annotations

import copy
import time
from threading import Thread

import pytest
import torch
from torch import Tensor, nn

from gans.compute import bfloat16, devices, precision
from gans.config import NetworkConfig
from gans.errors import InputError
from gans.models import Model, build_discriminator, build_generator
from gans.models.layers import Shape, ToPixels
from gans.models.spectral import SpectralNorm, join_iterations
from gans.registry import MODELS, RULES
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
    ("device", "able", "name", "expected"),
    [
        ("cpu", True, "sagan", "bf16"),
        ("cpu", False, "sagan", "float32"),
        ("cpu", True, "gan", "float32"),  # nobody measured that scores are equal
        ("cpu", True, "mine", "float32"),
        ("meta", True, "sagan", "float32"),
        ("cuda", (9, 0), "sagan", "bf16"),
        ("cuda", (8, 0), "dcgan", "bf16"),
        ("cuda", (9, 0), "gan", "tf32"),
        ("cuda", (7, 5), "dcgan", "float32"),  # Turing: neither
        ("cuda", (9, 0), "mine", "float32"),
    ],
)
def test_the_default_is_what_was_measured_and_is_faster(device, able, name, expected, monkeypatch) -> None:
    monkeypatch.setattr(bfloat16, "faster", lambda: able)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: able)
    model, device = {**MODELS, "mine": MINE}[name], torch.device(device)
    assert precision.resolve("auto", device, model) == expected
    assert precision.resolve("tf32", device, model) == "tf32"
    assert precision.unmeasured("auto", device, model) == (device.type == "cuda" and name == "mine")
    assert not precision.unmeasured("float32", device, model)
    if able == (7, 5):
        with pytest.raises(InputError, match="this GPU has no bfloat16"):
            precision.require("bf16", device)


def test_whether_bf16_is_faster_is_tried_once(monkeypatch, tmp_path) -> None:
    """Kept with the data, by processor; a real trial gives times, and draws no random number of others."""
    monkeypatch.setenv("GANS_DATA", str(tmp_path))
    able, seconds = {"cpu_name": "A", "avx512_bf16": True}, iter([1.0, 1.9])
    real = bfloat16.tried
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(
        bfloat16, "tried", lambda: {"float32": torch.tensor(2.0), "bf16": torch.tensor(next(seconds))}
    )
    faster = bfloat16.faster.__wrapped__
    assert faster() and faster()
    able["cpu_name"] = "B"
    assert not faster() and not faster()
    able["avx512_bf16"] = False
    assert not faster()
    assert len(list((tmp_path / "cache/precision").iterdir())) == 2
    before = torch.get_rng_state()
    assert all(float(seconds) > 0 for seconds in real().values())
    assert torch.equal(torch.get_rng_state(), before)


@needs_bf16
@pytest.mark.parametrize("name", ["gan", "dcgan", "sagan"])
def test_networks_compute_in_bf16_and_their_ends_and_power_iterations_in_float32(name: str) -> None:
    """Spectral norm's vectors are, to the bit, those of a float32 network after as many steps."""
    network, other = generator(name), generator(name, "float32")
    inside: set[torch.dtype] = set()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            layer.register_forward_hook(lambda module, args, out: inside.add(out.dtype))
    for seed in range(3):
        z = torch.randn(4, 8, generator=torch.Generator().manual_seed(seed))
        pixels, _ = network(z), other(z)
    assert inside == {torch.bfloat16}
    logits = precision.computing(build_discriminator(SHAPE, networks(name=name, width=8), 0), "bf16")(pixels)
    assert {tensor.dtype for tensor in (pixels, logits, *network.parameters())} == {torch.float32}
    vectors = [[m._u for m in net.modules() if isinstance(m, SpectralNorm)] for net in (network, other)]
    assert all(torch.equal(one, two) for one, two in zip(*vectors, strict=True))
    assert len(vectors[0]) > (5 if name == "sagan" else -1)


@needs_bf16
@pytest.mark.parametrize("name", ["gan", "dcgan", "dcgan-nobn", "r3gan"])
def test_weights_that_are_cast_at_once_as_on_cuda_are_those_that_autocast_casts(name: str, monkeypatch) -> None:
    """A discriminator's logits and gradients, to the bit."""
    network = devices.place(build_discriminator(SHAPE, networks(name=name), 0), CPU)
    images, found = torch.randn(4, *SHAPE[:2], 16), []
    for at_once in (False, True):
        monkeypatch.setattr(precision, "by_launches", lambda device, at_once=at_once: at_once)
        logits = precision.computing(network, "bf16")(images)
        found.append([logits, *torch.autograd.grad(logits.square().sum(), list(network.parameters()))])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@needs_bf16
def test_spectral_norms_quotients_cast_at_once_are_those_that_autocast_casts(monkeypatch) -> None:
    """Logits and gradients, to the bit; the vectors for classes stay in float32."""
    monkeypatch.setattr(precision, "by_launches", lambda device: True)
    config = networks(name="sagan", width=8, conditional=True)
    images, labels, found = torch.randn(4, *SHAPE[:2], 16), torch.arange(4), []
    for at_once in (True, False):
        network = devices.place(build_discriminator(Shape(1, 16, 4), config, 0), CPU)
        join_iterations(network)
        for norm in (layer for layer in network.modules() if isinstance(layer, SpectralNorm)):
            norm.lowered &= at_once
        logits = precision.computing(network, "bf16")(images, labels)
        found.append([logits, *torch.autograd.grad(logits.square().sum(), list(network.parameters()))])
    assert all(map(torch.equal, *found))


@needs_bf16
@pytest.mark.parametrize("name", ["gan", "dcgan"])
def test_on_cuda_steps_are_those_of_autocast_and_copies_follow_the_weights(
    name: str, tiny, blobs, monkeypatch
) -> None:
    """Pixels that stay in bfloat16 between the networks, and copies that are cast after a step or a state."""
    made, updates = tiny({"networks": {"name": name}}, precision="bf16"), []
    monkeypatch.setattr(ToPixels, "forward", nn.ConvTranspose2d.forward)  # as on CUDA
    for on_cuda in (False, True, True):
        monkeypatch.setattr(precision, "by_launches", lambda device, on_cuda=on_cuda: on_cuda)
        updates.append(RULES["two-player"](made, SHAPE, Context(blobs().train)))
    plain, copied, resumed = updates
    for images in (0, 8):
        assert torch.equal(values(plain.step(images)), values(copied.step(images)))
    resumed.load(copied.state())
    for update in (copied, resumed):
        for one, other in zip(update.trainables, plain.trainables, strict=True):
            assert len(one.plain.copies) > 2
            assert all(map(torch.equal, one.parameters, other.parameters))
            for copy_, parameter in zip(one.plain.copies, one.plain.cast.values(), strict=True):
                assert torch.equal(copy_, parameter.bfloat16())


@needs_bf16
@pytest.mark.parametrize("loss", ["hinge", "wasserstein-gp"])
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


def test_threads_that_want_other_products_wait() -> None:
    """Three threads; each looks at the switches in the middle of its blocks, which may be within others."""
    units = precision.Units()
    before, wrong = units.kinds(), list[list[str]]()

    def wants(kinds: list[str]) -> None:
        for kind in kinds:
            with units.of("tf32"), units.of(kind):
                time.sleep(1e-4)
                if units.kinds() != [kind, kind]:
                    wrong.append(units.kinds())

    threads = [
        Thread(target=wants, args=[kinds], daemon=True)
        for kinds in (["ieee", "tf32"] * 50, ["tf32"] * 100, ["ieee"] * 100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert (units.kinds(), units.inside) == (before, 0)
