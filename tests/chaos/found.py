"""What a run leaves, read without the code that wrote it."""

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

SCORES = ("score/", "half/", "test/", "sweep/score")
# parts of files that were being written, and databases that were being made
STRAY = re.compile(r"\..+\.\d+|\.mlflow\.db\..+|.+\.[0-9a-f]{32}|.+\.rename")

RUNS = "SELECT run_uuid, name, status FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time"
METRICS = "SELECT key, value, is_nan FROM latest_metrics WHERE run_uuid = ?"
KIND = "SELECT value FROM tags WHERE run_uuid = ? AND key = 'gans.kind'"
# the last costs of a run are logged more than once by themselves
TWICE = """SELECT COUNT(*) FROM (SELECT 1 FROM metrics WHERE substr(key, 1, instr(key, '/')) NOT IN
           ('system/', 'seconds/', 'memory/') GROUP BY run_uuid, key, step HAVING COUNT(*) > 1)"""

Scores = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class Tracked:
    """The content of a store."""

    scores: Scores  # of the newest run of each name
    open: int  # runs that are said to be running
    twice: int  # points of curves that are there more than once


def tracked(database: Path) -> Tracked:
    """Read the content of a store in a SQLite file."""
    scores: Scores = {}
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as store:
        runs = store.execute(RUNS).fetchall()
        for run, name, _ in runs:
            kind = store.execute(KIND, (run,)).fetchone()
            if kind and kind[0] in ("cell", "floor", "trial"):
                found = store.execute(METRICS, (run,)).fetchall()
                scores[name] = {key: None if nan else value for key, value, nan in found if key.startswith(SCORES)}
        (twice,) = store.execute(TWICE).fetchone()
    return Tracked(scores, sum(status == "RUNNING" for *_, status in runs), twice)


def finished(folder: Path) -> dict[str, str]:
    """Keys of the runs that have finished, by their folders: this work must not be lost."""
    found = {}
    for path in sorted(folder.glob("runs/*/*/*.jsonl")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        key = re.search(r'"key": ?"(\w+)"', lines[0]) if lines else None
        if key and any(re.search(r'"end".*"finished"', line) for line in lines):
            found[str(path.parent.relative_to(folder))] = key[1]
    return found


def moved(expected: Scores, found: Scores) -> list[str]:
    """Scores that are missing or differ in any digit."""
    return [
        f"{name} {metric}: {found.get(name, {}).get(metric)} for {value}"
        for name, metrics in expected.items()
        for metric, value in metrics.items()
        if found.get(name, {}).get(metric, "none") != value
    ]


def stray(*folders: Path) -> list[str]:
    """Files that no process will finish."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return sorted(path.name for path in files if STRAY.fullmatch(path.name))
