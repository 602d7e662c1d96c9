"""Parts from outside the repository: named `package.module:Name` or as entry points; their code is tracked."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.matrix import Selection, cells, read_matrix
from gans import registry
from gans.config import experiment
from gans.recipes import recipe
from gans.runs.cell import Cell, identify
from gans.runs.run import foreign

EXAMPLES = Path(__file__).parents[3] / "docs/examples"
MATRIX = """
seeds = [0]
[datasets."parts:bars"]
[defaults]
networks = { depth = 2 }
score = { extractors = ["digits"] }
[models."mine:MINE"]
loss = { name = "parts:LOGISTIC" }
"""


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The docs' examples in the working directory, as files of one's own."""
    for name in ("mine.py", "parts.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    (tmp_path / "matrix.toml").write_text(MATRIX)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path / "parts.py"


def cell() -> Cell:
    (found,) = cells(read_matrix("matrix.toml"), Selection(), torch.device("cpu"))
    return found


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_code_of_a_part_is_part_of_the_identity_and_of_the_tags(parts):
    before = cell()
    assert before.name == "mine:MINE/parts:bars/0"
    assert before.slug.startswith("mine-MINE-parts-bars-0-")
    assert (before.experiment.networks.depth, len(before.images.train)) == (2, 600)
    code = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in parts.parent.glob("*.py")}
    assert before.experiment.code() == {"mine:MINE": code["mine"], "parts:LOGISTIC": code["parts"]}
    assert foreign(before.experiment) == {
        "gans.code.mine:MINE": code["mine"],
        "gans.code.parts:LOGISTIC": code["parts"],
        "gans.code.parts:bars": code["parts"],
    }
    parts.write_text(parts.read_text() + "# a change\n")
    assert cell().identity != before.identity


def test_the_commit_of_the_repository_that_holds_a_part_is_tracked(parts):
    git(parts.parent, "init", "-q")
    git(parts.parent, "add", "matrix.toml")
    git(parts.parent, "commit", "-qm", "first")

    def tracked(key: str) -> str:
        return foreign(cell().experiment)[f"gans.code.parts:bars.{key}"]

    assert tracked("dirty") == "true"  # the commit does not hold the file
    git(parts.parent, "add", parts.name)
    git(parts.parent, "commit", "-qm", "second")
    assert tracked("dirty") == "false"
    assert tracked("commit") == git(parts.parent, "rev-parse", "HEAD")
    parts.write_text(parts.read_text() + "# a change\n")
    assert tracked("dirty") == "true"


def test_an_entry_point_is_found_by_its_name(parts):
    metadata = parts.parent / "mine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[gans.models]\nown = mine:MINE\n[gans.datasets]\nown-bars = parts:bars\n"
        "[gans.losses]\nown-loss = parts:LOGISTIC\n"
    )
    registry.installed.cache_clear()
    try:
        tables = {"dataset": "own-bars", "loss": {"name": "own-loss"}, "score": {"extractors": ["digits"]}}
        made = identify("own", experiment(recipe("own").settings, tables), torch.device("cpu"))
        assert made.images.title == "Bars"
        assert {"gans.code.own", "gans.code.own-bars", "gans.code.own-loss"} <= set(foreign(made.experiment))
    finally:
        registry.installed.cache_clear()


def test_parts_of_ours_are_no_code_from_elsewhere(tiny):
    assert foreign(tiny()) == foreign(tiny(dataset="folder:photos")) == {}
