"""What a new browser shows behind the links that `gans ui` prints; the screenshots of the docs are made here.

GANS_SCREENSHOTS=reports/pictures .venv/bin/python -m pytest -m slow tests/gans/commands/test_browser.py
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import pytest
from PIL import Image

from gans import schema
from gans.runs.store import Store
from tests import free_port
from tests.desk import Desk
from tests.recorded import recorded

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine")]

SIZE = (1900, 1000)  # pixels of the window
ASSISTANT = 490  # of them, on the right: a panel that a new browser shows, and screenshots do without
LIGHT = 150_000  # bytes of one
PATIENCE = 90_000  # milliseconds that a page has to become still, most of them skipped
# the cells in the order of their runs, which is not that of their scores
SCORES = {"gan": (14.2, 13.1), "dcgan": (8.5, 7.9), "sagan": (9.4, 8.8)}
RANKED = ["dcgan/digits/1", "dcgan/digits/0", "sagan/digits/1", "sagan/digits/0", "gan/digits/1", "gan/digits/0"]
POINTS, BUDGET = 8, 40_000
EXPERIMENT = "digits"


# --- the store


def cell(store: Store, model: str, seed: int, score: float) -> None:
    """A finished cell with scores, curve and losses."""
    tags = {
        schema.KIND: schema.CELL,
        schema.MODEL: model,
        schema.DATASET: EXPERIMENT,
        schema.SEED: str(seed),
        schema.METRIC: "fd_digits",
        schema.STATUS: schema.FINISHED,
        schema.NOTE: f"**{model}** on **{EXPERIMENT}**, training seed {seed}.",
    }
    run = recorded(store, EXPERIMENT, f"{model}/{EXPERIMENT}/{seed}", tags)
    run.params({"networks.name": model, "seed": seed, "kimg": BUDGET / 1000})
    for point in range(POINTS + 1):
        distance = score + (90 - score) * 0.5 ** (1.2 * point)
        losses = {schema.LOSS_G: 0.7 + 0.05 * point + 0.1 * seed, schema.LOSS_D: 1.3 - 0.02 * point - 0.1 * seed}
        run.log(BUDGET * point // POINTS, {"curve/fd_digits": distance, **losses})
    run.log(BUDGET, {"score/fd_digits": score, "score/fd_digits_se": 0.2, schema.TRAINING: 5 * score})
    run.finish(schema.FINISHED)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The links that `gans ui` prints over a small store."""
    desk = Desk(tmp_path_factory.mktemp("ui"))
    store = desk.store
    for model, scores in SCORES.items():
        for seed, score in enumerate(scores):
            cell(store, model, seed, score)
    with desk.gans("ui", "--port", str(free_port())) as process:
        assert process.stdout
        said = [process.stdout.readline() for _ in range(4)]
        links = dict(re.findall(r"(table|charts) +(http\S+)", "".join(said)))
        yield links
        process.send_signal(signal.SIGINT)
        process.wait(20)


# --- the browser


def browse(link: str, profile: Path, *words: str) -> str:
    """The page that a new browser shows, once it does not change."""
    plain = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"]
    size = (f"--window-size={SIZE[0]},{SIZE[1]}", f"--virtual-time-budget={PATIENCE}")
    command = [BROWSER, *plain, *size, f"--user-data-dir={profile}", *words, link]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=True).stdout


def shoot(link: str, name: str, tmp_path: Path, height: int) -> None:
    """Take a screenshot of so many pixels; `GANS_SCREENSHOTS` names a folder that keeps it."""
    raw = tmp_path / "raw.png"
    browse(link, tmp_path / "shooting", f"--screenshot={raw}")
    with Image.open(raw) as file:
        image = file.convert("RGB").crop((0, 0, SIZE[0] - ASSISTANT, height))
    folder = Path(os.environ.get("GANS_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    image.quantize(96, dither=Image.Dither.NONE).save(folder / name, optimize=True)
    assert (folder / name).stat().st_size < LIGHT


class Page(NamedTuple):
    """The words of a page in order, and the paths of the lines in its charts."""

    words: list[str]
    lines: set[str]

    @classmethod
    def of(cls, text: str) -> Self:
        shown = re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.DOTALL)
        words = [word.strip() for word in re.findall(r">([^<]+)<", shown)]
        return cls(list(filter(None, words)), set(re.findall(r'<path class="js-line"[^>]* d="([^"]*)"', shown)))


# --- what is there


@pytest.mark.parametrize(("name", "height"), [("table", 560), ("charts", SIZE[1])])
def test_links_lead_to_all_cells_by_score_and_to_their_curves(served, name, height, tmp_path):
    page = Page.of(browse(served[name], tmp_path / "reading", "--dump-dom"))
    # runs, and not the UI's page about language models
    assert "Runs" in page.words and not {"Evaluation runs", "Observability", "Judges"} & set(page.words)
    if name == "table":
        assert [word for word in page.words if word in RANKED] == RANKED
    else:
        assert {"curve/fd_digits", schema.LOSS_G, schema.LOSS_D} <= set(page.words)
        assert len(page.lines) > len(RANKED)  # one for each cell, and those of the losses
    shoot(served[name], f"ui-{name}.png", tmp_path, height)
