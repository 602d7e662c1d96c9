"""Which cells of a matrix a report has: those that were selected or ran; the rest is one line."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from reports.numbers import listed
from reports.results import Results


def selected_cells(results: Results) -> Results:
    """The results without cells that the newest invocation did not select and that never ran.

    Where nothing would be left, all of them are.
    """
    kept = [not absent for absent in _absent(results)]
    if not any(kept):
        return results
    cells = [cell for cell, own in zip(results.plan.cells, kept, strict=True) if own]
    return replace(results, plan=results.plan.model_copy(update={"cells": cells}), cells=results.cells[kept])


def left_out(results: Results) -> str:
    """What `selected_cells` leaves out, in words: `sagan and mdgan (6 cells)`; empty for nothing."""
    absent = _absent(results)
    if not any(absent) or all(absent):
        return ""
    cells = Counter(cell.model for cell, own in zip(results.plan.cells, absent, strict=True) if own)
    whole = {cell.model for cell, own in zip(results.plan.cells, absent, strict=True) if not own}
    names = [model if model not in whole else f"other seeds of {model}" for model in cells]
    return f"{listed(names)} ({cells.total()} {'cell' if cells.total() == 1 else 'cells'})"


def _absent(results: Results) -> list[bool]:
    """Of every cell: whether it was neither selected nor ever run."""
    return list((results.cells["status"] == "not run") & ~results.cells["selected"])
