"""What a report says class by class, from a store with known numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from gans import schema
from gans.config import PROTOCOL_VERSION, experiment
from gans.data.datasets import load as load_data
from gans.pictures.panels import draw_each_class
from gans.runs.store import Store
from reports import by_class, report, tables
from reports.results import Results, load
from tests.recorded import recorded

NAMES = ("cat", "dog|x", "$h")
# distance and agreement within each class, by model and seed; the last class had too few images
VALUES = {
    "cgan": [([4.0, 9.0], [0.5, 1.0, 0.8]), ([9.0, 4.0], [0.5, 0.5, 0.8])],
    "csagan": [([1.0, 2.0], [0.9, 0.9, 0.9]), ([1.0, 8.0], [0.9, 0.9, 0.9])],
}


def write(folder: Path) -> Store:
    store = Store(f"sqlite:///{folder}/mlflow.db")
    cells = []
    data = load_data("digits")
    draw_each_class(
        torch.stack([data.train[data.train_labels == c][:10] for c in range(3)]), NAMES, folder / "c.png"
    )
    (folder / "c.png").rename(folder / schema.CLASS_GRID)
    for place, model in enumerate(("gan", *VALUES)):
        for seed in range(2):
            name = f"{model}/digits/{seed}"
            cells.append({"name": name, "model": model, "dataset": "digits", "seed": seed, "identity": name})
            cells[-1]["metric"] = "fd_digits"
            tags = {
                schema.KIND: schema.CELL,
                schema.IDENTITY: name,
                schema.STATUS: schema.FINISHED,
                schema.PROTOCOL: str(PROTOCOL_VERSION),
            }
            conditional = model in VALUES
            run = recorded(
                store, "matrix", name, tags | ({schema.CLASSES: json.dumps(NAMES)} if conditional else {})
            )
            made = experiment({"networks": {"name": "gan", "conditional": conditional}})
            run.params({"model": model, **made.flat()})
            run.log(1000, {"score/fd_digits": 10.0 - place + seed, "seconds/training": 1.0})
            for c, value in enumerate(VALUES[model][seed][0] if conditional else []):
                run.log(1000, {f"score/intra_fd_digits/{c}": value, f"score/intra_fd_digits_se/{c}": 0.1})
            for c, value in enumerate(VALUES[model][seed][1] if conditional else []):
                run.log(1000, {f"score/agreement_digits/{c}": value})
            if conditional:
                run.log(
                    1000, {"score/intra_fd_digits": 5.0, "score/intra_fd_digits_se": 0.1, "score/cas_digits": 0.5}
                )
                run.artifact(folder / schema.CLASS_GRID, schema.SAMPLES)
            run.finish("finished")
    floor = {"dataset": "digits", "title": "Digits", "identity": "floor", "metric": "fd_digits", "images": 100}
    real = recorded(store, "matrix", "real", {schema.KIND: schema.FLOOR, schema.IDENTITY: "floor"})
    real.log(0, {"half/fd_digits": 0.5, **{f"half/intra_fd_digits/{c}": 0.25 * (1 + c) for c in range(2)}})
    real.finish("finished")
    parent = recorded(
        store, "matrix", "matrix", {schema.KIND: schema.MATRIX, schema.PROTOCOL: str(PROTOCOL_VERSION)}
    )
    plan = {
        "matrix": "matrix",
        "protocol": PROTOCOL_VERSION,
        "command": "make bench",
        "cells": cells,
        "floors": [floor],
    }
    parent.text(json.dumps(plan), schema.PLAN)
    parent.finish("finished")
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def results(store: Store) -> Results:
    return load(store, "matrix")


def test_means_over_seeds_stand_class_by_class(results: Results) -> None:
    (board,) = results.boards
    classes = by_class.Classes.of(results, board)
    assert classes.names == list(NAMES)
    distance, agreement = classes.values["intra_fd_digits"], classes.values["agreement_digits"]
    assert list(distance.index) == ["csagan", "cgan"]  # the best first; an unconditional model has no row
    # geometric means, and none of a class without a distance
    assert distance.loc["cgan"].tolist()[:2] == pytest.approx([6.0, 6.0])
    assert distance.loc["csagan"].tolist()[:2] == pytest.approx([1.0, 4.0])
    assert distance["$h"].isna().all()
    assert agreement.loc["csagan"].tolist() == pytest.approx([0.9, 0.9, 0.9])
    assert agreement.loc["cgan", "cat"] == 0.5
    assert classes.floors["intra_fd_digits"].loc["train half vs train half"].tolist()[:2] == [0.25, 0.5]


def test_the_tables_and_the_picture_say_it(results: Results) -> None:
    (board,) = results.boards
    found = by_class.tables(by_class.Classes.of(results, board))
    assert list(found) == ["intra_fd_digits", "agreement_digits"]
    assert list(found["intra_fd_digits"]) == ["Model", "cat", "dog\\|x", "$h"]
    assert found["intra_fd_digits"].to_numpy().tolist() == [
        ["csagan", "1.00", "4.00", "—"],
        ["cgan", "6.00", "6.00", "—"],
        ["*real: half vs half*", "0.250", "0.500", "—"],
    ]
    picture = by_class.picture(results, board)
    assert picture is not None and isinstance(picture.figure, Figure)
    assert "csagan intra_fd_digits from 1.00 (cat) to 4.00 (dog|x)" in picture.alt
    assert [axes.get_title() for axes in picture.figure.axes] == list(by_class.HEADS.values())


def test_the_page_has_them_and_the_rows_of_images(store: Store, tmp_path: Path) -> None:
    page = report.write(store, "matrix", tmp_path)
    text = page.read_text()
    assert "## Class by class" in text
    for kind in ("by_class", "each_class"):
        assert f"]({kind}-digits.png)" in text
        with Image.open(page.parent / f"{kind}-digits.png") as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    assert (page.parent / "tables" / "classes-agreement_digits-digits.csv").is_file()


def test_further_metrics_have_a_dash_where_a_model_has_no_classes(results: Results) -> None:
    (board,) = results.boards
    further = tables.further(results, board).set_index("Model")
    assert "intra_fd_digits ↓" in further
    assert further.loc["gan", "intra_fd_digits ↓"] == "—"
    assert further.loc["cgan", "cas_digits ↑"].startswith("0.500")
    assert not any("/" in heading for heading in further)


def test_a_board_without_classes_has_no_such_section(store: Store) -> None:
    results = load(store, "matrix")
    (board,) = results.boards
    plain = results.cells[results.cells["model"] == "gan"]
    without = type(results)(results.plan, plain, results.curves, results.floors, results.store, results.runs)
    assert by_class.picture(without, board) is None
    assert by_class.tables(by_class.Classes.of(without, board)) == {}
