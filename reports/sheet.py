"""The tables of a page: in markdown no wider than the page, and whole as CSV and LaTeX beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from gans.files import write_text

WIDTH = 100  # characters of a page
TEXT = 40  # characters after which a column of words wraps
FOLDER = "tables"
LATEX = {"±": r"$\pm$", "×": r"$\times$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "→": r"$\to$", "≤": r"$\leq$"}
LATEX |= {"—": "---", "–": "--", "θ": r"$\theta$", "α": r"$\alpha$"}
LATEX |= {sign: f"$^{{{plain}}}$" for sign, plain in zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789", strict=True)}


class Sheet:
    """Collects what is shown, so that every table of a page also lies beside it."""

    def __init__(self) -> None:
        self.frames: dict[str, pd.DataFrame] = {}

    def table(self, frame: pd.DataFrame, name: str, align: str = "--:") -> str:
        """A table in markdown, in parts below each other where it is too wide.

        Args:
            frame: of strings.
            name: of its files.
            align: of all columns but the first: `--:` for numbers, `:--` for words, which may wrap.
        """
        self.frames[name] = frame
        words = align == ":--"
        return "\n\n".join(_markdown(part, align) for part in folded(frame, TEXT if words else WIDTH))

    def write(self, folder: Path) -> None:
        """Write every table as `tables/NAME.csv` and `.tex`, and drop those of earlier pages."""
        written = set()
        for name, frame in self.frames.items():
            shown = frame.map(visible).rename(columns=lambda heading: visible(heading))
            for suffix, text in (("csv", shown.to_csv(index=False)), ("tex", latex(shown))):
                path = folder / FOLDER / f"{name}.{suffix}"
                write_text(path, text)
                written.add(path)
        for suffix in ("csv", "tex"):
            for old in set((folder / FOLDER).glob(f"*.{suffix}")) - written:
                old.unlink()


def folded(frame: pd.DataFrame, wrap: int = WIDTH) -> Iterator[pd.DataFrame]:
    """Parts of a table that fit the page, each with its first column."""
    first, *others = [(name, _width(frame, place, wrap)) for place, name in enumerate(frame.columns)]
    columns, used = [0], first[1]
    for place, (_, width) in enumerate(others, 1):
        if len(columns) > 1 and used + width > WIDTH:
            yield frame.iloc[:, columns]
            columns, used = [0], first[1]
        columns.append(place)
        used += width
    yield frame.iloc[:, columns]


def _width(frame: pd.DataFrame, place: int, wrap: int) -> int:
    """Characters of a column with its margins; a heading wraps between words."""
    heading = max(map(len, visible(frame.columns[place]).split()), default=0)
    cells = max((len(visible(cell)) for cell in frame.iloc[:, place]), default=0)
    return max(heading, min(cells, wrap)) + 3


def visible(text: object) -> str:
    """What a reader sees of a cell of a markdown table."""
    line = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", str(text))
    line = re.sub(r"(?<!\\)[*`]", "", line)
    return re.sub(r"\\([\\`*|])", r"\1", line).replace("&lt;", "<")


def markdown(frame: pd.DataFrame) -> str:
    """A table in markdown: the first column to the left, the others to the right."""
    return _markdown(frame, "--:")


def _markdown(frame: pd.DataFrame, align: str) -> str:
    head = [" | ".join(map(str, frame.columns)), " | ".join([":--", *[align] * (len(frame.columns) - 1)])]
    rows = [" | ".join(map(str, row)) for row in frame.itertuples(index=False, name=None)]
    return "\n".join(f"| {row} |" for row in [*head, *rows])


def latex(frame: pd.DataFrame) -> str:
    """A table in LaTeX, for the package booktabs."""
    text = frame.to_latex(index=False, escape=True, column_format="l" + "r" * (len(frame.columns) - 1))
    for sign, command in LATEX.items():
        text = text.replace(sign, command)
    return text
