"""`gans ui`: it says its address when that answers, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from gans.commands import guard, ui
from gans.commands.ui import Ended, ended_by_signals
from gans.errors import InputError
from gans.runs.store import Store
from gans.urls import free_port
from tests.recorded import recorded

ROOT = Path(__file__).parents[3]
LONG = 120  # seconds after which something hangs


def test_a_port_in_use_is_refused_with_another():
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port} is in use by another program; take another"):
            ui.check_port(port)


@pytest.mark.parametrize("number", ui.ENDED_BY)
def test_signals_end_it_once_and_handlers_come_back(number):
    before = signal.getsignal(number)
    with pytest.raises(Ended) as ended, ended_by_signals():
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)  # while it takes its server along
    assert ended.value.number == number
    assert signal.getsignal(number) == before


def test_links_lead_to_the_table_and_the_charts_of_every_experiment(tmp_path, monkeypatch, capsys):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    store = Store(uri)
    recorded(store, "own", "gan/digits/0", {"gans.kind": "cell", "gans.metric": "fd_digits"})
    ui.show_views("http://127.0.0.1:5000")
    experiment_id = store.client.get_experiment_by_name("own").experiment_id
    first, link = capsys.readouterr().out.splitlines()
    assert first == "own, cells by score/fd_digits"
    assert link.startswith(
        f"  http://127.0.0.1:5000/#/experiments/{experiment_id}/runs?workflowType=machine_learning&"
    )
    assert "orderByKey=metrics.%60score%2Ffd_digits%60&orderByAsc=true" in link


def gone(processes: list[psutil.Process], seconds: float) -> bool:
    _, alive = psutil.wait_procs(processes, seconds)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


@contextmanager
def guarded(script: str):
    """A guard over a command that starts a process of its own, both deaf to SIGTERM; and all three."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gans.commands.guard", "bash", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd=ROOT,
    )
    try:
        group = psutil.Process(int(process.stdout.readline()))
        while not group.children():
            time.sleep(0.02)
        yield process, [psutil.Process(process.pid), group, *group.children()]
    finally:
        process.kill()
        process.wait()


def test_a_guard_takes_all_along_when_its_pipe_closes():
    with guarded("trap '' TERM; sleep 60 & sleep 61") as (process, everybody):
        process.stdin.close()
        assert gone(everybody, guard.GRACE + LONG)


def test_a_guard_ends_with_its_command_and_leaves_nothing():
    with guarded("sleep 60 & sleep 0.5; exit 7") as (process, everybody):
        assert process.wait(LONG) == 7
        assert gone(everybody, LONG)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_the_server_answers_when_it_is_announced_and_ends_with_us(tmp_path, number):
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "gans", "ui", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"},
    ) as process:
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            assert answer.status == 200
        everybody = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        assert len(everybody) <= 4
        assert not [word for one in everybody for word in one.cmdline() if "mlflow.db" in word]
        process.send_signal(number)
        process.wait(LONG)
        assert gone(everybody[1:], LONG)
        assert process.stderr.read() == ""
    expected = {signal.SIGINT: 0, signal.SIGKILL: -signal.SIGKILL}
    assert process.returncode == expected.get(number, 128 + number)


@pytest.mark.slow
def test_an_end_while_it_starts_is_quiet(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "gans", "ui", "--port", str(free_port())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        us = psutil.Process(process.pid)
        while not us.children(recursive=True):
            time.sleep(0.05)
        everybody = [us, *us.children(recursive=True)]
        process.send_signal(signal.SIGINT)
        process.wait(LONG)
        assert gone(everybody[1:], LONG)
        assert (process.returncode, process.stdout.read(), process.stderr.read()) == (0, "", "")
