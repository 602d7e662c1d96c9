"""Contenders in processes of their own, so that the settings and the memory of one do not reach another."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks.speed.rounds import Contender, Steps, Turn, here

Make = Callable[[], Mapping[str, Steps]]
GRACE = 1.0  # seconds for a contender's process to end by itself; a data loader may take five for each worker


class Stage:
    """Contenders that share a process; they take steps there when they are told to.

    Args:
        make: a picklable function that builds them, by name, in that process.
        device: what they compute on.
    """

    def __init__(self, make: Make, device: torch.device) -> None:
        context = multiprocessing.get_context("forkserver")
        self.pipe, theirs = context.Pipe()
        # no daemon: a data loader has workers of its own
        self.process = context.Process(target=_serve, args=(theirs, make, device))
        self.process.start()
        theirs.close()
        self.names: list[str] = self._answer()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe.close()
        self.process.join(GRACE)
        self.process.kill()
        self.process.join()

    def contenders(self) -> dict[str, Contender]:
        return {name: partial(self.turn, name) for name in self.names}

    def turn(self, name: str, count: int) -> Turn:
        with suppress(OSError):  # it has ended: the answer says so
            self.pipe.send((name, count))
        return self._answer()

    def _answer(self) -> Any:
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            raise RuntimeError(f"a contender's process ended with code {self.process.exitcode}") from None


def _serve(pipe: Connection, make: Make, device: torch.device) -> None:
    """A stage's life: build the contenders, then take the steps that are asked for until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other end's to handle, which then closes
    contenders = {name: here(steps, device) for name, steps in make().items()}
    answer: Any = list(contenders)
    while True:
        try:
            pipe.send(answer)
            name, count = pipe.recv()
        except (EOFError, OSError):
            return
        answer = contenders[name](count)
