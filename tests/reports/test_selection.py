"""What a report shows of what was tracked, and that the commands it prints reach it again."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.matrix import experiment_of, read_matrix
from benchmarks.options import Bench, Machine, Report, Rescore, Selection
from benchmarks.plan import MatrixPlan
from gans.config import PROTOCOL_VERSION
from gans.runs.run import Run
from reports import report, studies
from reports.results import load
from sweeps import pages
from tests.conftest import parsed
from tests.recorded import recorded
from tests.reports.test_report import cell, invoke, plan, read, start
from tests.sweeps.test_pages import study

SELECTIONS = (
    Selection(),
    Selection(models=["gan", "dcgan"], seeds=[0, 5], budget=0.1, precision="bf16"),
    Selection(datasets=["mnist", "folder:~/my cats.zip"], budget=0.5),
)


def planned(matrix: str, selection: Selection, preset: str | None = None) -> Any:
    """The part of a plan that its commands are made of."""
    return SimpleNamespace(matrix=read_matrix(matrix, preset), selection=selection, machine=Machine())


def options_of(command: str, declaration: type) -> Any:
    """The options that a command gives."""
    gans, *words = shlex.split(command)
    found = parsed(words)
    assert gans == "gans" and isinstance(found, declaration)
    return found


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A matrix file of the user's."""
    path = tmp_path / "photos.toml"
    path.write_text("seeds = [0]\n[datasets.digits]\n[models.gan]\n[models.dcgan]\n[models.sagan]\n")
    return str(path)


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("place", ["digits", "own"])
@pytest.mark.parametrize("preset", [None, "tuned"])
def test_printed_commands_ask_for_the_same_again(
    own: str, selection: Selection, place: str, preset: str | None
) -> None:
    matrix = own if place == "own" else place
    part = planned(matrix, selection, preset)
    commands = MatrixPlan.commands(part)
    again = options_of(commands["command"], Bench)
    assert (again.matrix, again.selection, again.preset) == (matrix, selection, preset)
    assert read_matrix(again.matrix).file.models.keys() <= part.matrix.file.models.keys()
    experiment = part.matrix.experiment_name(selection.budget, selection.datasets, selection.precision)
    found = options_of(commands["report"], Report)
    assert experiment_of(found.matrix, found.selection) == experiment
    scores = options_of(f"{commands['score']} --extractors inception --count 50000", Rescore)
    assert (scores.selection.seeds, scores.selection.models, scores.preset) == (selection.seeds, None, preset)
    assert experiment_of(scores.matrix, scores.selection) == experiment
    whole = options_of(commands["whole"], Bench)
    assert (whole.selection.models, whole.selection.seeds) == (None, None)


def finish(run: Run, score: float) -> None:
    run.log(10_000, {"score/fd_digits": score, "seconds/training": 20.0})
    run.finish("finished")


def test_tuned_models_stay_in_the_ranking_when_the_newest_invocation_was_without_them(tmp_path: Path) -> None:
    for model, score in {"gan": 9.0, "gan-tuned": 7.0, "gone": 1.0}.items():
        finish(start(tmp_path, model, 0), score)
    both = plan(cells=[cell(model, 0) for model in ("gan", "gan-tuned")])
    parent = recorded(
        tmp_path,
        "digits",
        "m",
        {"gans.kind": "matrix", "gans.protocol": str(PROTOCOL_VERSION), "gans.preset": "tuned"},
    )
    parent.text(json.dumps(both), "cells.json")
    parent.finish("finished")
    invoke(tmp_path, plan(cells=[cell("gone", 0)]))  # then the matrix lost a model
    invoke(tmp_path, plan(cells=[cell("gan", 0)]))
    results = load(read(tmp_path), "digits")
    assert results.plan.models == ["gan", "gan-tuned"]
    text = report.render(results, tmp_path / "report").read_text()
    assert "**gan-tuned** is best" in text
    assert "**1.00" not in text


# --- sweeps


def test_a_sweep_has_a_page_and_a_rank(tmp_path: Path) -> None:
    runs, root = tmp_path / "runs", tmp_path / "pages"
    runs.mkdir()
    experiment = "sweep-gan-digits"
    for model, scores in {"default": [8.5, 8.7], "trial-3": [6.0, 6.2]}.items():
        for seed, score in enumerate(scores, 2000):
            run = start(runs, model, seed, experiment)
            run.params({"loss.penalty": 1.0})
            finish(run, score)
    cells = [cell(model, seed) for model in ("default", "trial-3") for seed in (2000, 2001)]
    invoke(runs, plan(matrix=experiment, cells=cells), experiment)
    parent = recorded(runs, experiment, "sweep", {"gans.kind": "sweep"})
    kept = study("gan-digits", []).record.model_copy(update={"kimg": 3000.1})
    parent.text(kept.model_dump_json(), "sweep.json")
    parent.finish("finished")
    pages.write(studies.load(read(runs), experiment), root)
    text = (root / "gan-digits" / "README.md").read_text()
    assert "6.10 (" in text and "3 million images per trial" in text
    assert (root / "gan-digits" / "tables" / "comparison.tex").exists()
    pages.write_ranking(root)
    assert "## digits, fd_digits, 3 million images" in (root / "README.md").read_text()


def test_studies_without_winners_are_left_out(tmp_path: Path) -> None:
    recorded(tmp_path, "sweep-x", "sweep", {"gans.kind": "sweep"}).finish("finished")
    assert studies.load_all(read(tmp_path)) == []
