"""`gans zoo | push`: trained generators by name, listed, drawn from, added to, and put on the hub."""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from gans.commands.draw import MOST, Sample, sample
from gans.commands.options import flat, option
from gans.errors import InputError
from gans.files import HUB, outputs
from gans.zoo.hub import check_repository

if TYPE_CHECKING:
    from gans.zoo import Entry


@flat
@dataclass(frozen=True)
class Zoo:
    name: Annotated[str, option("generator to draw from; default: list all")] = ""
    _: KW_ONLY
    index: Annotated[
        str, option("folder or URL with a zoo.toml, in place of the shipped zoo and GANS_ZOO", metavar="PLACE")
    ] = ""
    count: Annotated[int, option("images to draw", least=1, most=MOST)] = 64
    seed: Annotated[int, option("random seed", least=0, most=10**18 - 1)] = 0
    json: Annotated[bool, option("list as JSON")] = False
    add: Annotated[
        tuple[str, ...],
        option("runs, by folder or MLflow run id, whose generators to put into a zoo", metavar="RUN"),
    ] = ()
    to: Annotated[Path | None, option("for --add: folder of the zoo")] = None
    force: Annotated[bool, option("for --add: replace generators of the same names")] = False
    licence: Annotated[str, option("for --add: licence of the weights")] = ""
    data_licence: Annotated[str, option("for --add: licence of the data, unless the suite has it")] = ""


def zoo(options: Zoo = Zoo()) -> int:
    if options.add:
        return put(options)
    if options.name:
        name = f"zoo:{options.index}#{options.name}" if options.index else f"zoo:{options.name}"
        return sample(Sample(generator=name, count=options.count, seed=options.seed))
    return show(options)


def show(options: Zoo) -> int:
    from gans import zoo

    zoos, before = ([zoo.Zoo(options.index)], f"{options.index}#") if options.index else (zoo.zoos(), "")
    found = [pair for one in zoos for pair in one.entries().items()]
    if options.json:
        print(json.dumps([{"name": name, **entry.model_dump()} for name, entry in found], indent=2))
        return 0
    for name, entry in found:
        print(described(before + name, entry))
    print("\ngans zoo NAME draws from one; all commands that take a generator take zoo:NAME")
    return 0


def described(name: str, entry: Entry) -> str:
    from gans.commands import score

    size = f"{entry.channels} x {entry.side} x {entry.side}"
    value = f"{entry.metric} {score.plus_minus(entry.score, entry.error)} on {entry.score_images:,} images"
    facts = {
        "model": f"{entry.model}, {entry.size / 1e6:.2f} MB, {entry.licence}",
        "data": f"{entry.data}, {size}, {entry.data_licence}",
        "sha256": entry.sha256,
        "command": entry.command,
        "commit": entry.commit,
    }
    return score.described(f"{name}: {value}", facts)


def put(options: Zoo) -> int:
    if options.to is None or not options.licence:
        missing = "--to" if options.to is None else "--licence"
        raise InputError(f"{missing} is missing: gans zoo --add RUN --to FOLDER --licence MIT")
    from gans.runs.publish import publish

    added = publish(options.add, options.to, options.licence, options.data_licence, options.force)
    for name, entry in added.items():
        print(described(name, entry))
    return 0


def push(
    run: Annotated[str, option("folder of a finished run, or its MLflow run id or how that begins")],
    repository: Annotated[str, option("OWNER/NAME on the hub", check=check_repository)],
    *,
    licence: Annotated[str, option("licence of the weights, such as MIT")],
    data_licence: Annotated[str, option("licence of the data, unless the suite has it")] = "",
    folder: Annotated[Path | None, option("write the repository to this folder, and upload nothing")] = None,
    private: Annotated[bool, option("a repository that is made is private")] = False,
    force: Annotated[bool, option("replace files of the folder")] = False,
) -> int:
    from gans.runs.publish import prepare
    from gans.zoo import hub

    place = folder or outputs() / HUB / repository
    files = prepare(run, repository, place, licence, data_licence, force)
    print(f"{', '.join(files)} in {place}")
    if not folder:
        address = hub.upload(place, files, repository, private)
        print(f"{address}\ngans sample zoo:{hub.PREFIX}{repository} draws from it")
    return 0
