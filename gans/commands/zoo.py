"""`gans zoo`: trained generators by name, listed, drawn from, and added to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from gans.commands import options, sample
from gans.commands.options import Option
from gans.errors import InputError

if TYPE_CHECKING:
    from gans.zoo import Entry


@dataclass(frozen=True)
class ZooCommand:
    """List trained generators, or draw images from one of them."""

    name: Annotated[str, Option("of a generator to draw from; if not given, all are listed", positional=True)] = ""
    index: Annotated[
        str, Option("a folder or URL with a zoo.toml, in place of the shipped one and GANS_ZOO's", metavar="PLACE")
    ] = ""
    count: Annotated[int, Option("images to draw")] = 64
    seed: Annotated[int, Option("of all that is random")] = 0
    json: Annotated[bool, Option("list as JSON")] = False
    add: Annotated[
        tuple[str, ...], Option("put the generators of these MLflow runs into a zoo", metavar="RUN")
    ] = ()
    to: Annotated[Path | None, Option("the zoo's folder, for --add")] = None
    force: Annotated[bool, Option("replace generators of the same names, for --add")] = False
    licence: Annotated[str, Option("of the weights, for --add")] = ""
    data_licence: Annotated[str, Option("of the data, for --add; known for digits, mnist and fashion-mnist")] = ""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    options.add(commands, "zoo", ZooCommand, run)


def run(asked: ZooCommand) -> int:
    """List, draw, or add."""
    if asked.add:
        return put(asked)
    if asked.name:
        name = f"zoo:{asked.index}#{asked.name}" if asked.index else f"zoo:{asked.name}"
        return sample.run(sample.Sample(generator=name, count=asked.count, seed=asked.seed))
    return show(asked)


def show(asked: ZooCommand) -> int:
    """Print what the zoos hold."""
    from gans.zoo import Zoo, zoos

    found = {zoo: zoo.entries() for zoo in ([Zoo(asked.index)] if asked.index else zoos())}
    if asked.json:
        every = [pair for entries in found.values() for pair in entries.items()]
        print(json.dumps([{"name": name, **entry.model_dump()} for name, entry in every], indent=2))
        return 0
    for zoo, entries in found.items():
        for name, entry in entries.items():
            print(described(f"{zoo.place}#{name}" if asked.index else name, entry))
    print("\ngans zoo NAME draws from one; zoo:NAME names it in every command that takes a generator")
    return 0


def described(name: str, entry: Entry) -> str:
    """Some lines on one generator."""
    from gans.commands.score import plus_minus

    size = f"{entry.channels} x {entry.side} x {entry.side}"
    score = f"{entry.metric} {plus_minus(entry.score, entry.error)} on {entry.score_images:,} images"
    lines = {
        "model": f"{entry.model}, {entry.size / 1e6:.2f} MB, {entry.licence}",
        "data": f"{entry.data}, {size}, {entry.data_licence}",
        "sha256": entry.sha256,
        "command": entry.command,
        "commit": entry.commit,
    }
    return "\n".join([f"{name}: {score}", *(f"  {key:<8}  {text}" for key, text in lines.items())])


def put(asked: ZooCommand) -> int:
    """Add generators of runs to a zoo's folder."""
    if asked.to is None or not asked.licence:
        missing = "--to" if asked.to is None else "--licence"
        raise InputError(f"{missing} is missing: gans zoo --add RUN --to FOLDER --licence MIT")
    from gans.runs.deposit import Licences, deposit

    licences = Licences(asked.licence, asked.data_licence)
    for name, entry in deposit(asked.add, asked.to, licences, asked.force).items():
        print(described(name, entry))
    return 0
