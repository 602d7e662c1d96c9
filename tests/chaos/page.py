"""What the trials came to, as markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gans.commands import options
from gans.files import write_text
from tests.chaos.options import Chaos
from tests.chaos.plan import Trial
from tests.chaos.trials import Record

INTRODUCTION = """# Chaos

Made by `{command}`. Each trial disturbs something tiny, at a moment and in a way that follow from the seed, runs
the same command again to its end, and compares scores, to the digit, with those of an undisturbed run:

- `bench`, `sweep`: a process of a matrix of two models, or of a sweep of two trials, gets a signal;
- `damage`: a file of a matrix that was killed half-way is damaged;
- `server`: the tracking server of a matrix is killed, is stopped for some seconds, or never answers again;
- `ui`: `gans ui` gets a signal.
"""
# what must be 0, for people, and how a record counts it
COSTS: dict[str, Callable[[Record], int]] = {
    "finished work lost": lambda record: len(record.lost),
    "scores moved": lambda record: len(record.moved),
    "runs left open": lambda record: record.open,
    "files left over": lambda record: len(record.files),
    "processes left over": lambda record: record.processes,
    "commands that failed when run again": lambda record: int(any(record.codes[1:])),
}


def totals(records: Sequence[Record]) -> dict[str, int]:
    """All that is counted, by name."""
    tried = {"trials": len(records), "that hit something": sum(bool(record.hit) for record in records)}
    return tried | {name: sum(map(cost, records)) for name, cost in COSTS.items()}


def write(path: Path, asked: Chaos, records: Sequence[Record]) -> None:
    """Write the page."""
    parts = [
        INTRODUCTION.format(command=options.command("chaos", asked)),
        table(["", "count"], [[name, str(count)] for name, count in totals(records).items()]),
        "## By kind, moment and victim\n",
        table(["disturbance", "trials", "hit", *COSTS], [row(words, records) for words in kinds_of(records)]),
    ]
    costly = [record for record in records if any(cost(record) for cost in COSTS.values())]
    if costly:
        rows = [[str(record.trial["number"]), words_of(record), record.hit, told(record)] for record in costly]
        parts += ["## Trials that cost something\n", table(["number", "disturbance", "hit", "cost"], rows)]
    write_text(path, "\n".join(parts))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def words_of(record: Record) -> str:
    return Trial(**record.trial).words


def kinds_of(records: Sequence[Record]) -> list[str]:
    return sorted(set(map(words_of, records)))


def row(words: str, records: Sequence[Record]) -> list[str]:
    own = [record for record in records if words_of(record) == words]
    return [words, *(str(count) for count in totals(own).values())]


def told(record: Record) -> str:
    """What a trial cost, in words."""
    some = {name: cost(record) for name, cost in COSTS.items() if cost(record)}
    return ", ".join(f"{name}: {count}" for name, count in some.items())
