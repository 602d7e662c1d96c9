"""The index of a folder of reports: title, first paragraph and first picture of each."""

import re
from pathlib import Path
from urllib.parse import quote

from gans.files import REPORTS, write_text
from reports import INDEX, PAGE, WHOLE
from reports.html import document

TITLE = "# Reports\n\n"
# in reading order; others follow by name
ORDER = (
    *("digits", "mnist", "fashion-mnist", "cifar10-jpeg", "classes", "today", "twins", "few-images"),
    *("mdgan", "mdgan-published", "sweeps", "sensitivity", "compare", "h200", "chaos"),
)


def write(root: Path) -> Path | None:
    """Write `root/README.md`, and `root/index.html` if reports have an HTML file.

    None if there is no report, or a README.md of the user's.
    """
    pages = sorted((page for page in root.rglob("*.md") if page.parent != root), key=lambda page: rank(page, root))
    index = root / PAGE
    if not pages or (index.exists() and not index.read_bytes().startswith(TITLE.encode())):
        return None
    text = TITLE + "\n\n".join(entry(page, root) for page in pages) + "\n"
    write_text(index, text)
    whole = {page: page.with_name(WHOLE) for page in pages if page.with_name(WHOLE).exists()}
    for page, file in whole.items():
        text = text.replace(f"]({link(page, root)})", f"]({link(file, root)})")
    if whole:
        write_text(root / INDEX, document(text))
    return index


def update(folder: Path) -> None:
    """Write the index of the reports that a folder of pages is a part of; elsewhere there is none."""
    if folder.absolute().parent.name == REPORTS:
        write(folder.parent)


def rank(page: Path, root: Path) -> tuple[int, Path]:
    """Pages of the same first folder stay together, the folder's own page first."""
    name = page.relative_to(root).parts[0].partition("-budget")[0]
    place = ORDER.index(name) if name in ORDER else len(ORDER)
    return place, page.parent if page.name == PAGE else page


def entry(page: Path, root: Path) -> str:
    """A page's part of the index."""
    text = page.read_text(encoding="utf-8", errors="replace")  # the folder may have files of the user's
    title, *blocks = text.removeprefix("# ").split("\n\n")
    first = next((block for block in blocks if not re.match(r"[|!<#]", block)), "")
    picture = re.search(r"!\[([^\n]*)\]\(([^\s():/][^\s():]*)\)", text)
    shown = f"\n\n![{picture[1]}]({link(page.parent / picture[2], root)})" if picture else ""
    return f"## [{title.strip()}]({link(page, root)})\n\n{first.strip()}{shown}"


def link(file: Path, root: Path) -> str:
    return quote(file.relative_to(root).as_posix())
