"""What `make bench`, `make score`, `make report` and `python -m benchmarks.sensitivity` ask for.

Nothing heavy is imported here, so that errors come at once.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from gans import places
from gans.commands import checks, options
from gans.commands.options import Only, Option
from gans.commands.outputs import Outputs
from gans.errors import InputError, unknown
from gans.registry import DATASETS
from gans.schema import Precision
from gans.urls import shown

MATRIX = "digits"
# of GPU memory for a cell: the largest here (sagan, 32x32, batch 64) with Inception's features and CUDA's own
GIBIBYTES = 4.0
MOST_DAMAGED, FEWEST_DAMAGED = 2_000, 50  # images; more only make the error bars shorter
# cells at a time on a GPU: all together were fastest on one H200 (docs/speed-log.md) with 8 on the 16x16 images of
# digits; on larger ones 4 are as fast as more, to a tenth
SMALL, MANY, FEW = 16, 8, 4
ENGINES = ("local", "ray")
LOCAL = ("file", "local")  # schemes of URLs that name a folder of this machine


@dataclass(frozen=True)
class Selection:
    """What an invocation asks for; None means all that the file has."""

    models: Annotated[Sequence[str] | None, Option("only these models of the matrix")] = None
    datasets: Annotated[
        Sequence[str] | None, Option("these data sets in place of the matrix's; folder:PATH too")
    ] = None
    seeds: Annotated[
        Sequence[int] | None, Option("these training seeds in place of the matrix's", least=0, most=2**31 - 1)
    ] = None
    budget: Annotated[float, Option("share of the matrix's images to train on", above=0, most=1_000)] = 1.0
    precision: Annotated[Precision | None, Option("of all cells; auto: by device; if not given, the matrix's")] = (
        None
    )

    def validate(self) -> None:
        """Refuse what cannot be before anything is loaded."""
        options.check(self)


@dataclass(frozen=True)
class Machine:
    """Where and how wide to run."""

    device: Annotated[str, Option("auto, cpu, cuda or cuda:1", repeated=False)] = "auto"
    jobs: Annotated[
        int | None,
        Option(
            "cells or trials at a time, on each GPU or machine; if not given one per CPU core, or on a GPU 8 of "
            "small images and 4 of larger ones, as far as its memory goes",
            repeated=False,
            least=1,
            most=1_024,
        ),
    ] = None
    runs: Annotated[
        Path, Option("folder for checkpoints and pictures; with engine ray a URL too, as s3://...", repeated=False)
    ] = Path("runs")
    outputs: Outputs = field(default_factory=places.outputs)
    graph: Annotated[bool | None, Option("record training steps as CUDA graphs; if not given, on CUDA")] = None
    compile: Annotated[bool, Option("compile both networks within the recorded step (CUDA; not measured)")] = False
    workers: Annotated[
        str | None,
        Option(
            "where MD-GAN's workers live: local (one process), or ray (RAY_ADDRESS, else this machine); if not "
            "given, where the matrix says"
        ),
    ] = None
    engine: Annotated[
        str,
        Option("what runs cells: local, or ray (the cluster at RAY_ADDRESS, else this machine)", repeated=False),
    ] = "local"
    runtime_env: Annotated[
        Path | None,
        Option("file (JSON) of Ray's runtime_env for jobs on the nodes of a cluster", repeated=False),
    ] = None
    cluster: Any = field(default=None, compare=False)  # of `ray`, once it is joined (`benchmarks.nodes.joined`)

    def validate(self) -> None:
        """Refuse a device, a place or an engine that there can not be, before torch is loaded."""
        checks.device(self.device)
        if self.workers:
            checks.workers(self.workers)
        if self.engine not in ENGINES:
            raise unknown("engine", self.engine, ENGINES)
        if self.url and self.engine == "local":
            raise InputError(
                f"RUNS={shown(self.url)} is no folder; take one, or ENGINE=ray, which brings files there"
            )
        if self.runtime_env and self.engine == "local":
            raise InputError(
                f"RUNTIME_ENV={self.runtime_env} is for nodes of a cluster; add ENGINE=ray, or leave it out"
            )

    @property
    def url(self) -> str:
        """Of the runs, if they do not lie in a folder; a path has one slash where a URL has two."""
        found = re.match(r"(\w[\w+.-]+):/+(.*)", str(self.runs))
        return f"{found[1]}://{'/' if found[1] in LOCAL else ''}{found[2]}" if found else ""

    @property
    def remedy(self) -> str:
        """What brings to a tracking store what it could not be told: `gans sync` knows folders, and no URLs."""
        from gans.runs.sync import REMEDY

        depot = self.cluster.depot if self.cluster else None
        return f"the next command with RUNS={depot.name} brings them" if depot else REMEDY

    def parallel(self, count: int, side: int) -> int:
        """Of so many cells, those that run at a time; `side` as in `width`.

        Small cells share no work, so one CPU thread each beats one cell with all threads.
        """
        return max(1, min(self.width(side) * max(1, len(self.cards)) * self.machines, count))

    def width(self, side: int) -> int:
        """Cells at a time on each card, or on the CPU.

        Args:
            side: of the largest images, in pixels.
        """
        if self.jobs:
            return self.jobs
        return min(MANY if side <= SMALL else FEW, self.room) if self.cards else self.cores

    def threads(self, side: int) -> int:
        """CPU threads of a cell: by JOBS, not by the cells that are left, since they move the last digits."""
        return max(1, self.cores * self.machines // self.parallel(sys.maxsize, side))

    @property
    def cores(self) -> int:
        """CPU cores for cells; of a cluster, on the machine that has fewest."""
        from gans.compute import devices

        return self.cluster.cores if self.cluster else devices.cores()

    @property
    def machines(self) -> int:
        """That cells run on."""
        return self.cluster.machines if self.cluster else 1

    @cached_property
    def cards(self) -> list[int]:
        """The GPUs that cells run on, by index; none: they run on the CPU."""
        from gans.compute import devices

        return devices.cards(self.device)

    @cached_property
    def room(self) -> int:
        """Cells that every GPU has memory for; asked once, since what is free changes."""
        import torch

        from gans.compute import devices

        return min(devices.room(torch.device("cuda", card), GIBIBYTES) for card in self.cards)


# what is asked where networks are as they were trained
PLACE = ("device", "jobs", "runs", "outputs", "engine", "runtime_env")

MatrixName = Annotated[
    str, Option("a file in benchmarks/matrices without .toml, or a path to one", positional=True)
]
Preset = Annotated[str, Option("tuned: MODEL-tuned beside every model that `make sweep` has tuned")]


@dataclass(frozen=True)
class Bench:
    """Train, score, track and report a matrix."""

    matrix: MatrixName = MATRIX
    selection: Selection = field(default_factory=Selection)
    preset: Preset = ""
    machine: Machine = field(default_factory=Machine)
    dry_run: Annotated[bool, Option("print the cells and their state, run nothing", repeated=False)] = False

    def validate(self) -> None:
        """Refuse what cannot be before anything is loaded."""
        options.check(self)
        self.machine.validate()


@dataclass(frozen=True)
class Score:
    """Score the finished cells of a matrix by other extractors, or on other numbers of images."""

    matrix: MatrixName = MATRIX
    extractors: Annotated[
        Sequence[str] | None, Option("feature extractors to score by; if not given, the matrix's")
    ] = None
    count: Annotated[
        int | None, Option("generated images behind a score; if not given, the matrix's", least=100, most=10**6)
    ] = None
    selection: Selection = field(default_factory=Selection)
    preset: Preset = ""
    machine: Annotated[Machine, Only(PLACE)] = field(default_factory=Machine)

    def validate(self) -> None:
        """Refuse what cannot be before anything is loaded."""
        options.check(self)
        self.machine.validate()


@dataclass(frozen=True)
class Report:
    """Write the report of a matrix again from the tracking store, and show its ranking."""

    matrix: MatrixName = MATRIX
    selection: Annotated[Selection, Only(("datasets", "budget", "precision"))] = field(default_factory=Selection)
    preset: Preset = ""
    outputs: Outputs = field(default_factory=places.outputs)
    runs: Annotated[
        Path, Option("folder of runs, to tell the store what it has missed", metavar="DIR", variable=False)
    ] = Path("runs")

    def validate(self) -> None:
        """Refuse what cannot be before anything is loaded."""
        options.check(self)


@dataclass(frozen=True)
class Sensitivity:
    """Draw how each metric reacts to damaged images."""

    data: Annotated[str, Option("a data set with labels", positional=True)]
    count: Annotated[int, Option("images at most", least=FEWEST_DAMAGED, most=10**6)] = MOST_DAMAGED
    device: Annotated[str, Option("auto, cpu, cuda or cuda:1")] = "auto"

    def validate(self) -> None:
        """Refuse what cannot be before anything is loaded."""
        options.check(self, lambda flag, value: f"{flag.flag} {value}")
        if self.data not in DATASETS:
            raise unknown("data set", self.data, DATASETS)
        checks.device(self.device)
