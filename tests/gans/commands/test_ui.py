"""`gans ui`: it prints its address once the server answers, and leaves no process behind, however it ends."""

import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import closing

import psutil
import pytest

from gans.commands import ui
from gans.errors import InputError
from gans.runs.store import Store
from tests import free_port
from tests.desk import Desk
from tests.recorded import recorded

LONG = 120  # seconds after which something hangs


def test_a_port_in_use_is_refused_with_another():
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port} is in use by another program; take another"):
            ui.check_port(port)


def test_links_lead_to_the_cells_of_the_newest_experiment(tmp_path, monkeypatch, capsys):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    store = Store(uri)
    recorded(store, "older", "gan/digits/0", {"gans.kind": "cell", "gans.metric": "fd_digits"})
    recorded(store, "own", "gan/digits/0", {"gans.kind": "cell", "gans.metric": "fd_digits"})
    ui.show_links("http://127.0.0.1:5000")
    experiment_id = store.client.get_experiment_by_name("own").experiment_id
    first, table, charts = capsys.readouterr().out.splitlines()
    ui.show_links("http://127.0.0.1:5000", all=True)
    assert "older, cells by score/fd_digits" in capsys.readouterr().out
    assert first == "own, cells by score/fd_digits"
    address = f"http://127.0.0.1:5000/#/experiments/{experiment_id}/runs?workflowType=machine_learning&"
    assert table.startswith(f"  table   {address}")
    assert table.endswith("orderByKey=metrics.%60score%2Ffd_digits%60&orderByAsc=true")
    assert charts == f"{table.replace('table ', 'charts')}&compareRunsMode=CHART"


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, LONG)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


@pytest.fixture
def served(tmp_path):
    """`gans ui` over a new store, its port, and its process as psutil has it."""
    port = free_port()
    with Desk(tmp_path).gans("ui", "--port", str(port), stderr=subprocess.PIPE) as process:
        yield process, port, psutil.Process(process.pid)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_server_answers_when_it_is_announced_and_ends_with_us(served, number):
    process, port, us = served
    assert f"http://127.0.0.1:{port}" in process.stdout.readline()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        assert answer.status == 200
    others = us.children(recursive=True)
    assert len(others) <= 3
    assert not [word for one in (us, *others) for word in one.cmdline() if "mlflow.db" in word]
    process.send_signal(number)
    process.wait(LONG)
    assert gone(others)
    assert process.stderr.read() == ""
    assert process.returncode == (0 if number == signal.SIGINT else -number)


@pytest.mark.slow
def test_an_end_while_it_starts_prints_nothing(served):
    process, _, us = served
    while not us.children(recursive=True):
        time.sleep(0.05)
    others = us.children(recursive=True)
    process.send_signal(signal.SIGINT)
    process.wait(LONG)
    assert gone(others)
    assert (process.returncode, process.stdout.read(), process.stderr.read()) == (0, "", "")
