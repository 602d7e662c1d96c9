"""Addresses of stores and databases as they may be printed: without their secrets.

A secret travels in the environment (`MLFLOW_TRACKING_URI`, `GANS_STORAGE`), never among a process's arguments,
which everybody on the machine can read. Whatever is printed, logged or tagged goes through `shown` or `masked`.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

DEFAULT_URI = "sqlite:///mlflow.db"
STARS = "***"
SHORTEST = len("--xyz")  # abbreviation of an option
# user:password@, up to the last @, which a password may hold itself; over the web a user alone may be a token
LOGIN = re.compile(r"(?<=://)(?:(?P<user>[^\s/?#@:]*:)\S*|(?:(?<=http://)|(?<=https://))[^\s/?#@:]+)@")
# of a query or a connection string: sslpassword, api_key, access_token, X-Amz-Signature, passfile, ...
SECRET = re.compile(
    r"(?P<key>\b[\w.%-]*(?:passw|passphrase|passfile|pwd|secret|token|key|credential|signature|auth|sig)[\w.%-]*)=(?!\*\*\*)"
    r"(?P<value>[^&;#\s'\"]+)",
    re.IGNORECASE,
)
URL = re.compile(r"[A-Za-z][\w+.-]*://[^\s'\"<>]+")


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else a SQLite file in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def free_port() -> int:
    """A port of 127.0.0.1 that no server listens at; another program may take it before you do."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def shown(url: str) -> str:
    """An address without its secrets: no password, and no value of a query's key that may hold one."""
    bare = LOGIN.sub(lambda found: f"{found['user'] or ''}{STARS}@", url)
    return SECRET.sub(rf"\g<key>={STARS}", bare)


def masked(text: str) -> str:
    """A text, an error message for one, whose addresses are as `shown` gives them."""
    return URL.sub(lambda found: shown(found[0]), text)


def secret(url: str) -> bool:
    """Whether an address holds something that `shown` hides."""
    return shown(url) != url


def go_on_without_secrets(module: str, variables: Mapping[str, str]) -> None:
    """Become `python -m MODULE` again, with the secrets of the command line in the environment.

    Arguments of a process are visible until it becomes another. Nothing happens if no option holds a secret.

    Args:
        module: the program.
        variables: of the environment, for each option that may hold a secret: `{"--storage": "GANS_STORAGE"}`.
    """
    words, moved = without_secrets(sys.argv[1:], variables)
    if moved:
        os.environ.update(moved)
        _become([sys.executable, "-m", module, *words])


def _become(words: list[str]) -> NoReturn:
    os.execv(sys.executable, words)


def without_secrets(words: Sequence[str], variables: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """A command line without the options that hold a secret, and these as variables of the environment."""
    left: list[str] = []
    moved: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        option = next((known for known in variables if len(flag) >= SHORTEST and known.startswith(flag)), None)
        if option is None:
            left.append(word)
            continue
        value = value if equals else next(rest, "")
        if secret(value):
            moved[variables[option]] = value
        else:
            left += [word] if equals else [word, value]
    return left, moved
