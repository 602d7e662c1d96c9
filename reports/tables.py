"""The tables of a report: averages, and their text. A printed table is a frame of strings."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from gans import schema
from gans.errors import printable
from gans.fidelity.metric import error_of, label_of, metrics, scale_of
from reports.numbers import NOTHING, count, images, number, percent, setting
from reports.results import CLOCK, FLOORS, Board, Results
from reports.statistics import LEVEL, Estimate

Column = Callable[[pd.DataFrame], str]  # what a table has of a model, from its cells
ENOUGH = 5  # training seeds from which drawing them again says something
DRAWS = 10_000  # of the bootstrap over seeds
# settings that distinguish trainings, under the headings of the table
SETTINGS = {
    "networks.name": "Networks",
    "networks.width": "Width",
    "networks.latent": "Latent",
    "update.rule": "Update rule",
    "loss.name": "Loss",
    "optimizer.lr_g": "Rate of G",
    "optimizer.lr_d": "Rate of D",
    "batch": "Batch",
    "precision": "Precision",
    "ema.halflife_kimg": "EMA half-life (kimg)",
    "kimg": "Images (thousands)",
}


def escape(text: object) -> str:
    """Text for markdown, cells of tables too: nothing in it is markup, HTML or LaTeX."""
    line = re.sub(r"([\\`*|\[\]$~])", r"\\\1", " ".join(str(text).split()))
    line = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", line)  # within a word it is a letter
    return re.sub(r"&(?=#?\w+;)", "&amp;", line).replace("<", "&lt;")


def code(text: object) -> str:
    """Text as a span of code in markdown: between more backticks than it holds in a row."""
    line = printable(str(text))
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence}{line}{fence}" if len(fence) == 1 else f"{fence} {line} {fence}"


# --- scores


@dataclass(frozen=True)
class Rank:
    """A model's row in the ranking of a board."""

    model: str  # its name
    estimate: Estimate  # its primary score over the finished seeds
    cells: int  # how many seeds were planned
    best: bool = False  # whether no other mean is lower

    @property
    def cell(self) -> str:
        return f"**{self.estimate}**" if self.best else str(self.estimate)


def ranking(results: Results, board: Board) -> list[Rank]:
    """The models of a board, best first; those without a finished cell come last."""
    ranks = [
        Rank(str(model), Estimate.of(own.loc[own["counted"], "score"]), len(own))
        for model, own in results.on(board).groupby("model", sort=False)
    ]
    ranks.sort(key=lambda rank: rank.estimate.mean if rank.estimate.n else math.inf)
    return [replace(rank, best=rank.estimate.mean == ranks[0].estimate.mean) for rank in ranks]


def by_model(results: Results, board: Board) -> list[tuple[str, pd.DataFrame]]:
    """The finished cells of each model that has some, in the order of the ranking."""
    cells = results.finished(board)
    ranked = [rank.model for rank in ranking(results, board) if rank.estimate.n]
    return [(model, cells[cells["model"] == model]) for model in ranked]


def per_model(
    results: Results, board: Board, columns: Mapping[str, Callable[[pd.DataFrame], str]]
) -> pd.DataFrame:
    """A row for each model with finished cells, best first; a column for each function of these cells."""
    rows = [
        {"Model": escape(model), **{head: of(own) for head, of in columns.items()}}
        for model, own in by_model(results, board)
    ]
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Stability:
    """The stability of a rank under redrawn training seeds, with replacement."""

    best: float  # share of the draws in which this model has the lowest mean; ties are split
    low: int  # the central 95 % of its ranks
    high: int

    @property
    def ranks(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}–{self.high}"


def stability(results: Results, board: Board) -> dict[str, Stability]:
    """The bootstrap over seeds, for models with five finished seeds or more; always the same draws.

    Fewer seeds would look too certain. Each model's seeds are drawn independently.
    """
    scores = {m: own["score"].to_numpy(float) for m, own in by_model(results, board)}
    scores = {m: np.log(own[own > 0]) for m, own in scores.items() if (own > 0).sum() >= ENOUGH}
    if len(scores) < 2:
        return {}
    rng = np.random.default_rng(0)
    draws = np.stack([own[rng.integers(len(own), size=(DRAWS, len(own)))].mean(axis=1) for own in scores.values()])
    ranks = 1 + (draws[None, :, :] < draws[:, None, :]).sum(axis=1)
    first = ranks == 1
    best = (first / first.sum(axis=0)).mean(axis=1)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(ranks, [tail, 1 - tail], axis=1, method="inverted_cdf")
    return {m: Stability(float(best[i]), int(low[i]), int(high[i])) for i, m in enumerate(scores)}


def learned(results: Results, board: Board) -> pd.DataFrame:
    """Scores before and after training, and the stability of ranks if there are enough seeds."""
    firm = stability(results, board)
    curves = results.score_curves(board)
    start = curves[(curves["images"] == 0) & curves["counted"]].groupby("model")["score"]
    untrained = {str(model): Estimate.of(own).mean for model, own in start}
    ranks = [rank for rank in ranking(results, board) if rank.estimate.n]
    before = [untrained.get(rank.model, math.nan) for rank in ranks]
    columns = {
        "Model": [escape(rank.model) for rank in ranks],
        f"Untrained {board.brief()}": [number(value) for value in before],
        "Untrained / trained": [_ratio(v, rank.estimate.mean) for v, rank in zip(before, ranks, strict=True)],
    }
    if firm:
        own = [firm.get(rank.model) for rank in ranks]
        columns["Best of redrawn seeds"] = [percent(one.best) if one else NOTHING for one in own]
        columns["Ranks of redrawn seeds"] = [one.ranks if one else NOTHING for one in own]
    return pd.DataFrame(columns)


def seeds(done: int, of: int) -> str:
    """`3`, or `2 of 3`."""
    return str(done) if done == of else f"{done} of {of}"


def _ratio(before: float, after: float) -> str:
    return f"{number(before / after)}×" if after and math.isfinite(before / after) else NOTHING


def floor_name(comparison: str) -> str:
    """A row of real images, in few characters: both halves are the training split's."""
    return f"*real: {comparison.replace('train half', 'half')}*"


def overview(results: Results) -> pd.DataFrame:
    """Primary scores, model x data set."""
    often = Counter(board.dataset for board in results.boards)
    names = {b: b.brief() if often[b.dataset] == 1 else escape(b.metric) for b in results.boards}
    columns = {
        f"{escape(board.title)}: {names[board]} ↓": {rank.model: rank.cell for rank in ranking(results, board)}
        for board in results.boards
    }
    frame = pd.DataFrame(columns, index=results.plan.models).fillna(NOTHING)
    return frame.rename(index=escape).rename_axis("Model").reset_index()


def arrows(distance: str) -> dict[str, str]:
    """All metrics of the extractor whose Frechet distance has this name, and which way is better."""
    label = label_of(distance) or distance
    return {metric.called(label): metric.best for metric in metrics().values()}


def metric_columns(frame: pd.DataFrame, board: Board) -> dict[str, str]:
    """Columns of all scores but the board's own, in the order of the extractors, with their headings."""
    own = [board.metric] if schema.score(board.metric) in frame else []
    scores = [str(name).removeprefix(schema.SCORE) for name in frame.columns if str(name).startswith(schema.SCORE)]
    distances = sorted(name for name in scores if label_of(name))
    columns: dict[str, str] = {}
    for distance in dict.fromkeys([*own, *distances]):
        columns |= {schema.score(name): f"{board.brief(name)} {arrow}" for name, arrow in arrows(distance).items()}
    for name in scores:
        if error_of(name) in scores:  # a metric that is not registered here: which way is better is not known
            columns.setdefault(schema.score(name), name)
    columns.pop(schema.score(board.metric), None)
    return {name: heading for name, heading in columns.items() if name in frame and frame[name].notna().any()}


def further(results: Results, board: Board, own: bool = False) -> pd.DataFrame:
    """All other metrics of a board, on request its own too, models as in the ranking, real images below."""
    cells = results.finished(board)
    columns = metric_columns(cells, board)
    head = schema.score(board.metric)
    if own and head in cells and cells[head].notna().any():
        columns = {head: f"{board.brief()} ↓"} | columns
    if not columns:
        return pd.DataFrame()
    rows = per_model(results, board, {head: partial(_estimate, name=name) for name, head in columns.items()})
    floors = results.floors[results.floors["dataset"] == board.dataset]
    # several extractors measure one comparison each by themselves: put side by side
    real = floors.groupby("comparison", sort=False).first()
    below = [
        {
            "Model": floor_name(row["comparison"]),
            **{head: number(row.get(name.removeprefix(schema.SCORE), math.nan)) for name, head in columns.items()},
        }
        for _, row in real.reset_index().iterrows()
    ]
    return pd.concat([rows, pd.DataFrame(below)], ignore_index=True)


def _estimate(cells: pd.DataFrame, name: str) -> str:
    return str(Estimate.of(cells[name], scale_of(name.removeprefix(schema.SCORE))))


def errors(results: Results, board: Board) -> pd.DataFrame:
    """The standard error of every metric from a cell's generated images, as a mean over the finished cells."""
    finished = results.finished(board)
    own = {schema.score(board.metric): f"{board.brief()} ↓"}
    names = {error_of(name): head for name, head in (own | metric_columns(finished, board)).items()}
    known = {head: partial(_mean, name=name, digits=2) for name, head in names.items() if name in finished}
    return per_model(results, board, known) if known else pd.DataFrame()


def _mean(cells: pd.DataFrame, name: str, digits: int = 3) -> str:
    return number(cells[name].mean(), digits)


# --- cost


def target(results: Results, board: Board) -> float:
    """The score that the better half of the models reach during training; NaN without curves."""
    curves = results.score_curves(board)
    counted = curves[curves["counted"]]
    best = counted.groupby(["model", "seed"])["score"].min()
    return float(best.groupby("model").mean().median()) if len(best) else math.nan


def reached(results: Results, board: Board, goal: float) -> pd.DataFrame:
    """Per finished cell: `model`, `seed`, and the training `seconds` of the first point at or below the goal."""
    curves = results.score_curves(board)
    hits = curves[curves["counted"] & (curves["score"] <= goal)]
    return hits.sort_values("images").groupby(["model", "seed"], as_index=False).first()


def time(results: Results, board: Board) -> pd.DataFrame:
    """The time that the finished cells trained, as means over seeds; models in the order of the ranking."""
    goal = target(results, board)
    hits = reached(results, board, goal)
    columns: dict[str, Column] = {
        "Training (s)": lambda own: number(own[CLOCK].mean()),
        "Seconds per 1,000 images": lambda own: number((own[CLOCK] / own["seen"] * 1000).mean()),
        "Seconds per epoch": lambda own: number((own[CLOCK] / own["seen"] * own["epoch"]).mean()),
    }
    if math.isfinite(goal):
        heading = f"Training until {board.brief()} ≤ {number(goal)} (s)"
        columns[heading] = lambda own: _time_to(hits[hits["identity"].isin(own["identity"])], len(own))
    return per_model(results, board, columns)


def whole(cells: pd.DataFrame) -> pd.Series:
    """The seconds of each cell in all."""
    return cells[CLOCK] + cells[schema.EVALUATION] + cells[schema.OVERHEAD]


# what else finished cells cost, as means over seeds
COSTS: dict[str, Column] = {
    "Images": lambda own: images(own["seen"].mean()),
    "Images/s": lambda own: number((own["seen"] / own[CLOCK]).mean()),
    "Evaluation (s)": partial(_mean, name=schema.EVALUATION),
    "Evaluation's share": lambda own: percent((own[schema.EVALUATION] / whole(own)).mean()),
    "Overhead (s)": partial(_mean, name=schema.OVERHEAD),
    "Parameters G": lambda own: count(own[schema.SIZE_G].mean()),
    "Parameters D": lambda own: count(own[schema.SIZE_D].mean()),
    "Peak memory (MiB)": lambda own: count(own[schema.PEAK].mean()),
    "Energy (kJ)": lambda own: number(own[schema.JOULES].mean() / 1000),
}


def further_cost(results: Results, board: Board) -> pd.DataFrame:
    """`COSTS` of every model; no energy where none was measured."""
    measured = results.finished(board)[schema.JOULES].notna().any()
    return per_model(results, board, {head: of for head, of in COSTS.items() if measured or "Energy" not in head})


def _time_to(hits: pd.DataFrame, cells: int) -> str:
    if hits.empty:
        return "not reached"
    return number(hits["seconds"].mean()) + ("" if len(hits) == cells else f" ({len(hits)} of {cells} seeds)")


# --- protocol, holes, environment


def protocol(results: Results) -> pd.DataFrame:
    """What the scores depend on: one row per data set and extractor, the ranking one first."""
    rows = [
        _protocol_row(results, board, metric)
        for board in results.boards
        for metric in [board.metric, *(f.metric for f in results.plan.floors if f.dataset == board.dataset)]
    ]
    return pd.DataFrame(rows).drop_duplicates()


def _protocol_row(results: Results, board: Board, metric: str) -> dict[str, str]:
    cells, floors = results.on(board), results.floors_on(replace(board, metric=metric))
    whole = floors.loc[floors["comparison"] == FLOORS["test"], "n_reference"]
    return {
        "Data set": escape(board.title),
        "Distance": metric,
        "Extractor": escape(label_of(metric) or metric),
        "SHA-256 of its weights": next((f"`{str(digest)[:12]}`" for digest in floors["hash"]), "unknown"),
        "Generated images": distinct(cells, "score.images"),
        "Reference": f"train split, {count(whole.iloc[0])} images" if len(whole) else "train split",
        "Generated images per point of a curve": distinct(cells, "score.curve_images"),
        "EMA half-life (kimg)": distinct(cells, "ema.halflife_kimg"),
    }


def distinct(cells: pd.DataFrame, name: str) -> str:
    """The values of a parameter, each once; a dash for none."""
    values = cells[name].dropna() if name in cells else pd.Series(dtype=str)
    return escape(", ".join(setting(value) for value in values.unique())) or NOTHING


def holes(results: Results) -> pd.DataFrame:
    """The cells that have no score, those of one model that lack it for the same reason in one row."""
    missing = results.cells[~results.cells["counted"]]
    alike = missing.groupby(["model", "dataset", "status", "reason"], sort=False)
    rows = [
        {
            "Cells": escape(f"{model}/{dataset}/{', '.join(map(str, own['seed']))}"),
            "Status": escape(status),
            "Reason": escape(reason),
        }
        for (model, dataset, status, reason), own in alike
    ]
    return pd.DataFrame(rows)


def cells(results: Results) -> pd.DataFrame:
    """Every cell with its scores and costs, as numbers."""
    first = ["model", "dataset", "seed", "status", "reason", "metric", "score"]
    measured = (schema.SCORE, "score-", "seconds/", "parameters/", "memory/", "energy/", schema.TRAFFIC)
    names = [str(name) for name in results.cells if str(name).startswith(measured)]
    return results.cells[[*first, *(name for name in names if results.cells[name].notna().any())]]


def settings(results: Results) -> pd.DataFrame:
    """The settings that the runs of each model were trained with."""
    rows = [
        {"Model": escape(model), **{heading: distinct(own, name) for name, heading in SETTINGS.items()}}
        for model, own in results.cells.groupby("model", sort=False)
    ]
    return pd.DataFrame(rows)


def environment(results: Results) -> pd.DataFrame:
    """Where the cells ran, and with which code; what differs between cells is listed with its number of cells."""
    cells = results.cells[results.cells["status"] != "not run"]
    if schema.COMMIT in cells:
        dirty = cells.get(schema.DIRTY, pd.Series("", cells.index)).eq("true")
        cells = cells.assign(commit=cells[schema.COMMIT].str[:10] + dirty.map({True: " + changes", False: ""}))
    versions = sorted(name for name in map(str, cells.columns) if name.startswith(schema.VERSION))
    facts = {
        "Device": schema.DEVICE,
        "Threads per cell": schema.THREADS,
        "Precision": "precision",
        "Commit": "commit",
    }
    facts |= {name.removeprefix(schema.VERSION): name for name in versions}
    return pd.DataFrame({"": facts.keys(), "Value": [_spread(cells, name) for name in facts.values()]})


def _spread(cells: pd.DataFrame, name: str) -> str:
    counts = cells[name].value_counts().sort_index() if name in cells else pd.Series(dtype=int)
    if len(counts) <= 1:
        return escape(next(iter(counts.index), NOTHING))
    return escape("; ".join(f"{value} ({number} of {len(cells)} cells)" for value, number in counts.items()))
