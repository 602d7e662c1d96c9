"""Runs for tests that read a store: what is written is there when a call returns, but for metrics."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gans.runs.export import export
from gans.runs.run import Run
from gans.runs.store import Store


class Recorded(Run):
    """A run whose folder is exported as it is written; without a store it is not."""

    store: Store | None = None

    @property
    def id(self) -> str:
        """The id of MLflow, or the key without a store."""
        return self.store.named(self.experiment, self.key)[0].info.run_id if self.store else self.key

    def write(self, kind: str, **fields: Any) -> None:
        super().write(kind, **fields)
        if self.store and kind not in ("metrics", "params"):
            export(self, self.store)

    def flush(self) -> None:
        if self.store:
            export(self, self.store)


def recorded(store: Store | Path, experiment: str, name: str, tags: Mapping[str, str]) -> Recorded:
    """A new run in a store; or in a folder below a path, and in no store, which is quicker."""
    root = store if isinstance(store, Path) else None
    time.sleep(0.002)  # runs are in the order of their milliseconds
    run = Recorded.start(Path(tempfile.mkdtemp(prefix="recorded-", dir=root)), experiment, name, tags)
    if isinstance(store, Store):
        run.store = store
        export(run, store)
    return run
