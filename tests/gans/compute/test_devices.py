"""The boundary to the machine."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from gans.compute import devices, precision
from gans.data import datasets
from gans.errors import InputError, exit_code
from gans.fidelity.scorer import Scorer
from gans.registry import MODELS


def test_auto_takes_cuda_if_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.resolve("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    # with its index: torch.cuda.set_device takes no other
    assert devices.resolve("auto") == devices.resolve("cuda") == torch.device("cuda", 0)


@pytest.mark.parametrize("name", ["cuda:7", "tpu", "mps", "gpu", "meta"])
def test_a_device_that_is_not_there_is_named(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=f"device '{name}'"):
        devices.resolve(name)


def test_an_apple_gpu_trains_in_float32_and_scores_on_the_cpu(monkeypatch, capsys):
    """As far as a machine without one can tell."""
    with pytest.raises(InputError, match="device 'mps' is not on this machine"):
        devices.resolve("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", cache(lambda: True))
    mps = devices.resolve("mps")
    assert (mps, devices.gpus("mps"), devices.resolve("auto").type) == (torch.device("mps"), [], "cpu")
    assert precision.resolve("auto", mps, MODELS["dcgan"]) == "float32"
    with pytest.raises(InputError, match="bf16: this GPU has no bfloat16"):
        precision.require("bf16", mps)
    data = datasets.load("digits")
    on_cpu = Scorer(data, "digits", 100, torch.device("cpu")).distance(data.train[:100])
    assert Scorer(data, "digits", 100, mps).distance(data.train[:100]) == on_cpu

    def lacking() -> int:
        raise NotImplementedError("The operator 'aten::x' is not implemented for the MPS device.\nMore of it")

    assert exit_code(lacking) == 2
    said = "The operator 'aten::x' is not implemented for the MPS device.; this needs another device: --device cpu"
    assert capsys.readouterr().err == f"error: {said}\n"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_energy_grows():
    device = devices.resolve("cuda")
    first = devices.energy(device)
    x = torch.randn(4096, 4096, device=device)
    for _ in range(200):
        x = (x @ x).tanh()
    devices.wait(device)
    second = devices.energy(device)
    assert first is None or second is None or second > first
    assert devices.energy(torch.device("cpu")) is None
