"""Generative adversarial networks: the networks, their training, scoring and tracking."""

import getpass
import os
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gans.commands.train import Trained


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


def train(model: str, dataset: str = "digits", **settings: Any) -> "Trained":
    """Train, score and track one model, as `gans train` does.

    Args:
        model: a recipe, as `gans config` lists them.
        dataset: a data set, or folder:PATH.
        settings: options of `gans train` (kimg=5, seed=1, device="cpu", runs=...), and settings that
            `gans config MODEL` lists, in tables (networks={"width": 8}).

    Raises:
        InputError: an unknown name, or a value out of range.
        gans.commands.train.Failed: an exception ended the training.
    """
    from gans.commands.train import Train, run

    options = {field.name for field in fields(Train)} & settings.keys()
    further = {name: value for name, value in settings.items() if name not in options}
    return run(Train(model, dataset, **{name: settings[name] for name in options}), further)
