"""What a report says class by class, from a store with known numbers."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from gans import schema
from gans.config import experiment
from gans.data.datasets import load as load_data
from gans.pictures.panels import draw_each_class
from reports import by_class, report
from reports.results import Results, load
from tests.recorded import recorded
from tests.reports.test_report import MATRIX, cell, invoke, plan, read, start

NAMES = ("cat", "dog|x", "$h")
# distance and agreement within each class, by model and seed; the last class had too few images
VALUES = {
    "cgan": [([4.0, 9.0], [0.5, 1.0, 0.8]), ([9.0, 4.0], [0.5, 0.5, 0.8])],
    "csagan": [([1.0, 2.0], [0.9, 0.9, 0.9]), ([1.0, 8.0], [0.9, 0.9, 0.9])],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    data = load_data("digits")
    images = torch.stack([data.train[data.train_labels == c][:10] for c in range(3)])
    draw_each_class(images, range(len(images)), NAMES, folder / schema.CLASS_GRID)
    models = ("gan", *VALUES)
    for (place, model), seed in product(enumerate(models), range(2)):
        conditional = model in VALUES
        tags = {"classes": json.dumps(NAMES)} if conditional else {}
        made = experiment({"networks": {"name": "gan", "conditional": conditional}})
        run = start(folder, model, seed, settings=made.flat(), **tags)
        run.log(1000, {"score/fd_digits": 10.0 - place + seed, "seconds/training": 1.0})
        if conditional:
            distances, agreements = VALUES[model][seed]
            scores = {f"intra_fd_digits/{c}": value for c, value in enumerate(distances)}
            scores |= {f"intra_fd_digits_se/{c}": 0.1 for c in range(len(distances))}
            scores |= {f"agreement_digits/{c}": value for c, value in enumerate(agreements)}
            scores |= {"intra_fd_digits": 5.0, "intra_fd_digits_se": 0.1, "cas_digits": 0.5}
            run.log(1000, {f"score/{name}": value for name, value in scores.items()})
            run.artifact(folder / schema.CLASS_GRID, schema.SAMPLES)
        run.finish("finished")
    real = recorded(folder, MATRIX, "real", {schema.KIND: schema.FLOOR, schema.IDENTITY: "floor"})
    real.log(0, {"half/fd_digits": 0.5, **{f"half/intra_fd_digits/{c}": 0.25 * (1 + c) for c in range(2)}})
    real.finish("finished")
    invoke(folder, plan(cells=[cell(model, seed) for model in models for seed in range(2)]))
    return folder


@pytest.fixture(scope="module")
def results(runs: Path) -> Results:
    return load(read(runs), MATRIX)


def test_means_over_seeds_stand_class_by_class_in_tables_and_picture(results: Results) -> None:
    (board,) = results.boards
    found = by_class.tables(by_class.Classes.of(results, board))
    assert list(found) == ["intra_fd_digits", "agreement_digits"]
    assert list(found["intra_fd_digits"]) == ["Model", "cat", "dog\\|x", "\\$h"]
    # geometric means, none of a class without a distance; the best first, no row of an unconditional model
    assert found["intra_fd_digits"].to_numpy().tolist() == [
        ["csagan", "1.00", "4.00", "—"],
        ["cgan", "6.00", "6.00", "—"],
        ["*real: half vs half*", "0.250", "0.500", "—"],
    ]
    picture = by_class.picture(results, board)
    assert picture is not None and isinstance(picture.figure, Figure)
    assert "csagan intra_fd_digits from 1.00 (cat) to 4.00 (dog|x)" in picture.alt
    assert [axes.get_title() for axes in picture.figure.axes] == list(by_class.HEADS.values())


def test_the_page_has_them_and_the_rows_of_images(results: Results, tmp_path: Path) -> None:
    page = report.render(results, tmp_path)
    text = page.read_text()
    assert "## Class by class" in text
    for kind in ("by_class", "each_class"):
        assert f"]({kind}-digits.png)" in text
        with Image.open(page.parent / f"{kind}-digits.png") as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    assert (page.parent / "tables" / "classes-agreement_digits-digits.csv").is_file()
