"""MD-GAN in a report: the score against each factor, and the bytes sent."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gans.schema import EXCHANGES, LOST, MOVES, TOTAL_MIB, TRAFFIC
from reports.figures import DPI, Picture, dots, log_ticks
from reports.numbers import NOTHING, count, number, setting
from reports.results import Board, Results
from reports.statistics import Estimate
from reports.tables import escape

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
NAMES = tuple(name for factor in FACTORS.values() for name in factor)
BASELINES, COMBINED = "Baselines", "Two changes at once"
Setting = Mapping[str, str] | pd.Series  # the settings of a model
DIRECTIONS = ("server_to_worker", "worker_to_server", "worker_to_worker")


@dataclass(frozen=True)
class Row:
    """A line of the figure."""

    label: str  # the model's value of the factor
    model: str  # its name
    scores: pd.Series  # one per finished seed


def settings(results: Results, board: Board) -> pd.DataFrame:
    """The settings of each model that has a run, as text: a row per model, a column per setting."""
    cells = results.on(board)
    if "update.rule" not in cells:
        return pd.DataFrame()
    known = cells[cells["update.rule"].notna()].groupby("model", sort=False).first()
    known = known.reindex(columns=["update.rule", *NAMES])
    # runs of earlier versions lack the setting
    return known.fillna({"networks.conditional": "False"}).astype(str)


def groups(results: Results, board: Board) -> dict[str, list[Row]]:
    """The rows of the figure by heading; empty where there are no two MD-GANs to compare.

    The first MD-GAN of the matrix is the base. A group holds the base and the models that differ from it in that
    factor alone. Baselines are models that are not MD-GANs, of the base's networks.
    """
    known = settings(results, board)
    models = [model for model in results.plan.models if model in known.index]
    variants = [model for model in models if known.loc[model, "update.rule"] == "mdgan"]
    if len(variants) < 2:
        return {}
    base = known.T[variants[0]]
    networks = ["networks.name", "networks.conditional"]
    alike = (known[networks] == base[networks]).all(axis=1)
    found = {BASELINES: [m for m in models if m not in variants and alike[m]], **{name: [] for name in FACTORS}}
    found[COMBINED] = []
    for model in variants[1:]:
        changed = [f for f, names in FACTORS.items() if (known.loc[model, [*names]] != base[[*names]]).any()]
        if changed:
            found[changed[0] if len(changed) == 1 else COMBINED].append(model)
    if not any(own for heading, own in found.items() if heading != BASELINES):
        return {}
    return {
        heading: [
            Row(_label(heading, known.T[model], base), model, results.of(model, board)["score"])
            for model in _order(heading, variants[0], own, known)
        ]
        for heading, own in found.items()
        if own
    }


def _order(heading: str, base: str, models: Sequence[str], known: pd.DataFrame) -> list[str]:
    """The base first, or in its place among numbers."""
    own = known.loc[[base, *models], [*FACTORS.get(heading, ())]]
    try:
        return list(own.astype(float).sort_values([*own.columns]).index) if len(own.columns) else list(own.index)
    except ValueError:
        return list(own.index)


def _label(heading: str, own: pd.Series, base: pd.Series) -> str:
    is_base = own.name == base.name
    if heading == BASELINES:
        name = {"mdgan": "MD-GAN", "fl-gan": "FL-GAN"}.get(own["update.rule"], "one GAN")
        label = f"{name}, {changes(('update.workers', 'batch') if name != 'one GAN' else ('batch',), own, own)}"
    elif heading == COMBINED and is_base:
        label = "neither"
    else:
        label = changes(FACTORS.get(heading, NAMES), own, base)
    return label + (" (base)" if is_base else "")


def changes(names: Sequence[str], own: Setting, base: Setting) -> str:
    """The settings in which a model differs from the base, in words; of the base itself all of them."""
    changed = [name for name in names if own[name] != base[name]] or names
    # alpha is part of what is said of the shards
    named = dict.fromkeys("update.shards" if name == "update.alpha" else name for name in changed)
    return ", ".join(_value(name, own) for name in named)


# how a figure writes a setting, or some of its values; `{}` is the value, and all that others show
WRITTEN: dict[str, str | dict[str, str]] = {
    "update.workers": "N = {}",
    "update.batches": "k = {}",
    "batch": "b = {}",
    "networks.width": "width {}",
    "networks.conditional": {"True": "with classes", "False": "without"},
    "update.crashes": {"True": "one every I/N iterations", "False": "none"},
    "update.shards": {"iid": "i.i.d.", "dirichlet": "Dirichlet, α = {alpha}", "classes": "by class"},
    "update.swap_epochs": {"inf": "never", "1": "every epoch", "": "every {} epochs"},
}


def _value(name: str, own: Setting) -> str:
    value, written = setting(own[name]), WRITTEN.get(name, "{}")
    if not isinstance(written, str):
        written = written.get(value, written.get("", "{}"))
    return written.format(value, alpha=setting(own["update.alpha"]))


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
    axes.set(ylim=(place - 0.8, -0.8), xscale="log", xlabel=f"{board.brief()} (lower is better)")
    log_ticks(axes.xaxis)
    axes.grid(axis="x", alpha=0.25)
    return Picture(figure, _alt(found, board))


def _dots(axes: Axes, place: float, row: Row) -> None:
    if len(row.scores):
        dots(axes, place, row.scores, "black", "D" if row.label.endswith("(base)") else "o")
    else:
        axes.text(0.5, place, "no seed finished", fontsize=8, va="center", transform=axes.get_yaxis_transform())


def _alt(found: Mapping[str, Sequence[Row]], board: Board) -> str:
    parts = [
        f"{heading}: " + ", ".join(f"{row.label} {number(Estimate.of(row.scores).mean)}" for row in rows)
        for heading, rows in found.items()
    ]
    return f"Mean {board.metric} on {board.title}, grouped by the varied factor. {'. '.join(parts)}."


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
        "N": setting(own["update.workers"]),
        "k": setting(own["update.batches"]) if exchange == "iteration" else NOTHING,
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
    rows = []
    for _, cell in cells.iterrows():
        known = {name: cell[name] for name in names if isinstance(cell[name], str) and cell[name]}
        why = "; ".join(f"worker {_worker(name)} {text}" for name, text in known.items())
        rows.append({"Cell": escape(cell["name"]), "Lost": escape(why)})
    return pd.DataFrame([row for row in rows if row["Lost"]])


def _worker(tag: str) -> int:
    return int(tag.removeprefix(LOST))
