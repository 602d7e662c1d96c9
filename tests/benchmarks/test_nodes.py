"""A matrix and a sweep on three nodes of one machine: nodes, runners and workers die, and nothing is lost."""

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from gans.compute.cluster import ray_module
from gans.runs.store import Store, Tracked
from tests.benchmarks.test_runner import TINY, Bench
from tests.conftest import until
from tests.desk import ROOT, ended
from tests.gans.runs.test_tables import postgres  # noqa: F401  a fixture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray: make setup EXTRAS=cluster"),
]
MATRIX = TINY.replace("seeds = [0]", "seeds = [0, 1, 2]").replace("kimg = 1.6", "kimg = 16")
MATRIX = MATRIX.replace("checkpoints = 2", "checkpoints = 8").replace("logs = 4", "logs = 40")


@pytest.fixture
def three() -> Iterator[Any]:
    """A cluster of three nodes with a CPU each, on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PYTHONPATH", path())
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # as those who connect: with a token, if there is one
        ray_module()
        patch.delenv("RAY_ADDRESS")
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=1)
            yield cluster
        finally:
            cluster.shutdown()


def path() -> str:
    return os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])


def bench(folder: Path, **variables: str) -> Bench:
    folder.mkdir()
    return Bench(folder, MATRIX, PYTHONPATH=path(), **variables)


def at_work(folder: Path) -> set[int]:
    """Processes that hold the folder of a cell or trial now."""
    from gans.runs.locks import LOCK, held, holder_of

    cells = [lock.parent for lock in folder.rglob(LOCK) if "invocations" not in str(lock)]
    holders = [holder_of(cell).split()[1] for cell in cells if held(cell)]
    return {int(pid) for pid in holders if pid.isdigit()}  # one that has just come has not written its name yet


def over(process: subprocess.Popen[str]) -> Callable[[], str | None]:
    """The output of a process that has ended; None while it runs."""
    return lambda: None if process.poll() is None else process.communicate()[0]


def test_a_matrix_outlives_its_runner_and_a_node_and_comes_to_what_it_comes_to_locally(three, tmp_path) -> None:
    made = bench(tmp_path / "ray", RAY_ADDRESS=three.address)
    runs = made.folder / "runs"
    first = made.start("--engine", "ray")
    pids = until(lambda: len(at_work(runs)) == 3 and at_work(runs), over(first))
    until(lambda: any(runs.rglob("checkpoint.pt")), over(first))
    first.send_signal(signal.SIGKILL)
    first.wait()
    until(lambda: not any(map(psutil.pid_exists, pids)))  # Ray ends what a dead runner has begun
    second = made.start("--engine", "ray")
    until(lambda: len(at_work(runs)) == 3, over(second))
    three.remove_node(sorted(three.worker_nodes, key=id)[0], allow_graceful=False)
    three.add_node(num_cpus=1)
    code, said = ended(second)
    assert code == 0, said
    cells = made.runs()
    assert {run.tags["gans.status"] for run in cells.values()} == {"finished"}
    assert len(cells) == 6
    moved = [run.tags["gans.moved"] for run in cells.values() if "gans.moved" in run.tags]
    # of a cell, or of the noise floor, which has no such tag; what had begun nothing yet begins anew
    assert "died; it resumes" in said or "died; it starts again" in said
    assert all(" died" in why for why in moved)
    assert [run.status for run in made.all_runs() if run.status == "RUNNING"] == []
    local = bench(tmp_path / "local")
    assert local.run("--jobs", "2")[0] == 0
    assert made.scores() == local.scores()  # to the last bit: a thread each


def test_runs_at_a_url_outlive_their_runner_its_folder_and_a_node(three, tmp_path) -> None:
    made = bench(tmp_path / "ray", TMPDIR=str(tmp_path), RAY_ADDRESS=three.address)
    there = tmp_path / "there"
    words = ["--engine", "ray", "--runs", there.as_uri()]
    first = made.start(*words)
    until(lambda: any(there.rglob("checkpoint.pt")), over(first))
    code, said = made.run(*words)
    assert code == 2
    assert f"RUNS={there.as_uri()} is in use by process {first.pid} on " in said
    first.send_signal(signal.SIGKILL)
    first.wait()
    for mirror in tmp_path.glob("gans-runs-*"):
        shutil.rmtree(mirror)  # as if the next one came from another machine
    second = made.start(*words)
    time.sleep(20)
    three.remove_node(sorted(three.worker_nodes, key=id)[0], allow_graceful=False)
    code, said = ended(second)
    assert code == 0, said
    assert len(list(there.rglob("generator.safetensors"))) == 6
    assert not list(there.rglob("in-use.json"))
    assert not list(tmp_path.glob("gans-runs-*"))
    assert [run.status for run in made.all_runs() if run.status == "RUNNING"] == []
    local = bench(tmp_path / "local")
    assert local.run("--jobs", "2")[0] == 0
    assert made.scores() == local.scores()


def test_a_sweep_on_three_nodes_outlives_a_worker(three, postgres, tmp_path) -> None:  # noqa: F811
    uri, storage = f"{postgres}/tracking", f"{postgres}/study"
    made = bench(tmp_path / "ray", MLFLOW_TRACKING_URI=uri, RAY_ADDRESS=three.address, GANS_STORAGE=storage)
    words = ["gan", "--trials", "6", "--budget", "0.02", "--finalists", "1", "--fresh", "1", "--engine", "ray"]
    sweep = made.gans("sweep", *words)
    pids = until(lambda: at_work(made.folder / "runs"), sweep.poll)
    time.sleep(1)
    os.kill(min(pids), signal.SIGKILL)
    code, said = ended(sweep)
    assert code == 0 and "6 of 6" in said, said
    trials = [run for run in Tracked(Store(uri)).runs("sweep-gan-digits-budget0.02") if "gans.trial" in run.tags]
    assert {run.tags["gans.status"] for run in trials} <= {"finished", "pruned"}
    assert len(trials) == 6


def raylets() -> set[int]:
    """Ray's processes of nodes on this machine."""
    return {process.pid for process in psutil.process_iter(["name"]) if process.info["name"] == "raylet"}


def test_mdgans_workers_live_in_the_cluster_of_their_cell(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    folder = tmp_path / "ray"
    folder.mkdir()
    made = Bench(folder, TINY + "[models.mdgan]\nupdate = { workers = 2 }\n")
    before, most = raylets(), 0
    arguments = ["--engine", "ray", "--workers", "ray", "--models", "mdgan"]
    code, said = made.run(*arguments, "--jobs", "2")
    assert code == 2
    assert "needs 1 CPUs on one machine and 2 for its workers: it has 2 CPUs" in said
    running = made.start(*arguments, "--jobs", "3")
    while running.poll() is None:
        most = max(most, len(raylets() - before))
        time.sleep(0.2)
    code, said = ended(running)
    assert code == 0, said
    assert most == 1
    assert not raylets() - before
    (cell,) = made.runs().values()
    assert cell.tags["gans.workers"] == "ray"
