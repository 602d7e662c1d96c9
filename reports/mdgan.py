"""What a report says of MD-GAN: the score against each factor, and what was sent beside the paper's formulae."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gans.schema import EXCHANGES, LOST, MOVES, TOTAL_MIB, TRAFFIC
from reports.estimate import Estimate
from reports.figures import DPI, Picture, log_ticks
from reports.numbers import NOTHING, count, number
from reports.results import Board, Results
from reports.tables import escape

SHARDS = {"iid": "i.i.d.", "dirichlet": "Dirichlet", "classes": "by class"}
# settings that an MD-GAN can differ in, by the heading of the group that varies them alone
FACTORS: dict[str, tuple[str, ...]] = {
    "Workers N": ("update.workers",),
    "Generated batches k": ("update.batches",),
    "Shards of the data": ("update.shards", "update.alpha"),
    "Swaps of discriminators": ("update.swap_epochs",),
    "Crashing workers": ("update.crashes",),
    "Discriminator steps L": ("update.d_steps",),
    "Batch b": ("batch",),
    "Loss": ("loss.name",),
    "Networks": ("networks.name", "networks.width"),
    "Classes": ("networks.conditional",),
}
BASELINES, COMBINED = "Baselines", "Two changes at once"
DIRECTIONS = ("server_to_worker", "worker_to_server", "worker_to_worker")


@dataclass(frozen=True)
class Row:
    """A line of the figure.

    Attributes:
        label: what is special about the model within its group.
        model: its name.
        scores: one per finished seed.
    """

    label: str
    model: str
    scores: pd.Series


def settings(results: Results, board: Board) -> dict[str, dict[str, str]]:
    """The settings that the runs of each model were trained with; a model without a run has none."""
    names = ["update.rule", *(name for factor in FACTORS.values() for name in factor)]
    cells = results.on(board)
    cells = cells[cells["update.rule"].notna()] if "update.rule" in cells else cells.iloc[:0]
    firsts = cells.groupby("model", sort=False).first()
    known = [name for name in names if name in firsts]
    # runs of earlier versions do not say that they know no classes
    classes = {"networks.conditional": "False"}
    return {
        str(model): classes
        | {name: str(row[name]) for name in known if pd.notna(row[name]) or name not in classes}
        for model, row in firsts.iterrows()
    }


def groups(results: Results, board: Board) -> dict[str, list[Row]]:
    """The rows of the figure by heading; empty where there are no two MD-GANs to compare.

    The first MD-GAN of the matrix is the base. A group holds the base and the models that differ from it in that
    factor alone. Baselines are models that are not MD-GANs, of the base's networks.
    """
    known = settings(results, board)
    variants = [model for model in results.plan.models if known.get(model, {}).get("update.rule") == "mdgan"]
    if len(variants) < 2:
        return {}
    base = variants[0]
    found: dict[str, list[str]] = {}
    for model in variants[1:]:
        changed = [f for f, names in FACTORS.items() if any(known[model][n] != known[base][n] for n in names)]
        heading = changed[0] if len(changed) == 1 else COMBINED
        if changed:
            found.setdefault(heading, []).append(model)
    if not found:
        return {}
    others = [
        model
        for model in results.plan.models
        if model in known and model not in variants and alike(known[model], known[base])
    ]
    ordered = {BASELINES: others} if others else {}
    ordered |= {heading: found[heading] for heading in [*FACTORS, COMBINED] if heading in found}
    return {
        heading: [
            _row(results, board, model, known, heading, base) for model in _order(heading, base, models, known)
        ]
        for heading, models in ordered.items()
    }


def alike(own: Mapping[str, str], base: Mapping[str, str]) -> bool:
    """Whether two models have networks of one kind."""
    return all(own.get(name) == base.get(name) for name in ("networks.name", "networks.conditional"))


def _order(heading: str, base: str, models: Sequence[str], known: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The base first, or in its place among numbers."""
    names = FACTORS.get(heading, ())
    try:
        return sorted([base, *models], key=lambda model: [float(known[model][name]) for name in names])
    except ValueError:
        return [base, *models]


def _row(
    results: Results, board: Board, model: str, known: Mapping[str, Mapping[str, str]], heading: str, base: str
) -> Row:
    cells = results.on(board)
    scores = cells[(cells["model"] == model) & cells["counted"]]["score"]
    own = known[model]
    if heading == BASELINES:
        label = _baseline(own)
    elif heading == COMBINED:
        names = [name for factor in FACTORS.values() for name in factor]
        label = "neither" if model == base else changes(names, own, known[base])
    else:
        label = changes(FACTORS[heading], own, known[base])
    return Row(label + (" (base)" if model == base else ""), model, scores)


def _baseline(own: Mapping[str, str]) -> str:
    workers, batch = _plain(own.get("update.workers", "")), _plain(own["batch"])
    match own["update.rule"]:
        case "mdgan":
            return f"MD-GAN, N = {workers}, b = {batch}"
        case "fl-gan":
            return f"FL-GAN, N = {workers}, b = {batch}"
    return f"one GAN, batches of {batch}"


def changes(names: Sequence[str], own: Mapping[str, str], base: Mapping[str, str]) -> str:
    """The settings in which a model differs from the base, in words; of the base itself all of them."""
    changed = [name for name in names if own[name] != base[name]] or names
    # alpha is part of what is said of the shards
    shown = dict.fromkeys("update.shards" if name == "update.alpha" else name for name in changed)
    return ", ".join(_value(name, own) for name in shown)


# how a figure writes the value of a setting; one that is not here is written as it is
WRITTEN: dict[str, Callable[[str], str]] = {
    "update.workers": "N = {}".format,
    "update.batches": "k = {}".format,
    "batch": "b = {}".format,
    "networks.width": "width {}".format,
    "networks.conditional": {"True": "with classes", "False": "without"}.__getitem__,
    "update.crashes": {"True": "one every I/N iterations", "False": "none"}.__getitem__,
    "update.shards": lambda value: SHARDS.get(value, value),
    "update.swap_epochs": lambda value: {"inf": "never", "1": "every epoch"}.get(value, f"every {value} epochs"),
}


def _value(name: str, own: Mapping[str, str]) -> str:
    words = WRITTEN.get(name, str)(_plain(own[name]))
    alpha = name == "update.shards" and own[name] == "dirichlet"
    return words + (f", α = {_plain(own['update.alpha'])}" if alpha else "")


def _plain(value: str) -> str:
    """A number as people write it: `5`, not `5.0`."""
    try:
        return f"{float(value):g}"
    except ValueError:
        return value


def factors(results: Results, board: Board) -> Picture | None:
    """The final score of every variant, grouped by what it changes; None where nothing is varied."""
    found = groups(results, board)
    if not found:
        return None
    lines = sum(len(rows) + 1.4 for rows in found.values())
    figure = Figure(figsize=(9, 0.8 + 0.27 * lines), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    places: list[float] = []
    labels: list[str] = []
    place = 0.0
    for heading, rows in found.items():
        axes.text(
            0.01, place, heading, fontsize=9.5, weight="bold", va="center", transform=axes.get_yaxis_transform()
        )
        for row in rows:
            place += 1
            _dots(axes, place, row)
            places.append(place)
            labels.append(row.label)
        place += 1.4
    base = next(row for rows in found.values() for row in rows if row.label.endswith("(base)"))
    if len(base.scores):
        axes.axvline(Estimate.of(base.scores).mean, color="0.5", ls=(0, (4, 3)), lw=1, zorder=0)
    axes.set_yticks(places, labels, fontsize=9)
    axes.set(ylim=(place - 0.8, -0.8), xscale="log", xlabel=f"{board.metric} (lower is better)")
    log_ticks(axes.xaxis)
    axes.grid(axis="x", alpha=0.25)
    return Picture(figure, _alt(found, board))


def _dots(axes: Axes, place: float, row: Row) -> None:
    """Seeds as hollow dots, their mean and its interval in black; a row without a finished seed says so."""
    scores = row.scores.to_numpy(dtype=float)
    estimate = Estimate.of(row.scores)
    if not len(scores):
        axes.text(0.5, place, "no seed finished", fontsize=8, va="center", transform=axes.get_yaxis_transform())
        return
    if math.isfinite(estimate.low):
        axes.plot([estimate.low, estimate.high], [place, place], color="black", lw=1.4)
    marker = "D" if row.label.endswith("(base)") else "o"
    axes.plot([estimate.mean], [place], marker, color="black", ms=7)
    axes.plot(scores, np.full(len(scores), place), "o", mfc="white", mec="0.3", ms=3.5, lw=0)


def _alt(found: Mapping[str, Sequence[Row]], board: Board) -> str:
    parts = []
    for heading, rows in found.items():
        values = ", ".join(f"{row.label} {number(Estimate.of(row.scores).mean)}" for row in rows)
        parts.append(f"{heading}: {values}")
    return f"Mean {board.metric} on {board.title}, grouped by what is varied. {'. '.join(parts)}."


# --- communication


def traffic(results: Results, board: Board) -> pd.DataFrame:
    """Bytes that were handed over, measured and by formula; one row per model that has workers, else empty."""
    cells = results.on(board)
    if EXCHANGES not in cells:
        return pd.DataFrame()
    cells = cells[cells[EXCHANGES].notna()]
    return pd.DataFrame([_traffic_row(str(m), own) for m, own in cells.groupby("model", sort=False)])


def _traffic_row(model: str, cells: pd.DataFrame) -> dict[str, str]:
    own = cells.iloc[0]
    exchange = "iteration" if own["update.rule"] == "mdgan" else "round"
    down, up, across = (_both(cells, direction) for direction in DIRECTIONS)
    return {
        "Model": escape(model),
        "N": _plain(str(own["update.workers"])),
        "k": _plain(str(own["update.batches"])) if exchange == "iteration" else NOTHING,
        "An exchange is": f"an {exchange}" if exchange == "iteration" else f"a {exchange}",
        "Server → worker (KiB)": down,
        "Worker → server (KiB)": up,
        "Worker → worker, a swap (KiB)": across,
        "Exchanges": count(cells[EXCHANGES].mean()),
        "Moves": count(cells[MOVES].mean()),
        "In all (MiB)": number(cells[TOTAL_MIB].mean()),
    }


def _both(cells: pd.DataFrame, direction: str) -> str:
    """`measured / formula`."""
    means = [
        cells[name].mean() / 1024 if name in cells else math.nan
        for name in (f"{TRAFFIC}{direction}", f"{TRAFFIC}{direction}_formula")
    ]
    return f"{number(means[0])} / {number(means[1])}" if math.isfinite(means[0]) else NOTHING


def lost(results: Results, board: Board) -> pd.DataFrame:
    """Workers that crashed or died, one row per cell that lost some."""
    cells = results.on(board)
    names = sorted((str(name) for name in cells.columns if str(name).startswith(LOST)), key=_worker)
    rows = [
        {
            "Cell": escape(cell["name"]),
            "Lost": escape("; ".join(f"worker {_worker(n)} {cell[n]}" for n in names if isinstance(cell[n], str))),
        }
        for _, cell in cells.iterrows()
    ]
    return pd.DataFrame([row for row in rows if row["Lost"]])


def _worker(tag: str) -> int:
    return int(tag.removeprefix(LOST))
