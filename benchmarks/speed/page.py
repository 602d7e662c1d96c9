"""The result as markdown and JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.speed.rounds import Ratio, Times

RESULTS = Path(__file__).parent / "results"


@dataclass
class Row:
    """A workload's measurement."""

    name: str
    note: str
    batch: int  # real images per step
    times: dict[str, Times]  # by contender
    operations: int  # of a step
    product: dict[str, float] = field(default_factory=dict)  # operations per second, by precision

    def ratio(self, slow: str, fast: str) -> Ratio | None:
        if slow not in self.times or fast not in self.times:
            return None
        return Ratio.of(self.times[slow].wall, self.times[fast].wall)

    def share(self, contender: str, precision: str) -> float:
        """The arithmetic's rate as a share of the large matrix product's in the same rounds."""
        return self.operations / self.times[contender].median / self.product[precision]


@dataclass(frozen=True)
class Scored:
    """One way to score: images per second, and how many times longer it takes than ours, round by round."""

    name: str
    images_per_second: float
    slower: Ratio


@dataclass
class Page:
    """All that was measured."""

    machine: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    start_up: dict[str, dict[str, float]] = field(default_factory=dict)
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    workers: dict[int, Times] = field(default_factory=dict)
    layouts: dict[str, dict[str, float]] = field(default_factory=dict)
    scoring: list[Scored] = field(default_factory=list)

    def write(self, slug: str) -> Path:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{slug}.md"
        path.write_text(self.markdown(), encoding="utf-8")
        path.with_suffix(".json").write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        return path

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
            parts += ["## MD-GAN against the number of workers", self.mdgan()]
        if self.layouts:
            parts += ["## Cells at a time", LAYOUTS, self.packed()]
        if self.scoring:
            parts += ["## Scoring", SCORING, self.scored()]
        return "\n\n".join(parts) + "\n"

    def steps(self) -> str:
        head = [
            "Workload",
            "ours",
            "bare",
            "tutorial",
            "ours, bf16",
            "overhead",
            "tutorial / ours",
            "tutorial / bf16",
        ]
        rows = []
        for row in self.rows:
            overhead = row.ratio("ours", "bare")
            rows.append(
                [
                    f"**{row.name}**<br>{row.note}",
                    *(milliseconds(row.times.get(name)) for name in ("ours", "bare", "tutorial", "bf16")),
                    f"{100 * (overhead.median - 1):+.1f} %" if overhead else "",
                    str(row.ratio("tutorial", "ours") or ""),
                    str(row.ratio("tutorial", "bf16") or ""),
                ]
            )
        return table(head, rows)

    def by_cpu_clock(self) -> str:
        """The same turns by this process's CPU clock; loader workers, processes of their own, are not in it."""
        rows = []
        for row in self.rows:
            cpu = {name: statistics.median(times.cpu) for name, times in row.times.items()}
            in_bf16 = f"{cpu['tutorial'] / cpu['bf16']:.2f}" if "bf16" in cpu else ""
            rows.append(
                [
                    f"**{row.name}**",
                    *(f"{1000 * cpu[name]:.1f} ms" for name in ("ours", "bare", "tutorial")),
                    f"{100 * (cpu['ours'] / cpu['bare'] - 1):+.1f} %",
                    f"{cpu['tutorial'] / cpu['ours']:.2f}",
                    in_bf16,
                ]
            )
        return table(["Workload", "ours", "bare", "tutorial", "overhead", "tutorial / ours", "... / bf16"], rows)

    def rates(self) -> str:
        head = ["Workload", "operations per step", "images/s", "rate", "share of a product", "bf16 share"]
        rows = []
        for row in self.rows:
            seconds = row.times["bare"].median
            rows.append(
                [
                    f"**{row.name}**",
                    f"{row.operations / 1e9:.2f} G",
                    f"{row.batch / row.times['ours'].median:,.0f}",
                    f"{row.operations / seconds / 1e9:.0f} G/s",
                    f"{100 * row.share('bare', 'float32'):.0f} %",
                    f"{100 * row.share('bf16', 'bf16'):.0f} %" if "bf16" in row.product else "",
                ]
            )
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
        ways = list(next(iter(self.layouts.values())))
        rows = [[model, *(f"{seconds[way]:.1f} s" for way in ways)] for model, seconds in self.layouts.items()]
        return table(["Model", *ways], rows)


READING = """Each contender runs for a moment in every round, in turns, so all meet the same machine; figures are
medians over rounds, ranges are the smallest and the largest of the rounds' ratios. *Ours* is the real trainer with
the average of weights, statistics and logs, without evaluation; *bare* is its arithmetic on one batch again and
again; *tutorial* is how PyTorch's DCGAN tutorial trains (`tutorial.py`) on the same networks, batch and loss, in
float32. *Overhead* is ours against bare. A rate counts multiply-adds as two and is compared with a product of
2048 x 2048 matrices in the same precision and the same rounds. Above 100 %, convolutions run faster
than that product does. `digits` cells have one thread, as in the matrix. `LOG.md` has what was tried. Training
with torch-mimicry is not compared: its trainer runs its own networks only."""
CPU_CLOCK = """The same turns by the clock of this process, which stands still while other programs have the cores:
on a busy machine with one thread, these ratios are the ones to read. Time of the tutorial's loader workers is not
in it."""
START = "A fresh process for each, on a `digits` cell; *import* starts with the command."
SHARES = """A whole `digits` cell, its training scaled up from a part of its images. *Overhead* is checkpoints,
logs and pictures; the last part is the tracking store, artifacts, and loading the data and the scorer."""
SCORING = """The Fréchet distance of 2,000 colour images of 32x32 in the features of `cifar10`, the reference at
hand: ours in memory, a plain float32 loop, torch-fidelity on PNG files in one process, and its command line with
its start-up (`python -m benchmarks.speed.scoring` takes other counts)."""
LAYOUTS = "Wall seconds of the same cells, *cells at a time* x *threads each*."


def milliseconds(times: Times | None) -> str:
    return f"{1000 * times.median:.1f} ms" if times else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
