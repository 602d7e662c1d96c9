"""A whole matrix as `make bench` makes it, in a folder that is gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch

from gans import places, schema
from gans.data.datasets import data_root

PARTS = [schema.TRAINING, schema.EVALUATION, schema.OVERHEAD]  # of a cell's seconds


def bench(matrix: str, flags: Sequence[str], device: torch.device) -> tuple[float, pd.DataFrame]:
    """Run a matrix from nothing but the data.

    Returns:
        Seconds from the command to its end, and its cells as the report's `cells.csv` has them.

    Raises:
        RuntimeError: it ended without a report.
    """
    with TemporaryDirectory() as folder:
        own = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", places.VARIABLE: ""}
        since = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "gans", "bench", matrix, "--device", str(device), *flags],
            cwd=folder,
            env={**os.environ, **own, "GANS_DATA": str(data_root().absolute())},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - since
        tables = list(Path(folder).glob("outputs/reports/*/tables/cells.csv"))
        if not tables:
            raise RuntimeError(f"no report; exit code {done.returncode}: {last_line(done.stderr)}")
        return seconds, pd.read_csv(tables[0])


def last_line(text: str) -> str:
    """The line of a program's errors that says what is wrong."""
    return next(reversed(text.strip().splitlines()), "no message")
