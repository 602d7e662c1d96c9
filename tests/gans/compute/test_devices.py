"""The boundary to the machine."""

from __future__ import annotations

import pytest
import torch

from gans.compute import devices
from gans.errors import InputError


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
