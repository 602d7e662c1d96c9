"""Copies what was made here to where it ships in this repository: `gans publish outputs/reports/digits`.

For maintainers: no other command writes there. A page goes with its folder, a preset or a page of speed alone.
"""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import reports
from benchmarks import matrix, speed
from gans.commands.options import option
from gans.errors import InputError
from gans.files import PRESETS, REPORTS, SPEED, VARIABLE, outputs, write_text
from reports import contents
from sweeps import ROOT

README = "README.md"
CONCLUSION = "What the figures show, and what they do not"  # the heading, in the reports' template too
PLACES = {REPORTS: reports.SHIPPED, PRESETS: matrix.PRESETS, SPEED: speed.SHIPPED}
RANKED = reports.SHIPPED / ROOT.name  # its page is over all studies that ship


def put(source: Path, root: Path, places: Mapping[str, Path] = PLACES) -> Path:
    """Copy a file or a page's folder to where its kind ships, below one of `places`; returns that place.

    A folder's files replace those that ship; so do the files of folders within that it has, too. An InputError if
    the source does not exist, is not among the outputs in `root`, or does not ship.
    """
    source = source.parent if source.name == README else source
    if not source.exists():
        raise InputError(f"'{source}' does not exist; use for example gans publish {root / REPORTS / 'digits'}")
    if not source.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{source} is not in {root}; {VARIABLE} names another folder of outputs")
    kind, *rest = source.resolve().relative_to(root.resolve()).parts or ("",)
    if kind not in places or not rest:
        known = ", ".join(str(root / kind) for kind in places)
        raise InputError(f"{source} does not ship; name something in {known}")
    if source.is_dir() and (not (source / README).is_file() or rest == [ROOT.name]):
        raise InputError(f"{source} holds several pages; publish them one by one")
    target = places[kind].joinpath(*rest)
    for old, new in copies(source, target):
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(old, new)
        if kind == REPORTS and new.suffix == ".md":
            write_text(new, concluded(new.read_text(encoding="utf-8"), rest[-1]))
    return target


def copies(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Pairs of files, from and to; other files of the target's folders are deleted, as old pictures.

    A page's single HTML file does not ship: its pictures would ship twice.
    """
    if source.is_file():  # with its picture or figures
        return [(file, target.with_name(file.name)) for file in sorted(source.parent.glob(f"{source.stem}.*"))]
    files = sorted(path for path in source.rglob("*") if path.is_file() and path.name != reports.WHOLE)
    for folder in {(target / file.relative_to(source)).parent for file in files}:
        for old in folder.glob("*"):
            if old.is_file():
                old.unlink()
    return [(file, target / file.relative_to(source)) for file in files]


def concluded(text: str, experiment: str) -> str:
    """A page with what its matrix's file concludes from the numbers that ship."""
    file = matrix.MATRICES / f"{experiment.partition('-budget')[0]}.toml"
    words = matrix.read_matrix(file.stem).file.conclusion.strip() if file.is_file() else ""
    section = f"## {CONCLUSION}\n\n{words}\n\n" if words and CONCLUSION not in text else ""
    return re.sub(r"^(?=## (Samples|Cost))", lambda _: section, text, count=1, flags=re.MULTILINE)


def publish(source: Annotated[Path, option("a page, its folder, or a preset in your outputs")]) -> int:
    """Print the place that it ships from."""
    target = put(source, outputs())
    print(target)
    if target.parent == RANKED:
        from sweeps.pages import write_ranking  # seconds to import, wanted for these only

        print(write_ranking(RANKED))
        (RANKED / reports.WHOLE).unlink()  # no HTML file ships
    if target.is_relative_to(reports.SHIPPED):
        print(contents.write(reports.SHIPPED))
    return 0
