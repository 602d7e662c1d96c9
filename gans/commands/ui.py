"""`gans ui`: MLflow's server over the store that training writes to."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Annotated

from gans.commands.options import flat, option
from gans.errors import InputError
from gans.runs import databases
from gans.urls import shown, tracking_uri

HOST = "127.0.0.1"
HIGHEST = 65_535
STARTING = 120.0  # seconds that the server has to answer
ENDING = 5.0  # seconds until what is left of it is killed
LOOK = 0.2  # seconds between looks whether it answers
ENDED_BY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# a view needs neither the processes that judge traces and run jobs nor reports of usage
VIEW = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


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
    try:
        with ended_by_signals(), tempfile.TemporaryFile() as said:
            new = databases.missing(uri)
            if new:
                make_store(said)
            with Server.started(options.port, uri, said) as server:
                server.wait_until_it_answers()
                print(f"MLflow UI of {shown(uri)}: {server.address} (Ctrl-C ends it)", flush=True)
                if not new:
                    show_links(server.address, said)
                return server.process.wait()
    except Ended as end:
        return 0 if end.number == signal.SIGINT else 128 + end.number


def show_links(address: str, said: IO[bytes]) -> None:
    """Print links to what matters. A process of its own finds them: what that imports would stay in ours.

    They are an extra: what goes wrong with them is kept from the screen, and the server goes on.
    """
    words = [sys.executable, "-c", "import sys; from gans.commands.ui import show_views; show_views(sys.argv[1])"]
    subprocess.run([*words, address], stdin=subprocess.DEVNULL, stderr=said, start_new_session=True, check=False)


def show_views(address: str) -> None:
    """Print links to the runs of every experiment, ordered by score."""
    from gans.runs.store import Store  # seconds to import, which the server's address does not wait for

    for name, what, link in Store().links():
        print(f"{name}, {what}\n  {address}{link}", flush=True)


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


class Ended(BaseException):
    """A signal asks this process to end."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within, a signal that asks for an end raises `Ended`; those that come after it are not heard."""

    def end(number: int, _: object) -> None:
        for each in ENDED_BY:
            signal.signal(each, signal.SIG_IGN)
        raise Ended(number)

    before = {number: signal.signal(number, end) for number in ENDED_BY}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def guarded(words: list[str], said: IO[bytes], variables: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs a command, which ends with this process, however this one ends.

    Args:
        words: the command; everybody can read them.
        said: a file for what it prints.
        variables: of its environment, beside this process's.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "gans.commands.guard", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        env={**os.environ, **variables},
        start_new_session=True,  # a Ctrl-C is this process's to hear
    )
    assert process.stdin
    assert process.stdout
    group = 0
    try:
        group = int(process.stdout.readline() or 0)
        yield process
    finally:
        process.stdin.close()  # which the guard hears
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDING)
        process.kill()
        process.wait()
        if group:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def last_words(said: IO[bytes]) -> str:
    """The last error that a command printed, else the last line."""
    said.seek(0)
    lines = [line.strip() for line in said.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"([\w.]+(Error|Exception)|error): ", line)]
    return (errors or lines or ["it says nothing"])[-1]


def make_store(said: IO[bytes]) -> None:
    """Make a new store in a process of its own: what that imports would stay in this one's memory.

    Raises:
        InputError: it cannot be made.
    """
    words = [sys.executable, "-c", "from gans.runs.store import Store; Store()"]
    with guarded(words, said, {}) as process:
        if process.wait():
            raise InputError(f"cannot make a tracking store: {last_words(said)}")


@dataclass(frozen=True)
class Server:
    """MLflow's server, which ends with this process.

    Attributes:
        process: the guard that runs it.
        said: what it prints.
    """

    port: int
    process: subprocess.Popen[bytes]
    said: IO[bytes]

    @classmethod
    @contextmanager
    def started(cls, port: int, uri: str, said: IO[bytes]) -> Iterator[Server]:
        """A server that is starting; in the end nothing of it is left."""
        words = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
        variables = {**VIEW, "MLFLOW_BACKEND_STORE_URI": uri}  # it may hold a password
        with guarded([*words, "--uvicorn-opts", "--log-level warning"], said, variables) as process:
            yield cls(port, process, said)

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"

    def wait_until_it_answers(self) -> None:
        """Returns when a browser would be served.

        Raises:
            InputError: the server ended, or takes too long.
        """
        until = time.monotonic() + STARTING
        while not self.answers():
            if self.process.poll() is not None:
                raise InputError(f"MLflow's server did not start: {last_words(self.said)}")
            if time.monotonic() > until:
                raise InputError(f"MLflow's server does not answer after {STARTING:g} s: {last_words(self.said)}")
            time.sleep(LOOK)

    def answers(self) -> bool:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(f"{self.address}/health", timeout=2):
                return True
        except OSError:
            return False
