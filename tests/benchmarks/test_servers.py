"""A tracking server that is killed, or stopped, while cells train: nothing waits for it, and nothing is lost."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gans.runs.store import Store, Tracked
from gans.schema import CHECKPOINT
from tests.benchmarks.test_runner import Bench
from tests.chaos.site import Server, Site, signal_group
from tests.conftest import until
from tests.desk import ended

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(Site(tmp_path, tmp_path / "data"))
    server.start()
    yield server
    server.kill()


def wait_for(process: subprocess.Popen[str], folder: Path, pattern: str) -> None:
    until(lambda: list(folder.glob(pattern)), lambda: None if process.poll() is None else process.communicate()[0])


def test_a_server_that_is_killed_costs_nothing_and_learns_all_later(server: Server, tmp_path: Path) -> None:
    bench = Bench(tmp_path, MLFLOW_TRACKING_URI=server.uri)
    process = bench.start("--jobs", "1")
    wait_for(process, tmp_path / "runs", f"tiny/*/{CHECKPOINT}")
    server.kill()
    code, output = ended(process)
    assert code == 0, output
    assert output.count("not in the tracking store yet: ") == 1
    assert "; the same command exports them, or for a folder of runs gans sync" in output
    assert "Traceback" not in output and "does not answer" in output.splitlines()[-1], output
    page = (tmp_path / "outputs/reports/tiny/README.md").read_text()
    assert "gan" in page and "No score" not in page
    server.start()
    code, output = ended(bench.gans("sync"))
    assert code == 0, output
    assert "exported to the tracking store: " in output
    store = Store(server.uri)
    runs = Tracked(store).runs("tiny")
    cells = {run.name: run for run in runs if run.tags["gans.kind"] == "cell"}
    assert set(cells) == {"gan/digits/0", "dcgan/digits/0"}
    assert {run.status for run in runs} == {"FINISHED"}
    (parent,) = [run for run in runs if run.tags["gans.kind"] == "matrix"]
    for run in cells.values():
        assert run.tags["mlflow.parentRunId"] == parent.id
        (folder,) = tmp_path.glob(f"runs/tiny/{run.name.replace('/', '-')}-*")
        lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
        written = [
            (line["step"], line["values"]["loss/generator"], line["time"])
            for line in lines
            if line["event"] == "metrics" and "loss/generator" in line["values"]
        ]
        points = store.client.get_metric_history(run.id, "loss/generator")
        assert [(p.step, p.value, p.timestamp) for p in points] == written
        assert run.artifact("checkpoint/generator.safetensors")
    code, again = bench.run()
    assert code == 0, again
    assert "start" not in again and "not in the tracking store" not in again


def test_a_server_that_is_stopped_stops_nobody(server: Server, tmp_path: Path) -> None:
    bench = Bench(tmp_path, MLFLOW_TRACKING_URI=server.uri)
    process = bench.start("--jobs", "1", "--models", "gan")
    wait_for(process, tmp_path / "runs", f"tiny/gan*/{CHECKPOINT}")
    (folder,) = tmp_path.glob("runs/tiny/gan-*")
    signal_group(server.process, "STOP")
    stopped = time.time()
    until(lambda: '"end"' in (folder / "events.jsonl").read_text())  # the cell ends while nobody answers
    finished = time.time()
    signal_group(server.process, "CONT")
    code, output = ended(process)
    assert code == 0, output
    assert "not in the tracking store" not in output
    (run,) = [run for run in Tracked(Store(server.uri)).runs("tiny") if run.tags["gans.kind"] == "cell"]
    assert run.status == "FINISHED"
    assert sum(run.metrics[f"seconds/{part}"] for part in ("training", "evaluation")) < 60
    assert finished - stopped < 60
