"""Options: the part of a matrix, and where it runs.

Slow imports are avoided here, so that errors come at once.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from gans import files
from gans.commands.options import ONCE, Compile, Device, Graph, Outputs, flat, option
from gans.errors import InputError, shown
from gans.schema import Precision, Where

MATRIX = "digits"
MOST_DAMAGED, FEWEST_DAMAGED = 2_000, 50  # images; more only shorten the error bars
# of GPU memory for a cell: the largest here (sagan, 32x32, batch 64) with Inception's features and CUDA's own
GIBIBYTES = 4.0
# cells at a time on a GPU: all together were fastest on one H200 (docs/speed-log.md) with 8 on the 16x16 images of
# digits; on larger ones 4 are as fast as more, to a tenth
SMALL, MANY, FEW = 16, 8, 4
BY_DEFAULT = (
    f"default: one per CPU core; on a GPU {MANY} with small images and {FEW} with larger, as memory allows"
)
LOCAL = ("file", "local")  # schemes of URLs that name a folder of this machine

MatrixName = Annotated[str, option("name of a matrix in benchmarks/matrices, or path of a TOML file")]
Preset = Annotated[
    Literal["tuned"] | None, option("tuned: also MODEL-tuned for every model that `gans sweep` has tuned")
]
Datasets = Annotated[Sequence[str] | None, option("data sets in place of the matrix's; folder:PATH for your own")]
Budget = Annotated[float, option("share of the matrix's images to train on", least=1e-6, most=1_000)]
Runs = Annotated[Path, option("folder of runs that the store may lack", metavar="DIR")]
Of = Annotated[Precision | None, option("precision of all cells; auto: by device; default: the matrix's")]


@flat
@dataclass(frozen=True)
class Selection:
    """A part of a matrix; None means all that the file has."""

    models: Annotated[Sequence[str] | None, option("only these models of the matrix")] = None
    datasets: Datasets = None
    seeds: Annotated[
        Sequence[int] | None, option("training seeds in place of the matrix's", least=0, most=2**31 - 1)
    ] = None
    budget: Budget = 1.0
    precision: Of = None


@flat
@dataclass(frozen=True)
class Place:
    """Where to run, and how many jobs at a time."""

    device: Annotated[Device, ONCE] = "auto"
    jobs: Annotated[
        int | None,
        option(f"concurrent cells or trials, on each GPU or machine; {BY_DEFAULT}", least=1, most=1_024),
        ONCE,
    ] = None
    runs: Annotated[
        Path,
        option("folder of runs; with engine ray also a URL, such as s3://..."),
        ONCE,
    ] = Path("runs")
    outputs: Outputs = field(default_factory=files.outputs)
    engine: Annotated[
        Literal["local", "ray"],
        option("where cells run; ray: on the cluster at RAY_ADDRESS, or else one on this machine"),
        ONCE,
    ] = "local"
    # of `ray`, once it is joined (`benchmarks.executors.ray`)
    cluster: Annotated[Any, Parameter(parse=False)] = field(default=None, compare=False, kw_only=True)

    def validate(self) -> None:
        """Refuse a URL without a cluster."""
        if self.url and self.engine == "local":
            raise InputError(
                f"RUNS={shown(self.url)} is not a folder; use a folder, or ENGINE=ray, which supports URLs"
            )

    @property
    def url(self) -> str:
        """The URL of the runs, empty for a folder; a path has one slash where a URL has two."""
        found = re.match(r"(\w[\w+.-]+):/+(.*)", str(self.runs))
        return f"{found[1]}://{'/' if found[1] in LOCAL else ''}{found[2]}" if found else ""

    # in these, `side` is that of the largest images, in pixels

    def parallel(self, count: int, side: int) -> int:
        """Of so many cells, those that run at a time: one CPU thread each beats one cell with all threads."""
        return max(1, min(self.width(side) * max(1, len(self.gpus)) * self.machines, count))

    def width(self, side: int) -> int:
        """Cells at a time on each GPU, or on the CPU."""
        if self.jobs:
            return self.jobs
        return min(MANY if side <= SMALL else FEW, self.room) if self.gpus else self.cores

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
        return self.cluster.machines if self.cluster else 1

    @cached_property
    def gpus(self) -> list[int]:
        """The GPUs that cells run on, by index; none: they run on the CPU."""
        from gans.compute import devices

        return devices.gpus(self.device)

    @cached_property
    def room(self) -> int:
        """Cells that every GPU has memory for; read once, since what is free changes."""
        import torch

        from gans.compute import devices

        return min(devices.room(torch.device("cuda", gpu), GIBIBYTES) for gpu in self.gpus)


@flat
@dataclass(frozen=True)
class Trainer(Place):
    """Where to train, and how many jobs at a time; the workers of a cell are in its own process."""

    graph: Graph = None
    compile: Compile = False


@flat
@dataclass(frozen=True)
class Machine(Trainer):
    """Options of a trainer that may run MD-GAN's workers in other processes."""

    workers: Annotated[
        Where | None,
        option("MD-GAN's workers: in one process (local) or as Ray actors; default: the matrix's"),
    ] = None


@flat
@dataclass(frozen=True)
class Bench:
    matrix: MatrixName = MATRIX
    _: KW_ONLY
    selection: Selection = field(default_factory=Selection)
    preset: Preset = None
    machine: Machine = field(default_factory=Machine)
    dry_run: Annotated[bool, option("print the cells and their state, run nothing"), ONCE] = False


@flat
@dataclass(frozen=True)
class Rescore:
    matrix: MatrixName = MATRIX
    _: KW_ONLY
    extractors: Annotated[Sequence[str] | None, option("feature extractors; default: the matrix's")] = None
    count: Annotated[
        int | None, option("generated images per score; default: the matrix's", least=100, most=10**6)
    ] = None
    selection: Selection = field(default_factory=Selection)
    preset: Preset = None
    machine: Place = field(default_factory=Place)


@flat
@dataclass(frozen=True)
class Report:
    matrix: MatrixName = MATRIX
    _: KW_ONLY
    datasets: Datasets = None
    budget: Budget = 1.0
    precision: Of = None
    outputs: Outputs = field(default_factory=files.outputs)
    runs: Runs = Path("runs")

    @property
    def selection(self) -> Selection:
        return Selection(datasets=self.datasets, budget=self.budget, precision=self.precision)
