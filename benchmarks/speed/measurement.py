"""What `make speed` measures: operations and time of each model's steps, scoring."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.speed.steps import Timing, ratio
from benchmarks.speed.workloads import SIZES, Workload, colour, papers, small
from gans import schema
from gans.commands.options import command_line
from gans.compute import devices, precision
from gans.files import SPEED, free, write_text
from gans.runs.run import provenance
from gans.schema import Settled
from gans.training.state import Training
from reports.report import environment

if TYPE_CHECKING:
    from benchmarks.speed.commands import Speed

SECONDS = 1.0  # of a turn
BATCH = 4  # of the steps whose operations are counted: their number does not depend on it
NO_WORK = ("aten.detach", "aten.empty", "aten._unsafe_view", "profiler.")


def measure(command: Speed, device: torch.device) -> Path:
    """Measure what the command asks for; returns the page."""
    devices.prepare(device, devices.cores())
    about = machine(device, command_line("gans speed", command))
    about["turns"] = f"{command.rounds} of {SECONDS:g} s"
    about["load before"] = f"{os.getloadavg()[0]:.1f} on {devices.cores()} cores"
    sections: dict[str, Section] = {}
    models = command.models or SIZES
    workloads = [size(model) for size in (colour, small) for model in models]
    for part in command.parts or ("operations", "steps", "scoring"):
        print(f"{part} ...", flush=True)
        if part == "operations":
            sections["Operations"] = counted(workloads)
        elif part == "steps":
            at_papers = [papers(model) for model in models if device.type == "cuda"]
            timings = [timed(workload, device, command.rounds) for workload in (*workloads, *at_papers)]
            sections |= step_sections(pd.concat(timings))
        else:
            from benchmarks.speed import scoring  # imports torch-fidelity, which other parts do not wait for

            sections["Scoring"] = Section(*scoring.timed(device, command.count))
    about["load after"] = f"{os.getloadavg()[0]:.1f}"
    folder = command.outputs / SPEED
    return write(folder, about["device"], "Speed of training", about, sections, count=command.count)


def timed(workload: Workload, device: torch.device, rounds: int) -> pd.DataFrame:
    """The rounds of a workload: on a GPU in its default precision, on a CPU in float32 and, if it can, bf16."""
    print(f"  {workload.name}", flush=True)
    threads = 1 if workload.name.endswith("digits") else devices.cores()  # as in the matrix
    timing, default = Timing(device, threads, rounds, SECONDS), workload.default(device)
    both: list[Settled] = ["float32", "bf16"] if precision.has_bf16(device) else ["float32"]
    kinds = [default] if device.type == "cuda" else both
    return pd.concat([timing.measure(workload, kind) for kind in kinds]).assign(default=default)


def step_sections(rounds: pd.DataFrame) -> dict[str, Section]:
    """Times from the rounds of all workloads, and what these are."""
    rows = []
    for (name, kind), own in rounds.groupby(["workload", "precision"], sort=False):
        ours, tutorial = (f"{1000 * own[who].median():.4g}" for who in ("ours", "tutorial"))
        overhead = f"{100 * ((own['ours'] / own['bare']).median() - 1):+.1f} %"
        mark = "**" if kind == own["default"].iloc[0] else ""
        rows.append([name, kind, ours, overhead, tutorial, f"{mark}{ratio(own['tutorial'], own['ours'])}{mark}"])
    table = pd.DataFrame(rows, columns=["workload", "in", "ours", "overhead", "tutorial", "tutorial / ours"])
    workloads = rounds.groupby("workload", sort=False)["is"].first().reset_index()
    return {"Steps": Section(table, rounds), "Workloads": Section(workloads, workloads)}


# --- operations


class Operations(TorchDispatchMode):
    """Counts operations that compute or move numbers, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not operation.is_view and not str(operation).startswith(NO_WORK):
            self.counts[str(operation)] += 1
        return operation(*args, **(kwargs or {}))


def count(workload: Workload, kind: Settled) -> Counter[str]:
    """Operations of the second step of a workload, by name."""
    made = workload.trained_in(kind).experiment.model_copy(update={"batch": BATCH})
    with patch.object(precision, "by_launches", lambda device: True):
        training = Training(made, workload.data, torch.device("cpu"))
        training.step()
        training.prepare()
        with Operations() as seen:
            training.compute()
    return seen.counts


def counted(workloads: list[Workload]) -> Section:
    """Their operations a step in each precision, casts to another one apart."""
    rows = []
    for workload in workloads:
        whole, lowered = count(workload, "float32"), count(workload, "bf16")
        casts = lowered["aten._to_copy.default"]
        rows.append([workload.name, whole.total(), lowered.total(), casts])
    table = pd.DataFrame(rows, columns=["workload", "float32", "bf16", "casts in bf16"])
    return Section(table, table)


# --- the page


class Section(NamedTuple):
    """A table of the page, and the same figures unrounded, for programs."""

    table: pd.DataFrame
    figures: pd.DataFrame


def write(
    folder: Path, name: str, title: str, about: Mapping[str, str], sections: Mapping[str, Section], **values: Any
) -> Path:
    """Write a page and its figures under the device's name; earlier measurements stay. Returns the page."""
    page, figures = free(folder, slug(name), ".md", ".json")
    template = environment("reports").get_template("speed.md.j2")
    rows = pd.DataFrame(list(about.items()), columns=["", " "])
    write_text(page, template.render(title=title, about=rows, sections=sections, **values))
    numbers = {heading: section.figures.to_dict("records") for heading, section in sections.items()}
    write_text(figures, json.dumps({"machine": dict(about), **numbers}, indent=1) + "\n")
    return page


def machine(device: torch.device, command: str) -> dict[str, str]:
    """The machine, the code and the command of a measurement."""
    code = provenance()
    return {
        "device": devices.describe(device),
        "commit": code[schema.COMMIT] + (" (changed)" if code[schema.DIRTY] == "true" else ""),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "command": command,
    }


def slug(device: str) -> str:
    """A device's name for a file, without what all processors are called: `intel-xeon-2-cores`."""
    return "-".join(re.findall(r"[a-z0-9]+", re.sub(r"\((r|tm)\)|processor|\bcpu\b", " ", device.lower())))
