"""A home folder for users without one.

In a container a process often runs as a user without an entry in /etc/passwd and without HOME. MLflow, for one,
cannot even be imported then.
"""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path


def take_one() -> None:
    """Let HOME be a folder among temporary files, and USER a name, where there are none."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(_temporary())
    try:
        getpass.getuser()
    except (KeyError, OSError):  # the latter from Python 3.13 on
        os.environ["USER"] = f"user-{os.getuid()}"


def _temporary() -> Path:
    """The same for all processes of the user, unless another user was faster to take it."""
    home = Path(tempfile.gettempdir()) / f"gans-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    return home if home.stat().st_uid == os.getuid() else Path(tempfile.mkdtemp(prefix="gans-"))
