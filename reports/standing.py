"""The first screen of a report: which model is best, by how much, how sure that is, at what cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from gans import schema
from reports.numbers import NOTHING, count, duration, images, listed, number, percent
from reports.pairs import Pair, pairs
from reports.results import CLOCK, Board, Results
from reports.tables import ENOUGH, Rank, escape, floor_name, ranking, seeds, whole

ALIKE = 1.05  # budgets whose ratio is at most this are one budget
NAMED = 4  # models that a sentence names; of more it gives the number


@dataclass(frozen=True)
class Standing:
    """How the models of a board stand."""

    results: Results  # all of the matrix
    board: Board  # data set and metric

    @cached_property
    def ranks(self) -> list[Rank]:
        """Models with a score, best first."""
        return [rank for rank in ranking(self.results, self.board) if rank.estimate.n]

    @cached_property
    def pairs(self) -> list[Pair]:
        """All pairs of these, best first."""
        return pairs(self.results, self.board)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The finished cells."""
        return self.results.finished(self.board)

    @property
    def lead(self) -> dict[str, Pair]:
        """The pair of the best model with each other one."""
        return {pair.other: pair for pair in self.pairs if pair.better == self.ranks[0].model}

    @property
    def few(self) -> str:
        """How many seeds the models have, in words."""
        least, most = (pick(rank.estimate.n for rank in self.ranks) for pick in (min, max))
        if most == 1:
            return "one seed each"
        return f"{least} seeds each" if least == most else f"{least} to {most} seeds each"

    # --- words

    @property
    def sentence(self) -> str:
        """Best model, by how much, how sure, at what cost, on what budget."""
        if not self.ranks:
            return f"No cell on {escape(self.board.title)} has a score yet."
        best = self.ranks[0]
        apart = f", {self._ahead}" if len(self.ranks) > 1 else ", alone"
        return (
            f"**{escape(best.model)}** is best on {escape(self.board.title)}: {self.board.metric} "
            f"{best.estimate}{apart}; {self._sure}; {self._cost(best.model)}."
        )

    @property
    def _ahead(self) -> str:
        best, second = self.ranks[:2]
        less = 1 - best.estimate.mean / second.estimate.mean
        return f"{percent(less) if less >= 0.005 else 'less than 1%'} below the next, {escape(second.model)}"

    @property
    def _sure(self) -> str:
        """What the seeds settle of the lead."""
        if len(self.ranks) == 1:
            return "no other model has a score to compare"
        settled = [model for model, pair in self.lead.items() if pair.settled]
        unsettled = [model for model in self.lead if model not in settled]
        if not settled:
            return f"from {self.few}, its lead over {named(unsettled, 'any other model')} is not beyond chance"
        if not unsettled:
            return f"from {self.few}, its lead over {named(settled, 'every other model')} is beyond chance"
        return f"from {self.few}, its lead over {named(settled)} is beyond chance, over {named(unsettled)} not"

    def _cost(self, model: str) -> str:
        own = self.cells[self.cells["model"] == model]
        seconds = whole(own).mean()
        device = listed([escape(name) for name in _texts(own, schema.DEVICE)])
        inall = f" ({duration(seconds)} in all)" if math.isfinite(seconds) else ""
        time = f"a seed took {duration(own[CLOCK].mean())} of training{inall}"
        budget = f"{images(own['seen'].mean())} images" if own["seen"].notna().any() else "its images"
        return f"{time} for {budget}" + (f" on {device}" if device else "")

    @property
    def remarks(self) -> list[str]:
        """What to know before scores and seconds of different models are compared."""
        seen = self.cells["seen"]
        alike = seen.max() <= ALIKE * seen.min()  # batches of other sizes end at other counts
        found = {
            "Budgets": [] if alike else self._by_model(seen.map(lambda seen: f"{images(seen)} images")),
            "Precision": self._by_model(_column(self.cells, "precision")),
            "Devices": self._by_model(_column(self.cells, schema.DEVICE)),
            "Threads": self._by_model(_column(self.cells, schema.THREADS)),
        }
        return [
            f"{what} differ{'s' if what == 'Precision' else ''}: "
            + "; ".join(f"{value} ({who})" for value, who in own)
            for what, own in found.items()
            if len(own) > 1
        ]

    def _by_model(self, values: pd.Series) -> list[tuple[str, str]]:
        """The models that have each of these values, if they have more than one."""
        models = self.cells["model"]
        groups = [(str(value), list(dict.fromkeys(models[values == value]))) for value in values.dropna().unique()]
        groups.sort(key=lambda group: len(group[1]))
        if len(groups) < 2:
            return []
        first = [(escape(value), named(own)) for value, own in groups[:-1]]
        last, own = groups[-1]
        return [*first, (escape(last), named(own) if len(own) <= NAMED else "the others")]

    @property
    def unsettled(self) -> str:
        """What the seeds cannot settle, in words; empty if that is nothing."""
        if len(self.ranks) < 2:
            return ""
        open_ = [pair for pair in self.pairs if not pair.settled]
        if not open_:
            return f"All {len(self.pairs)} pairs of models differ by more than chance."
        every = f"all {len(open_)}" if len(open_) == len(self.pairs) else f"{len(open_)} of {len(self.pairs)}"
        names = "; ".join(f"{escape(pair.better)} or {escape(pair.other)}" for pair in open_[:NAMED])
        more = f"; and {len(open_) - NAMED} more, below" if len(open_) > NAMED else ""
        few = any(rank.estimate.n < ENOUGH for rank in self.ranks)
        advice = f" More seeds (`SEEDS=`) would decide more: {ENOUGH} are a fair start." if few else ""
        open_pairs = f"the seeds do not decide which model is better in {every} pairs: {names}{more}"
        return f"With {self.few}, {open_pairs}.{advice}"

    # --- the table

    @property
    def table(self) -> pd.DataFrame:
        """The one table of the first screen: no wider than a page."""
        name = f"{self.board.metric} ↓"
        rows = [self._row(name, rank) for rank in ranking(self.results, self.board)]
        floors = [
            {"Model": floor_name(floor["comparison"]), name: number(floor[self.board.metric])}
            for _, floor in self.results.floors_on(self.board).iterrows()
            if self.board.metric in floor
        ]
        return pd.DataFrame([*rows, *floors]).fillna("")

    def _row(self, name: str, rank: Rank) -> dict[str, str]:
        own = self.cells[self.cells["model"] == rank.model]
        pair = self.lead.get(rank.model) if self.ranks else None
        mark = "**" if pair and pair.settled else ""
        return {
            "Model": escape(rank.model),
            name: rank.cell,
            "Over the best": f"{mark}{pair.difference.inverse}{mark}" if pair else NOTHING,
            "Seeds": seeds(rank.estimate.n, rank.cells),
            "Training (s)": number(own[CLOCK].mean()),
        }

    @property
    def floors(self) -> str:
        """How many images the rows of real images compare; empty without such rows."""
        rows = self.results.floors_on(self.board)
        parts = [
            f"{row['comparison']}, {count(row['n_generated'])} images against {count(row['n_reference'])}"
            for _, row in rows.iterrows()
        ]
        return "; ".join(parts)


def named(models: Sequence[str], all_of_them: str = "") -> str:
    """Models by name, or how many there are; in words of their own if a sentence means all."""
    if all_of_them and len(models) > NAMED:
        return all_of_them
    if len(models) > NAMED:
        return f"{len(models)} others"
    return listed([escape(model) for model in models])


def _column(cells: pd.DataFrame, name: str) -> pd.Series:
    return cells[name] if name in cells else pd.Series(np.nan, cells.index, dtype=object)


def _texts(cells: pd.DataFrame, name: str) -> list[str]:
    return [str(value) for value in _column(cells, name).dropna().unique()]
