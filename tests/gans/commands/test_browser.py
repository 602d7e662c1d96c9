"""What a new browser shows behind the links that `gans ui` prints; the screenshots of the docs are made here.

GANS_SCREENSHOTS=reports/pictures .venv/bin/python -m pytest -m slow tests/gans/commands/test_browser.py
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

from gans import schema, zoo
from gans.generate import generate, latents, load_generator
from gans.pictures import grids
from gans.runs.store import Store
from tests.gans.commands.test_ui import ROOT, free_port
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
KEYS = (schema.BEST, schema.GRIDS)


# --- the store


def pictures(folder: Path) -> list[Path]:
    """Grids that grow from noise to digits."""
    generator, about = load_generator(zoo.find("zoo:dcgan-digits"))
    images = generate(generator, latents.draw(64, about["networks"]["latent"], seed=0)).float()
    noise = 255 * torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    folder.mkdir()
    drawn = []
    for point in range(POINTS + 1):
        share = point / POINTS
        path = folder / f"{BUDGET * share / 1000:010.3f}kimg.png"
        grids.save_picture(grids.picture((share * images + (1 - share) * noise).to(torch.uint8), least=256), path)
        drawn.append(path)
    return drawn


def cell(store: Store, model: str, seed: int, score: float, drawn: list[Path]) -> None:
    """A finished cell with all that the UI is to show."""
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
    for point, picture in enumerate(drawn):
        run.picture(picture, schema.GRIDS, BUDGET * point // POINTS)
    run.picture(drawn[-1], schema.BEST, 0)
    run.finish(schema.FINISHED)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The links that `gans ui` prints over a small store."""
    home = tmp_path_factory.mktemp("ui")
    store = Store(f"sqlite:///{home}/mlflow.db")
    drawn = pictures(home / "drawn")
    for model, scores in SCORES.items():
        for seed, score in enumerate(scores):
            cell(store, model, seed, score, drawn)
    with subprocess.Popen(
        [sys.executable, "-m", "gans", "ui", "--port", str(free_port())],
        stdout=subprocess.PIPE,
        text=True,
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": store.uri},
    ) as process:
        assert process.stdout
        said = [process.stdout.readline() for _ in range(4)]
        links = dict(re.findall(r"(table|charts) +(http\S+)", "".join(said)))
        yield links
        process.send_signal(signal.SIGINT)
        process.wait(20)


# --- the browser


def browse(link: str, profile: Path, *words: str) -> str:
    """What a browser without a past prints, once a page is still."""
    plain = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"]
    size = (f"--window-size={SIZE[0]},{SIZE[1]}", f"--virtual-time-budget={PATIENCE}")
    command = [BROWSER, *plain, *size, f"--user-data-dir={profile}", *words, link]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=True).stdout


def shoot(link: str, name: str, tmp_path: Path, height: int = SIZE[1]) -> None:
    """A screenshot, down to so many pixels, which is also kept where `GANS_SCREENSHOTS` says."""
    raw = tmp_path / "raw.png"
    browse(link, tmp_path / "shooting", f"--screenshot={raw}")
    with Image.open(raw) as file:
        image = file.convert("RGB").crop((0, 0, SIZE[0] - ASSISTANT, height))
    folder = Path(os.environ.get("GANS_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    image.quantize(96, dither=Image.Dither.NONE).save(folder / name, optimize=True)
    assert (folder / name).stat().st_size < LIGHT


class Page(HTMLParser):
    """A page as its reader meets it: the words in order, and the attributes of every element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.hidden = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self.hidden and data.strip():
            self.words.append(data.strip())

    def having(self, **wanted: str) -> list[dict[str, str | None]]:
        """The attributes of all elements that have these."""
        return [own for _, own in self.elements if all(own.get(name) == value for name, value in wanted.items())]


@pytest.fixture
def page(served, tmp_path):
    def read(name: str) -> Page:
        return Page(browse(served[name], tmp_path / "reading", "--dump-dom"))

    return read


# --- what is there


def in_training_mode(page: Page) -> bool:
    """Whether the UI shows runs, not what it has for language models."""
    return "Runs" in page.words and not {"Evaluation runs", "Observability", "Judges"} & set(page.words)


def test_the_table_has_all_cells_by_score(page, served, tmp_path):
    found = page("table")
    assert in_training_mode(found)
    assert [word for word in found.words if word in RANKED] == RANKED
    assert {"score/fd_digits", "score/fd_digits_se", "seconds/training"} <= set(found.words)
    scores = sorted(score for pair in SCORES.values() for score in pair)
    assert [word for word in found.words if word in map(str, scores)] == [str(score) for score in scores]
    shoot(served["table"], "ui-table.png", tmp_path, height=560)


def test_charts_have_bars_curves_images_and_a_slider(page, served, tmp_path):
    found = page("charts")
    assert in_training_mode(found)
    assert {"score/fd_digits", "curve/fd_digits", schema.BEST, schema.GRIDS, schema.LOSS_G} <= set(found.words)
    assert {f"{score:.2f}" for pair in SCORES.values() for score in pair} <= set(found.words)  # on the bars
    lines = {line["d"] for line in found.having(**{"class": "js-line"})}
    curves = [line for line in lines if line and line.count("L") == POINTS]
    assert len(curves) >= len(
        RANKED
    )  # one for each cell; points on a straight line, as of these losses, are left out
    assert len(lines) > len(curves)
    pictures = [own["src"] or "" for own in found.having(**{"class": "rc-image-img"})]
    assert [sum(f"{key.replace(' ', '%20')}%2Bstep" in one for one in pictures) for key in KEYS] == [6, 6]
    assert "No image logged at this step" not in found.words
    address = served["charts"].partition("#")[0]
    with urllib.request.urlopen(address + pictures[0], timeout=30) as answer, Image.open(answer) as image:
        assert min(image.size) > 100
    ends = {(own["aria-valuemin"], own["aria-valuemax"]) for own in found.having(role="slider")}
    assert ("0", str(BUDGET)) in ends
    shoot(served["charts"], "ui-charts.png", tmp_path)
