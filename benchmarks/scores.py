"""Adds scores to cells that are trained: other extractors, other numbers of images; nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.matrix import Matrix
from benchmarks.options import Machine, Selection
from benchmarks.runner import FINISHED, MatrixOutcome, MatrixRun, Planned
from gans.errors import InputError
from gans.runs.cell import Cell, extractor
from gans.runs.export import Exporter, say_left
from gans.runs.scores import ScoreKey
from gans.runs.store import Store


def score(
    matrix: Matrix,
    selection: Selection,
    machine: Machine,
    store: Store,
    extractors: Sequence[str] | None = None,
    count: int | None = None,
) -> MatrixOutcome:
    """Score what is finished and not yet scored like this, and the noise floors beside it.

    Scores on the matrix's own number of images join those that training ended with (`score/fid`); those on another
    number stand beside them under its name (`score-50000/fid`).

    Args:
        matrix: whose cells.
        selection: of these, and the budget and precision they were trained with.
        machine: where and how wide to score.
        store: where they were tracked, and where the scores go.
        extractors: names; None: the matrix's.
        count: generated images; None: the matrix's.

    Raises:
        InputError: no selected cell is finished, an extractor cannot be had, or the count is too small.
    """
    for name in extractors or ():
        extractor(name)
    run = ScoreRun(matrix, selection, machine, store, extractors, count)
    if not run.selected:
        raise InputError(f"no cell of {matrix.path} is finished in '{run.experiment}'; run `gans bench` first")
    run.close_stale()
    with Exporter(run.folder, store) as exporter:
        outcome = run.finish_all([])
    say_left(exporter.synced, machine.remedy)
    return outcome


class ScoreRun(MatrixRun):
    """An invocation that scores what is trained."""

    def __init__(
        self,
        matrix: Matrix,
        selection: Selection,
        machine: Machine,
        store: Store,
        extractors: Sequence[str] | None,
        count: int | None,
    ) -> None:
        self.extractors, self.count = extractors, count
        super().__init__(matrix, selection, machine, store)

    def wanted(self, cell: Cell) -> tuple[ScoreKey, ...]:
        own = cell.experiment.score
        names = self.extractors or own.extractors
        return tuple(ScoreKey(name, self.count or own.images) for name in dict.fromkeys(names))

    @property
    def selected(self) -> list[Planned]:
        return [p for p in super().selected if p.status == FINISHED]

    def untrained(self) -> list[Planned]:
        return []
