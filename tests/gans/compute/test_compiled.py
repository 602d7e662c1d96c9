"""Networks through torch.compile; on a CPU by the backends that generate no code."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from gans.compute import compiled
from gans.errors import InputError
from gans.training.state import Training

pytestmark = pytest.mark.usefixtures("one_thread")
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
CASES: dict[str, dict[str, Any]] = {
    "gan": {"networks": {"name": "gan"}},
    "penalty": {"networks": {"name": "gan"}, "loss": {"name": "wasserstein-gp"}, "update": {"d_steps": 2}},
    "mdgan": {"networks": {"name": "gan"}, "update": {"rule": "mdgan", "workers": 3, "batches": 2}},
}


def means(training: Training, steps: int = 3) -> dict[str, float]:
    for _ in range(steps):
        training.step()
    return training.means.fetch()()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_compiled_networks_train_as_they_are(case: str, tiny, blobs) -> None:
    """To the bit without generated code; with more networks of a class than torch compiles of one function."""
    made, data = tiny(CASES[case], batch=4), blobs(n=60)
    plain, other = (Training(made, data, CPU) for _ in range(2))
    torch._dynamo.utils.counters.clear()
    with torch._dynamo.config.patch(recompile_limit=2, error_on_recompile=False, fail_on_recompile_limit_hit=True):
        for trainable in other.update.trainables:
            trainable.compile("aot_eager")
            assert trainable.forward is not trainable.plain
        assert means(other) == means(plain)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= len(other.update.trainables)
    assert other.runner.recorder is None
    for one, two in zip(plain.update.trainables, other.update.trainables, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(one.parameters, two.parameters, strict=True))
    average = zip(plain.ema.averaged, other.ema.averaged, strict=True)
    assert all(torch.equal(p, q) for p, q in average)
    copy.deepcopy(other.update.generator.network)  # what is saved and averaged is the network itself


def test_a_cpu_is_refused() -> None:
    with pytest.raises(InputError, match=r"^COMPILE=1 needs a CUDA device; omit it on a CPU$"):
        compiled.require(CPU)
    compiled.require(CUDA)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", CASES)
def test_compiled_and_recorded_networks_train_alike_on_cuda(case: str, tiny, blobs) -> None:
    made, data = tiny(CASES[case], batch=4), blobs(n=60)
    found, expected = (means(Training(made, data, CUDA, compile=wanted), 8) for wanted in (True, False))
    assert found.keys() == expected.keys()
    assert all(found[name] == pytest.approx(expected[name], rel=1e-2, abs=1e-3) for name in expected)
