"""The one exception for bad input, and the one place that turns it into an exit code."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line too."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; {self.prog} --help lists what it takes")


class InputError(ValueError):
    """Bad input: a config key, flag, file or environment. The message is one line: what, and the remedy."""


class Stopped(Exception):
    """Whoever is told of a training ends it early; raised from there, it ends the run as `status`."""

    status: str


def unknown(kind: str, name: object, known: Iterable[str], where: str = "") -> InputError:
    """The error for a name that is not among `known`; it offers the nearest one. In a file it may be no string."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
    return InputError(f"unknown {kind} '{name}'{where}; {hint}")


def first_line(error: BaseException) -> str:
    """What an exception says, in one line; its type if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def brief(error: BaseException) -> str:
    """An exception's type and what it says, in one line."""
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"


def exit_code(command: Callable[[], int]) -> int:
    """Run `command`; bad input becomes one line on stderr and exit code 2, Ctrl-C becomes 130."""
    try:
        return command()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # no permission, no space left, ...
        print(f"error: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: finished cells are kept; the same command goes on from here", file=sys.stderr)
        return 130
