"""Where a trained generator is: a file, a run's folder, a run in the tracking store, or a zoo."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from gans import zoo
from gans.errors import InputError, shown
from gans.files import expand, tracking_uri
from gans.runs import databases
from gans.runs.events import RunFolder
from gans.schema import GENERATOR, NETWORKS

if TYPE_CHECKING:
    from gans.runs.store import MlflowRun, Store

RUN = "a run's folder, or an MLflow run id (its first characters will do)"
KINDS = f"a {GENERATOR}, {RUN}, or zoo:NAME"
IN_RUN = f"{NETWORKS}/{GENERATOR}"


def find_generator(name: str) -> Path:
    """The file that holds a generator: one of `KINDS`, whose folder may be as training or as MLflow keeps it.

    An InputError for no or several runs of this name, or a run that kept no generator.
    """
    if zoo.named(name):
        return zoo.find(name)
    path = expand(name)
    if path.is_dir():
        for place in (GENERATOR, IN_RUN, f"artifacts/{IN_RUN}"):
            if (path / place).is_file():
                return path / place
        raise InputError(f"no {GENERATOR} in {path}; name the folder of one run, such as runs/train/...")
    if path.exists():
        return path
    if is_run(name):
        return in_store(name)[-1]
    raise InputError(f"no file, folder or run '{name}'; name {KINDS}")


def is_run(name: str) -> bool:
    """Whether the name can only be that of a run in the tracking store: no file or folder has it."""
    return bool(re.fullmatch("[0-9a-f]{4,32}", name)) and not Path(name).exists()


def in_store(name: str) -> tuple[Store, MlflowRun, Path]:
    """The tracking store, the run there of this folder, or whose id begins like this, and the generator it kept.

    An InputError if there is no store, no run or more than one, or no generator.
    """
    uri, folder = tracking_uri(), RunFolder.of(expand(name))
    where = f"{shown(uri)}; set MLFLOW_TRACKING_URI, or name {RUN}"
    if folder is None and not is_run(name):
        raise InputError(f"'{name}' is not a run; name {RUN}")
    if folder is None and databases.missing(uri):
        raise InputError(f"no run '{name}': there is no tracking store {where}")
    from gans.runs.export import sync
    from gans.runs.store import Store, is_deleted  # seconds to import, wanted for run ids only

    store = Store(uri)
    if folder:
        exporter = sync(folder.path, store)
        if exporter.why:
            raise InputError(f"run {folder.path} cannot be exported to {shown(uri)}: {exporter.why}")
        runs = [run for run in store.named(folder.experiment, folder.key) if not is_deleted(run)][:1]
    else:
        experiments = [found.experiment_id for found in store.client.search_experiments()]
        query = f"run_id LIKE '{name}%'"  # hexadecimal only
        runs = store.client.search_runs(experiments, filter_string=query)
    if not runs:
        raise InputError(f"no run '{name}' in {where}")
    names = [f"{run.info.run_id[:12]} ({run.info.run_name})" for run in runs]
    if len(runs) > 1:
        several = ", ".join(names[:3])
        raise InputError(f"{len(runs)} runs begin with '{name}': {several}; give more characters")
    path = store.artifact(runs[0], IN_RUN)
    if path is None:
        raise InputError(
            f"run {names[0]} has no {IN_RUN} in {shown(runs[0].info.artifact_uri)}; name a finished cell, or in "
            "place of a store that has moved fill a new one: MLFLOW_TRACKING_URI=sqlite:///new.db gans sync"
        )
    return store, runs[0], path
