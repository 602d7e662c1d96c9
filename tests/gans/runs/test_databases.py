"""Stores are looked at before they are used: what they are, whether they answer, who holds them."""

import socket
import sqlite3
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from gans.errors import InputError
from gans.runs import databases
from gans.runs.databases import Away, check
from gans.runs.store import Store


@contextmanager
def serving(code: int):
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(code)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://me:hush@127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_that_answers_is_left_to_mlflow_and_one_that_is_broken_is_not(monkeypatch):
    monkeypatch.setattr(databases, "PAUSE", 0.0)
    with serving(401) as url, pytest.raises(InputError, match=r"code 401.*set MLFLOW_TRACKING_USERNAME.*_TOKEN"):
        Store(url)
    with serving(503) as url, pytest.raises(Away, match=r"me:\*\*\*@.*its server answers 503"):
        check(url)


@pytest.mark.parametrize("scheme", ["http", "postgresql", "mysql+pymysql"])
def test_a_server_that_is_silent_is_given_up_soon(monkeypatch, scheme):
    monkeypatch.setattr(databases, "ANSWER", 0.5)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"{scheme}://me:hush@127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(InputError, match=r"me:\*\*\*@.*(no answer within 0.5 s|uv pip install)") as error:
            check(url)
    assert "hush" not in str(error.value)


def test_a_file_that_another_process_holds_is_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("CREATE TABLE experiments (id INTEGER)")
        other.execute("BEGIN EXCLUSIVE")
        threading.Timer(0.5, other.rollback).start()  # it lets go while it is waited for
        check(f"sqlite:///{path}")
        other.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr(databases, "PATIENCE", 0.1)
        with pytest.raises(InputError, match="database is locked"):
            check(f"sqlite:///{path}")
        other.rollback()
