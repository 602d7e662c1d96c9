"""A working directory in which tests run commands as a user does."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from gans.runs.store import Store

ROOT = Path(__file__).parents[1]
LONG = 600  # seconds after which something hangs
PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}


class Desk:
    """A folder with a tracking store of its own; `variables` are added to the environment."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder, self.uri = folder, f"sqlite:///{folder}/mlflow.db"
        own = {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": self.uri}
        self.environment = {**os.environ, **own, **variables}

    @property
    def store(self) -> Store:
        return Store(self.environment["MLFLOW_TRACKING_URI"])

    def gans(self, *words: str, **how: Any) -> subprocess.Popen[str]:
        """Start a command; its output and errors come together, unless `how` it starts says otherwise."""
        return self.python("-m", "gans", *words, **how)

    def python(self, *words: str, **how: Any) -> subprocess.Popen[str]:
        """Start Python, likewise."""
        return subprocess.Popen(
            [sys.executable, *words],
            text=True,
            **{"cwd": self.folder, "env": self.environment, **PIPES, **how},
        )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and output of a command, once it has ended."""
    output, _ = process.communicate(timeout=LONG)
    return process.returncode, output
