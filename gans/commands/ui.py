"""`gans ui`: MLflow's server over the store that training writes to."""

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
from itertools import islice
from typing import IO, Annotated

from gans.commands.options import option
from gans.errors import InputError, first_line, shown
from gans.files import tracking_uri
from gans.runs import databases

HOST = "127.0.0.1"
STARTING = 120.0  # seconds that the server has to answer
ENDING = 5.0  # and to end
EXPERIMENTS = "/#/experiments"  # its first page is about language models
PR_SET_PDEATHSIG = 1  # of Linux
# a view needs neither the processes that judge traces and run jobs nor reports of usage
VIEW = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def ui(
    port: Annotated[int, option("TCP port on localhost", least=1, most=65_535)] = 5000,
    all: Annotated[bool, option("print links to the runs of every experiment, not of the newest only")] = False,
) -> int:
    """Serve until Ctrl-C, which is its proper end; returns the exit code."""
    uri = tracking_uri()
    if uri.startswith(("http://", "https://")):
        raise InputError(f"MLFLOW_TRACKING_URI is a server already; open {shown(uri)} in a browser")
    databases.check(uri)
    check_port(port)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryFile() as log:
        server = start(uri, port, log)
        try:
            # seconds, while the server starts: a Ctrl-C within an import may count as one that nobody caught
            import gans.runs.store  # noqa: F401

            wait_until_it_answers(server, port, log)
            address = f"http://{HOST}:{port}"
            print(f"MLflow UI of {shown(uri)}: {address}{EXPERIMENTS} (Ctrl-C ends it)", flush=True)
            try:
                show_links(address, all)
            except Exception as error:  # the page has them, too
                print(f"no links to the runs: {first_line(error)}", flush=True)
            return server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            end(server)


def check_port(port: int) -> None:
    """Refuse a port at which another program listens."""
    with socket.socket() as attempt:
        if attempt.connect_ex((HOST, port)) == 0:
            raise InputError(f"--port {port} is in use by another program; take another, such as 5001")


def start(uri: str, port: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """MLflow's server, which gets a SIGTERM when this process ends, however it does."""
    words = ["--host", HOST, "--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    end_with_us = getattr(ctypes.CDLL(None), "prctl", lambda *_: None)
    return subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *words],
        env={**os.environ, **VIEW, "MLFLOW_BACKEND_STORE_URI": uri},  # no argument: it may hold a password
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        process_group=0,
        preexec_fn=lambda: end_with_us(PR_SET_PDEATHSIG, signal.SIGTERM),
    )


def end(server: subprocess.Popen[bytes]) -> None:
    """End the server with its workers; what does not end in time is killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(server.pid, number)
            server.wait(ENDING)


def wait_until_it_answers(server: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    """Return when the server listens; an InputError if it ends, or takes too long."""
    until = time.monotonic() + STARTING
    while server.poll() is None and time.monotonic() < until:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=2):
            return
        time.sleep(0.2)
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"([\w.]+(Error|Exception)|error): ", line)]
    raise InputError(f"MLflow's server does not answer: {(errors or lines or ['no message'])[-1]}")


def show_links(address: str, all: bool = False) -> None:
    """Print links to the runs of the newest experiment or of every one: as a table by score, and as charts."""
    from gans.runs.store import Store

    for name, what, link in islice(Store().links(), None if all else 1):
        table = link.removesuffix("&compareRunsMode=CHART")
        print(f"{name}, {what}\n  table   {address}{table}\n  charts  {address}{link}", flush=True)
