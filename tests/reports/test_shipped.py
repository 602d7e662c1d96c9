"""The reports of this repository, as they ship."""

from __future__ import annotations

import pandas as pd

from reports import SHIPPED
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
