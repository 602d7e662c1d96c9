"""Nothing that ships or is somebody's own is written over: the writers, and `git status` after them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from gans import files
from tests.desk import ROOT, Desk, ended


def test_a_name_that_is_free_is_taken_at_once(tmp_path):
    assert files.free(tmp_path / "new", "a", ".png", ".gif") == (tmp_path / "new/a.png", tmp_path / "new/a.gif")
    (tmp_path / "b.gif").touch()
    (tmp_path / "b-2.png").symlink_to(tmp_path / "nowhere")
    assert files.free(tmp_path, "b", ".png", ".gif") == (tmp_path / "b-3.png", tmp_path / "b-3.gif")
    assert files.free(tmp_path, "b", ".png", ".gif")[0].name == "b-4.png"


def test_the_folder_is_named_by_the_environment(monkeypatch):
    monkeypatch.delenv(files.VARIABLE, raising=False)
    assert files.outputs() == Path("outputs")
    monkeypatch.setenv(files.VARIABLE, "~/mine")
    assert files.outputs() == Path.home() / "mine"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone of this repository as it is now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git repository")
    folder = tmp_path_factory.mktemp("clone")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all", "--force")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "all")
    return folder


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_commands_leave_a_clone_clean(clone):
    """It runs a tiny bench, its report, a sweep, and commands that draw."""
    desk = Desk(clone, PYTHONPATH=str(clone), GANS_OUTPUTS="")
    small = ["--budget", "0.01"]
    for words in (
        ["bench", "digits", "--models", "gan", "--seeds", "0", *small],
        ["report", "digits", *small],
        ["sweep", "gan", "--trials", "2", "--finalists", "1", "--fresh", "1", *small],
        ["sweep-report"],
        ["rescore", "digits", "--models", "gan", "--seeds", "0", "--count", "200", *small],
    ):
        code, said = ended(desk.gans(*words))
        assert code == 0, (words, said)
        assert git(clone, "status", "--porcelain") == "", words
    made = {str(path.relative_to(clone / "outputs")) for path in (clone / "outputs").rglob("README.md")}
    assert {"reports/digits-budget0.01/README.md", "reports/sweeps/README.md"} <= made
