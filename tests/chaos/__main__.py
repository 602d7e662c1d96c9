"""`python -m tests.chaos`: what `make chaos` runs."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from gans.commands import options
from gans.errors import exit_code
from gans.files import write_text
from tests.chaos import page
from tests.chaos.options import Chaos
from tests.chaos.plan import trial
from tests.chaos.trials import Laboratory, Record


def main() -> int:
    return exit_code(lambda: run(options.parse(Chaos, sys.argv[1:], "python -m tests.chaos")))


def run(asked: Chaos) -> int:
    """Try what the folder does not know yet, and write the page.

    Returns:
        The exit code: 0 only if nothing was lost, moved or left over.
    """
    options.check(asked)
    asked.folder.mkdir(parents=True, exist_ok=True)
    file = asked.folder / "trials.jsonl"
    known = read(file)
    write_text(file, "".join(map(line, known)))  # without a last line that was cut
    laboratory, records = Laboratory(asked.folder), []
    for number in range(asked.count):
        one = trial(asked.seed, number)
        record = next((record for record in known if record.trial == asdict(one)), None)
        if record is None:
            record = laboratory.run(one)
            with file.open("a", encoding="utf-8") as lines:
                lines.write(line(record))
            cost = page.told(record) or "no cost"
            print(f"{number + 1}/{asked.count}  {one.words}  {record.seconds:.0f} s  {cost}", flush=True)
        records.append(record)
    path = asked.page or asked.folder / "README.md"
    page.write(path, asked, records)
    for name, count in page.totals(records).items():
        print(f"{name:<36}{count:>6}")
    print(f"page: {path}")
    return int(any(cost(record) for cost in page.COSTS.values() for record in records))


def line(record: Record) -> str:
    return json.dumps(asdict(record)) + "\n"


def read(file: Path) -> list[Record]:
    """The trials of earlier calls; a last line that was cut is forgotten."""
    records = []
    for text in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        with suppress(ValueError, TypeError):
            records.append(Record.read(text))
    return records


if __name__ == "__main__":
    sys.exit(main())
