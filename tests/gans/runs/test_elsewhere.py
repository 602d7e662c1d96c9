"""Parts from outside the repository: named `package.module:Name` or as entry points, used everywhere, tracked."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.matrix import Selection, cells, read_matrix
from gans import registry
from gans.config import experiment
from gans.errors import InputError
from gans.recipes import recipe
from gans.runs.cell import Cell, identify, resolve
from gans.runs.run import foreign
from gans.runs.store import Store
from sweeps.options import Request
from sweeps.plan import plan

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
PARTS = '''
from dataclasses import replace

from gans.data.datasets import digits
from gans.data.images import Split
from gans.models.gan import GAN
from gans.training.two_player import HINGE

LINEAR = replace(GAN, recipe={"networks": {"latent": 8}})
LOSS = HINGE


def few(root):
    """The first digits only."""
    source = digits(root)
    return replace(source, title="Few digits", train=Split(source.train.images[:200], source.train.labels[:200]))
'''
MATRIX = """
seeds = [0]
[datasets."parts_of_mine:few"]
[defaults]
kimg = 0.4
batch = 20
networks = { width = 16 }
score = { extractors = ["digits"], images = 200, curve_images = 200 }
schedule = { evaluations = 1, grids = 1, checkpoints = 1, logs = 1 }
[models."parts_of_mine:LINEAR"]
loss = { name = "parts_of_mine:LOSS" }
"""


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of one's own in the working directory."""
    path = tmp_path / "parts_of_mine.py"
    path.write_text(PARTS)
    (tmp_path / "mine.toml").write_text(MATRIX)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield path
    sys.modules.pop("parts_of_mine", None)


def cell() -> Cell:
    (found,) = cells(read_matrix("mine.toml"), Selection(), CPU)
    return found


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_matrix_names_parts_of_any_file(parts):
    found = cell()
    assert found.name == "parts_of_mine:LINEAR/parts_of_mine:few/0"
    assert found.slug.startswith("parts-of-mine-LINEAR-parts-of-mine-few-0-")
    networks = found.experiment.networks.model_dump()
    assert (networks["name"], networks["latent"], networks["width"]) == ("parts_of_mine:LINEAR", 8, 16)
    assert len(found.images.train) == 200
    assert resolve(found.model, found.experiment, CPU) == found
    assert read_matrix("mine.toml").experiment_name(1, ["parts_of_mine:few", "digits"]) == (
        "mine-parts-of-mine-few-digits"
    )


def test_the_code_of_a_part_is_part_of_the_identity_and_of_the_tags(parts):
    before = cell()
    digest = hashlib.sha256(parts.read_bytes()).hexdigest()
    names = ("LINEAR", "LOSS", "few")
    assert foreign(before.experiment) == {f"gans.code.parts_of_mine:{name}": digest for name in names}
    assert before.experiment.code() == {f"parts_of_mine:{name}": digest for name in names[:2]}
    parts.write_text(PARTS + "# a change\n")
    assert cell().identity != before.identity
    ours = identify("gan", experiment(recipe("gan").settings, {"dataset": "digits"}), CPU)
    assert foreign(ours.experiment) == {}


def test_the_commit_of_the_repository_that_holds_a_part_is_tracked(parts):
    git(parts.parent, "init", "-q")
    git(parts.parent, "add", "mine.toml")
    git(parts.parent, "commit", "-qm", "first")

    def tracked(key: str) -> str:
        return foreign(cell().experiment)[f"gans.code.parts_of_mine:LINEAR.{key}"]

    assert tracked("dirty") == "true"  # the commit does not hold the file
    git(parts.parent, "add", parts.name)
    git(parts.parent, "commit", "-qm", "second")
    assert tracked("dirty") == "false"
    assert tracked("commit") == git(parts.parent, "rev-parse", "HEAD")
    parts.write_text(PARTS + "# a change\n")
    assert tracked("dirty") == "true"


def test_a_sweep_takes_a_model_and_a_data_set_of_any_file(parts):
    registry.allow("parts_of_mine")  # as its command line does
    sweep = plan(Request("parts_of_mine:LINEAR", "digits"), CPU)
    assert sweep.study == "parts-of-mine-LINEAR-digits"
    assert "optimizer.lr_g" in sweep.space.parameters
    request = Request("gan", "parts_of_mine:few")
    request.validate()
    assert request.name == "gan-parts-of-mine-few"


def test_an_entry_point_is_found_by_its_name(parts, monkeypatch):
    metadata = parts.parent / "mine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[gans.models]\nlinear = parts_of_mine:LINEAR\n[gans.datasets]\nfew = parts_of_mine:few\n"
        "[gans.losses]\nown-hinge = parts_of_mine:LOSS\n"
    )
    monkeypatch.syspath_prepend(str(parts.parent))
    registry.installed.cache_clear()
    try:
        tables = {
            "dataset": "few",
            "batch": 20,
            "loss": {"name": "own-hinge"},
            "score": {"extractors": ["digits"]},
        }
        made = identify("linear", experiment(recipe("linear").settings, tables), CPU)
        assert made.images.title == "Few digits"
        assert {"gans.code.linear", "gans.code.few", "gans.code.own-hinge"} <= set(foreign(made.experiment))
        with pytest.raises(InputError, match="unknown network 'liner'"):
            experiment({"networks": {"name": "liner"}})
    finally:
        registry.installed.cache_clear()


@pytest.mark.slow
def test_a_bench_takes_parts_of_any_file(parts):
    uri = f"sqlite:///{parts.parent}/mlflow.db"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": uri}
    command = [sys.executable, "-m", "gans", "bench", "mine.toml", "--device", "cpu", "--jobs", "1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (bench,) = (run for run in Store(uri).runs("mine") if run.data.tags["gans.kind"] == "cell")
    digest = hashlib.sha256(parts.read_bytes()).hexdigest()
    assert bench.data.tags["gans.status"] == "finished"
    assert bench.data.tags["gans.code.parts_of_mine:LINEAR"] == digest
    assert bench.data.tags["gans.code.parts_of_mine:few"] == digest
    assert bench.data.metrics["score/fd_digits"] > 0


def test_a_folder_whose_name_looks_like_a_modules_is_no_code(tiny):
    assert foreign(tiny(dataset="folder:photos")) == {}
