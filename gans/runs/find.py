"""Where a trained generator is: a file, a run's folder, a run in the tracking store, or a zoo."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from gans import zoo
from gans.errors import InputError
from gans.files import expand
from gans.runs import databases
from gans.schema import GENERATOR, NETWORKS
from gans.urls import shown, tracking_uri

if TYPE_CHECKING:
    from gans.runs.store import MlflowRun, Store

KINDS = f"a {GENERATOR}, a run's folder, an MLflow run id (its first characters will do), or zoo:NAME"
IN_RUN = f"{NETWORKS}/{GENERATOR}"


def find_generator(name: str) -> Path:
    """The file that holds the generator of this name.

    Args:
        name: a file; a folder that holds one, as training leaves it or as MLflow keeps it; or an MLflow run id, of
            which the first characters are enough if no other run begins with them; or `zoo:NAME`.

    Raises:
        InputError: nothing, or more than one run, of this name; or a run that kept no generator.
    """
    if zoo.named(name):
        return zoo.find(name)
    path = expand(name)
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
    store = store_of(run_id)
    return generator_of(run_of(run_id, store), store)


def store_of(run_id: str) -> Store:
    """The tracking store to find a run in; none is made.

    Raises:
        InputError: there is none, or it cannot be used.
    """
    uri = tracking_uri()
    if databases.missing(uri):
        raise InputError(
            f"no tracking store {shown(uri)} to find run '{run_id}' in; set MLFLOW_TRACKING_URI, or name {KINDS}"
        )
    from gans.runs.store import Store  # seconds to import, wanted for run ids only

    return Store(uri)


def generator_of(run: MlflowRun, store: Store) -> Path:
    """The file of the generator that a run kept.

    Raises:
        InputError: it kept none, or its artifacts are missing.
    """
    path = store.artifact(run, IN_RUN)
    if path is None and (lost := store.lost(run)):
        raise missing_artifacts(run, lost)
    if path is None:
        raise InputError(
            f"run {run.info.run_id[:12]} ({run.info.run_name}) kept no generator; name a finished cell"
        )
    return path


def run_of(run_id: str, store: Store) -> MlflowRun:
    """The one run whose id begins like this.

    Raises:
        InputError: there is none, or more than one.
    """
    runs = store.starting_with(run_id)
    if not runs:
        raise InputError(f"no run in {shown(store.uri)} has an id that begins with '{run_id}'; name {KINDS}")
    if len(runs) > 1:
        several = ", ".join(f"{run.info.run_id[:12]} ({run.info.run_name})" for run in runs[:3])
        raise InputError(f"{len(runs)} runs begin with '{run_id}': {several}; give more characters")
    return runs[0]


def missing_artifacts(run: MlflowRun, folder: Path) -> InputError:
    """What to say of a run whose artifacts are not where they should be."""
    return InputError(
        f"the artifacts of run {run.info.run_id[:12]} ({run.info.run_name}) are missing: no folder {folder}; "
        "in place of a store that has moved, fill a new one: MLFLOW_TRACKING_URI=sqlite:///new.db gans sync"
    )
