"""The tables of a page: in markdown, in LaTeX no wider than its page, and whole as CSV."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from gans.files import write_text

WIDTH = 100  # characters of a page
TEXT = 40  # characters after which a column of words wraps
PRINTED = 72  # characters of the lines of a printed page, with what LaTeX puts between columns
FOLDER = "tables"
MINUS, TIE = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"
SIGNS = {"±": r"$\pm$", "×": r"$\times$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "→": r"$\to$", "≤": r"$\leq$"}
SIGNS |= {MINUS: "$-$", TIE: "~", "—": "---", "–": "--", "θ": r"$\theta$", "α": r"$\alpha$"}
SIGNS |= {sign: f"$^{{{plain}}}$" for sign, plain in zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789", strict=True)}
SIGNS |= {sign: rf"\{sign}" for sign in "&%$#_{}"} | {sign: f"${sign}$" for sign in "<>|"}
SIGNS |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX = str.maketrans(SIGNS)


class Sheet:
    """Collects the tables of a page, to write them as files too."""

    def __init__(self) -> None:
        self.frames: dict[str, tuple[pd.DataFrame, bool]] = {}  # by name; whether the table may wrap

    def table(self, frame: pd.DataFrame, name: str, align: str = "--:") -> str:
        """A table of strings in markdown, in parts below each other where it is too wide; `name` is that of its
        files.

        All columns but the first align as `--:`, for numbers, or `:--`, for words, which may wrap.
        """
        words = align == ":--"
        self.frames[name] = frame, words
        return "\n\n".join(markdown(part, align) for part in folded(frame, TEXT if words else WIDTH))

    def write(self, folder: Path) -> None:
        """Write every table as `tables/NAME.csv` and `.tex`, and drop those of earlier pages."""
        written = set()
        for name, (frame, words) in self.frames.items():
            plain = frame.map(visible).rename(columns=visible)
            for suffix, text in (("csv", plain.to_csv(index=False)), ("tex", latex(plain, words))):
                path = folder / FOLDER / f"{name}.{suffix}"
                write_text(path, text)
                written.add(path)
        for suffix in ("csv", "tex"):
            for old in set((folder / FOLDER).glob(f"*.{suffix}")) - written:
                old.unlink()


def folded(frame: pd.DataFrame, wrap: int = WIDTH, page: int = WIDTH) -> Iterator[pd.DataFrame]:
    """Parts of a table of strings that fit a page of so many characters, each with the table's first column.

    Cells wrap after `wrap` characters.
    """
    first, *others = [(name, _width(frame, place, wrap)) for place, name in enumerate(frame.columns)]
    columns, used = [0], first[1]
    for place, (_, width) in enumerate(others, 1):
        if len(columns) > 1 and used + width > page:
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
    line = re.sub(r"(?<!\\)\[((?:\\.|[^\]\\])*)\]\([^)]*\)", r"\1", str(text))
    line = re.sub(r"\\(.)|[*`]", r"\1", line)
    return line.replace("&lt;", "<").replace("&amp;", "&")


def markdown(frame: pd.DataFrame, align: str = "--:") -> str:
    """A table in markdown: the first column to the left, the others as `align` says."""
    head = [" | ".join(map(str, frame.columns)), " | ".join([":--", *[align] * (len(frame.columns) - 1)])]
    rows = [" | ".join(map(str, row)) for row in frame.itertuples(index=False, name=None)]
    return "\n".join(f"| {row} |" for row in [*head, *rows])


def latex(frame: pd.DataFrame, words: bool = False) -> str:
    """A table of strings in LaTeX (booktabs), in parts below each other where it is too wide for a page.

    With `words`, columns are on the left and may wrap; else they are numbers.
    """
    wrap = PRINTED // 2 if words else PRINTED
    return "\n\\medskip\n\n\\noindent\n".join(_tabular(part, words, wrap) for part in folded(frame, wrap, PRINTED))


def _tabular(frame: pd.DataFrame, words: bool, wrap: int) -> str:
    side = "l" if words else "r"
    longest = [max(map(len, frame.iloc[:, place]), default=0) for place in range(len(frame.columns))]
    kinds = [rf"p{{{wrap / PRINTED:g}\linewidth}}" if size > wrap else side for size in longest[1:]]
    printed = frame.map(_printed)
    printed.columns = [_heading(*column) for column in zip(frame.columns, longest, ["l", *kinds], strict=True)]
    return printed.to_latex(index=False, escape=False, column_format="".join(["l", *kinds]))


def _heading(text: str, width: int, kind: str) -> str:
    """A heading, in lines no longer than its column needs."""
    text = re.sub(" (?=[↓↑])", TIE, text)
    width = max([width, *map(len, text.split(" "))])
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    if len(lines) < 2:
        return _printed(text)
    return rf"\begin{{tabular}}[b]{{@{{}}{kind[0]}@{{}}}}" + r"\\".join(map(_printed, lines)) + r"\end{tabular}"


def _printed(text: str) -> str:
    """A text as LaTeX prints it; a hyphen before a number is a minus."""
    return re.sub(r"(?<![\w.-])-(?=\d)", MINUS, text).translate(LATEX)
