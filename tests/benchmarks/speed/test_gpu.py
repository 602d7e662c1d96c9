"""The goals on a GPU: which there are, how verdicts, page and exit code follow from what was measured."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from benchmarks.speed import checks, gpu, measurement
from benchmarks.speed.checks import MadeMatrix, Tally, Tools
from benchmarks.speed.goals import Check, Found, Goal, Line, Sheet, take_all
from benchmarks.speed.options import Goals, Speed
from benchmarks.speed.page import Row
from benchmarks.speed.rounds import Times
from benchmarks.speed.timing import Timing, Turns
from benchmarks.speed.workloads import SIZES, Workload, colour, papers, small
from gans import schema
from gans.config import MDGANConfig
from gans.errors import InputError

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[3]


def times(milliseconds: float) -> Times:
    return Times((milliseconds / 1000,) * 3, (0.0,) * 3)


def timed(ours: float, bare: float = 1.0, tutorial: float = 20.0) -> Callable[[Workload], Row]:
    """Times every workload alike, in milliseconds."""

    def row(workload: Workload) -> Row:
        found = {"ours bf16": times(ours), "bare bf16": times(bare), "tutorial": times(tutorial)}
        return Row(workload.name, workload.note, 128, found, 1, "bf16")

    return row


def cell(training: float, evaluation: float, overhead: float) -> dict[str, float]:
    return {schema.TRAINING: training, schema.EVALUATION: evaluation, schema.OVERHEAD: overhead}


def fast() -> Tools:
    """A GPU that reaches all goals."""
    matrix = MadeMatrix(180.5, [cell(80, 4, 16), cell(270, 26, 4)])
    return Tools(lambda: Tally(21, 0, 1), timed(ours=1.02), timed(ours=4.1, bare=4.1), lambda name: matrix)


def lines(tools: Tools) -> dict[str, Line]:
    found = take_all(checks.checks(tools), lambda text: None)
    assert len({line.goal.name for line in found}) == len(found)
    return {line.goal.name: line for line in found}


# --- which goals there are


def test_the_goals_are_those_of_every_workload_both_recipes_and_the_matrix() -> None:
    found = {name: str(line.goal) for name, line in lines(fast()).items()}
    names = [size(model).name for size in (colour, small) for model in SIZES]
    assert len(names) == 10
    assert found == {
        "tests that need a GPU and fail": "at most 0",
        **{f"tutorial / ours, {name}": "at least 10" for name in names},
        **{f"overhead over the bare step, {name}": "at most 3 %" for name in names},
        "an iteration of mdgan recipe": "at most 3 ms",
        "an iteration of sagan recipe": "at most 6.5 ms",
        "an iteration of sagan recipe, COMPILE=1": "at most 4.2 ms",
        "matrix papers-grey": "at most 200 s",
        "evaluation's share of papers-grey": "at most 10 %",
    }


def test_mdgans_recipe_is_the_papers() -> None:
    experiment = papers("mdgan").experiment
    assert isinstance(experiment.update, MDGANConfig)
    assert (experiment.update.workers, experiment.batch) == (10, 10)


# --- figures and verdicts


def test_figures_are_computed_from_what_was_timed() -> None:
    found = lines(fast())
    values = {name: line.found.value for name, line in found.items() if line.found}
    assert values["tests that need a GPU and fail"] == 0
    assert values["tutorial / ours, dcgan 32x32"] == pytest.approx(20 / 1.02)
    assert values["overhead over the bare step, sagan digits"] == pytest.approx(2)
    assert values["an iteration of mdgan recipe"] == pytest.approx(1.02)
    assert values["an iteration of sagan recipe, COMPILE=1"] == pytest.approx(4.1)
    assert values["matrix papers-grey"] == 180.5
    assert values["evaluation's share of papers-grey"] == pytest.approx(100 * 30 / 400)
    assert {line.verdict for line in found.values()} == {"met"}
    note = found["evaluation's share of papers-grey"].found
    assert note
    assert note.note == "of one cell 8.7 %"  # 26 of 300, which is more than 4 of 100


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (Goal("most", 3), 3.0, True),
        (Goal("most", 3), 3.01, False),
        (Goal("least", 10, least=True), 10.0, True),
        (Goal("least", 10, least=True), 9.99, False),
    ],
)
def test_a_goal_is_met_at_its_bound(goal: Goal, value: float, met: bool) -> None:
    assert goal.met(value) is met
    assert Line(goal, Found(value)).verdict == ("met" if met else "**not met**")


def test_what_fails_costs_its_own_figures_only() -> None:
    def broken(name: str) -> MadeMatrix:
        raise RuntimeError("19 cells finished; it ended with exit code 1: a | b\nand more")

    found = lines(replace(fast(), matrix=broken, tests=lambda: Tally(0, 0, 21)))
    missing = {name: line.reason for name, line in found.items() if line.found is None}
    assert missing == {
        "tests that need a GPU and fail": "RuntimeError: no test ran, 21 were skipped",
        **dict.fromkeys(
            ("matrix papers-grey", "evaluation's share of papers-grey"),
            "RuntimeError: 19 cells finished; it ended with exit code 1: a | b",
        ),
    }
    assert found["matrix papers-grey"].cells()[-1].endswith("a \\| b")


def test_a_check_that_finds_less_than_its_goals_has_measured_nothing() -> None:
    found = Check("two", [Goal("one", 1), Goal("other", 1)], lambda: [Found(1)]).take()
    assert [line.verdict for line in found] == ["not measured"] * 2


# --- page and exit code


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GANS_OUTPUTS", str(tmp_path))
    return tmp_path / "speed"


def test_the_page_is_called_after_the_device_and_names_device_commit_and_torch(results: Path) -> None:
    found = take_all(checks.checks(fast()), lambda text: None)
    machine = {"device": "NVIDIA H100 80GB HBM3", "commit": "abc", "torch": "2.11"}
    path = Sheet(machine, found).write(results)
    assert path == results / "nvidia-h100-80gb-hbm3-goals.md"
    page = path.read_text()
    for key, value in machine.items():
        assert f"| {key} | {value} |" in page
    assert "26 of 26 goals met." in page
    assert "| matrix papers-grey | 180.5 s | at most 200 s | met | all 2 cells finished |" in page
    assert "| tutorial / ours, gan 32x32 | 19.61 | at least 10 | met | bf16: 1.02 ms, tutorial 20.00 ms |" in page


def test_a_goal_that_is_not_met_is_no_error_and_a_figure_that_is_missing_is(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = replace(fast(), row=timed(ours=7.0))
    assert gpu.report(Goals(), CPU, slow) == 0
    said = capsys.readouterr().out
    assert "an iteration of mdgan recipe: 7 ms (at most 3 ms) not met" in said
    (page,) = results.iterdir()
    assert f"torch | {torch.__version__}" in page.read_text()
    assert "| an iteration of sagan recipe | 7 ms | at most 6.5 ms | **not met** |" in page.read_text()

    def lost(workload: Workload) -> Row:
        raise torch.cuda.OutOfMemoryError("no memory is left")

    assert gpu.report(Goals(), CPU, replace(fast(), compiled=lost)) == 1
    assert "not measured OutOfMemoryError: no memory is left" in capsys.readouterr().out
    (second,) = set(results.iterdir()) - {page}
    assert second.stem == f"{page.stem}-2"  # what was measured once stays
    assert "25 of 26 goals met, 1 not measured." in second.read_text()


def test_without_a_gpu_it_ends_at_once_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="make gpu needs a CUDA device"):
        gpu.run(Goals(device="cpu"))
    with pytest.raises(InputError, match="ROUNDS=0 must be at least 1"):
        gpu.run(Goals(rounds=0))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.gpu"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


# --- what measures


@pytest.mark.slow
def test_a_row_is_timed_in_the_default_precision() -> None:
    """The real contenders, in processes of their own."""
    workload = small("gan")
    row = checks.row(Timing(CPU, 1, Turns(2, 0.01)), workload)
    assert row.precisions == [row.default] == [workload.default(CPU)]
    assert set(row.times) == {f"ours {row.default}", f"bare {row.default}", "tutorial"}
    assert all(found.value > -100 for found in checks.against(row))


def test_tests_are_counted(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "def pytest_configure(config):\n    config.addinivalue_line('markers', 'some: these')\n"
    )
    (tmp_path / "test_some.py").write_text(
        "import pytest\npytestmark = pytest.mark.some\n"
        "def test_passes(): pass\n"
        "def test_fails(): assert False\n"
        "@pytest.mark.skip\ndef test_skipped(): pass\n"
        "@pytest.fixture\ndef broken(): raise ValueError\n"
        "def test_has_an_error(broken): pass\n"
    )
    (tmp_path / "test_other.py").write_text("def test_is_not_asked_for(): pass\n")
    assert checks.run_tests(tmp_path, "some") == Tally(passed=1, failed=2, skipped=1)
    assert checks.counted(ElementTree.fromstring("<testsuites/>")) == Tally(0, 0, 0)


@pytest.mark.slow
def test_a_matrix_is_made_from_nothing_and_its_evaluation_is_timed() -> None:
    """On the CPU, a cell of `digits`."""
    flags = ["--models", "gan", "--seeds", "0", "--budget", "0.02", "--jobs", "1"]
    made = checks.make("digits", CPU, flags)
    assert len(made.cells) == 1
    assert 0 < made.share == made.largest < 1
    assert 0 < sum(made.cells[0].values()) < made.seconds


def test_a_matrix_that_does_not_finish_was_not_measured() -> None:
    with pytest.raises(RuntimeError, match="0 cells finished; it ended with exit code 2: error: unknown matrix"):
        checks.make("no-such-matrix", CPU)


# --- `make speed` on a GPU


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> Callable[..., measurement.Measurement]:
    """Makes a measurement that believes in a GPU; nothing of it is timed."""

    def make(**asked: object) -> measurement.Measurement:
        made = measurement.Measurement(Speed(device="cpu", **asked), lambda what: None)  # type: ignore[arg-type]
        made.device = torch.device("cuda")
        made.plan = measurement.PLANS["cuda"]
        made.turns = made.settle(made.plan.turns)
        return made

    return make


def test_a_gpu_is_timed_in_its_default_precision_and_at_the_recipes_sizes(
    measuring: Callable[..., measurement.Measurement], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = measuring()
    assert list(made.plan.sizes) == ["32x32", "digits", "recipe"]
    assert made.turns == Turns(3, 0.3)
    assert measuring(rounds=9).turns == Turns(9, 0.3)
    assert measuring(quick=True, rounds=9).turns == Turns(3, 0.2)
    monkeypatch.setattr(Workload, "default", lambda self, device: "tf32")
    assert made.kinds(small("gan")) == ["tf32"]
    assert measuring(precision="float32").kinds(small("gan")) == ["float32"]


def test_a_page_has_rows_of_several_precisions() -> None:
    rows = [
        Row(
            "a",
            "",
            1,
            {"ours tf32": times(1), "bare tf32": times(1), "tutorial": times(9)},
            1,
            "tf32",
            {"tf32": 1e6},
        ),
        Row(
            "b",
            "",
            1,
            {"ours bf16": times(2), "bare bf16": times(1), "tutorial": times(9)},
            1,
            "bf16",
            {"bf16": 1e6},
        ),
    ]
    page = measurement.Page({"device type": "cuda"}, rows)
    assert page.precisions == ["tf32", "bf16"]
    head, _, first, second = page.rates().splitlines()
    assert head.count("|") == first.count("|") == second.count("|")
    assert "| 1,000 |  | 0 G/s | 0 % |  |  |" in first
    assert "| **b**<br> |  | 2.0 ms | 9.0 ms |  | +100.0 % (+100.0–+100.0) |" in page.steps()


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_the_large_product_is_taken_in_every_precision(precision: str, monkeypatch) -> None:
    from benchmarks.speed import contenders

    monkeypatch.setattr(contenders, "SIDE", 64)  # a CPU without bfloat16 takes a minute for the large one
    contenders.product(CPU, precision)(1)  # type: ignore[arg-type]
