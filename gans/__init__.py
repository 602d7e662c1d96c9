"""Generative adversarial networks: the networks, their training, scoring and tracking."""

import getpass
import os
import tempfile
from pathlib import Path


def find_home() -> None:
    """Let HOME be a folder among temporary files, and USER a name, where there are none.

    In a container a process often runs as a user without an entry in /etc/passwd and without HOME. MLflow cannot
    be imported then.
    """
    try:
        Path.home()
    except RuntimeError:
        home = Path(tempfile.gettempdir()) / f"gans-{os.getuid()}"
        home.mkdir(mode=0o700, exist_ok=True)
        if home.stat().st_uid != os.getuid():  # another user was faster to take it
            home = Path(tempfile.mkdtemp(prefix="gans-"))
        os.environ["HOME"] = str(home)
    try:
        getpass.getuser()
    except (KeyError, OSError):  # the latter from Python 3.13 on
        os.environ["USER"] = f"user-{os.getuid()}"


find_home()  # before any library looks for one
