"""A GPU's figures with their goals, in order of worth: what one call does not reach, the next one measures."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import psutil
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

from benchmarks.speed.measurement import Section, machine, slug, write
from benchmarks.speed.steps import Timing, bare
from benchmarks.speed.workloads import R3GAN, SIZES, Workload, colour, papers, small
from gans import files, schema
from gans.commands.options import command_line
from gans.compute import devices
from gans.data.datasets import data_root
from gans.errors import InputError, brief
from gans.fidelity.gaussian import Gaussian
from gans.files import SPEED
from gans.training.state import Training

if TYPE_CHECKING:
    from benchmarks.speed.commands import Goals

SECONDS = 0.5  # of a turn
STEPS = 10  # that are profiled
LEAST_LEFT = 5.0  # seconds, to begin a part
# models that have not run on a GPU
NEW = ("r3gan", "sngan", "wgan-gp", "cdcgan", "csagan", "cmdgan")
TESTS = Path(__file__).parents[2] / "tests"
Measured = tuple[float, str]  # in the goal's unit, and a remark
Figure = Callable[[pd.DataFrame], Measured]  # of what `Timing.measure` returns


@dataclass(frozen=True)
class Goal:
    """A figure to reach: `bound` is the most that it may be, or the least; None: a figure without a goal."""

    figure: str
    bound: float | None = None
    unit: str = ""
    least: bool = False

    def row(self, value: float | None, note: str) -> dict[str, str]:
        """The figure with its goal; None: it was not measured."""
        figure = {"figure": self.figure, "measured": "", "goal": "", "verdict": "not measured", "note": note}
        verdict = "measured"
        if self.bound is not None:
            figure["goal"] = f"at {'least' if self.least else 'most'} {self.text(self.bound)}"
            met = value is not None and (value >= self.bound if self.least else value <= self.bound)
            verdict = "met" if met else "**not met**"
        return figure if value is None else figure | {"measured": self.text(value), "verdict": verdict}

    def text(self, value: float) -> str:
        return f"{value:.4g} {self.unit}".strip()


@dataclass(frozen=True)
class Part:
    """Figures that are measured together, in the order of their goals, within `limit` seconds."""

    name: str
    limit: float
    goals: list[Goal]
    measure: Callable[[], Sequence[Measured]]

    def rows(self, seconds: float) -> list[dict[str, str]]:
        """The figures, measured within so many seconds. An error costs those of this part, and no others."""
        try:
            with limited(seconds):
                return [goal.row(*measured) for goal, measured in zip(self.goals, self.measure(), strict=True)]
        except Exception as error:
            return [goal.row(None, brief(error).replace("|", "\\|")) for goal in self.goals]


def parts(timing: Timing, folder: Path) -> list[Part]:
    """All of them, the most valuable first; `folder` keeps what the page needs next time."""
    device, steps = timing.device, partial(of_steps, timing)

    def beside_tutorial(workload: Workload) -> Part:
        faster = Goal(f"tutorial / ours, {workload.name}", 10, least=True)
        return steps(workload, {faster: times_tutorial, bare_goal(workload): overhead}, "tutorial")

    def iteration(workload: Workload, bound: float, *others: str) -> Part:
        return steps(workload, {Goal(f"an iteration of {workload.name}", bound, "ms"): milliseconds}, *others)

    def new(workload: Workload) -> Part:
        step = Goal(f"a step of {workload.name}", unit="ms")
        return steps(workload, {step: milliseconds, bare_goal(workload): overhead})

    def share(matrix: str) -> Goal:
        return Goal(f"evaluation's share of {matrix}", 10, "%")

    grey = [Goal("matrix papers-grey", 200, "s"), share("papers-grey")]
    colours = [Goal("matrix papers-colour, or its rest", unit="s"), share("papers-colour")]
    features = [Goal("distance of 50,000 x 2,048 features, with its error", unit="s")]
    kernels = [Goal("kernels in a step of dcgan 32x32"), Goal("gaps between these", unit="%")]
    wide = Goal("r3gan as published for CIFAR-10", 900, "images/s", least=True)
    fast = [
        replace(colour(model), name=f"COMPILE=1 for {model} 32x32") for model in ("gan", "dcgan", "dcgan-nobn")
    ]
    return [
        Part("tests", 180, [Goal("tests that need a GPU and fail", 0)], run_tests),
        *(beside_tutorial(size(model)) for size in (colour, small) for model in SIZES),
        iteration(papers("mdgan"), 3.0),
        iteration(papers("sagan"), 6.5),
        Part("papers-grey", 300, grey, partial(make_matrix, "papers-grey", device)),
        *(new(papers(model)) for model in NEW),
        Part("papers-colour", 300, colours, partial(make_matrix, "papers-colour", device, folder=folder)),
        Part("scoring", 60, features, partial(apart, score, device)),
        Part("profile", 60, kernels, partial(apart, profile, colour("dcgan"), device, folder)),
        iteration(replace(papers("sagan"), name="sagan recipe, COMPILE=1"), 4.2, "compiled"),
        steps(R3GAN, {wide: images_a_second}),
        *(steps(one, {Goal(one.name, 1.3, "times", least=True): gain}, "compiled") for one in fast),
    ]


def take(parts: Sequence[Part], kept: Path, seconds: float = math.inf) -> pd.DataFrame:
    """Measure what is not kept in a file of JSON lines by part, for so many seconds.

    Figures are printed and, if all of a part were measured, kept at once; of parts that are not reached too there
    are rows.
    """
    lines = kept.read_text().splitlines() if kept.exists() else []
    known: dict[str, list[dict[str, str]]] = dict(map(json.loads, lines))
    since, missed, rows = time.monotonic(), [], []
    for part in parts:
        if part.name not in known:
            left = seconds - (time.monotonic() - since)
            if left < LEAST_LEFT:
                missed.append(part.name)
                rows += [goal.row(None, "not reached") for goal in part.goals]
                continue
            known[part.name] = part.rows(min(part.limit, left))
            for row in known[part.name]:
                print("{figure}: {measured} ({goal}) {verdict} {note}".format(**row), flush=True)
            if all(row["measured"] for row in known[part.name]):
                with kept.open("a") as file:
                    file.write(json.dumps([part.name, known[part.name]]) + "\n")
        rows += known[part.name]
    if missed:
        print(f"not reached: {', '.join(missed)}; the same command goes on there")
    return pd.DataFrame(rows)


def measure(command: Goals, device: torch.device) -> int:
    """Take the parts and write the page; 0 if every figure was measured. A goal that is not met is no error."""
    about = machine(device, command_line("gans gpu", command))
    name = slug(f"{about['device']} goals")
    folder, kept = command.outputs / SPEED / f"{name}-{about['commit'][:8]}", "measured.jsonl"
    if about["commit"].endswith(" (changed)"):  # an earlier call may have measured other code
        (folder / kept).unlink(missing_ok=True)
    wanted = tuple(command.parts or [""])
    every = parts(Timing(device, devices.cores(), command.rounds, SECONDS), folder)
    chosen = [part for part in every if part.name.startswith(wanted)]
    if not chosen:
        raise InputError(
            f"no part begins with {' or '.join(wanted)}; take {', '.join(part.name for part in every)}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    found = take(chosen, folder / kept, 60 * (command.minutes or math.inf))
    missing = int((found["verdict"] == "not measured").sum())
    about["goals met"] = f"{(found['verdict'] == 'met').sum()} of {(found['goal'] != '').sum()}"
    about["not measured"] = f"{missing} of {len(found)} figures"
    path = write(command.outputs / SPEED, name, "Goals on a GPU", about, {"Figures": Section(found, found)})
    print(f"goals met: {about['goals met']}, not measured: {about['not measured']}\nwritten: {path}")
    print(f"kept in {folder}, and not measured again for the same commit: delete it to start again")
    return int(missing > 0)


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """A block that ends with a TimeoutError after so many seconds, and all processes with it that it began."""

    def end(number: int, frame: object) -> None:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if process.ppid() != os.getpid():  # `subprocess` ends its own; the server of processes stays
                    process.kill()
        raise TimeoutError(f"not done within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def apart(function: Callable[..., Sequence[Measured]], *given: object) -> Sequence[Measured]:
    """The result of a function in a process of its own, whose memory on the GPU is freed."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as process:
        return process.submit(function, *given).result()


# --- from the times of steps


def of_steps(timing: Timing, workload: Workload, figures: Mapping[Goal, Figure], *others: str) -> Part:
    """Figures of a workload's steps, which `others` (of `Timing.measure`) are timed with."""

    def measure() -> list[Measured]:
        found = timing.measure(workload, others=others)
        return [figure(found) for figure in figures.values()]

    return Part(workload.name, 180 if "compiled" in others else 120, list(figures), measure)


def times_tutorial(found: pd.DataFrame) -> Measured:
    ours, tutorial = (1000 * found[who].median() for who in ("ours", "tutorial"))
    note = f"{found['precision'][0]}: {ours:.2f} ms, tutorial {tutorial:.2f} ms"
    return (found["tutorial"] / found["ours"]).median(), note


def bare_goal(workload: Workload) -> Goal:
    return Goal(f"overhead over the bare step, {workload.name}", 3, "%")


def overhead(found: pd.DataFrame) -> Measured:
    shares = 100 * (found["ours"] / found["bare"] - 1)
    return shares.median(), f"{shares.min():+.1f} to {shares.max():+.1f} by rounds"


def milliseconds(found: pd.DataFrame) -> Measured:
    """Of our step, compiled if that was asked for."""
    who = "compiled" if "compiled" in found else "ours"
    return 1000 * found[who].median(), f"{found['precision'][0]}: {found['is'][0]}"


def gain(found: pd.DataFrame) -> Measured:
    """How many times as fast compiled networks are."""
    note = f"{1000 * found['compiled'].median():.2f} ms; {found.attrs['seconds']:.0f} s in all, with compiling"
    return (found["ours"] / found["compiled"]).median(), note


def images_a_second(found: pd.DataFrame) -> Measured:
    speed = R3GAN.experiment.batch / found["ours"].median()
    return speed, f"{R3GAN.note}: {250e6 / speed / 3600:.0f} h to 250,000 kimg"


# --- what is measured once


def run_tests(folder: Path = TESTS, marked: str = "gpu") -> list[Measured]:
    """How many tests of a folder fail that have a mark, run in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-m", marked, str(folder)]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, check=False)
    summary = last_line(done.stdout or done.stderr)
    count = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error|skipped)", summary)}
    if not count.keys() - {"skipped"}:
        raise RuntimeError(f"no test ran: {summary}")
    failures = count.get("failed", 0) + count.get("error", 0)
    return [(failures, f"{count.get('passed', 0)} passed, {count.get('skipped', 0)} skipped")]


def make_matrix(
    name: str, device: torch.device, flags: Sequence[str] = (), folder: Path | None = None
) -> list[Measured]:
    """Seconds of a matrix, and evaluation's percentage of the time of its cells.

    It starts from nothing but the data, or goes on in a folder that is given.
    """
    with TemporaryDirectory() as empty:
        root = Path(empty) if folder is None else folder / name
        root.mkdir(exist_ok=True, parents=True)
        own = {"MLFLOW_TRACKING_URI": f"sqlite:///{root.absolute()}/mlflow.db", files.VARIABLE: ""}
        since = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "gans", "bench", name, "--device", str(device), *flags],
            cwd=root,
            env={**os.environ, **own, "GANS_DATA": str(data_root().absolute())},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - since
        tables = list(root.glob("outputs/reports/*/tables/cells.csv"))
        if not tables:
            raise RuntimeError(f"no report; exit code {done.returncode}: {last_line(done.stderr)}")
        cells = pd.read_csv(tables[0])
    finished = (cells["status"] == schema.FINISHED).sum()
    if finished < len(cells):
        raise RuntimeError(f"{finished} of {len(cells)} cells finished")
    whole = cells[[schema.TRAINING, schema.EVALUATION, schema.OVERHEAD]].to_numpy().sum()
    return [(seconds, f"all {finished} cells finished"), (100 * cells[schema.EVALUATION].sum() / whole, "")]


def last_line(text: str) -> str:
    """The line of a program's output that says how it ended."""
    return next(reversed(text.strip().splitlines()), "no message")


def score(device: torch.device, count: int = 50_000, dimensions: int = 2_048) -> list[Measured]:
    """Seconds to compute a Fréchet distance and its error from features of generated images."""
    rng = torch.Generator(device).manual_seed(0)
    real, features = torch.randn((2, count, dimensions), generator=rng, device=device)
    reference = Gaussian.of(real)
    _ = reference.root  # is kept with the reference
    devices.wait(device)
    since = time.perf_counter()
    fitted = Gaussian.of(features)
    distance = reference.distance(fitted), reference.error(features, fitted)
    return [(time.perf_counter() - since, "distance {:.3g}, error {:.2g}".format(*distance))]


def profile(workload: Workload, device: torch.device, folder: Path) -> list[Measured]:
    """Kernels in a step, and the percentage of its time without one; on a CPU, of operations."""
    training = Training(workload.trained_in(workload.default(device)).experiment, workload.data, device)
    step = bare(training)
    step()
    kind, more = (DeviceType.CUDA, [ProfilerActivity.CUDA]) if device.type == "cuda" else (DeviceType.CPU, [])
    with torch.profiler.profile(activities=[ProfilerActivity.CPU, *more]) as seen:
        for _ in range(STEPS):
            step()
        devices.wait(device)
    path = folder / f"{workload.name} profile.txt"
    path.write_text(seen.key_averages().table(sort_by=f"self_{device.type}_time_total", row_limit=50))
    spans = sorted((e.time_range.start, e.time_range.end) for e in seen.events() if e.device_type == kind)
    starts, ends = np.array(spans).T
    whole, gaps = ends.max() - starts[0], (starts[1:] - np.maximum.accumulate(ends)[:-1]).clip(0).sum()
    note = f"{(whole - gaps) / STEPS / 1000:.3f} of {whole / STEPS / 1000:.3f} ms; by kernel in {path.name}"
    return [(len(spans) / STEPS, note), (100 * gaps / whole, "")]
