"""`gans sync | register`: runs that the tracking store lacks, and a run's generator as a model of its registry."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from gans.commands.options import option
from gans.errors import InputError
from gans.files import DEFAULT_URI

if TYPE_CHECKING:
    from gans.runs.publish import Registered


def sync(folder: Annotated[Path, option("folder of runs, of one matrix, or of one run")] = Path("runs")) -> int:
    """Returns 0 if the store has all of it now."""
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; name the folder of your runs, such as `runs`")
    from gans.runs.export import sync
    from gans.runs.run import close_stale
    from gans.runs.store import Store, shown

    store = Store()
    close_stale(folder)
    exporter = sync(folder, store)
    exporter.say()
    if not (exporter.exported or exporter.left):
        print(f"{shown(store.uri)} has all runs of {folder}")
    return int(bool(exporter.left))


def model_name(name: str) -> None:
    """Refuse a name that the registry, its addresses or a shell would not take."""
    if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}", name):
        raise InputError(
            f"--name '{name}' is not a valid model name; take up to 200 letters, digits, '-', '_' and '.'"
        )


def register(
    run: Annotated[str, option("folder of a finished cell's run, or its MLflow run id or how that begins")],
    *,
    name: Annotated[
        str, option("name of the registered model; default: model and data set, as dcgan-digits", check=model_name)
    ] = "",
) -> int:
    from gans.runs import publish

    print("\n".join(lines(publish.register(run, name))))
    return 0


def lines(made: Registered) -> list[str]:
    """What was registered, and how it is used from a shell and from Python."""
    uri = f"models:/{made.name}/{made.version}"
    unset = not os.environ.get("MLFLOW_TRACKING_URI")  # else it holds for MLflow, too, and may hold a password
    setting = f"MLFLOW_TRACKING_URI={shlex.quote(DEFAULT_URI)} " if unset else ""
    return [
        f"{made.name} version {made.version}: {made.about}{'' if made.new else ', as before'}",
        "",
        "From a shell, `serve` in place of `predict` to answer on a port:",
        '  echo \'{"dataframe_records": [{"seed": 0, "count": 4}]}\' |',
        f"    {setting}mlflow models predict -m {uri} \\",
        "    --env-manager local -t json -o images.json",
        "",
        "From Python, uint8 images (n, channels, side, side):",
        *([f'  mlflow.set_tracking_uri("{DEFAULT_URI}")'] if unset else []),
        f'  model = mlflow.pyfunc.load_model("{uri}")',
        '  images = model.predict([{"seed": 0, "count": 4}])  # the first of `gans sample --seed 0`',
        f'  images = model.predict([{{"latent": row}} for row in z.tolist()])  # z: (n, {made.latent})',
    ]
