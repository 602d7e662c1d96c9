"""`gans sync`: brings to the tracking store what it has missed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from gans.commands import options
from gans.commands.options import Option
from gans.errors import InputError


@dataclass(frozen=True)
class Sync:
    """Tell the tracking store what stands in the journals of runs and it does not know."""

    folder: Annotated[Path, Option("folder of runs, of one matrix or of one run", positional=True)] = Path("runs")


def add(commands: Any) -> None:
    """Add the command to the parser."""
    options.add(commands, "sync", Sync, run)


def run(asked: Sync) -> int:
    """Returns 0 if the store knows all of it now."""
    if not asked.folder.is_dir():
        raise InputError(f"no folder {asked.folder}; name the one that runs are kept in, `runs` for one")
    from gans.runs.courier import GRACE
    from gans.runs.sync import sync
    from gans.runs.tracking import Store, shown

    store = Store()
    synced = sync(asked.folder, store, GRACE)
    print("\n".join(synced.lines()) or f"{shown(store.uri)} knows all that stands in {asked.folder}")
    return int(bool(synced.left.runs))
