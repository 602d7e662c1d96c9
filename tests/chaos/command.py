"""`make chaos`."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from gans.files import write_text
from tests.chaos.options import Chaos
from tests.chaos.page import costs, page, totals
from tests.chaos.plan import trial
from tests.chaos.trials import Laboratory, Record


def chaos(command: Chaos = Chaos()) -> int:
    """Make the trials that earlier calls have not made, and write the page; 0 only if nothing cost anything."""
    command.folder.mkdir(parents=True, exist_ok=True)
    file = command.folder / "trials.jsonl"
    known = read(file)
    write_text(file, "".join(map(line, known)))  # without a last line that was cut
    laboratory, records = Laboratory(command.folder, command.code), []
    for number in range(command.count):
        one = trial(command.seed, number)
        record = next((record for record in known if record.trial == asdict(one)), None)
        if record is None:
            record = laboratory.run(one)
            with file.open("a", encoding="utf-8") as lines:
                lines.write(line(record))
            found = costs(record) or "no cost"
            print(f"{number + 1}/{command.count}  {one}  {record.seconds:.0f} s  {found}", flush=True)
        records.append(record)
    path = command.page or command.folder / "README.md"
    write_text(path, page(f"make chaos COUNT={command.count} SEED={command.seed}", records))
    for name, count in totals(records).items():
        print(f"{name:<36}{count:>6}")
    print(f"page: {path}")
    return int(any(map(costs, records)))


def line(record: Record) -> str:
    return json.dumps(asdict(record)) + "\n"


def read(file: Path) -> list[Record]:
    """The trials of earlier calls, without a last line that was cut."""
    records = []
    for text in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        with suppress(ValueError, TypeError):
            records.append(Record(**json.loads(text)))
    return records
