"""Where a trained generator lies: a file, a run's folder, or a run in the tracking store."""

from __future__ import annotations

import re
from pathlib import Path

from gans.errors import InputError
from gans.schema import GENERATOR, NETWORKS

KINDS = f"a {GENERATOR}, a run's folder, or an MLflow run id (its first characters will do)"
IN_RUN = f"{NETWORKS}/{GENERATOR}"


def find_generator(name: str) -> Path:
    """The file that holds the generator of this name.

    Args:
        name: a file; a folder that holds one, as training leaves it or as MLflow keeps it; or an MLflow run id, of
            which the first characters are enough if no other run begins with them.

    Raises:
        InputError: nothing, or more than one run, of this name; or a run that kept no generator.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return _in_folder(path)
    if path.exists():
        return path
    if is_run(name):
        return _in_store(name)
    raise InputError(f"no file, folder or run '{name}'; name {KINDS}")


def is_run(name: str) -> bool:
    """Whether the name can only be that of a run in the tracking store: no file or folder has it."""
    return bool(re.fullmatch("[0-9a-f]{4,32}", name)) and not Path(name).exists()


def _in_folder(folder: Path) -> Path:
    for place in (GENERATOR, IN_RUN, f"artifacts/{IN_RUN}"):
        if (folder / place).is_file():
            return folder / place
    raise InputError(f"no {GENERATOR} in {folder}; name the folder of one run, runs/train/... for one")


def _in_store(run_id: str) -> Path:
    from gans.runs import artifacts
    from gans.runs.tracking import Store, shown, tracking_uri  # seconds to import, wanted for run ids only

    uri = tracking_uri()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise InputError(
            f"no tracking store {shown(uri)} to find run '{run_id}' in; set MLFLOW_TRACKING_URI, or name {KINDS}"
        )
    store = Store(uri)
    runs = store.starting_with(run_id)
    if not runs:
        raise InputError(f"no run in {shown(store.uri)} has an id that begins with '{run_id}'; name {KINDS}")
    if len(runs) > 1:
        several = ", ".join(f"{run.info.run_id[:12]} ({run.info.run_name})" for run in runs[:3])
        raise InputError(f"{len(runs)} runs begin with '{run_id}': {several}; give more characters")
    path = store.artifact(runs[0], IN_RUN)
    if path is None and (lost := store.lost(runs[0])):
        raise artifacts.missing(f"{runs[0].info.run_id[:12]} ({runs[0].info.run_name})", lost)
    if path is None:
        raise InputError(
            f"run {runs[0].info.run_id[:12]} ({runs[0].info.run_name}) kept no generator; name a finished cell"
        )
    return path
