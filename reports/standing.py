"""The first screen of a report: the best model, its lead and significance, its cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import pandas as pd
from rich.console import Console
from rich.table import Table

from gans import schema
from gans.registry import label
from reports.numbers import NOTHING, count, duration, images, listed, number, percent
from reports.results import CLOCK, Board, Results, selected_cells
from reports.sheet import visible
from reports.statistics import LEVEL, Difference, holm
from reports.tables import ENOUGH, Rank, by_model, distinct, escape, floor_name, ranking, seeds, whole

ALIKE = 1.05  # budgets whose ratio is at most this are one budget
NAMED = 4  # models that a sentence names; of more it gives the number


@dataclass(frozen=True)
class Pair:
    """Two models of a board."""

    better: str  # the one with the lower mean
    other: str  # the one that it is compared with
    difference: Difference  # the better one's scores over the other's
    paired: bool  # whether seed was compared with seed; else by Welch's test
    p: float  # allows for all pairs of the board (Holm); NaN where a side has fewer than two seeds

    @property
    def settled(self) -> bool:
        """Whether the difference is significant."""
        return self.p <= 1 - LEVEL


def pairs(results: Results, board: Board) -> list[Pair]:
    """All pairs of models with a finished seed, best first.

    Seeds are paired where both models have the same five or more: a seed decides the order of the data and, in
    equal networks, the weights to start from. Of fewer, pairing costs more degrees of freedom than it is worth.
    """
    scores = {model: own.set_index("seed")["score"] for model, own in by_model(results, board)}
    found = []
    for better, other in combinations(scores, 2):
        one, two = scores[better], scores[other]
        same = len(one) >= ENOUGH and set(one.index) == set(two.index)
        paired = same and bool((one > 0).all() and (two > 0).all())
        difference = Difference.paired(one, two) if paired else Difference.of(one, two)
        found.append(Pair(better, other, difference, paired, math.nan))
    adjusted = holm([pair.difference.p for pair in found])
    return [replace(pair, p=p) for pair, p in zip(found, adjusted, strict=True)]


def pair_table(found: Sequence[Pair]) -> pd.DataFrame:
    """One row per pair; what is settled is bold."""
    rows = []
    for pair in found:
        mark = "**" if pair.settled else ""
        rows.append(
            {
                "Model": escape(pair.better),
                "Over": escape(pair.other),
                "Ratio of scores": f"{mark}{pair.difference}{mark}",
                "p": number(pair.difference.p, 2),
                "p (Holm)": number(pair.p, 2),
                "Test": ("paired" if pair.paired else "Welch") if math.isfinite(pair.p) else NOTHING,
            }
        )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Standing:
    """The ranking of a board's models."""

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
        """The best model, its lead, significance, cost and budget."""
        if not self.ranks:
            return f"No cell on {escape(self.board.title)} has a score yet."
        best, several = self.ranks[0], len(self.ranks) > 1
        place = f"{'best' if several else 'the only model scored'} on {escape(self.board.title)}"
        lead = f", {self._ahead}; {self._sure}" if several else ""
        score = f"{self.board.metric} {best.estimate}{lead}"
        return f"**{escape(best.model)}** is {place}: {score}; {self._cost(best.model)}."

    @property
    def _ahead(self) -> str:
        best, second = self.ranks[:2]
        less = 1 - best.estimate.mean / second.estimate.mean
        return f"{percent(less) if less >= 0.005 else 'less than 1%'} below the next, {escape(second.model)}"

    @property
    def _sure(self) -> str:
        """The significance of the lead."""
        settled = [model for model, pair in self.lead.items() if pair.settled]
        unsettled = [model for model in self.lead if model not in settled]
        if settled and unsettled:
            return f"with {self.few}, its lead over {named(settled)} is significant, over {named(unsettled)} not"
        whom = named(list(self.lead), "every other model" if settled else "any other model")
        return f"with {self.few}, its lead over {whom} is {'' if settled else 'not '}significant"

    def _cost(self, model: str) -> str:
        own = self.cells[self.cells["model"] == model]
        seconds = whole(own).mean()
        inall = f" ({duration(seconds)} in all)" if math.isfinite(seconds) else ""
        time = f"a seed took {duration(own[CLOCK].mean())} of training{inall}"
        budget = f"{images(own['seen'].mean())} images" if own["seen"].notna().any() else "its images"
        devices = distinct(own, schema.DEVICE)
        return f"{time} for {budget}" + (f" on {devices}" if devices != NOTHING else "")

    @property
    def remarks(self) -> list[str]:
        """Remarks on the comparability of scores and seconds."""
        seen = self.cells["seen"]
        alike = seen.max() <= ALIKE * seen.min()  # batches of other sizes end at other counts
        facts = {
            "Budgets differ": None if alike else seen.dropna().map(lambda seen: f"{images(seen)} images"),
            "Precision differs": self.cells.get("precision"),
            "Devices differ": self.cells.get(schema.DEVICE),
            "Threads differ": self.cells.get(schema.THREADS),
        }
        known = {what: values for what, values in facts.items() if values is not None and values.nunique() > 1}
        return [f"{what}: {self._by_value(values)}" for what, values in known.items()]

    def _by_value(self, values: pd.Series) -> str:
        """Which models have which value."""
        groups = self.cells["model"].groupby(values, sort=False).unique()
        fewest = sorted(groups.items(), key=lambda group: len(group[1]))
        return "; ".join(f"{escape(value)} ({named(list(own), f'{len(own)} models')})" for value, own in fewest)

    @property
    def unsettled(self) -> str:
        """Pairs without a significant difference, as text; empty for one model."""
        if not self.pairs:
            return ""
        open_ = [pair for pair in self.pairs if not pair.settled]
        if not open_:
            count = "Both models" if len(self.pairs) == 1 else f"All {len(self.pairs)} pairs of models"
            return f"{count} differ significantly."
        names = "; ".join(f"{escape(pair.better)} and {escape(pair.other)}" for pair in open_[:NAMED])
        more = f"; and {len(open_) - NAMED} more, below" if len(open_) > NAMED else ""
        few = any(rank.estimate.n < ENOUGH for rank in self.ranks)
        advice = f" More seeds (`SEEDS=`) would decide more: {ENOUGH} are a fair start." if few else ""
        every = f"{len(open_)} of {len(self.pairs)} pairs do not differ significantly: {names}{more}"
        one = f"{names} do not differ significantly"
        return f"With {self.few}, {one if len(self.pairs) == 1 else every}.{advice}"

    # --- the table

    @property
    def table(self) -> pd.DataFrame:
        """The one table of the first screen: no wider than a page."""
        name = f"{self.board.brief()} ↓"
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


def winners(results: Results) -> dict[str, str]:
    """The best model of each data set and its score, as parameters of the run of an invocation."""
    found: dict[str, str] = {}
    for board in results.boards:
        if ranks := Standing(results, board).ranks:
            of = f" on {label(board.dataset)} by {board.metric}" if len(results.boards) > 1 else ""
            score = f"{ranks[0].estimate.mean:.4g}"
            found |= {f"winner{of}": ranks[0].model, f"{board.metric} of the winner{of}": score}
    return found


def named(models: Sequence[str], all_of_them: str = "") -> str:
    """Models by name, or how many there are; in words of their own if a sentence means all."""
    if all_of_them and len(models) > NAMED:
        return all_of_them
    if len(models) > NAMED:
        return f"{len(models)} others"
    return listed([escape(model) for model in models])


# --- in a terminal


def show(results: Results) -> None:
    """Print the ranking of every data set, best first, with the noise floors below."""
    console = Console(markup=False, emoji=False)
    results = selected_cells(results)
    for board in results.boards:
        console.print(leaderboard(results, board))
    missing = int((~results.cells["counted"]).sum())
    if missing:
        console.print(f"{missing} of {len(results.cells)} cells have no score; see the report for the reasons")


def leaderboard(results: Results, board: Board) -> Table:
    """The first table of a board's page, but for the times."""
    frame = Standing(results, board).table.map(visible).iloc[:, :4]
    table = Table(title=f"{board.title}: {board.metric}, lower is better", title_justify="left")
    for place, heading in enumerate(frame):
        table.add_column(str(heading), justify="right" if place else "left")
    for row in frame.itertuples(index=False, name=None):
        table.add_row(*row, style="dim" if row[0].startswith("real: ") else None)
    return table
