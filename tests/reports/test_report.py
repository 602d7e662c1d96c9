"""Reports from a small store with known numbers."""

import base64
import io
import json
import math
import re
import shutil
import statistics
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import stats

from gans.commands.main import main
from gans.config import PROTOCOL_VERSION
from gans.errors import InputError
from gans.pictures import film, grids
from gans.runs.run import Run
from gans.runs.store import Store, Tracked
from reports import figures, html, published, report, sheet, tables, viewer
from reports.results import Board, Results, left_out, load, selected_cells
from reports.standing import Standing
from tests.recorded import recorded

MATRIX = "digits"
DATASET, METRIC = "digits", "fd_digits"
MODELS = ("gan", "dcgan", "sagan|x", "mdgan")
# final scores of the finished cells; the others are holes
SCORES = {
    ("gan", 0): 31.25,
    ("gan", 1): 28.5,
    ("gan", 2): 36.0,
    ("dcgan", 0): 12.5,
    ("dcgan", 1): 11.0,
    ("sagan|x", 1): 20.0,
}
UNTRAINED = 600.0
PICTURE = r"!\[[^\n]*\]\(([^)]*)\)"  # its file, in markdown
KIMG = 10


def cell(
    model: str, seed: int, selected: bool = True, dataset: str = DATASET, metric: str = METRIC
) -> dict[str, Any]:
    return {
        "name": f"{model}/{dataset}/{seed}",
        "model": model,
        "dataset": dataset,
        "seed": seed,
        "identity": f"{model}-{dataset}-{seed}",
        "metric": metric,
        "selected": selected,
    }


def plan(**changes: Any) -> dict[str, Any]:
    return {
        "matrix": MATRIX,
        "experiment": MATRIX,
        "budget": 1.0,
        "protocol": PROTOCOL_VERSION,
        "command": "make bench MATRIX=digits",
        "description": "Four models on the scikit-learn digits.",
        "cells": [cell(model, seed, selected=model != "mdgan") for model in MODELS for seed in range(3)],
        "floors": [{"dataset": DATASET, "title": "scikit-learn digits", "identity": "floor", "metric": METRIC}],
        **changes,
    }


def invoke(store: Store | Path, content: Mapping[str, Any], name: str = MATRIX) -> None:
    """Write the run of an invocation that only planned."""
    run = recorded(store, name, "matrix", {"gans.kind": "matrix", "gans.protocol": str(content["protocol"])})
    run.text(json.dumps(content), "cells.json")
    run.finish("finished")


def start(
    store: Store | Path,
    model: str,
    seed: int,
    experiment: str = MATRIX,
    settings: Mapping[str, Any] | None = None,
    **more: str,
) -> Run:
    """The run of a cell, with these settings or with common ones; `more` are tags."""
    dataset, metric = more.get("dataset", DATASET), more.get("metric", METRIC)
    tags = {
        "gans.kind": "cell",
        "gans.cell": f"{model}-{dataset}-{seed}",
        "gans.model": model,
        "gans.dataset": dataset,
        "gans.seed": str(seed),
        "gans.metric": metric,
        "gans.device": "Some CPU (2 cores)",
        "gans.threads": "1",
        "gans.commit": "0123456789abcdef",
        "gans.dirty": "false",
        "gans.status": "running",
        "gans.chosen_images": "8000",
        "gans.reference": "train split, 1437 images",
    }
    tags |= {f"gans.{key}": value for key, value in more.items()}
    run = recorded(store, experiment, f"{model}/{dataset}/{seed}", tags)
    run.params(
        settings
        or {
            "kimg": 10.0,
            "batch": 64,
            "resolution": 32 if dataset == "cifar10" else 16,
            "ema.halflife_kimg": 0.5,
            "score.images": 1437,
            "score.curve_images": 1000,
        }
    )
    return run


def train(run: Run, end: float, seed: int, until: int = KIMG, metric: str = METRIC) -> None:
    """Curves of `until` thousand images, towards the score `end`."""
    for kimg in range(until + 1):
        share = kimg / KIMG
        wobble = 1 + 0.1 * math.sin(5 * kimg + seed) * share
        run.log(kimg * 1000, {f"curve/{metric}": UNTRAINED ** (1 - share) * end**share * wobble})
    for kimg in range(1, until + 1):
        seconds = {"seconds/training": 2.0 * kimg, "seconds/evaluation": 0.5 * kimg, "seconds/overhead": 0.25}
        run.log(kimg * 1000, {**seconds, "memory/peak_mib": 512.0})


def grid(path: Path, seed: int, smooth: float, channels: int = 1, side: int = 16) -> Path:
    """A sample grid like those that training writes: 64 images of noise that turns into a ramp; made once."""
    if path.exists():
        return path
    noise = torch.rand(64, channels, side, side, generator=torch.Generator().manual_seed(seed))
    ramp = torch.linspace(0, 1, side).expand(64, channels, side, side)
    grids.save_picture(grids.picture(((1 - smooth) * noise + smooth * ramp).mul(255).byte()), path)
    return path


def finish(run: Run, score: float, folder: Path, seed: int) -> None:
    others = {"kd_digits": score / 1000, "kd_digits_std": 0.001, "is_digits": 7.5, "is_digits_std": 0.1}
    shares = {
        "precision_digits": 0.75,
        "recall_digits": 0.5,
        "memorisation_digits": 0.625,
        "fdinf_digits": score / 2,
    }
    errors = {"fd_digits_se": score / 10, "precision_digits_se": 0.0125}
    sizes = {"parameters/generator": 1234567.0, "parameters/discriminator": 7654.0}
    scores = {f"score/{name}": value for name, value in {METRIC: score, **others, **shares, **errors}.items()}
    run.log(KIMG * 1000, {**scores, **sizes})
    for place, name in enumerate(["000000kimg", "000003kimg", "000005kimg", "000010kimg", "final"]):
        run.artifact(grid(folder / f"{name}.png", seed, place / 4), "samples")
    run.finish("finished")


def fill(store: Path, folder: Path) -> None:
    """Four models: all seeds; two of three, one diverged; one of three; not selected."""
    finish(start(store, "gan", 1), 1.0, folder, 1)  # an older run of a cell that ran again
    for (model, seed), score in SCORES.items():
        run = start(store, model, seed)
        if seed == 0:
            train(run, score, seed, until=5)  # then killed, and resumed from an earlier checkpoint
        train(run, score, seed)
        finish(run, score, folder, seed)
    diverged = start(store, "dcgan", 2)
    train(diverged, 50.0, 2, until=4)
    diverged.finish("diverged", "loss_d is nan at 4.1 kimg")
    start(store, "sagan|x", 0).finish("failed", "RuntimeError: a|b <c> (layers.py:12)")
    # this cell ran under another protocol only, and much better
    old = start(store, "sagan|x", 2, protocol="0")
    train(old, 0.001, 2)
    finish(old, 0.001, folder, 2)
    about = {"kind": "floor", "cell": "floor", "dataset": DATASET, "extractor_hash": "accaf9d20ea039d1f5e3"}
    floor = recorded(store, MATRIX, "real/digits", {f"gans.{key}": value for key, value in about.items()})
    halves = {"fd_digits": 1.5, "kd_digits": 1e-5, "n_generated": 718, "n_reference": 719}
    test = {"fd_digits": 2.25, "kd_digits": 2e-4, "n_generated": 360, "n_reference": 1437}
    floor.log(0, {f"half/{key}": value for key, value in halves.items()})
    floor.log(0, {f"test/{key}": value for key, value in test.items()})
    floor.artifact(grid(folder / "real.png", 7, 0.6))
    floor.finish("finished")
    invoke(store, plan())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def read(runs: Path) -> Tracked:
    """The runs of a folder, without a store."""
    return Tracked(Store("http://127.0.0.1:9", answers=False), runs)


@pytest.fixture(scope="module")
def runs(folder: Path) -> Path:
    runs = folder / "runs"
    runs.mkdir()
    fill(runs, folder)
    return runs


@pytest.fixture(scope="module")
def results(runs: Path) -> Results:
    return load(read(runs), MATRIX)


@pytest.fixture(scope="module")
def page(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(load(read(runs), MATRIX), MATRIX, tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def board(results: Results) -> Board:
    return results.boards[0]


# --- numbers


def test_every_two_models_are_tested_as_by_scipy(results, board):
    found = {(pair.better, pair.other): pair for pair in Standing(results, board).pairs}
    assert list(found) == [("dcgan", "sagan|x"), ("dcgan", "gan"), ("sagan|x", "gan")]
    logs = (
        [math.log(score) for (name, _), score in SCORES.items() if name == model] for model in ("dcgan", "gan")
    )
    welch = stats.ttest_ind(*logs, equal_var=False)
    pair = found["dcgan", "gan"]
    assert (
        pair.difference.p == pair.p == welch.pvalue and pair.settled
    )  # one p only, for two of the models have one seed
    assert not found["dcgan", "sagan|x"].settled


def test_estimate_is_geometric_mean_and_student_interval_of_logarithms(results, board):
    ranks = {rank.model: rank for rank in tables.ranking(results, board)}
    for model, n in {"gan": 3, "dcgan": 2}.items():
        logs = [math.log(score) for (name, _), score in SCORES.items() if name == model]
        estimate = ranks[model].estimate
        half = stats.t(n - 1).ppf(0.975) * statistics.stdev(logs) / math.sqrt(n)
        assert (estimate.n, ranks[model].cells) == (n, 3)
        assert estimate.mean == pytest.approx(math.exp(statistics.mean(logs)))
        assert estimate.low == pytest.approx(estimate.mean / math.exp(half))
        assert estimate.high == pytest.approx(estimate.mean * math.exp(half))


def test_ranking_is_best_first_and_one_seed_has_no_interval(results, board):
    ranks = tables.ranking(results, board)
    assert [rank.model for rank in ranks] == ["dcgan", "sagan|x", "gan", "mdgan"]
    untrained = list(tables.learned(results, board).iloc[2])
    assert untrained == ["gan", "600", f"{UNTRAINED / statistics.geometric_mean([31.25, 28.5, 36.0]):.1f}×"]
    assert [rank.best for rank in ranks] == [True, False, False, False]
    assert math.isnan(ranks[1].estimate.low)
    assert str(ranks[1].estimate) == "20.0 (one seed)"
    assert str(ranks[3].estimate) == "—"


# --- what counts


def test_holes_are_listed_with_reasons_those_of_one_reason_in_one_row(results):
    holes = {row["Cells"]: (row["Status"], row["Reason"]) for _, row in tables.holes(results).iterrows()}
    assert list(holes) == ["dcgan/digits/2", "sagan\\|x/digits/0", "sagan\\|x/digits/2", "mdgan/digits/0, 1, 2"]
    assert holes["dcgan/digits/2"] == ("diverged", "loss_d is nan at 4.1 kimg")
    assert holes["sagan\\|x/digits/0"] == ("failed", "RuntimeError: a\\|b &lt;c> (layers.py:12)")
    status, reason = holes["mdgan/digits/0, 1, 2"]
    assert status == "not run"
    assert "did not select it" in reason


def test_what_was_not_selected_cells_and_never_ran_is_a_line_and_no_rows(results, page):
    shown = selected_cells(results)
    assert shown.plan.models == ["gan", "dcgan", "sagan|x"]
    assert len(shown.cells) == len(shown.plan.cells) == 9
    assert left_out(results) == "mdgan (3 cells)"
    assert left_out(shown) == ""
    assert "Neither selected nor run: mdgan (3 cells)." in page.read_text()
    assert "| mdgan" not in page.read_text()


def test_the_newest_run_of_a_cell_under_this_protocol_counts_and_its_points_once(results, board):
    cells = results.cells.set_index("name")
    assert cells["identity"].is_unique
    assert cells.loc["gan/digits/1", "score"] == 28.5
    assert cells.loc["sagan|x/digits/2", "status"] == "not run"
    assert "protocol 0" in cells.loc["sagan|x/digits/2", "reason"]
    assert results.cells["score"].min() == 11.0
    own = results.score_curves(board).query("model == 'gan' and seed == 0")  # it was resumed
    assert list(own["images"]) == [kimg * 1000 for kimg in range(KIMG + 1)]
    assert list(own["seconds"]) == [2.0 * kimg for kimg in range(KIMG + 1)]  # of the training clock


def test_time_to_target(results, board):
    goal = tables.target(results, board)
    curves = results.score_curves(board)
    best = {
        model: curves[(curves["model"] == model) & curves["counted"]].groupby("seed")["score"].min().mean()
        for model in MODELS[:3]
    }
    assert goal == pytest.approx(statistics.median(best.values()))
    first = curves.query("model == 'dcgan' and counted and score <= @goal").groupby("seed")["seconds"].min()
    cost = tables.time(results, board).set_index("Model")
    assert float(cost.loc["dcgan"].iloc[-1]) == pytest.approx(first.mean())
    assert cost.loc["gan"].iloc[-1] == "not reached"
    assert cost.loc["gan", "Seconds per 1,000 images"] == "2.00"
    assert cost.loc["gan", "Seconds per epoch"] == "2.87"  # of 1437 images
    further = tables.further_cost(results, board).set_index("Model")
    assert further.loc["gan", ["Images", "Images/s"]].tolist() == ["10,000", "500"]
    assert further.loc["gan", "Evaluation's share"] == "20%"  # 0.5 of 2.5 s per thousand images, and 0.25 s once
    assert "Energy (kJ)" not in further


def firm(scores: Mapping[str, list[float]]) -> dict[str, tables.Stability]:
    cells = [
        {"dataset": "d", "metric": "m", "model": model, "counted": True, "score": score}
        for model, own in scores.items()
        for score in own
    ]
    frame = pd.DataFrame(cells)
    known = SimpleNamespace(on=lambda board: frame, finished=lambda board: frame)
    return tables.stability(known, Board("d", "m", "D"))


def test_fewer_than_five_seeds_are_not_drawn_again(results, board, page):
    assert tables.stability(results, board) == {}
    assert "edrawn" not in page.read_text()
    assert firm({"a": [1.0, 2.0, 3.0, 4.0, 5.0], "b": [1.0, 2.0, 3.0, 4.0]}) == {}


def test_rank_stability_equals_all_redraws_counted():
    scores = {"a": [1.0, 4.0, 2.0, 3.5, 2.0], "b": [2.0, 3.0, 2.5, 2.1, 2.2]}
    found = firm(scores)
    means = [
        [statistics.geometric_mean(draw) for draw in product(own, repeat=len(own))] for own in scores.values()
    ]
    ordered = np.sort(means[1])
    wins = len(ordered) - np.searchsorted(ordered, means[0], "right") / 2 - np.searchsorted(ordered, means[0]) / 2
    # 10,000 draws: four standard errors
    assert found["a"].best == pytest.approx(wins.mean() / len(ordered), abs=4 * 0.5 / 100)
    assert found["a"].best + found["b"].best == pytest.approx(1)
    assert found["a"].ranks == found["b"].ranks == "1–2"


def test_further_metrics_say_which_way_is_better(results, board):
    standing = Standing(results, board)
    rows = standing.table.tail(2).iloc[:, :2].to_numpy().tolist()
    assert rows == [["*real: half vs half*", "1.50"], ["*real: train vs test*", "2.25"]]
    halves, test = "train half vs train half, 718 images against 719", "train vs test, 360 images against 1,437"
    assert standing.floors == f"{halves}; {test}"
    assert tables.further(results, board).iloc[-1]["kd_digits ↓"] == "0.000200"
    further, errors = tables.further(results, board), tables.errors(results, board).set_index("Model")
    names = ["fdinf_digits ↓", "kd_digits ↓", "is_digits ↑", "precision_digits ↑", "recall_digits ↑"]
    assert list(further.columns) == ["Model", *names, "memorisation_digits → 0.5"]
    assert further.set_index("Model").loc["gan", "memorisation_digits → 0.5"] == "0.625 (0.625 to 0.625)"
    assert list(errors.columns) == ["fd_digits ↓", "precision_digits ↑"]
    scores = [score for (model, _), score in SCORES.items() if model == "gan"]
    assert errors.loc["gan", "fd_digits ↓"] == tables.number(statistics.mean(scores) / 10, 2)
    assert errors.loc["gan", "precision_digits ↑"] == "0.013"


# --- the page


def test_page_says_what_the_scores_are(page):
    text = page.read_text()
    sections = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert sections[:5] == ["Which differences hold", "Samples", "Curves", "Cost", "Further metrics"]
    assert sections[5:] == ["Cells without a score", "Protocol", "Environment and reproduction"]
    assert "| scikit-learn digits | fd_digits | digits | `accaf9d20ea0` | 1,437 |" in text
    assert "| scikit-learn digits | train split, 1,437 images | 1,000 | 0.5 |" in text
    assert "| dcgan | **11.7 (5.2 to 26.4)** | — | 2 of 3 | 20.0 |" in text
    assert "make bench MATRIX=digits" in text


def test_curves_may_be_the_first_picture(results, page, tmp_path):
    assert re.findall(PICTURE, page.read_text())[0].startswith("leaders")
    plan = results.plan.model_copy(update={"first_picture": "curves"})
    text = report.write(replace(results, plan=plan), MATRIX, tmp_path).read_text()
    pictures = re.findall(PICTURE, text)
    assert pictures[0].startswith("curves") and len({*pictures}) == len(pictures)


def test_the_first_screen_is_a_sentence_a_table_and_a_picture(page):
    """The sentence names the best model, its lead, significance, cost and budget.

    No hash or setting precedes it.
    """
    title, sentence, *rest = [part for part in page.read_text().split("\n\n") if part.strip()]
    assert title == "# GAN benchmark: digits"
    assert sentence == (
        "**dcgan** is best on scikit-learn digits: fd_digits 11.7 (5.2 to 26.4), 41% below the next, sagan\\|x; "
        "with 1 to 3 seeds each, its lead over gan is significant, over sagan\\|x not; a seed took 20.0 s of "
        "training (25.2 s in all) for 10,000 images on Some CPU (2 cores)."
    )
    assert rest[0].startswith("| Model |") and rest[1].startswith("![")
    table = rest[0].splitlines()
    assert max(map(len, table)) <= sheet.WIDTH and table[0].count("|") - 1 <= 6


@pytest.mark.parametrize("place", ["page", "edges_page"])
def test_no_table_is_wider_than_the_page(place, request):
    """Long texts wrap, and headings between words; numbers do not."""
    lines = request.getfixturevalue(place).read_text().splitlines()
    for line, below in pairwise(lines):
        if line.startswith("| ") and not line.startswith("| :"):
            shown = [sheet.visible(cell.strip()) for cell in line.replace("\\|", "¦").strip("| ").split(" | ")]
            widths = [
                max(map(len, cell.split()), default=0) if below.startswith("| :") else len(cell) for cell in shown
            ]
            assert sum(min(width, sheet.TEXT) + 3 for width in widths) <= sheet.WIDTH, line


def test_page_names_no_run_no_path_and_all_its_pictures(page, runs, folder):
    text = page.read_text()
    assert str(folder) not in text
    assert not any(run.key in text for run in read(runs).folders)
    pictures = sorted(path.name for path in page.parent.glob("*.png"))
    kinds = ["curves", "leaders", "pairs", "pareto", "samples"]
    assert pictures == [f"{kind}-digits.png" for kind in kinds]
    assert all(f"]({name})" in text for name in [*pictures, "training-digits.gif"])
    assert sum(path.stat().st_size for path in page.parent.iterdir()) < 3e6
    with Image.open(page.parent / "training-digits.gif") as film:
        assert film.n_frames == 4  # at 0, 3, 5 and 10 thousand images; mdgan never ran


def test_the_page_as_one_file_holds_its_tables_and_pictures(page, results):
    text = html.standalone(page)
    assert (page.parent / "report.html").read_text() == html.standalone(page, viewer.viewer(results))
    assert text.count("<table>") == page.read_text().count("\n| :--")
    assert "<td" in text
    assert "**" not in text.split("<body>")[1].split("data:")[0]
    for name in ("samples-digits.png", "training-digits.gif"):
        content = base64.b64encode((page.parent / name).read_bytes()).decode()
        assert f'src="data:image/{name[-3:]};base64,{content}"' in text
    assert not re.search(r'(src|href)="(?!data:|#|https:)', text)


def test_the_one_file_shows_the_grids_of_every_model_seed_and_moment(page, results, monkeypatch):
    (text,) = re.findall("^const cells = (.*);$", (page.parent / "report.html").read_text(), re.MULTILINE)
    cells = {tuple(cell["names"]): dict(cell["moments"]) for cell in json.loads(text)}
    assert cells.keys() >= {("scikit-learn digits", model, f"seed {seed}") for model, seed in SCORES}
    moments = cells["scikit-learn digits", "sagan|x", "seed 1"]
    times = [f"after {count} images" for count in ("0", "3,000", "5,000", "10,000")]
    assert list(moments) == [*times, "chosen checkpoint"]
    identity = results.cells.set_index(["model", "seed"])["identity"]["sagan|x", 1]
    path = film.grids(results.pictures(identity))[0.0]
    content = base64.b64decode(moments["after 0 images"].removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(content)) as shown:
        side = figures.resolution(results.on(results.boards[0]))
        assert shown.getpixel((1, 1)) == grids.tiles(path, side)[0].getpixel((0, 0))
    monkeypatch.setattr(viewer, "LIMIT", 100)
    assert viewer.viewer(results) == ""


def test_every_table_is_kept_as_csv_and_latex(page):
    folder = page.parent / "tables"
    scores = pd.read_csv(folder / "scores-digits.csv")
    assert list(scores.columns) == ["Model", "fd_digits ↓", "Over the best", "Seeds", "Training (s)"]
    assert scores.iloc[0, 1] == "11.7 (5.2 to 26.4)"
    assert scores.iloc[1, 0] == "sagan|x"
    latex = (folder / "scores-digits.tex").read_text()
    assert all(rule in latex for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert r"fd\_digits~$\downarrow$" in latex
    assert latex.isascii()
    cells = pd.read_csv(folder / "cells.csv")
    numbers = cells.set_index(["model", "seed"])["score/fd_digits"].dropna()
    assert numbers.to_dict() == SCORES
    names = {path.stem for path in folder.glob("*.tex")}
    assert names == {path.stem for path in folder.glob("*.csv")} - {"cells"}
    assert {"pairs-digits", "time-digits", "metrics-digits", "protocol", "settings"} <= names


def test_latex_folds_and_escapes():
    row = ["a_b|c", "-0.5 ± 0.1", "50% & #1 {x} ~ C:\\d ^", "1.20 × 10⁻³"]
    frame = pd.DataFrame([row], columns=["Model", "fd_digits ↓", "Peak memory (MiB)", "p (Holm)"])
    text = sheet.latex(frame, words=True)
    assert r"a\_b$|$c & $-$0.5 $\pm$ 0.1 & 50\% \& \#1 \{x\} \textasciitilde{} C:\textbackslash{}d" in text
    assert r"1.20 $\times$ 10$^{-}$$^{3}$" in text
    narrow = sheet.latex(frame.assign(**{"Peak memory (MiB)": "7"}))
    assert r"\begin{tabular}[b]{@{}r@{}}Peak\\memory\\(MiB)\end{tabular}" in narrow
    wide = pd.DataFrame({"Model": ["a"], **{f"metric {n}": ["1" * 25] for n in range(4)}})
    assert [part.count("&") // 2 for part in sheet.latex(wide).split(r"\medskip")] == [2, 2]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex (texlive-latex-recommended)")
def test_tables_are_printed_within_the_page(page, tmp_path):
    tables = sorted((page.parent / "tables").glob("*.tex"))
    assert len(tables) > 8
    inputs = "\n\n".join(rf"\noindent\input{{{table}}}" for table in tables)
    (tmp_path / "all.tex").write_text(
        rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{inputs}\end{{document}}"
    )
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


# --- the edges: two data sets, a small budget, no floor, one seed, nothing finished, odd numbers


EDGES = "edges-budget0.1"


@pytest.fixture(scope="module")
def edges(runs, folder):
    """A matrix with one unusual cell of each kind."""
    cells = [cell(model, 0, dataset="cifar10", metric="fid") for model in ("huge", "empty", "lost")]
    cells += [cell(model, 0) for model in ("empty", "lost")]
    # planned, never measured; the second extractor does not rank
    floors = [
        {"dataset": "cifar10", "title": "CIFAR-10", "identity": metric, "metric": metric}
        for metric in ("fid", "fd_cifar10")
    ]
    changes = {"matrix": "edges", "budget": 0.1, "command": "make bench MATRIX=edges BUDGET=0.1", "floors": floors}
    changes |= {"title": "my photos", "data": ["my photos: 3 classes"], "extractors": ["cards: 85.8% right"]}
    huge = start(runs, "huge", 0, EDGES, dataset="cifar10", metric="fid")
    train(huge, 1e30, 0, metric="fid")
    huge.log(KIMG * 1000, {"score/fid": 1e30, "score/kid": math.nan, "energy/joules": 5000.0})
    for name in ("000000kimg", "000005kimg", "final"):
        huge.artifact(grid(folder / "coloured" / f"{name}.png", 1, 0.0, channels=3, side=32), "samples")
    huge.finish("finished")
    empty = start(runs, "empty", 0, EDGES, dataset="cifar10", metric="fid")
    empty.log(KIMG * 1000, {"score/fid": math.nan})
    empty.finish("finished")
    start(runs, "empty", 0, EDGES)
    invoke(runs, plan(**changes, cells=cells), EDGES)


# --- what others have published


@pytest.fixture(scope="module")
def coloured(runs):
    """Two models on CIFAR-10 as JPEG, whose published figures are of others."""
    dataset, metric = "cifar10-jpeg", "fd_cifar10"
    for model, score in {"gan": 45.0, "dcgan": 30.0}.items():
        run = start(runs, model, 0, "coloured", dataset=dataset, metric=metric)
        run.log(10_000, {f"score/{metric}": score})
        run.finish("finished")
    cells = [cell(model, 0, dataset=dataset, metric=metric) for model in ("gan", "dcgan")]
    floors = [{"dataset": dataset, "title": dataset, "identity": dataset, "metric": metric}]
    invoke(runs, plan(matrix="coloured", cells=cells, floors=floors), "coloured")
    return load(read(runs), "coloured")


def test_a_figure_of_another_protocol_says_so_in_its_row(coloured):
    table = published.scores(coloured, coloured.boards[0])
    ours, theirs = table[table["Source"] == "this page"], table[table["Source"] != "this page"]
    assert ours[["Model", "Metric", "Value ↓"]].to_numpy().tolist() == [
        ["dcgan", "fd_cifar10", "30.0 (one seed)"],
        ["gan", "fd_cifar10", "45.0 (one seed)"],
    ]
    assert len(theirs) == 33 and theirs["Compares with ours"].str.startswith("no: ").all()
    assert all("not JPEG-compressed" in text for text in theirs["Compares with ours"])
    sagan = theirs[(theirs["Model"] == "SAGAN") & theirs["Source"].str.contains("Studio")].iloc[0]
    assert sagan["Compares with ours"].startswith("no: another extractor (fid, ours is fd_cifar10); ")
    assert "class-conditional" in sagan["Compares with ours"]
    assert sagan["Reference images"] == "50,000, train"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"reference": None, "split": "test"}, ["reference images: not known", "reference split: test"]),
        (
            {"generated": 50_000, "conditional": None},
            ["generated images: 50,000", "conditional or not: not known"],
        ),
        ({"metric": "fid", "conditional": True}, ["another extractor (fid, ours is fd_x)", "class-conditional"]),
    ],
)
def test_differences_of_protocol(changes, said):
    common = {"dataset": "mnist", "model": "gan", "source": "us", "value": 1.0, "metric": "fd_x"}
    protocol = {"generated": 10_000, "reference": 50_000, "split": "train", "conditional": False}
    ours = published.Score(**common, **protocol)
    assert published.differences(ours.model_copy(update=changes), ours) == said


def test_published_figures_are_compared_by_the_metric_that_they_have(coloured):
    fid = coloured.cells["model"].map({"gan": 70.0, "dcgan": 50.0})
    both = replace(coloured, cells=coloured.cells.assign(**{"score/fid": fid}))
    table = published.scores(both, both.boards[0])
    assert table[["Model", "Metric", "Value ↓"]].to_numpy().tolist()[:2] == [
        ["dcgan", "fid", "50.0 (one seed)"],
        ["gan", "fid", "70.0 (one seed)"],
    ]
    assert not table.iloc[:, -1].str.contains("another extractor").any()


def test_every_published_figure_has_a_source():
    known = published.read()
    assert {score.source for score in known.scores} == set(known.sources)


# --- the edges' page


@pytest.fixture(scope="module")
def edges_page(runs, edges, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    old, foreign = folder / EDGES / "samples-gone.png", folder / EDGES / "mine.png"
    old.parent.mkdir()
    old.touch()
    foreign.touch()
    return report.write(load(read(runs), EDGES), EDGES, folder)


def test_edges_in_the_page(edges_page):
    assert not (edges_page.parent / "samples-gone.png").exists()  # of an earlier report
    assert (edges_page.parent / "mine.png").exists()
    # noise is the worst case for PNG: three panels of 24 images of 32 x 32 x 3 bytes, enlarged
    assert (edges_page.parent / "samples-cifar10.png").stat().st_size < 3 * 150_000
    text = edges_page.read_text()
    assert text.startswith("# GAN benchmark: my photos, budget 0.1\n")
    assert "\n- Data my photos: 3 classes\n- Extractor cards: 85.8% right\n" in text
    whole = edges_page.with_name("report.html").read_text()
    assert '<a href="#cost">Cost</a>' in whole and '<h2 id="cost">' in whole and 'name="viewport"' in whole
    assert "Trained on a tenth of the matrix's images" in text
    assert "| huge | **1.00 × 10³⁰ (one seed)** | — | 1 | 20.0 |" in text
    assert "| huge | 600 | 6.00 × 10⁻²⁸× |" in text
    assert "- **huge** is the only model scored on CIFAR-10: fid 1.00 × 10³⁰ (one seed); a seed took" in text
    assert "- No cell on digits has a score yet." in text
    assert "| empty/cifar10/0 | finished | its score is not a finite number |" in text
    assert "| empty/digits/0 | running | still running" in text
    assert "No noise floor was tracked" in text
    assert "| CIFAR-10 | fd_cifar10 | cifar10 | unknown | 1,437 | train split | 1,000 | 0.5 |" in text
    assert "one row per model (huge): untrained, half-way through training and at the chosen checkpoint.]" in text
    assert "Energy (kJ)" in text
    assert "kid" not in text.split("## Further metrics")[1].split("Meaning of these metrics")[0]
    assert "nan" not in text
    assert "grey lines are real images" not in text  # no such line is drawn
    assert "grey line is the Pareto front" not in text
    assert not (edges_page.parent / "curves-digits.png").exists()


def test_pictures_of_the_runs_themselves_are_shown(runs, tmp_path):
    run = start(runs, "gan", 0, "own")
    image = Image.new("RGB", (1800, 600), (200, 30, 30))
    for name, place in (("neighbours.png", None), ("curves.png", None), ("classes.png", "samples")):
        image.save(tmp_path / name)
        run.artifact(tmp_path / name, place)
    run.finish("finished")
    invoke(runs, plan(matrix="own", cells=[cell("gan", 0)]), "own")
    page = report.write(load(read(runs), "own"), "own", tmp_path / "reports")
    for kind in ("neighbours", "losses", "classes"):
        with Image.open(page.parent / f"{kind}-digits.png") as shown:
            red = (np.asarray(shown.convert("RGB")) == (200, 30, 30)).all(axis=-1)
        assert red.sum() == 640 * 213  # smaller, but whole
        assert f"]({kind}-digits.png)" in page.read_text()


def test_nothing_ran(runs, tmp_path):
    invoke(runs, plan(matrix="idle"), "idle")
    text = report.write(load(read(runs), "idle"), "idle", tmp_path).read_text()
    assert "Finished: 0 of 9 cells (model × data set × training seed); [9 did not]" in text
    assert text.count("| not run |") == 3  # a row per model
    assert not list((tmp_path / "idle").glob("*.png"))


# --- errors and the command


@pytest.mark.parametrize(
    ("name", "says"), {"digit": "did you mean 'digits'", "bare": "no benchmark run in experiment 'bare'"}.items()
)
def test_an_experiment_without_results_is_named(runs, name, says):
    recorded(runs, "bare", "mine", {})
    with pytest.raises(InputError, match=says):
        load(read(runs), name)


def test_of_a_server_that_is_away_the_folders_are_read(page, folder, tmp_path, monkeypatch, capsys):
    """Both commands of `make report` and `gans compare` do; the page has the same bytes again."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    commands = (
        f"report {MATRIX} --outputs {tmp_path}",
        f"sweep-report --output {tmp_path}/sweeps",
        f"compare {MATRIX} {MATRIX} --output {tmp_path}",
    )
    for words in commands:
        monkeypatch.setattr("sys.argv", ["gans", *words.split()])
        assert main() == 0
        said = capsys.readouterr()
        assert ("11.7 (5.2 to 26.4)" in said.out) == words.startswith("report")
        assert "127.0.0.1:9: Connection refused" in said.err
        assert said.err.endswith("; reading runs in its place\n")
    written = tmp_path / "reports" / MATRIX
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in (page.parent, written)
    )
    assert first == second
