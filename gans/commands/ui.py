"""`gans ui`: MLflow's server over the store that training writes to."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, Any

from gans.commands import options
from gans.commands.options import Option
from gans.errors import InputError


@dataclass(frozen=True)
class Ui:
    """Open the MLflow UI on this machine."""

    port: Annotated[int, Option("TCP port on localhost")] = 5000


def add(commands: Any) -> None:
    """Add the command to the parser."""
    options.add(commands, "ui", Ui, run)


def run(asked: Ui) -> int:
    """Serve until Ctrl-C; returns the server's exit code."""
    from gans.runs.tracking import Store, shown

    store = Store()
    if store.uri.startswith(("http://", "https://")):
        raise InputError(f"MLFLOW_TRACKING_URI is a server already; open {shown(store.uri)} in a browser")
    address = f"http://127.0.0.1:{asked.port}"
    print(f"MLflow UI of {shown(store.uri)}: {address} (Ctrl-C ends it)")
    for name, experiment_id, view in store.views():
        print(f"{name}, {view.kind}s by {view.metric}")
        print(f"  table   {address}{view.link(experiment_id)}")
        print(f"  charts  {address}{view.link(experiment_id, charts=True)}")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri, "--host", "127.0.0.1"]
    return subprocess.run([*command, "--port", str(asked.port)], check=False).returncode
