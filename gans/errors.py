"""The one exception for bad input, the one place that turns it into an exit code, and texts without secrets.

Secrets are passed in the environment (`MLFLOW_TRACKING_URI`, `GANS_STORAGE`), never in a process's arguments,
which all users of the machine can read. What is printed, logged or tagged goes through `shown` or `masked`.
"""

import difflib
import errno
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
STARS = "***"
# user:password@, up to the last @, which a password may hold itself; over the web a user alone may be a token
LOGIN = re.compile(r"(?<=://)(?:(?P<user>[^\s/?#@:]*:)\S*|(?:(?<=http://)|(?<=https://))[^\s/?#@:]+)@")
# of a query or a connection string: sslpassword, api_key, access_token, X-Amz-Signature, passfile, ...
SECRET = re.compile(
    r"(?P<key>\b[\w.%-]*(?:passw|passphrase|passfile|pwd|secret|token|key|credential|signature|auth|sig)[\w.%-]*)=(?!\*\*\*)"
    r"(?P<value>[^&;#\s'\"]+)",
    re.IGNORECASE,
)
URL = re.compile(r"[A-Za-z][\w+.-]*://[^\s'\"<>]+")


class InputError(ValueError):
    """Bad input: a config key, flag, file or environment. The message is one line: what, and the remedy."""


class Stopped(Exception):
    """Raised by an observer of a training to end it early: the run ends as `status`."""

    status: str


def unknown(kind: str, name: object, known: Iterable[str], where: str = "") -> InputError:
    """The error for a name that is not among `known`; it offers the nearest one."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
    return InputError(f"unknown {kind} '{name}'{where}; {hint}")


def shown(url: str) -> str:
    """An address without its secrets: no password, and no value of a query's key that may hold one."""
    bare = LOGIN.sub(lambda found: f"{found['user'] or ''}{STARS}@", url)
    return SECRET.sub(rf"\g<key>={STARS}", bare)


def masked(text: str) -> str:
    """A text, an error message for one, whose addresses are as `shown` gives them."""
    return URL.sub(lambda found: shown(found[0]), text)


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, without passwords; its type if it has no message."""
    return masked(next(iter(str(error).strip().splitlines()), type(error).__name__))


def brief(error: BaseException) -> str:
    """An exception's type and the first line of its message."""
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"


def exit_code(command: Callable[[], int]) -> int:
    """Run `command`; bad input becomes one line on stderr and exit code 2, Ctrl-C becomes 130."""
    take_any_text()
    try:
        return command()
    except InputError as error:
        message = str(error)
    except BrokenPipeError:  # the reader of the output, `head` for one, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # drop the rest of the output
        return 128 + signal.SIGPIPE
    except NotImplementedError as error:
        if "MPS" not in str(error):
            raise
        message = f"{first_line(error)}; this needs another device: --device cpu"
    except OSError as error:  # no permission, no space left, ...
        remedy = "; free some space; the same command then resumes" if error.errno in FULL else ""
        message = f"{error.filename or 'file'}: {error.strerror or error}{remedy}"
    except KeyboardInterrupt:
        print("interrupted: finished cells are kept; the same command resumes", file=sys.stderr)
        return 130
    print(f"error: {masked(printable(message.replace(chr(10), ' ')))}", file=sys.stderr)
    return 2


def printable(text: str) -> str:
    """A text with escaped control characters, which a terminal does not execute."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def take_any_text() -> None:
    """Write characters that stdout or stderr cannot encode as \\u2026, so that output never fails."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
