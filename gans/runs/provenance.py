"""Which code ran: tags with commits, versions and hashes of files."""

from __future__ import annotations

import getpass
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gans import schema
from gans.config import PROTOCOL_VERSION, Resolved
from gans.data.folders import FOLDER
from gans.registry import DATASETS, LOSSES, MODELS, RULES, file_of

PACKAGES = ("torch", "torchvision", "torch-fidelity", "mlflow", "numpy", "scipy", "gans")
HERE = Path(__file__).parent
CHANGED = ("status", "--porcelain", "--untracked-files=no")
# generated reports are tracked files, but no code
OUR_CODE = ("--", ":/", ":(exclude,top)reports/results")


def provenance() -> dict[str, str]:
    """Tags that say which code of ours ran: commit, whether the tree was dirty, versions, protocol."""
    commit = git(HERE, "rev-parse", "HEAD")
    return {
        **source(commit),
        schema.COMMIT: commit or "unknown",
        schema.DIRTY: str(bool(git(HERE, *CHANGED, *OUR_CODE))).lower(),
        schema.PROTOCOL: str(PROTOCOL_VERSION),
        **{f"{schema.VERSION}{package}": installed_version(package) for package in PACKAGES},
    }


def source(commit: str) -> dict[str, str]:
    """Tags from which MLflow's UI fills its columns: user, program, commit."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    known = {schema.SOURCE_COMMIT: commit} if commit else {}
    return {schema.USER: user(), schema.SOURCE: name or "python", schema.SOURCE_TYPE: "LOCAL", **known}


def user() -> str:
    """Who runs this; `unknown` where the system has no name for them, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


def foreign(experiment: Resolved) -> dict[str, str]:
    """Tags that say which code from outside this repository ran: none for an experiment of our own parts.

    Of every model, data set, loss and update rule from elsewhere: the SHA-256 of its file; and, where a git
    repository holds that file, the commit, and whether the repository or the file differs from it.
    """
    named = (
        (MODELS, experiment.networks.name),
        (RULES, experiment.update.rule),
        (LOSSES, experiment.loss.name),
        (DATASETS, experiment.dataset),
    )
    found = {}
    for registry, name in named:
        # a folder's name may look like a module's: folder:photos
        if not name.startswith(FOLDER) and name in registry and (digest := registry.code(name)):
            found[f"{schema.CODE}{name}"] = digest
            path = file_of(registry.target(name))
            found |= {f"{schema.CODE}{name}.{key}": value for key, value in repository(path).items()}
    return found


def repository(path: Path | None) -> dict[str, str]:
    """`commit` and `dirty` of the git repository that holds a file; empty without one."""
    commit = path and git(path.parent, "rev-parse", "HEAD")
    if not (path and commit):
        return {}
    tracked = git(path.parent, "ls-files", "--", path.name)
    return {"commit": commit, "dirty": str(bool(git(path.parent, *CHANGED)) or not tracked).lower()}


def git(folder: Path, *arguments: str) -> str:
    """What git says in a folder; nothing if it is no repository, or there is no git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@cache
def installed_version(package: str) -> str:
    """Of a package; `unknown` if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
