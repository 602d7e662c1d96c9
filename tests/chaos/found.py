"""What a run leaves, read without the code that wrote it: scores, finished cells, open runs, stray files."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

SCORES = ("score/", "half/", "test/", "sweep/score")
# parts of files that were being written, and databases that were being made
STRAY = re.compile(r"\.(?!journal\.lock$|lock$).+\.\d+|\.mlflow\.db\..+|.+\.[0-9a-f]{32}|.+\.rename")

RUNS = "SELECT run_uuid, name, status FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time"
METRICS = "SELECT key, value, is_nan FROM latest_metrics WHERE run_uuid = ?"
KIND = "SELECT value FROM tags WHERE run_uuid = ? AND key = 'gans.kind'"

Scores = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class Tracked:
    """What the store holds.

    Attributes:
        scores: of the newest run of each name, by metric.
        open: runs that are said to be running.
    """

    scores: Scores
    open: int


def tracked(database: Path) -> Tracked:
    """What a store in a SQLite file holds; nothing if there is none."""
    scores: Scores = {}
    running = 0
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as store:
        for run, name, status in store.execute(RUNS).fetchall():
            running += status == "RUNNING"
            kind = store.execute(KIND, (run,)).fetchone()
            if kind and kind[0] in ("cell", "floor", "trial"):
                found = store.execute(METRICS, (run,)).fetchall()
                scores[name] = {key: None if nan else value for key, value, nan in found if key.startswith(SCORES)}
    return Tracked(scores, running)


def finished(folder: Path) -> dict[str, str]:
    """Keys of the runs of cells and trials that have come to their end, by their folders: work not to be lost."""
    found = {}
    for path in sorted(folder.glob("runs/*/*/journal.jsonl")):
        lines = []
        for line in path.read_bytes().splitlines():
            with suppress(ValueError):
                lines.append(json.loads(line))
        if any(line["call"] == "end" and line["given"]["status"] == "FINISHED" for line in lines):
            found[str(path.parent.relative_to(folder))] = lines[0]["given"]["key"]
    return found


def moved(expected: Scores, found: Scores) -> list[str]:
    """Scores that are not to the digit what they should be, or are not there."""
    return [
        f"{name} {metric}: {found.get(name, {}).get(metric)} for {value}"
        for name, metrics in expected.items()
        for metric, value in metrics.items()
        if found.get(name, {}).get(metric, "none") != value
    ]


def stray(*folders: Path) -> list[str]:
    """Files that nobody will finish."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return sorted(path.name for path in files if STRAY.fullmatch(path.name))
