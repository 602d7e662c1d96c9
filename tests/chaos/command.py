"""`make chaos`."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import pandas as pd

from gans import files
from gans.commands.options import Outputs, flat, option
from gans.files import write_text
from reports.sheet import markdown
from tests.chaos.plan import Trial, trial
from tests.chaos.trials import Laboratory, Record

INTRODUCTION = """# Chaos

Made by `{command}`. Each trial disturbs something tiny, at a moment and in a way that follow from the seed, runs
the same command again to its end, and compares scores, to the digit, with those of an undisturbed run:

- `bench`, `sweep`: a process of a matrix of two models, or of a sweep of two trials, gets a signal;
- `damage`: a file of a matrix that was killed half-way is damaged;
- `server`: the tracking server of a matrix is killed, is stopped for some seconds, or never answers again."""
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


@flat
@dataclass(frozen=True, kw_only=True)
class Chaos:
    count: Annotated[int, option("trials, with those that were tried before", least=1, most=100_000)] = 100
    seed: Annotated[int, option("of all that is random", least=0, most=2**31 - 1)] = 1
    outputs: Outputs = field(default_factory=files.outputs)

    @property
    def folder(self) -> Path:
        """The folder of the runs, and the trials of earlier calls by seed."""
        return self.outputs / "chaos" / f"seed-{self.seed}"


def chaos(command: Chaos = Chaos()) -> int:
    """Make the trials that earlier calls have not made, and write the page; 0 only if nothing cost anything."""
    command.folder.mkdir(parents=True, exist_ok=True)
    file = command.folder / "trials.jsonl"
    records = {record.trial["number"]: record for record in read(file)}
    laboratory = Laboratory(command.folder)
    for number in range(command.count):
        if number not in records:
            record = records[number] = laboratory.run(trial(command.seed, number))
            write_text(file, "".join(json.dumps(asdict(record)) + "\n" for record in records.values()))
            found = costs(record) or "no cost"
            print(
                f"{number + 1}/{command.count}  {Trial(**record.trial)}  {record.seconds:.0f} s  {found}",
                flush=True,
            )
    tried = [records[number] for number in range(command.count)]
    path = command.folder / "README.md"
    write_text(path, page(f"make chaos COUNT={command.count} SEED={command.seed}", tried))
    for name, count in totals(tried).items():
        print(f"{name:<36}{count:>6}")
    print(f"page: {path}")
    return int(any(map(costs, tried)))


def read(file: Path) -> list[Record]:
    """Read the trials of earlier calls."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [Record(**json.loads(line)) for line in lines]


def costs(record: Record) -> str:
    """What a trial cost, in words; empty if nothing."""
    return ", ".join(f"{name}: {cost(record)}" for name, cost in COSTS.items() if cost(record))


def totals(records: Sequence[Record]) -> dict[str, int]:
    """All counts, by name."""
    tried = {"trials": len(records), "that hit something": sum(bool(record.hit) for record in records)}
    return tried | {name: sum(map(cost, records)) for name, cost in COSTS.items()}


def page(command: str, records: Sequence[Record]) -> str:
    kinds: dict[str, list[Record]] = {}
    for record in records:
        kinds.setdefault(str(Trial(**record.trial)), []).append(record)
    counts = [{"disturbance": kind, **totals(kinds[kind])} for kind in sorted(kinds)]
    costly = [{**record.trial, "hit": record.hit, "cost": costs(record)} for record in records if costs(record)]
    parts = [INTRODUCTION.format(command=command), markdown(pd.DataFrame([totals(records)]))]
    parts += ["## By kind, moment and victim", markdown(pd.DataFrame(counts))]
    if costly:
        parts += ["## Trials that cost something", markdown(pd.DataFrame(costly))]
    return "\n\n".join(parts) + "\n"
