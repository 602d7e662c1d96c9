"""Compares two tracked matrices with the same models, data and scoring: did a setting change scores?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from gans import schema
from gans.errors import InputError
from gans.files import file_name
from gans.runs.store import Tracked
from reports.figures import COLOURS, dots
from reports.numbers import NOTHING, number
from reports.report import write_new
from reports.results import CLOCK, Board, PlannedCell, Results, load
from reports.statistics import LEVEL, Difference, Estimate
from reports.tables import escape

# how a cell is scored: must be the same on both sides
SCORING = (schema.PROTOCOL, schema.EXTRACTORS, schema.REFERENCE, "score.images")
# columns that are no settings, and those that say on what and with what a cell ran
PLANNED = {*PlannedCell.model_fields, "status", "reason", "counted"}
MACHINE = (schema.DEVICE, schema.THREADS, f"{schema.VERSION}torch")
CODE = (schema.COMMIT, schema.DIRTY)


@dataclass(frozen=True)
class Pair:
    """A model on a board, in both matrices."""

    board: Board  # data set and metric
    model: str
    cells: tuple[pd.DataFrame, pd.DataFrame]  # the finished ones, with their tags, settings and metrics

    @property
    def scores(self) -> tuple[pd.Series, pd.Series]:
        return self.cells[0]["score"], self.cells[1]["score"]

    @property
    def difference(self) -> Difference:
        """The other's scores over the one's."""
        one, other = self.scores
        return Difference.of(other, one)


def pairs(one: Results, other: Results) -> list[Pair]:
    """Common models, in the order of the first.

    An InputError without any, or if they were scored in different ways.
    """
    found = [
        Pair(board, model, tuple(side.of(model, board) for side in (one, other)))  # type: ignore[arg-type]
        for board in one.boards
        if board in other.boards
        for model in one.plan.models
        if model in other.plan.models
    ]
    found = [pair for pair in found if not any(cells.empty for cells in pair.cells)]
    if not found:
        raise InputError("the two experiments share no model with finished cells on the same data and metric")
    for pair in found:
        for name in SCORING:
            values = [set(cells.get(name, pd.Series(dtype=str))) for cells in pair.cells]
            if values[0] != values[1]:
                raise InputError(
                    f"{pair.model} on {pair.board.dataset} was scored in different ways: {name} is "
                    f"{_listed(values[0])} and {_listed(values[1])}"
                )
    return found


def _listed(values: set[str]) -> str:
    return ", ".join(sorted(map(str, values))) or NOTHING


def over_models(found: Sequence[Pair]) -> Estimate | None:
    """The geometric mean over models of the other's score divided by the one's, with its 95 % interval.

    By Welch and Satterthwaite; None where a model has fewer than two seeds on a side.
    """
    logs = [[np.log(scores.to_numpy(dtype=float)) for scores in pair.scores] for pair in found]
    sets = [values for sides in logs for values in sides]
    if any(len(values) < 2 or not np.isfinite(values).all() for values in sets):
        return None
    mean = float(np.mean([other.mean() - one.mean() for one, other in logs]))
    variances = [values.var(ddof=1) / len(values) for values in sets]
    freedom = sum(variances) ** 2 / sum(v**2 / (len(s) - 1) for v, s in zip(variances, sets, strict=True))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(sum(variances)) / len(found)
    return Estimate(math.exp(mean), math.exp(mean - reach), math.exp(mean + reach), len(found))


def table(found: Sequence[Pair], names: tuple[str, str]) -> pd.DataFrame:
    """Scores, differences and training time."""
    rows = []
    for pair in found:
        apart = pair.difference
        mark = "**" if apart.beyond else ""
        scores = [f"{Estimate.of(own)}, n = {len(own)}" for own in pair.scores]
        seconds = [cells[CLOCK].mean() for cells in pair.cells]
        rows.append(
            {
                "Model": escape(pair.model),
                "Metric": f"`{pair.board.metric}`",
                **dict(zip(names, scores, strict=True)),
                "Ratio": f"{mark}{apart}{mark}",
                "p": number(apart.p, 2),
                "Training time": f"{seconds[0] / seconds[1]:.2f}",
            }
        )
    return pd.DataFrame(rows)


def unlike(found: Sequence[Pair], names: tuple[str, str]) -> pd.DataFrame:
    """Settings and code in which the two differ, and the machines whether or not they do; of all cells."""
    sides = [pd.concat([pair.cells[side] for pair in found]) for side in (0, 1)]
    texts = [str(name) for side in sides for name in side if not pd.api.types.is_numeric_dtype(side[name])]
    described = {*PLANNED, *(name for name in texts if name.startswith((schema.TAGS, schema.VERSION)))}
    settings = [name for name in dict.fromkeys(texts) if name not in described]
    rows = []
    for name in (*settings, *CODE, *MACHINE):
        one, other = (set(side[name].dropna().astype(str)) if name in side else set() for side in sides)
        if one != other or (name in MACHINE and one):
            rows.append({"Trained with": f"`{name}`", names[0]: _listed(one), names[1]: _listed(other)})
    return pd.DataFrame(rows, columns=["Trained with", *names])


def draw(found: Sequence[Pair], names: tuple[str, str]) -> Figure:
    """Every seed's score as a dot, the mean and its interval as a bar, one panel per board."""
    boards = list(dict.fromkeys(pair.board for pair in found))
    most = max(sum(pair.board == board for pair in found) for board in boards)
    figure = Figure(figsize=(7.2, (0.9 + 0.55 * most) * len(boards)), layout="constrained")
    for axes, board in zip(np.atleast_1d(figure.subplots(len(boards))), boards, strict=True):
        own = [pair for pair in found if pair.board == board]
        for place, pair in enumerate(own):
            for side, scores in enumerate(pair.scores):
                height, label = place + 0.32 * (side - 0.5), names[side] if place == 0 else None
                dots(axes, height, scores, COLOURS[side], label=label)
        axes.set_yticks(range(len(own)), [pair.model for pair in own])
        axes.invert_yaxis()
        axes.set_xlabel(f"{board.brief()}, {board.title} (lower is better)")
        axes.legend(frameon=False, fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def write(tracked: Tracked, names: tuple[str, str], root: Path) -> Path:
    """Write a new page that compares two tracked matrices; an InputError if one was not tracked or they differ."""
    sides = [load(tracked, file_name(name, "experiment", 200)) for name in names]
    found = pairs(*sides)
    return write_new(
        root,
        f"{names[0]}-and-{names[1]}",
        "compare.md.j2",
        draw(found, names),
        one=names[0],
        other=names[1],
        table=table(found, names),
        apart=", ".join(f"{pair.model} on {pair.board.title}" for pair in found if pair.difference.beyond),
        rows=len(found),
        expected=f"{(1 - LEVEL) * len(found):.2g}",
        ratio=over_models(found),
        unlike=unlike(found, names),
        commands=[side.plan.command for side in sides],
    )
