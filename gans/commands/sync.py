"""`gans sync`: exports to the tracking store what it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from gans.commands.options import flat, option
from gans.errors import InputError


@flat
@dataclass(frozen=True)
class Sync:
    folder: Annotated[Path, option("folder of runs, of one matrix, or of one run")] = Path("runs")


def sync(options: Sync = Sync()) -> int:
    """Returns 0 if the store has all of it now."""
    if not options.folder.is_dir():
        raise InputError(f"no folder {options.folder}; name the folder of your runs, such as `runs`")
    from gans.runs.export import say, sync
    from gans.runs.run import close_stale
    from gans.runs.store import Store, shown

    store = Store()
    close_stale(options.folder)
    synced = sync(options.folder, store)
    say(synced)
    if not (synced.exported or synced.left):
        print(f"{shown(store.uri)} has all runs of {options.folder}")
    return int(bool(synced.left))
