"""Addresses of stores and databases without their secrets, for output.

Secrets are passed in the environment (`MLFLOW_TRACKING_URI`, `GANS_STORAGE`), never in a process's arguments,
which all users of the machine can read. What is printed, logged or tagged goes through `shown` or `masked`.
"""

from __future__ import annotations

import os
import re

DEFAULT_URI = "sqlite:///mlflow.db"
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


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else a SQLite file in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def shown(url: str) -> str:
    """An address without its secrets: no password, and no value of a query's key that may hold one."""
    bare = LOGIN.sub(lambda found: f"{found['user'] or ''}{STARS}@", url)
    return SECRET.sub(rf"\g<key>={STARS}", bare)


def masked(text: str) -> str:
    """A text, an error message for one, whose addresses are as `shown` gives them."""
    return URL.sub(lambda found: shown(found[0]), text)
