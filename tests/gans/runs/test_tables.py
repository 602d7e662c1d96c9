"""Several processes on one database: its tables are made once, nothing that is written is lost."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gans.errors import InputError
from gans.runs import databases
from gans.runs import store as stores
from gans.runs.databases import OPTUNA, opened
from gans.runs.store import Store, Tracked

ROOT = Path(__file__).parents[3]


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(processes: list[subprocess.Popen[str]]) -> None:
    output = [process.communicate(timeout=280)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), output


def test_a_database_is_made_whole_and_what_a_killed_process_left_of_it_is_removed(
    tmp_path, monkeypatch, making_stores
):
    def client(uri: str) -> SimpleNamespace:
        Path(uri.removeprefix("sqlite:///")).write_text("whole")
        return SimpleNamespace(search_experiments=lambda max_results: [])

    monkeypatch.setattr(stores, "MlflowClient", client)
    for name in (".new.db.new", ".new.db.new-journal", ".new.db.lock"):
        (tmp_path / name).write_text("half a database")
    making_stores(f"sqlite:///{tmp_path}/new.db")
    assert [path.name for path in tmp_path.iterdir()] == ["new.db"]
    assert (tmp_path / "new.db").read_text() == "whole"


def test_processes_that_collide_try_once_more(monkeypatch):
    monkeypatch.setattr(databases, "PAUSE", 0.0)
    outcomes = iter(["table studies already exists", "", "no", "way"])

    def attempt() -> str:
        if message := next(outcomes):
            raise RuntimeError(message)
        return "opened"

    assert opened("sqlite://", OPTUNA, attempt) == "opened"
    with pytest.raises(InputError, match="cannot use the storage sqlite://: way; "):
        opened("sqlite://", OPTUNA, attempt)


WRITER = """
import sys
from pathlib import Path
from gans.runs.export import Exporter
from gans.runs.run import Run
from gans.runs.store import Store
root = Path(sys.argv[2])
with Exporter(root, Store(sys.argv[1])):
    for n in range(3):
        run = Run.start(root / str(n), "together", f"{root.name}.{n}", {"gans.status": "running"})
        run.params({"writer": root.name})
        for images in range(40):
            run.log(images, {"x": images, "y": -images})
            if images % 5 == 0:
                run.tag({"at": str(images)})
        run.text("here", "note.txt")
        run.finish("finished")
"""


@pytest.mark.slow
def test_four_processes_write_to_one_new_file_and_nothing_is_lost(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    finish([start(WRITER, uri, str(tmp_path / "runs" / str(n))) for n in range(4)])
    store = Store(uri)
    runs = Tracked(store).runs("together")
    assert sorted(run.name for run in runs) == [f"{n}.{i}" for n in range(4) for i in range(3)]
    for run in runs:
        assert run.status == "FINISHED"
        assert run.history("x") == [(i, i) for i in range(40)]
        assert run.artifact("note.txt")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


OPENED = """
import sys
from gans.runs.store import Store
from sweeps.study import open_storage
Store(sys.argv[1]).experiment("one")
open_storage(sys.argv[2]).get_all_studies()
"""


@pytest.fixture
def postgres() -> str:
    """The address, without a database, of a server with the empty databases `tracking` and `study`."""
    if not (named := os.environ.get("GANS_POSTGRES")):
        pytest.skip("no server: GANS_POSTGRES=postgresql+psycopg2://me@host, with databases tracking and study")
    return named


@pytest.mark.slow
def test_processes_that_begin_together_on_an_empty_server_make_its_tables_once(postgres):
    finish([start(OPENED, f"{postgres}/tracking", f"{postgres}/study") for _ in range(3)])
