"""Two matrices side by side."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from gans.errors import InputError
from gans.runs.store import Tracked
from reports import comparison
from reports.results import Board
from tests.reports.test_report import cell, invoke, plan, read, start

BOARD = Board("digits", "fd_digits", "Digits")
SCORES = {
    "slow": {"gan": [6.0, 6.5, 7.0], "dcgan": [8.0, 8.4, 7.9]},
    "fast": {"gan": [6.2, 6.4, 7.1], "dcgan": [9.5, 9.9, 9.6]},
}


def fill(
    runs: Path, name: str, scores: dict[str, list[float]], extractors: str = "digits:abc", **settings: str
) -> None:
    """A tracked matrix: a plan, and finished cells with what the comparison reads."""
    cells = [cell(model, seed) for model, values in scores.items() for seed in range(len(values))]
    floors = [{"dataset": "digits", "title": "Digits", "identity": "none", "metric": "fd_digits"}]
    invoke(runs, plan(matrix=name, command="make bench", cells=cells, floors=floors), name)
    common = {"score.images": "1438", "batch": "32", "precision": "float32"}
    tags = {"extractors": extractors, "reference": "train split", "device": "a CPU", "commit": "abc"}
    for model, values in scores.items():
        for seed, score in enumerate(values):
            run = start(runs, model, seed, name, common | settings, **tags)
            seconds = 10.0 if name == "slow" else 4.0
            run.log(1000, {"score/fd_digits": score, "seconds/training": seconds})
            run.finish("finished")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    runs = tmp_path_factory.mktemp("compared")
    fill(runs, "slow", SCORES["slow"])
    fill(runs, "fast", SCORES["fast"], precision="bf16", shards="iid")
    fill(runs, "other", SCORES["slow"], extractors="digits:def")
    fill(runs, "single", {"gan": [6.1], "elsewhere": [1.0]}, precision="bf16")
    fill(runs, "strangers", {"sagan": [6.0]})
    return read(runs)


def test_the_page_has_scores_differences_and_what_differs(store: Tracked, tmp_path: Path) -> None:
    path = comparison.write(store, ("slow", "fast"), tmp_path)
    text = path.read_text()
    gan, dcgan = (
        next(line for line in text.splitlines() if line.startswith(f"| {m} |")) for m in ("gan", "dcgan")
    )
    assert "6.49 (5.36 to 7.86), n = 3 | 6.56 (5.50 to 7.82), n = 3" in gan
    logs = (np.log(SCORES[name]["dcgan"]) for name in ("fast", "slow"))
    low, high = np.exp(stats.ttest_ind(*logs, equal_var=False).confidence_interval(0.95))
    assert f"**1.19 ({low:.2f} to {high:.2f})**" in dcgan
    assert dcgan.endswith("| 2.50 |")
    assert "**" not in gan
    assert "excludes 1: dcgan on Digits." in text
    assert "by chance" not in text  # two rows are too few to expect one
    assert "| `precision` | float32 | bf16 |" in text
    assert "| `shards` | — | iid |" in text  # a setting that the one had not yet
    assert "\nmake bench\nmake bench\ngans compare slow fast\n" in text
    assert "| `gans.device` | a CPU | a CPU |" in text
    assert "`batch`" not in text and "`gans.commit`" not in text
    assert Image.open(path.with_suffix(".png")).width > 500


def test_a_comparison_is_a_new_page(store: Tracked, tmp_path: Path) -> None:
    (tmp_path / "slow-and-fast.png").write_text("mine")
    path = comparison.write(store, ("slow", "fast"), tmp_path)
    assert path == tmp_path / "slow-and-fast-2.md"
    assert "](slow-and-fast-2.png)" in path.read_text()
    assert (tmp_path / "slow-and-fast.png").read_text() == "mine"


def test_one_seed_is_shown_as_one_and_only_common_models_count(store: Tracked, tmp_path: Path) -> None:
    text = comparison.write(store, ("slow", "single"), tmp_path).read_text()
    assert "6.10 (one seed)" in text
    assert "dcgan" not in text
    assert "elsewhere" not in text
    assert "Over all models" not in text


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ("other", "scored in different ways: gans.extractors is digits:abc and digits:def"),
        ("strangers", "share no model with finished cells on the same data and metric"),
        ("fasst", "unknown experiment 'fasst' in .*; did you mean 'fast'"),
    ],
)
def test_what_does_not_compare_is_refused(store: Tracked, tmp_path: Path, other: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        comparison.write(store, ("slow", other), tmp_path)
    assert not list(tmp_path.iterdir())


def pair(one: np.ndarray, other: np.ndarray) -> comparison.Pair:
    return comparison.Pair(BOARD, "m", (pd.DataFrame({"score": one}), pd.DataFrame({"score": other})))


def test_the_ratio_over_models_is_the_geometric_mean() -> None:
    found = [pair(np.array([2.0, 8.0]), np.array([4.0, 16.0])), pair(np.array([1.0, 4.0]), np.array([1.0, 4.0]))]
    ratio = comparison.over_models(found)
    assert ratio is not None
    assert ratio.mean == pytest.approx(math.sqrt(2))
    # four sets of two logs, log 2 on either side of their mean: equal variances, so freedom 4
    reach = stats.t.ppf(0.975, 4) * math.sqrt(4 * math.log(2) ** 2) / 2
    assert math.log(ratio.high / ratio.mean) == pytest.approx(reach)
    assert ratio.low * ratio.high == pytest.approx(ratio.mean**2)
