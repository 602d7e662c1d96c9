"""Runs a command and takes it along: `python -m gans.commands.guard COMMAND ...`.

The command and all that it starts are a process group of their own. The group ends with the command, and when
whoever started this process closes the pipe on its standard input or dies, even by a SIGKILL, of which nobody else
would hear. What the command prints goes to standard error; standard output has one line, the number of its group.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

GRACE = 1.0  # seconds that the command has to end by itself; a viewer has nothing to finish


def main() -> int:
    """Returns the command's exit code."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # they are for whoever holds the pipe; SIG_IGN would be inherited
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr, process_group=0)
    print(process.pid, flush=True)
    threading.Thread(target=end_with_the_pipe, args=(process,), daemon=True).start()
    code = process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what it has left behind
    return code


def end_with_the_pipe(process: subprocess.Popen[bytes]) -> None:
    """End the command, politely first, when nobody holds the other end of the pipe."""
    while os.read(0, 4096):  # not by sys.stdin, whose lock this thread would hold when the interpreter ends
        pass
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
