"""The result as markdown and JSON."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path

from benchmarks.speed.rounds import Ratio, Times
from gans.files import write_text
from gans.places import free
from gans.schema import Settled


@dataclass
class Row:
    """A workload's measurement."""

    name: str
    note: str
    batch: int  # real images per step
    times: dict[str, Times]  # by contender
    operations: int  # of a step
    default: Settled  # what `precision = "auto"` is here
    product: dict[str, float] = field(default_factory=dict)  # operations per second, by precision

    @property
    def precisions(self) -> list[str]:
        """What ours was timed in."""
        return list(self.product)

    def ratio(self, slow: str, fast: str) -> Ratio | None:
        if slow not in self.times or fast not in self.times:
            return None
        return Ratio.of(self.times[slow].wall, self.times[fast].wall)

    def overhead(self, precision: str) -> str:
        """Ours against its arithmetic alone, in percent, with the smallest and the largest of the rounds."""
        ratio = self.ratio(f"ours {precision}", f"bare {precision}")
        return "{:+.1f} % ({:+.1f}–{:+.1f})".format(*(100 * (r - 1) for r in astuple(ratio))) if ratio else ""

    def gain(self, precision: str) -> str:
        """The tutorial against ours, bold in the default precision."""
        ratio = self.ratio("tutorial", f"ours {precision}")
        mark = "**" if precision == self.default else ""
        return f"{mark}{ratio}{mark}" if ratio else ""

    def images_per_second(self, precision: str) -> str:
        """Of ours; nothing in a precision that it was not timed in."""
        times = self.times.get(f"ours {precision}")
        return f"{self.batch / times.median:,.0f}" if times else ""

    def rates(self, precision: str) -> tuple[str, str]:
        """Operations per second of the arithmetic alone, and their share of a large product's."""
        times = self.times.get(f"bare {precision}")
        if times is None:
            return "", ""
        rate = self.operations / times.median
        return f"{rate / 1e9:,.0f} G/s", f"{100 * rate / self.product[precision]:.0f} %"


@dataclass(frozen=True)
class Scored:
    """One way to score: images per second, and how many times longer it takes than ours, round by round."""

    name: str
    images_per_second: float
    slower: Ratio


@dataclass(frozen=True)
class Packed:
    """A small matrix with so many cells at a time, run several times: wall seconds, and cells that finished."""

    jobs: int
    seconds: list[float] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)

    @property
    def mean(self) -> float:
        return statistics.mean(self.seconds)


@dataclass
class Page:
    """All that was measured."""

    machine: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    start_up: dict[str, dict[str, float]] = field(default_factory=dict)
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    workers: dict[int, Times] = field(default_factory=dict)
    matrix: list[Packed] = field(default_factory=list)
    scoring: list[Scored] = field(default_factory=list)

    def write(self, name: str, folder: Path) -> Path:
        """Write both files, called after the device; earlier measurements stay."""
        page, figures = free(folder, slug(name), ".md", ".json")
        write_text(page, self.markdown())
        write_text(figures, json.dumps(asdict(self), indent=1) + "\n")
        return page

    def markdown(self) -> str:
        parts = ["# Speed of training", table(["", ""], [[k, v] for k, v in self.machine.items()])]
        parts += [READING, self.steps(), self.rates()]
        if self.machine["device type"] == "cpu":
            parts += ["## By CPU clock", CPU_CLOCK, self.by_cpu_clock()]
        if self.start_up:
            parts += ["## From the command to the first step, and peak memory", START, self.start()]
        if self.shares:
            parts += ["## Where a cell's time goes", SHARES, self.whole_cells()]
        if self.workers:
            parts += ["## MD-GAN against the number of workers", MDGAN, self.mdgan()]
        if self.matrix:
            parts += ["## Matrix against JOBS", MATRIX, self.packed()]
        if self.scoring:
            parts += ["## Scoring", SCORING, self.scored()]
        return "\n\n".join(parts) + "\n"

    @property
    def precisions(self) -> list[str]:
        """What any row was timed in; on a GPU each has its own."""
        return list(dict.fromkeys(kind for row in self.rows for kind in row.precisions))

    def steps(self) -> str:
        kinds = self.precisions
        head = ["Workload", *(f"ours, {kind}" for kind in kinds), "tutorial"]
        head += [*(f"overhead, {kind}" for kind in kinds), *(f"tutorial / {kind}" for kind in kinds)]
        rows = [
            [
                f"**{row.name}**<br>{row.note}",
                *(milliseconds(row.times.get(f"ours {kind}")) for kind in kinds),
                milliseconds(row.times.get("tutorial")),
                *(row.overhead(kind) for kind in kinds),
                *(row.gain(kind) for kind in kinds),
            ]
            for row in self.rows
        ]
        return table(head, rows)

    def by_cpu_clock(self) -> str:
        """The same turns by the CPU clock of each process, without the tutorial's loader workers."""
        kinds = self.precisions
        head = ["Workload", *(f"ours, {kind}" for kind in kinds), "tutorial"]
        head += [*(f"overhead, {kind}" for kind in kinds), *(f"tutorial / {kind}" for kind in kinds)]
        rows = []
        for row in self.rows:
            cpu = {name: statistics.median(times.cpu) for name, times in row.times.items()}
            ours = {kind: cpu[f"ours {kind}"] for kind in kinds}
            rows.append(
                [
                    f"**{row.name}**",
                    *(f"{1000 * seconds:.1f} ms" for seconds in (*ours.values(), cpu["tutorial"])),
                    *(f"{100 * (ours[kind] / cpu[f'bare {kind}'] - 1):+.1f} %" for kind in kinds),
                    *(f"{cpu['tutorial'] / seconds:.2f}" for seconds in ours.values()),
                ]
            )
        return table(head, rows)

    def rates(self) -> str:
        kinds = self.precisions
        head = ["Workload", "operations per step", *(f"images/s, {kind}" for kind in kinds)]
        head += [name for kind in kinds for name in (f"rate, {kind}", "share of a product")]
        rows = []
        for row in self.rows:
            seen = [row.images_per_second(kind) for kind in kinds]
            rates = [text for kind in kinds for text in row.rates(kind)]
            rows.append([f"**{row.name}**", f"{row.operations / 1e9:.2f} G", *seen, *rates])
        return table(head, rows)

    def start(self) -> str:
        rows = [
            [
                model,
                *(f"{parts[name]:.2f} s" for name in ("import", "build", "first step")),
                f"{parts['MiB']:.0f} MiB",
            ]
            for model, parts in self.start_up.items()
        ]
        return table(["Model", "import", "build", "first step", "peak memory"], rows)

    def whole_cells(self) -> str:
        names = list(next(iter(self.shares.values())))
        rows = []
        for model, parts in self.shares.items():
            whole = sum(parts.values())
            cells = [f"{parts[name]:.1f} s ({100 * parts[name] / whole:.0f} %)" for name in names]
            rows.append([model, *cells, f"{whole:.1f} s"])
        return table(["Model", *names, "whole"], rows)

    def mdgan(self) -> str:
        rows = [
            [str(n), milliseconds(times), f"{1000 * times.median / n:.1f} ms"] for n, times in self.workers.items()
        ]
        return table(["N", "an iteration", "per worker"], rows)

    def scored(self) -> str:
        rows = [[row.name, f"{row.images_per_second:,.0f}", str(row.slower)] for row in self.scoring]
        return table(["Way", "images/s", "time, ours = 1"], rows)

    def packed(self) -> str:
        best = min(row.mean for row in self.matrix)
        rows = [
            [
                str(row.jobs),
                f"{row.mean:.0f} s ({min(row.seconds):.0f}–{max(row.seconds):.0f})",
                f"{row.mean / best:.2f}",
                ", ".join(map(str, row.finished)),
            ]
            for row in self.matrix
        ]
        return table(["JOBS", "wall time", "best = 1", "cells finished"], rows)


READING = """Each contender runs for a moment in every round, in turns, so all meet the same machine; figures are
medians over rounds, ranges are the smallest and the largest of the rounds' ratios. *Ours* is the real trainer with
the average of weights, statistics and logs, without evaluation; *tutorial* is how PyTorch's DCGAN tutorial trains
(`tutorial.py`) on the same networks, batch and loss, in torch's default precision (float32; on CUDA, TF32 in
convolutions). *Overhead* is ours against its arithmetic alone, on the same networks and one batch again and again.
**Bold** is the precision that this machine trains in unless asked for another; a GPU is timed in that alone. Ours
and the tutorial have processes of their own, each as it would be started; a few steps before each turn are not
timed. A rate counts multiply-adds as two and is compared with a product of 2048 x 2048 matrices in the same
precision and the same rounds. Above 100 %, convolutions run faster than that product does. `digits` cells have one
thread, as in the matrix; `recipe` is a model at its paper's width. `docs/speed-log.md` has what was tried.
Training with torch-mimicry is not compared: its trainer runs its own networks only."""
CPU_CLOCK = """The same turns by the CPU clock of their processes, which stands still while other programs have the
cores: on a busy machine with one thread, these ratios are the ones to read. Time of the tutorial's loader workers
is not in it."""
START = "A fresh process for each, on a `digits` cell; *import* starts with the command."
SHARES = """A whole `digits` cell, its training scaled up from a part of its images. *Overhead* is checkpoints,
logs and pictures; the last part is the tracking store, artifacts, and loading the data and the scorer."""
MDGAN = """A `digits` cell in float32 on one thread. Discriminators run one after another, in the order of workers:
batched in one network or by `vmap` they were no faster at 5 and 10 workers (`docs/speed-log.md`)."""
SCORING = """The Fréchet distance of 2,000 colour images of 32x32 in the features of `cifar10`, the reference at
hand: ours in memory, a plain float32 loop, torch-fidelity on PNG files in one process, and its command line with
its start-up (`python -m benchmarks.speed.scoring` takes other counts)."""
MATRIX = """Fifteen cells of `digits` on a tenth of their images (`make bench BUDGET=0.1 JOBS=...`), from the
command to the report; the CPU's cores are shared out among the cells that run at a time. Twice each, in opposite
orders; on a GPU once, its cells side by side on the card."""


def slug(device: str) -> str:
    """A device's name in a file's, without what all processors are called: `intel-xeon-2-cores`."""
    return "-".join(re.findall(r"[a-z0-9]+", re.sub(r"\((r|tm)\)|processor|\bcpu\b", " ", device.lower())))


def milliseconds(times: Times | None) -> str:
    return f"{1000 * times.median:.1f} ms" if times else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
