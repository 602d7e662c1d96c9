"""What the trials found, as markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from reports.sheet import markdown
from tests.chaos.plan import Trial
from tests.chaos.trials import Record

INTRODUCTION = """# Chaos

Made by `{command}`. Each trial disturbs something tiny, at a moment and in a way that follow from the seed, runs
the same command again to its end, and compares scores, to the digit, with those of an undisturbed run:

- `bench`, `sweep`: a process of a matrix of two models, or of a sweep of two trials, gets a signal;
- `damage`: a file of a matrix that was killed half-way is damaged;
- `server`: the tracking server of a matrix is killed, is stopped for some seconds, or never answers again;
- `ui`: `gans ui` gets a signal."""
# what must be 0, and how a record counts it
COSTS: dict[str, Callable[[Record], int]] = {
    "finished work lost": lambda record: len(record.lost),
    "scores moved": lambda record: len(record.moved),
    "runs left open": lambda record: record.open,
    "points tracked twice": lambda record: record.twice,
    "files left over": lambda record: len(record.files),
    "processes left over": lambda record: record.processes,
    "failures when run again": lambda record: int(any(record.codes[1:])),
}


def totals(records: Sequence[Record]) -> dict[str, int]:
    """All that is counted, by name."""
    tried = {"trials": len(records), "that hit something": sum(bool(record.hit) for record in records)}
    return tried | {name: sum(map(cost, records)) for name, cost in COSTS.items()}


def page(command: str, records: Sequence[Record]) -> str:
    kinds: dict[str, list[Record]] = {}
    for record in records:
        kinds.setdefault(str(Trial(**record.trial)), []).append(record)
    counts = [{"disturbance": kind, **totals(kinds[kind])} for kind in sorted(kinds)]
    costly = [{**record.trial, "hit": record.hit, "cost": costs(record)} for record in records if costs(record)]
    columns = ["number", "kind", "moment", "victim", "signal", "hit", "cost"]
    tables = [markdown(pd.DataFrame(rows)) for rows in ([totals(records)], counts)]
    parts = [INTRODUCTION.format(command=command), tables[0], "## By kind, moment and victim", tables[1]]
    if costly:
        parts += ["## Trials that cost something", markdown(pd.DataFrame(costly)[columns])]
    return "\n\n".join(parts) + "\n"


def costs(record: Record) -> str:
    """What a trial cost, in words; empty if nothing."""
    return ", ".join(f"{name}: {cost(record)}" for name, cost in COSTS.items() if cost(record))
