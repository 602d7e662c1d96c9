"""How many operations a step takes."""

from __future__ import annotations

from collections import Counter
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.speed.page import Section
from benchmarks.speed.workloads import Workload
from gans.compute import precision as precisions
from gans.schema import Settled
from gans.training.state import Training

BATCH = 4  # the number of operations does not depend on it
NO_WORK = ("aten.detach", "aten.empty", "aten._unsafe_view", "profiler.")
NOTE = """Of a whole step, by torch's dispatcher, without views and allocations: on a GPU each is a launch or more.
Counted on a CPU that computes as on CUDA: power iterations and casts at once, the last layer of a convolutional
generator as torch's own, for which a CPU takes eleven more."""


class Operations(TorchDispatchMode):
    """Counts operations that compute or move numbers, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not operation.is_view and not str(operation).startswith(NO_WORK):
            self.counts[str(operation)] += 1
        return operation(*args, **(kwargs or {}))


def count(workload: Workload, precision: Settled) -> Counter[str]:
    """Operations of the second step of a workload, by name."""
    made = workload.trained_in(precision).experiment.model_copy(update={"batch": BATCH})
    with patch.object(precisions, "by_launches", lambda device: True):
        training = Training(made, workload.data, torch.device("cpu"))
        training.step()
        training.prepare()
        with Operations() as seen:
            training.compute()
    return seen.counts


def section(workloads: list[Workload]) -> Section:
    """Their operations a step in each precision, casts to another one apart."""
    rows = []
    for workload in workloads:
        whole, lowered = count(workload, "float32"), count(workload, "bf16")
        casts = lowered["aten._to_copy.default"]
        rows.append([workload.name, whole.total(), lowered.total(), casts])
    table = pd.DataFrame(rows, columns=["workload", "float32", "bf16", "casts in bf16"])
    return Section("Operations", NOTE, table, table)
