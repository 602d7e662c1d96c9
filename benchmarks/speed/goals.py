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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import psutil
import torch

from benchmarks.speed.options import Goals
from benchmarks.speed.page import Page, Section, machine, slug
from benchmarks.speed.single import R3GAN, profile, recorded_difference, score
from benchmarks.speed.steps import Timing
from benchmarks.speed.workloads import SIZES, Workload, colour, papers, small
from gans import places, schema
from gans.commands.options import command_line
from gans.compute import devices
from gans.data.datasets import data_root
from gans.errors import InputError, brief
from gans.places import SPEED

SECONDS = 0.5  # of a turn
LEAST_LEFT = 5.0  # seconds, to begin a part
NEW = ("r3gan", "sngan", "wgan-gp", "cdcgan", "csagan", "cmdgan")
TESTS = Path(__file__).parents[2] / "tests"
NOTE = """All by the defaults: recorded steps, in the device's default precision. Steps are
timed as `make speed` does: medians of turns, in which our trainer, its recorded step replayed bare and the
tutorial's trainer take part. `papers-grey` starts from nothing but the data; its report is in its time."""
Measured = tuple[float, str]  # in the goal's unit, and a remark


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
    """All of them, the most valuable first; `folder` is for what is kept beside the page."""
    grey = [Goal("matrix papers-grey", 200, "s"), Goal("evaluation's share of papers-grey", 10, "%")]
    whole = [
        Goal("matrix papers-colour, or its rest", unit="s"),
        Goal("evaluation's share of papers-colour", 10, "%"),
    ]
    wide = [Goal("r3gan as published for CIFAR-10", 900, "images/s", least=True)]
    kernels = [Goal("kernels in a step of dcgan 32x32", unit=""), Goal("gaps between these", unit="%")]
    once = partial(apart, score, timing.device), partial(apart, profile, colour("dcgan"), timing.device, folder)
    return [
        Part("tests", 180, [Goal("tests that need a GPU and fail", 0)], run_tests),
        *(steps(size(model), timing) for size in (colour, small) for model in SIZES),
        iteration(papers("mdgan"), 3.0, timing),
        iteration(papers("sagan"), 6.5, timing),
        Part("papers-grey", 300, grey, partial(make_matrix, "papers-grey", timing.device)),
        *(new(papers(model), timing) for model in NEW),
        Part("papers-colour", 300, whole, partial(make_matrix, "papers-colour", timing.device, folder=folder)),
        Part("scoring", 60, [Goal("distance of 50,000 x 2,048 features, with its error", unit="s")], once[0]),
        Part("profile", 60, kernels, once[1]),
        iteration(papers("sagan"), 4.2, replace(timing, compile=True), ", COMPILE=1"),
        Part("r3gan cifar10", 60, wide, partial(images_a_second, R3GAN, timing)),
        *(gain(colour(model), timing) for model in ("gan", "dcgan", "dcgan-nobn")),
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


def steps(workload: Workload, timing: Timing) -> Part:
    """Faster than the tutorial, and hardly slower than the arithmetic alone."""

    def measure() -> list[Measured]:
        found = timing.measure(workload)
        ours, tutorial = (1000 * found[who].median() for who in ("ours", "tutorial"))
        note = f"{found['precision'][0]}: {ours:.2f} ms, tutorial {tutorial:.2f} ms"
        return [((found["tutorial"] / found["ours"]).median(), note), overhead(found)]

    goals = [Goal(f"tutorial / ours, {workload.name}", 10, least=True), bare_goal(workload)]
    return Part(workload.name, 40, goals, measure)


def bare_goal(workload: Workload) -> Goal:
    return Goal(f"overhead over the bare step, {workload.name}", 3, "%")


def overhead(found: pd.DataFrame) -> Measured:
    shares = 100 * (found["ours"] / found["bare"] - 1)
    return shares.median(), f"{shares.min():+.1f} to {shares.max():+.1f} by rounds"


def new(workload: Workload, timing: Timing) -> Part:
    """A workload that has not run on a GPU: recorded steps are called ones, their time, their overhead."""

    def measure() -> list[Measured]:
        found = timing.measure(workload, tutorial=False)
        note = f"{found['precision'][0]}: {workload.note}"
        difference = apart(recorded_difference, workload, timing.device)
        return [*difference, (1000 * found["ours"].median(), note), overhead(found)]

    name = workload.name
    goals = [Goal(f"recorded from called steps, {name}", 1, "%"), Goal(f"a step of {name}", unit="ms")]
    return Part(name, 60, [*goals, bare_goal(workload)], measure)


def iteration(workload: Workload, bound: float, timing: Timing, how: str = "") -> Part:
    """An iteration of a recipe in milliseconds."""

    def measure() -> list[Measured]:
        found = timing.measure(workload, tutorial=False)
        return [(1000 * found["ours"].median(), f"{found['precision'][0]}: {workload.note}")]

    name = f"{workload.name}{how}"
    return Part(name, 120, [Goal(f"an iteration of {name}", bound, "ms")], measure)


def images_a_second(workload: Workload, timing: Timing) -> list[Measured]:
    speed = workload.experiment.batch / timing.measure(workload, tutorial=False)["ours"].median()
    return [(speed, f"{workload.note}: {250e6 / speed / 3600:.0f} h to 250,000 kimg")]


def gain(workload: Workload, timing: Timing) -> Part:
    """How many times as fast compiled networks are."""

    def measure() -> list[Measured]:
        plain = timing.measure(workload, tutorial=False)["ours"].median()
        since = time.monotonic()
        compiled = replace(timing, compile=True).measure(workload, tutorial=False)["ours"].median()
        return [(plain / compiled, f"{1000 * compiled:.2f} ms; {time.monotonic() - since:.0f} s with compiling")]

    name = f"COMPILE=1 for {workload.name}"
    return Part(name, 150, [Goal(name, 1.3, "times", least=True)], measure)


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
        own = {"MLFLOW_TRACKING_URI": f"sqlite:///{root.absolute()}/mlflow.db", places.VARIABLE: ""}
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
    page = Page("Goals on a GPU", about, [Section("Figures", NOTE, found, found)])
    path = page.write(name, command.outputs / SPEED)
    print(f"goals met: {about['goals met']}, not measured: {about['not measured']}\nwritten: {path}")
    print(f"kept in {folder}, and not measured again for the same commit: delete it to start anew")
    return int(missing > 0)
