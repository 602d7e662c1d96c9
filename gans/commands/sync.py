"""`gans sync`: brings to the tracking store what it has missed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from gans.commands.options import flat, option
from gans.errors import InputError


@flat
@dataclass(frozen=True)
class Sync:
    folder: Annotated[Path, option("folder of runs, of one matrix or of one run")] = Path("runs")


def sync(options: Sync = Sync()) -> int:
    """Returns 0 if the store knows all of it now."""
    if not options.folder.is_dir():
        raise InputError(f"no folder {options.folder}; name the one that runs are kept in, `runs` for one")
    from gans.runs.courier import GRACE
    from gans.runs.sync import sync
    from gans.runs.tracking import Store, shown

    store = Store()
    synced = sync(options.folder, store, GRACE)
    print("\n".join(synced.lines()) or f"{shown(store.uri)} knows all that stands in {options.folder}")
    return int(bool(synced.left.runs))
