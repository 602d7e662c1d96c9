"""`gans ui`: MLflow's server over the store that training writes to."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Annotated, NoReturn

from gans.commands.options import flat, option
from gans.errors import InputError
from gans.runs import databases
from gans.urls import shown, tracking_uri

HOST = "127.0.0.1"
HIGHEST = 65_535
STARTING, ENDING = 120.0, 5.0  # seconds that the server has to answer, and to end
LOOK = 0.2  # seconds between looks whether it answers
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1  # of Linux
# a view needs neither the processes that judge traces and run jobs nor reports of usage
VIEW = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
# both import seconds' worth, which would stay in this process's memory
MAKE_STORE = "from gans.runs.store import Store; Store()"
SHOW_LINKS = "import sys; from gans.commands.ui import show_links; show_links(sys.argv[1])"


@flat
@dataclass(frozen=True)
class Ui:
    port: Annotated[int, option("TCP port on localhost", least=1, most=HIGHEST)] = 5000


def ui(options: Ui = Ui()) -> int:
    """Serve until Ctrl-C, which is its proper end; returns the exit code."""
    uri = tracking_uri()
    if uri.startswith(("http://", "https://")):
        raise InputError(f"MLFLOW_TRACKING_URI is a server already; open {shown(uri)} in a browser")
    databases.check_tracking(uri)
    check_port(options.port)
    for number in SIGNALS:
        signal.signal(number, end)
    with tempfile.TemporaryFile() as log:
        new = databases.missing(uri)
        if new and python(log, "-c", MAKE_STORE).wait():
            raise InputError(f"cannot make a tracking store: {last_error(log)}")
        words = ["--host", HOST, "--port", str(options.port), "--workers", "1"]
        os.environ.update(VIEW, MLFLOW_BACKEND_STORE_URI=uri)  # no argument: it may hold a password
        server = python(log, "-m", "mlflow", "server", *words, "--uvicorn-opts", "--log-level warning")
        try:
            wait_until_it_answers(server, options.port, log)
            address = f"http://{HOST}:{options.port}"
            print(f"MLflow UI of {shown(uri)}: {address} (Ctrl-C ends it)", flush=True)
            if not new:
                python(log, "-c", SHOW_LINKS, address, prints=True)
            return server.wait()
        finally:
            stop(server)


def end(number: int, _: object) -> NoReturn:
    """Handles a signal: this process ends, and with it its server, whatever other signals come."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(0 if number == signal.SIGINT else 128 + number)


def check_port(port: int) -> None:
    """Refuse a port that the server could not listen at.

    Raises:
        InputError: in use, or not allowed.
    """
    other = f"take another, --port {port + 1 if port < HIGHEST else 5000} for one"
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            attempt.bind((HOST, port))
        except PermissionError:
            raise InputError(f"--port {port} is the system's own; {other}") from None
        except OSError:
            raise InputError(f"--port {port} is in use by another program; {other}") from None


def python(log: IO[bytes], *words: str, prints: bool = False) -> subprocess.Popen[bytes]:
    """Python with these arguments, in a group of its own, which gets a SIGTERM when this process is killed."""
    end_with_us = getattr(ctypes.CDLL(None), "prctl", lambda *_: None)
    return subprocess.Popen(
        [sys.executable, *words],
        stdin=subprocess.DEVNULL,
        stdout=None if prints else log,
        stderr=log,
        process_group=0,  # a Ctrl-C is for this process alone
        preexec_fn=lambda: end_with_us(PR_SET_PDEATHSIG, signal.SIGTERM),
    )


def wait_until_it_answers(server: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    """Return when the server listens.

    Raises:
        InputError: it ended, or takes too long.
    """
    until = time.monotonic() + STARTING
    while server.poll() is None and time.monotonic() < until:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=2):
            return
        time.sleep(LOOK)
    failure = "did not start" if server.returncode is not None else f"does not answer after {STARTING:g} s"
    raise InputError(f"MLflow's server {failure}: {last_error(log)}")


def last_error(log: IO[bytes]) -> str:
    """The last error that a process printed, else the last line."""
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"([\w.]+(Error|Exception)|error): ", line)]
    return (errors or lines or ["no message"])[-1]


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and all that it started."""
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(ENDING)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)


def show_links(address: str) -> None:
    """Print links to the runs of every experiment, the newest first: as a table by score, and as charts."""
    from gans.runs.store import Store  # seconds to import, which the server's address does not wait for

    for name, what, link in Store().links():
        table = link.removesuffix("&compareRunsMode=CHART")
        print(f"{name}, {what}\n  table   {address}{table}\n  charts  {address}{link}", flush=True)
