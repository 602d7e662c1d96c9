"""The goals on a GPU: which there are, how verdicts, page and exit code follow from what was measured."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch

from benchmarks.speed import goals
from benchmarks.speed.commands import Goals, gpu
from benchmarks.speed.goals import Goal, Part, take
from benchmarks.speed.steps import Timing
from benchmarks.speed.workloads import SIZES, colour, papers, small
from gans.config import MDGANConfig
from gans.errors import InputError
from tests.conftest import CPU

TIMING = Timing(CPU, 1, 3, 0.1)
MILLISECONDS = {"ours": 1.02, "bare": 1.0, "tutorial": 20.0, "compiled": 0.51}
OTHERS = {"tutorial", "compiled"}


@pytest.fixture
def gpu_of(monkeypatch: pytest.MonkeyPatch):
    """Replaces the measurements by those of a GPU that takes so many milliseconds for a step."""

    def make(error: str = "", **times: float) -> None:
        found = pd.DataFrame({name: [value / 1000] * 3 for name, value in (MILLISECONDS | times).items()})
        found = found.assign(precision="bf16", **{"is": "a note"})
        found.attrs["seconds"] = 9.0
        monkeypatch.setattr(
            Timing, "measure", lambda *given, others: found[found.columns.difference(OTHERS - {*others})]
        )

        def make_matrix(name: str, device: torch.device, folder: Path | None = None) -> list[goals.Measured]:
            if error:
                raise RuntimeError(error)
            return [(180.5, "all 20 cells finished"), (7.5, "")]

        monkeypatch.setattr(goals, "make_matrix", make_matrix)
        monkeypatch.setattr(goals, "run_tests", lambda: [(0, "21 passed, 1 skipped")])
        monkeypatch.setattr(goals, "apart", lambda does, *given: [(0.5, "")] * (2 if does is goals.profile else 1))

    make()
    return make


@pytest.fixture
def figures(tmp_path: Path) -> Callable[[], pd.DataFrame]:
    def taken() -> pd.DataFrame:
        found = take(goals.parts(TIMING, tmp_path), tmp_path / "kept")
        return found.set_index("figure", verify_integrity=True)

    return taken


def test_the_goals_are_those_of_every_workload_and_of_new_models(gpu_of, figures) -> None:
    names = [size(model).name for size in (colour, small) for model in SIZES]
    found, new = figures(), [f"{name} recipe" for name in goals.NEW]
    aims = found.query("goal != ''")["goal"].to_dict()
    assert len(names) == 10
    assert {
        **{f"tutorial / ours, {name}": "at least 10" for name in names},
        **{f"overhead over the bare step, {name}": "at most 3 %" for name in names + new},
        "matrix papers-grey": "at most 200 s",
    }.items() <= aims.items()
    assert set(found.query("goal == ''")["verdict"]) == {"measured"}
    experiment = papers("mdgan").experiment
    assert isinstance(experiment.update, MDGANConfig)
    assert (experiment.update.workers, experiment.batch) == (10, 10)  # the paper's


def test_figures_are_computed_from_what_was_timed(gpu_of, figures) -> None:
    found = figures()["measured"]
    assert found["tutorial / ours, dcgan 32x32"] == "19.61"
    assert found["overhead over the bare step, sagan digits"] == "2 %"
    assert found["an iteration of mdgan recipe"] == "1.02 ms"
    assert found["matrix papers-grey"] == "180.5 s"
    assert found["r3gan as published for CIFAR-10"] == "5.02e+05 images/s"  # 512 in 1.02 ms
    assert found["COMPILE=1 for gan 32x32"] == "2 times"
    assert found["an iteration of sagan recipe, COMPILE=1"] == "0.51 ms"


def part(name: str, measure: Callable[[], list[goals.Measured]], limit: float = 60) -> Part:
    return Part(name, limit, [Goal(name, 1)], measure)


def test_what_is_not_reached_is_measured_by_the_next_call_and_nothing_else(tmp_path: Path, capsys) -> None:
    calls: list[str] = []
    both = [part(name, lambda name=name: [(calls.append(name) or 0.0, "")]) for name in ("one", "other")]
    kept = tmp_path / "kept"
    assert list(take(both[:1], kept)["verdict"]) == ["met"]
    assert list(take(both, kept, seconds=0)["verdict"]) == ["met", "not measured"]
    assert capsys.readouterr().out.endswith("not reached: other; the same command goes on there\n")
    assert list(take(both, kept)["verdict"]) == ["met", "met"]
    assert calls == ["one", "other"]


def test_a_part_ends_at_its_limit_with_its_processes_and_the_next_one_is_measured(tmp_path: Path) -> None:
    def slow() -> list[goals.Measured]:
        subprocess.run(["sh", "-c", "sleep 77 & wait"], check=True)
        return []

    found = take([part("slow", slow, limit=0.5), part("next", lambda: [(1, "")])], tmp_path / "kept")
    assert list(found["note"]) == ["TimeoutError: not done within 0 s", ""]
    left = (child.as_dict(["cmdline"])["cmdline"] for child in psutil.Process().children(recursive=True))
    assert not any("77" in (words or ()) for words in left)  # a zombie has none


def test_what_fails_costs_its_own_figures_only(gpu_of, figures, tmp_path: Path) -> None:
    gpu_of(error="19 of 20 cells finished: a | b\nand more")
    missing = figures().query("verdict == 'not measured'")["note"].to_dict()
    reason = r"RuntimeError: 19 of 20 cells finished: a \| b"
    assert set(missing.values()) == {reason}
    assert len(missing) == 4  # two of each matrix
    few = take([Part("few", 60, [Goal("one", 1), Goal("other", 1)], lambda: [(1, "")])], tmp_path / "few")
    assert list(few["verdict"]) == ["not measured"] * 2


def test_a_goal_that_is_not_met_is_no_error_and_a_figure_that_is_missing_is(
    gpu_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = goals.machine

    def at(commit: str) -> None:
        monkeypatch.setattr(goals, "machine", lambda *given: here(*given) | {"commit": commit})

    at("a" * 40)
    gpu_of(error="it failed", ours=7.0)
    command = Goals(outputs=tmp_path)
    assert goals.measure(command, CPU) == 1
    assert "an iteration of mdgan recipe: 7 ms (at most 3 ms) **not met**" in capsys.readouterr().out
    (first,) = (tmp_path / "speed").glob("*.md")
    assert "| not measured | 4 of 47 figures |" in first.read_text()
    gpu_of()
    assert goals.measure(command, CPU) == 0  # the matrices, which failed; what was measured stays
    page = first.with_stem(f"{first.stem}-2")
    text = page.read_text()
    assert f"torch | {torch.__version__}" in text
    assert "| an iteration of sagan recipe | 7 ms | at most 6.5 ms | **not met** |" in text
    assert len(json.loads(page.with_suffix(".json").read_text())["Figures"]) == 47
    at(f"{'a' * 40} (changed)")  # of changed code nothing is kept
    assert goals.measure(command, CPU) == 0
    assert "| an iteration of sagan recipe | 7 ms |" not in first.with_stem(f"{first.stem}-3").read_text()


def test_it_needs_a_gpu() -> None:
    with pytest.raises(InputError, match="gans gpu needs a CUDA device"):
        gpu(Goals(device="cpu"))


def test_tests_are_counted(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = some: these\n")
    (tmp_path / "test_some.py").write_text(
        "import pytest\npytestmark = pytest.mark.some\n"
        "def test_passes(): pass\n"
        "def test_fails(): assert False\n"
        "@pytest.mark.skip\ndef test_skipped(): pass\n"
        "@pytest.fixture\ndef broken(): raise ValueError\n"
        "def test_has_an_error(broken): pass\n"
    )
    assert goals.run_tests(tmp_path, "some") == [(2, "1 passed, 1 skipped")]


@pytest.mark.slow
def test_a_matrix_is_made_from_nothing_and_its_evaluation_is_timed() -> None:
    """It trains one cell of `digits` on the CPU."""
    flags = ["--models", "gan", "--seeds", "0", "--budget", "0.02", "--jobs", "1"]
    (seconds, note), (share, _) = goals.make_matrix("digits", CPU, flags)
    assert note == "all 1 cells finished"
    assert seconds > 1
    assert 0 < share < 100
