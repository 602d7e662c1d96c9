"""Makes thousands of finished cells of a few: copies of their rows in MLflow's tables, and of their folders.

To be told ten thousand cells takes a store an hour; to see what so many cost the next plan, the next cell, the
report and the UI, they need only be there. Every copy is the run of another planned cell: its name, seed and
identity are that cell's, its key and ids its own. Artifacts stay those of the run that it was copied from.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.matrix import select_matrix
from benchmarks.options import Machine, Selection
from benchmarks.plan import MatrixPlan, Planned
from gans import schema
from gans.files import write_text
from gans.runs.databases import sqlite_file
from gans.runs.journal import FILE, SENT, Journal
from gans.runs.tracking import Store

Row = Sequence[Any]
ROWS = ("runs", "tags", "params", "metrics", "latest_metrics")  # of a run, in MLflow's tables
BATCH = 200  # cells whose rows are written together


def multiply(store: Path, there: Sequence[Planned], wanted: Sequence[Planned]) -> None:
    """Let a SQLite store hold the wanted cells as well.

    Args:
        store: its file.
        there: finished cells of every model, with their runs.
        wanted: cells that have no run.
    """
    originals = {planned.cell.model: planned for planned in there}
    with closing(sqlite3.connect(store)) as database:
        for start in range(0, len(wanted), BATCH):
            with database:
                for planned in wanted[start : start + BATCH]:
                    copy(database, originals[planned.cell.model], planned)


def run(matrix: str, first: int, last: int) -> int:
    """Make finished cells of the matrix's seeds from `first` to `last`, of those that have run; the exit code."""
    store = Store()
    plan = MatrixPlan(select_matrix(matrix), Selection(), Machine(device="cpu"), store)
    wanted = [p for p in plan.planned if first <= p.cell.experiment.seed <= last and p.run is None]
    file = sqlite_file(store.uri)
    assert file is not None
    multiply(file, [p for p in plan.planned if p.trained], wanted)
    return 0


def copy(database: sqlite3.Connection, original: Planned, planned: Planned) -> None:
    """The rows and the folder of one cell, as those of another."""
    assert original.run is not None
    old = original.run
    replaced = {
        old.info.run_id: uuid.uuid4().hex,
        old.data.tags[schema.JOURNAL]: uuid.uuid4().hex,
        original.cell.identity: planned.cell.identity,
        original.cell.name: planned.cell.name,
    }
    for table in ROWS:
        columns = [name for _, name, *_ in database.execute(f"PRAGMA table_info({table})")]
        rows = database.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (old.info.run_id,)).fetchall()
        changed = [with_seed(columns, row, replaced, planned.cell.experiment.seed) for row in rows]
        marks = ", ".join("?" * len(columns))
        database.executemany(f"INSERT INTO {table} VALUES ({marks})", changed)
    copy_folder(original.folder, planned.folder, replaced)


def with_seed(columns: Sequence[str], row: Row, replaced: Mapping[str, str], seed: int) -> list[Any]:
    """A row of the original as one of the copy."""
    values = dict(zip(columns, row, strict=True))
    for name in values:
        if name != "artifact_uri":
            values[name] = replaced.get(values[name], values[name])
    if values.get("key") in (schema.SEED, "seed"):
        values["value"] = str(seed)
    return list(values.values())


def copy_folder(old: Path, new: Path, replaced: Mapping[str, str]) -> None:
    """Journal, all of it told, record and samples of the run."""
    new.mkdir(parents=True, exist_ok=True)
    for name in (FILE, SENT, schema.RUN_FILE):
        text = (old / name).read_text(encoding="utf-8")
        for before, after in replaced.items():
            text = text.replace(before, after)
        write_text(new / name, text)
    shutil.copytree(old / schema.SAMPLES, new / schema.SAMPLES, dirs_exist_ok=True)
    Journal(new).mark(position=Journal(new).size)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
