"""The tables of a report: what to average, and how a number is printed. A printed table is a frame of strings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from gans import schema
from gans.fidelity.metric import error_of, label_of, metrics
from reports.difference import LEVEL
from reports.results import CLOCK, FLOORS, Board, Results

NOTHING = "—"
DRAWS = 10_000  # of the bootstrap over seeds
# settings that tell one training from another, under the headings of the table
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


@dataclass(frozen=True)
class Estimate:
    """A mean over training seeds.

    Attributes:
        mean: NaN without a value.
        half: half the width of the 95 % interval of the mean (Student's t); NaN with fewer than two values.
        n: how many finite values there are.
    """

    mean: float
    half: float
    n: int

    @classmethod
    def of(cls, values: pd.Series) -> Estimate:
        """The estimate from one value per seed; what is not finite is left out."""
        finite = values.to_numpy(dtype=float)
        finite = finite[np.isfinite(finite)]
        n = len(finite)
        if n == 0:
            return cls(math.nan, math.nan, 0)
        half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * stats.sem(finite)) if n > 1 else math.nan
        return cls(float(finite.mean()), half, n)

    def overlaps(self, other: Estimate) -> bool:
        """Whether the two intervals share a point; one without an interval is a point."""
        reach = sum(half for half in (self.half, other.half) if math.isfinite(half))
        return abs(self.mean - other.mean) <= reach

    def __str__(self) -> str:
        if self.n == 0:
            return NOTHING
        if self.n == 1:
            return f"{number(self.mean)} (one seed)"
        if not 1e-3 <= abs(self.mean) < 1e6:
            return f"{number(self.mean)} ± {number(self.half, 2)}"
        coarse, fine = _places(self.mean, 3), _places(self.half, 1)
        # one or two digits more where the interval needs them, none for one that is 0 but for rounding
        places = fine if coarse < fine <= coarse + 2 else coarse
        return f"{self.mean:.{places}f} ± {self.half:.{places}f}"


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits; a dash for one that is not finite."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{_places(value, digits)}f}"


def _places(value: float, digits: int) -> int:
    """Decimals that show so many significant digits."""
    if not value or not math.isfinite(value):
        return 0
    return max(0, digits - 1 - math.floor(math.log10(abs(value))))


def count(value: float) -> str:
    """A whole number with separators."""
    return f"{value:,.0f}" if math.isfinite(value) else NOTHING


def percent(share: float) -> str:
    """A share as a whole number of hundredths; a dash for one that is not known."""
    return f"{share:.0%}" if math.isfinite(share) else NOTHING


def escape(text: object) -> str:
    """Text for a cell of a markdown table: nothing in it is markup."""
    line = " ".join(str(text).split())
    for character in "\\`*|":
        line = line.replace(character, f"\\{character}")
    return line.replace("<", "&lt;")


def markdown(frame: pd.DataFrame) -> str:
    """A table in markdown: the first column to the left, the others to the right."""
    head = [" | ".join(map(str, frame.columns)), " | ".join([":--", *["--:"] * (len(frame.columns) - 1)])]
    rows = [" | ".join(row) for row in frame.itertuples(index=False, name=None)]
    return "\n".join(f"| {row} |" for row in [*head, *rows])


# --- scores


@dataclass(frozen=True)
class Rank:
    """A model's row in the ranking of a board.

    Attributes:
        model: its name.
        estimate: its primary score over the finished seeds.
        cells: how many seeds were planned.
        untrained: mean score of the same generators before their first step; NaN if there is none.
        best: whether no other mean is lower.
    """

    model: str
    estimate: Estimate
    cells: int
    untrained: float
    best: bool = False

    @property
    def cell(self) -> str:
        """The estimate in markdown."""
        return f"**{self.estimate}**" if self.best else str(self.estimate)


def ranking(results: Results, board: Board) -> list[Rank]:
    """The models of a board, best first; those without a finished cell come last."""
    curves = results.score_curves(board)
    start = curves[curves["images"] == 0].set_index("identity")["score"]
    ranks = [_rank(str(model), own, start) for model, own in results.on(board).groupby("model", sort=False)]
    ranks.sort(key=lambda rank: rank.estimate.mean if rank.estimate.n else math.inf)
    return [replace(rank, best=rank.estimate.mean == ranks[0].estimate.mean) for rank in ranks]


def _rank(model: str, cells: pd.DataFrame, start: pd.Series) -> Rank:
    counted = cells[cells["counted"]]
    untrained = counted["identity"].map(start).astype(float).mean()
    return Rank(model, Estimate.of(counted["score"]), len(cells), untrained)


@dataclass(frozen=True)
class Stability:
    """How firm a rank is when the training seeds are drawn again, with replacement.

    Attributes:
        best: share of the draws in which this model has the lowest mean; ties are split.
        low, high: the central 95 % of its ranks.
    """

    best: float
    low: int
    high: int

    @property
    def ranks(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}–{self.high}"


def stability(results: Results, board: Board) -> dict[str, Stability]:
    """The bootstrap over seeds, for models with two finished seeds or more; always the same draws.

    Each model's seeds are drawn on their own: seeds are not paired, since they share nothing between models.
    """
    cells = results.on(board)
    scores = {
        str(m): own["score"].to_numpy(float) for m, own in cells[cells["counted"]].groupby("model", sort=False)
    }
    scores = {model: own for model, own in scores.items() if len(own) > 1}
    if not scores:
        return {}
    rng = np.random.default_rng(0)
    draws = np.stack([own[rng.integers(len(own), size=(DRAWS, len(own)))].mean(axis=1) for own in scores.values()])
    ranks = 1 + (draws[None, :, :] < draws[:, None, :]).sum(axis=1)
    first = ranks == 1
    best = (first / first.sum(axis=0)).mean(axis=1)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(ranks, [tail, 1 - tail], axis=1, method="inverted_cdf")
    return {m: Stability(float(best[i]), int(low[i]), int(high[i])) for i, m in enumerate(scores)}


def main(results: Results, board: Board) -> pd.DataFrame:
    """The main table of a board, with the noise floors below the models."""
    name = f"{board.metric} ↓"
    firm = stability(results, board)
    rows = [
        {
            "Model": escape(rank.model),
            name: rank.cell,
            "Seeds finished": seeds(rank.estimate.n, rank.cells),
            "Best of redrawn seeds": f"{firm[rank.model].best:.0%}" if rank.model in firm else NOTHING,
            "Ranks of redrawn seeds": firm[rank.model].ranks if rank.model in firm else NOTHING,
            "Untrained": number(rank.untrained),
            "Untrained / trained": _ratio(rank.untrained, rank.estimate.mean),
        }
        for rank in ranking(results, board)
    ]
    floors = [
        {"Model": _floor_name(floor), name: number(floor[board.metric])}
        for _, floor in results.floors_on(board).iterrows()
        if board.metric in floor
    ]
    return pd.DataFrame([*rows, *floors]).fillna("")


def seeds(done: int, of: int) -> str:
    """`3`, or `2 of 3`."""
    return str(done) if done == of else f"{done} of {of}"


def _ratio(before: float, after: float) -> str:
    return f"{number(before / after)}×" if after and math.isfinite(before / after) else NOTHING


def _floor_name(floor: pd.Series) -> str:
    return (
        f"*real: {floor['comparison']}, {count(floor['n_generated'])} images against "
        f"{count(floor['n_reference'])}*"
    )


def undecided(results: Results, board: Board) -> list[str]:
    """Models whose interval overlaps with that of the best one."""
    ranks = [rank for rank in ranking(results, board) if rank.estimate.n]
    return [rank.model for rank in ranks[1:] if rank.estimate.overlaps(ranks[0].estimate)]


def overview(results: Results) -> pd.DataFrame:
    """Primary scores, model x data set."""
    columns = {
        f"{escape(board.title)}: {board.metric} ↓": {rank.model: rank.cell for rank in ranking(results, board)}
        for board in results.boards
    }
    rows = [
        {"Model": escape(model), **{name: column.get(model, NOTHING) for name, column in columns.items()}}
        for model in results.plan.models
    ]
    return pd.DataFrame(rows)


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
        columns |= {schema.score(name): f"{name} {arrow}" for name, arrow in arrows(distance).items()}
    for name in scores:
        if error_of(name) in scores:  # a metric that is not registered here: which way is better is not known
            columns.setdefault(schema.score(name), name)
    columns.pop(schema.score(board.metric), None)
    return {name: heading for name, heading in columns.items() if name in frame and frame[name].notna().any()}


def further(results: Results, board: Board) -> pd.DataFrame:
    """All other metrics of a board, models in the order of the main table, real images below."""
    cells = results.on(board)
    return scored(results, board, metric_columns(cells[cells["counted"]], board))


def scored(results: Results, board: Board, columns: Mapping[str, str]) -> pd.DataFrame:
    """These scores of a board under their headings, models in the order of the main table, real images below."""
    cells = results.on(board)
    cells = cells[cells["counted"]]
    if not columns:
        return pd.DataFrame()
    rows = [
        {
            "Model": escape(model),
            **{heading: str(Estimate.of(own[name])) for name, heading in columns.items()},
        }
        for model in (rank.model for rank in ranking(results, board))
        if not (own := cells[cells["model"] == model]).empty
    ]
    floors = results.floors[results.floors["dataset"] == board.dataset]
    # several extractors measure one comparison each by themselves: put side by side
    real = floors.groupby("comparison", sort=False).first()
    below = [
        {
            "Model": f"*real: {row['comparison']}*",
            **{head: number(row.get(name.removeprefix(schema.SCORE), math.nan)) for name, head in columns.items()},
        }
        for _, row in real.reset_index().iterrows()
    ]
    return pd.DataFrame([*rows, *below])


def errors(results: Results, board: Board) -> pd.DataFrame:
    """The standard error of every metric from a cell's generated images, as a mean over the finished cells."""
    cells = results.on(board)
    cells = cells[cells["counted"]]
    columns = {schema.score(board.metric): f"{board.metric} ↓"} | metric_columns(cells, board)
    rows = [
        {
            "Model": escape(model),
            **{
                head: number(own[error_of(name)].mean(), 2)
                for name, head in columns.items()
                if error_of(name) in own
            },
        }
        for model in (rank.model for rank in ranking(results, board))
        if not (own := cells[cells["model"] == model]).empty
    ]
    frame = pd.DataFrame(rows)
    return frame if len(frame.columns) > 1 else pd.DataFrame()


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


def cost(results: Results, board: Board) -> pd.DataFrame:
    """What the finished cells cost, as means over seeds; models in the order of the main table."""
    cells = results.on(board)
    cells = cells[cells["counted"]]
    seen = results.curves[results.curves["name"] == CLOCK].groupby("identity")["images"].max()
    cells = cells.assign(seen=cells["identity"].map(seen).astype(float))
    goal = target(results, board)
    hits = reached(results, board, goal)
    rows = [
        _cost_row(model, own, goal, board, hits[hits["model"] == model])
        for model in (rank.model for rank in ranking(results, board))
        if not (own := cells[cells["model"] == model]).empty
    ]
    frame = pd.DataFrame(rows)
    energy = "Energy (kJ)"
    return frame.drop(columns=energy) if energy in frame and (frame[energy] == NOTHING).all() else frame


def _cost_row(model: str, cells: pd.DataFrame, goal: float, board: Board, hits: pd.DataFrame) -> dict[str, str]:
    whole = cells[CLOCK] + cells[schema.EVALUATION] + cells[schema.OVERHEAD]
    row = {
        "Model": escape(model),
        "Training (s)": number(cells[CLOCK].mean()),
        "Evaluation (s)": number(cells[schema.EVALUATION].mean()),
        "Overhead (s)": number(cells[schema.OVERHEAD].mean()),
        "Evaluation's share": percent((cells[schema.EVALUATION] / whole).mean()),
        "Images/s": number((cells["seen"] / cells[CLOCK]).mean()),
        "Images (thousands)": number((cells["seen"] / 1000).mean()),
        "Parameters G": count(cells[schema.SIZE_G].mean()),
        "Parameters D": count(cells[schema.SIZE_D].mean()),
        "Peak memory (MiB)": count(cells[schema.PEAK].mean()),
        "Energy (kJ)": number(cells[schema.JOULES].mean() / 1000),
    }
    if math.isfinite(goal):
        row[f"Training until {board.metric} ≤ {number(goal)} (s)"] = _time_to(hits, len(cells))
    return row


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
        for metric in dict.fromkeys([board.metric, *_metrics(results, board)])
    ]
    return pd.DataFrame(rows).drop_duplicates()


def _metrics(results: Results, board: Board) -> list[str]:
    """The distances that are tracked on the board's data set."""
    return [floor.metric for floor in results.plan.floors if floor.dataset == board.dataset]


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
    return escape(", ".join(_plain(value) for value in values.unique())) or NOTHING


def _plain(value: object) -> str:
    """A parameter as people write it: MLflow keeps strings, `0.5` and `10.0`."""
    try:
        return f"{float(str(value)):,g}" if abs(float(str(value))) < 1e6 else str(value)
    except ValueError:
        return str(value)


def holes(results: Results) -> pd.DataFrame:
    """Every cell that has no score, with the reason."""
    missing = results.cells[~results.cells["counted"]]
    rows = [
        {"Cell": escape(cell["name"]), "Status": escape(cell["status"]), "Reason": escape(cell["reason"])}
        for _, cell in missing.iterrows()
    ]
    return pd.DataFrame(rows)


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
    facts = {"Device": _spread(cells, schema.DEVICE), "Threads per cell": _spread(cells, schema.THREADS)}
    if "precision" in cells:  # none in the first reports
        facts["Precision"] = _spread(cells, "precision")
    if schema.COMMIT in cells:
        dirty = cells[schema.DIRTY].eq("true") if schema.DIRTY in cells else False
        commits = cells[schema.COMMIT].str[:10].where(~pd.Series(dirty, cells.index), lambda c: c + " + changes")
        facts["Commit"] = _spread(cells.assign(commit=commits), "commit")
    versions = sorted(name for name in map(str, cells.columns) if name.startswith(schema.VERSION))
    facts |= {name.removeprefix(schema.VERSION): _spread(cells, name) for name in versions}
    return pd.DataFrame({"": facts.keys(), "Value": facts.values()})


def _spread(cells: pd.DataFrame, name: str) -> str:
    values = cells[name].dropna() if name in cells else pd.Series(dtype=str)
    counts = values.value_counts().sort_index()
    if len(counts) <= 1:
        return escape(next(iter(counts.index), NOTHING))
    return escape("; ".join(f"{value} ({number} of {len(cells)} cells)" for value, number in counts.items()))
