"""Class by class: the distance of conditional generators in each class, and their agreement with it."""

import json
import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gans import schema
from gans.fidelity.metric import INCEPTION, label_of, scale_of, within
from gans.fidelity.metrics.classes import AGREEMENT, INTRA_FRECHET
from gans.pictures.lettering import brief, class_names
from reports.figures import DPI, FEW, Picture, log_ticks, styles
from reports.numbers import number
from reports.results import Board, Results
from reports.statistics import Estimate
from reports.tables import by_model, escape, floor_name

METRICS = (INTRA_FRECHET, AGREEMENT)
MOST = 20  # classes of a table or a picture; cells.csv has them all
HALVES = "train half vs train half"
HEADS = {
    INTRA_FRECHET.name: "Fréchet distance within the class",
    AGREEMENT.name: "Agreement with the wanted class",
}


@dataclass(frozen=True)
class Classes:
    """The scores of a board by class: by the score's name, a column for each class."""

    names: list[str]
    values: dict[str, pd.DataFrame]  # means over finished seeds: a row per model, best first
    floors: dict[str, pd.DataFrame]  # a row per comparison of real images

    @classmethod
    def of(cls, results: Results, board: Board) -> Self:
        """Those that some model was scored by; with no names if none was."""
        names = _names(results.finished(board))
        floors = results.floors_on(board).set_index("comparison")
        found, real = {}, {}
        for metric in METRICS:
            score = metric.called(label_of(board.metric) or INCEPTION)
            columns = [within(score, place) for place in range(len(names))]
            rows = {model: _means(own, columns) for model, own in by_model(results, board)}
            frame = pd.DataFrame.from_dict(rows, orient="index", columns=names).dropna(how="all")
            if len(frame):
                found[score] = frame
                real[score] = floors.reindex(columns=columns).set_axis(names, axis=1).dropna(how="all")
        return cls(names if found else [], found, real)


def _names(cells: pd.DataFrame) -> list[str]:
    """The classes that conditional cells name, at most so many as a page has room for."""
    known = cells.get(schema.CLASSES, pd.Series(dtype=object)).dropna()
    return list(json.loads(known.iloc[0]))[:MOST] if len(known) else []


def _means(cells: pd.DataFrame, columns: list[str]) -> list[float]:
    scale = scale_of(columns[0]) if columns else "signed"
    known = [schema.score(name) for name in columns]
    return [Estimate.of(cells[name], scale).mean if name in cells else math.nan for name in known]


def tables(classes: Classes) -> dict[str, pd.DataFrame]:
    """A table for each score, by its name: models and real images in rows, classes in columns."""
    found = {}
    for score, frame in classes.values.items():
        named = pd.concat([frame.rename(index=escape), classes.floors[score].rename(index=floor_name)])
        found[score] = named.map(number).rename(columns=escape).rename_axis("Model").reset_index()
    return found


def picture(results: Results, board: Board) -> Picture | None:
    """A panel for each score: classes below each other, a mark for each model, a grey stroke for real images."""
    classes = Classes.of(results, board)
    if not classes.names:
        return None
    figure = Figure(figsize=(10.4, 1.5 + 0.32 * len(classes.names)), layout="constrained", dpi=DPI)
    panels = figure.subplots(1, len(classes.values), sharey=True, squeeze=False)[0]
    for axes, (score, frame) in zip(panels, classes.values.items(), strict=True):
        _panel(axes, score, frame.iloc[:FEW], classes.floors[score], styles(results.plan.models))
        axes.set_xlabel(axes.get_xlabel().replace(score, board.brief(score)))
    names = class_names(tuple(classes.names))
    short = brief(names, 18)
    panels[0].set_yticks(range(len(names)), [short[name] for name in names])
    panels[0].invert_yaxis()
    panels[0].set_ylabel("wanted class")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    said = [
        f"{model} {score} from {number(row.min())} ({row.idxmin()}) to {number(row.max())} ({row.idxmax()})"
        for score, frame in classes.values.items()
        for model, row in frame.iterrows()
    ]
    return Picture(figure, f"On {board.title}, class by class: {'; '.join(said)}.")


def _panel(axes: Axes, score: str, frame: pd.DataFrame, floors: pd.DataFrame, looks: dict) -> None:
    places = np.arange(frame.shape[1])
    if HALVES in floors.index:
        axes.plot(floors.loc[HALVES], places, ls="", marker="|", ms=14, color="0.35", label="real: half vs half")
    for model, row in frame.iterrows():
        look = looks[str(model)]
        axes.plot(row, places, ls="", marker=look.marker, color=look.color, ms=6, alpha=0.85, label=str(model))
    metric = next(one for one in METRICS if score.startswith(one.name) or score == one.published)
    better = "lower is better" if metric is INTRA_FRECHET else "higher is better"
    axes.set_xlabel(f"{score} ({better})")
    axes.set_title(HEADS[metric.name], fontsize=10)
    axes.grid(alpha=0.3)
    if metric is INTRA_FRECHET:
        axes.set_xscale("log")
        log_ticks(axes.xaxis)
