"""What a report says of MD-GAN, from a store with known numbers."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gans.config import experiment
from gans.recipes import recipe
from reports import mdgan
from reports.report import render
from reports.results import Results, load
from tests.reports.test_report import MATRIX, cell, invoke, plan, read, start

BASE = {"workers": 5}
# model -> recipe, tables over it
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "one": ("dcgan", {"batch": 10}),
    "mdgan": ("mdgan", {"update": BASE}),
    "n10": ("mdgan", {"update": {"workers": 10}}),
    "n2": ("mdgan", {"update": {"workers": 2}}),
    "k2": ("mdgan", {"update": {**BASE, "batches": 2}}),
    "skew": ("mdgan", {"update": {**BASE, "shards": "dirichlet", "alpha": 0.5}}),
    "still": ("mdgan", {"update": {**BASE, "swap_epochs": float("inf")}}),
    "crashes": ("mdgan", {"update": {**BASE, "crashes": True}}),
    "both": ("mdgan", {"update": {**BASE, "shards": "classes", "swap_epochs": float("inf")}}),
    "fl": ("fl-gan", {"update": {"workers": 5}}),
    "unrun": ("mdgan", {"update": {"workers": 7}}),
}


TRAFFIC = {
    "mdgan": {
        **{"server_to_worker": 6144, "worker_to_server": 2048, "worker_to_worker": 6144},
        **{"server_to_worker_formula": 8192, "worker_to_server_formula": 1024, "worker_to_worker_formula": 2048},
        **{"exchanges": 1500, "moves": 20, "total_mib": 3.5},
    },
    "fl": {"server_to_worker": 5120, "server_to_worker_formula": 4096, "exchanges": 40, "moves": 0},
}


def write(folder: Path, conclusion: str = "") -> Results:
    """The results of runs in a folder."""
    for (place, (model, (base, table))), seed in product(enumerate(MODELS.items()), range(2)):
        if model == "unrun":
            continue
        run = start(folder, model, seed, settings=experiment(recipe(base).settings, table, {"seed": seed}).flat())
        run.log(1000, {"score/fd_digits": 10.0 + place + seed, "seconds/training": 1.0})
        run.log(1000, {f"traffic/{name}": value for name, value in TRAFFIC.get(model, {}).items()})
        if model == "crashes":
            run.tag({f"gans.lost.{n}": f"crashed before iteration {i}" for n, i in ((10, 30), (2, 20))})
        run.finish("finished")
    cells = [cell(model, seed) for model in MODELS for seed in range(2)]
    invoke(folder, plan(cells=cells, floors=[], conclusion=conclusion))
    return load(read(folder), MATRIX)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    return write(tmp_path_factory.mktemp("runs"))


def test_models_are_grouped_by_the_one_thing_that_they_change(results) -> None:
    (board,) = results.boards
    found = {
        heading: [(row.label, row.model, row.scores.tolist()) for row in rows]
        for heading, rows in mdgan.groups(results, board).items()
    }
    base = [11.0, 12.0]
    assert found == {
        "Baselines": [
            ("MD-GAN, N = 5, b = 10 (base)", "mdgan", base),
            ("one GAN, b = 10", "one", [10.0, 11.0]),
            ("FL-GAN, N = 5, b = 10", "fl", [19.0, 20.0]),
        ],
        "Workers N": [
            ("N = 2", "n2", [13.0, 14.0]),
            ("N = 5 (base)", "mdgan", base),
            ("N = 10", "n10", [12.0, 13.0]),
        ],
        "Generated batches k": [("k = 1 (base)", "mdgan", base), ("k = 2", "k2", [14.0, 15.0])],
        "Shards of the data": [("i.i.d. (base)", "mdgan", base), ("Dirichlet, α = 0.5", "skew", [15.0, 16.0])],
        "Swaps of discriminators": [("every epoch (base)", "mdgan", base), ("never", "still", [16.0, 17.0])],
        "Crashing workers": [
            ("none (base)", "mdgan", base),
            ("one every I/N iterations", "crashes", [17.0, 18.0]),
        ],
        "Two changes at once": [("neither (base)", "mdgan", base), ("by class, never", "both", [18.0, 19.0])],
    }


def test_the_traffic_is_measured_beside_the_formulae(results) -> None:
    (board,) = results.boards
    rows = {row["Model"]: row for row in mdgan.traffic(results, board).to_dict("records")}
    assert list(rows) == ["mdgan", "fl"]
    assert rows["mdgan"] == {
        "Model": "mdgan",
        "N": "5",
        "k": "1",
        "An exchange is": "an iteration",
        "Server → worker (KiB)": "6.00 / 8.00",
        "Worker → server (KiB)": "2.00 / 1.00",
        "Worker → worker, a swap (KiB)": "6.00 / 2.00",
        "Exchanges": "1,500",
        "Moves": "20",
        "In all (MiB)": "3.50",
    }
    assert rows["fl"]["Server → worker (KiB)"] == "5.00 / 4.00"
    assert rows["fl"]["Worker → worker, a swap (KiB)"] == rows["fl"]["k"] == "—"


def test_the_page_shows_the_section_and_the_conclusion(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("tests.reports.test_mdgan.MODELS", {name: MODELS[name] for name in ("mdgan", "crashes")})
    text = render(write(tmp_path, "Nothing is **shown**."), tmp_path).read_text()
    assert "## MD-GAN, factor by factor" in text
    assert "factors-digits.png" in text
    table = (tmp_path / "tables" / "traffic-digits.csv").read_text()
    assert 'mdgan,5,1,an iteration,6.00 / 8.00,2.00 / 1.00,6.00 / 2.00,"1,500",20,3.50\n' in table
    assert "<details><summary>Lost workers</summary>" in text
    lost = "worker 2 crashed before iteration 20; worker 10 crashed before iteration 30"
    assert all(f"| crashes/digits/{seed} | {lost} |" in text for seed in range(2))
    assert "## What the figures show, and what they do not\n\nNothing is **shown**." in text
    with Image.open(tmp_path / "factors-digits.png") as picture:
        assert picture.mode == "L"  # nothing depends on colour
        assert (np.asarray(picture) < 40).mean() > 0.005


def test_classes_are_a_factor_and_baselines_have_the_networks_of_the_base(monkeypatch, tmp_path) -> None:
    few = {"mdgan": MODELS["mdgan"], "one": MODELS["one"], "classes": ("cmdgan", {"update": BASE})}
    few |= {"other": ("gan", {"batch": 10}), "alone": ("cdcgan", {"batch": 10})}
    monkeypatch.setattr("tests.reports.test_mdgan.MODELS", few)
    results = write(tmp_path)
    (board,) = results.boards
    found = {heading: [row.model for row in rows] for heading, rows in mdgan.groups(results, board).items()}
    assert found == {"Baselines": ["mdgan", "one"], "Classes": ["mdgan", "classes"]}
