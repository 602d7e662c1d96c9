"""The reports of this repository, as they ship."""

import re
from pathlib import Path

import pandas as pd

from gans.config import PROTOCOL_VERSION
from reports import INDEX, PAGE, SHIPPED, contents
from reports.results import REASONS


def test_every_table_can_be_read_and_no_scored_cell_has_a_reason_against_it() -> None:
    tables = {path: pd.read_csv(path) for path in sorted(SHIPPED.rglob("*.csv"))}
    assert len(tables) > 100
    for path, table in tables.items():
        assert len(table) and len(table.columns) > 1, path
        if path.name == "cells.csv":
            scored = table["score"].notna()
            assert (table.loc[scored, "status"] == "finished").all(), path
            assert not table.loc[scored, "reason"].isin(REASONS.values()).any(), path
            assert table.loc[~scored, "reason"].notna().all(), path


def test_the_index_has_a_section_for_every_page(tmp_path: Path) -> None:
    pages = sorted(page.relative_to(SHIPPED) for page in SHIPPED.rglob("*.md") if page.parent != SHIPPED)
    for page in pages:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text((SHIPPED / page).read_text())
    (tmp_path / "digits/report.html").touch()
    index = contents.write(tmp_path)
    assert index and index.read_text() == (SHIPPED / PAGE).read_text()
    assert all(f"]({page.as_posix()})\n" in index.read_text() for page in pages)
    contents.update(tmp_path / "digits")  # a folder that is not in the outputs' reports
    (tmp_path / PAGE).write_text("# Mine")
    assert contents.write(tmp_path) is None and (tmp_path / PAGE).read_text() == "# Mine"
    html = (tmp_path / INDEX).read_text()
    assert html.count("<h2 ") == len(pages)
    assert '<a href="digits/report.html">' in html and 'src="digits/leaders-digits.png"' in html


def test_a_page_of_an_older_protocol_says_so_in_its_first_line() -> None:
    pages = {page: page.read_text() for page in SHIPPED.rglob("*.md")}
    stated = {
        page: {int(one) for one in re.findall(r"Protocol version (\d+)", text)} for page, text in pages.items()
    }
    assert any(stated.values())
    for page, versions in stated.items():
        for version in versions - {PROTOCOL_VERSION}:
            assert f"protocol {version})" in pages[page].splitlines()[0], page
