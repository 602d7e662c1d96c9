"""The figures of a study, by Optuna, and one of the winners."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as optuna_plots

from reports import figures
from sweeps.study import Sweep

ENOUGH = 2  # finished trials that a figure needs
BEST, FINISHED, PRUNED = figures.COLOURS[1], figures.COLOURS[0], "0.65"
LOOK = {"figure.dpi": figures.DPI, "figure.constrained_layout.use": True}
MOST = 6  # settings of a figure, those that matter most


def draw_all(study: Study, sweep: Sweep, folder: Path) -> None:
    """Write every figure that the study has enough finished trials for, as `KIND.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    pyplot.switch_backend("agg")
    for kind, (draw, size) in KINDS.items() if enough(study) else ():
        look: dict[Any, Any] = {
            "figure.figsize": size,
            "figure.dpi": figures.DPI,
            "figure.constrained_layout.use": True,
        }
        with pyplot.rc_context(look):  # Optuna sets pyplot's style for the whole process
            if draw(study, sweep):
                figures.save(pyplot.gcf(), folder / f"{kind}.png")
        pyplot.close("all")


def enough(study: Study) -> bool:
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) >= ENOUGH


def score(trial: FrozenTrial) -> float:
    return trial.values[0]


def most_important(study: Study) -> list[str]:
    return list(optuna.importance.get_param_importances(study, target=score))[:MOST]


def plain(axes: Axes, title: str = "") -> Axes:
    """White, with a grey grid, as the figures of all pages."""
    axes.set_title("", loc="left")
    axes.set_title(title, fontsize=9)
    axes.set_facecolor("white")
    axes.grid(visible=True, color="0.85")
    axes.set_axisbelow(True)
    return axes


def scores(axes: Axes, sweep: Sweep) -> Axes:
    """A logarithmic axis of scores."""
    axes.set_yscale("log")
    figures.log_ticks(axes.yaxis)
    axes.set_ylabel(f"{sweep.default.metric} (lower is better)")
    return axes


def history(study: Study, sweep: Sweep) -> Axes:
    axes = plain(optuna_plots.plot_optimization_history(study, target=score, target_name=sweep.default.metric))
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = np.minimum.accumulate([score(trial) for trial in trials])
    axes.step([trial.number for trial in trials], best, where="post", color=BEST, label="best so far")
    axes.legend()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return scores(axes, sweep)


def slices(study: Study, sweep: Sweep) -> Axes:
    names = most_important(study)
    optuna_plots.plot_slice(study, names, target=score, target_name=sweep.default.metric)
    figure = pyplot.gcf()
    panels = figure.axes[: len(names)]
    for axes in panels:
        plain(axes, axes.get_xlabel().replace(".", ".\n", 1)).set_xlabel("")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", labelsize=8, labelrotation=35)
    scores(panels[0], sweep)
    figure.suptitle("")
    figure.set_size_inches(11, 3.6)
    return panels[0]


def parallel(study: Study, sweep: Sweep) -> Axes:
    axes = optuna_plots.plot_parallel_coordinate(
        study,
        most_important(study),
        target=lambda trial: math.log10(max(score(trial), 1e-12)),
        target_name=f"log10 of {sweep.default.metric}",
    )
    for other in pyplot.gcf().axes:
        other.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title("")
    axes.set_facecolor("0.9")  # the lines of the worst trials are almost white
    return axes


def curves(study: Study, sweep: Sweep) -> Axes | None:
    trials = {f"Trial{t.number}": t for t in study.get_trials(deepcopy=False) if t.intermediate_values}
    if not trials:
        return None
    best = min((t for t in trials.values() if t.state == TrialState.COMPLETE), key=score, default=None)
    axes = plain(optuna_plots.plot_intermediate_values(study))
    for line in axes.get_lines():
        trial = trials[str(line.get_label())]
        kind = (FINISHED, 1.3, 3) if trial.state == TrialState.COMPLETE else (PRUNED, 1.0, 2)
        colour, width, layer = (BEST, 2.2, 4) if trial is best else kind
        line.set(color=colour, linewidth=width, zorder=layer, xdata=np.asarray(line.get_xdata()) / 1000)
    axes.relim()
    axes.autoscale()
    axes.legend().remove()
    axes.set_xlabel("real images seen (thousands)")
    return scores(axes, sweep)


def front(study: Study, sweep: Sweep) -> Axes | None:
    if len(sweep.objectives) < 2:
        return None
    axes = optuna_plots.plot_pareto_front(
        study,
        target_names=["training seconds", sweep.default.metric],
        targets=lambda t: (t.values[1], t.values[0]),
    )
    axes.set_xscale("log")
    figures.log_ticks(axes.xaxis)
    return scores(plain(axes), sweep)


Draw = Callable[[Study, Sweep], Axes | None]
KINDS: dict[str, tuple[Draw, tuple[float, float]]] = {  # with width and height in inches
    "history": (history, (8, 3.4)),
    "slices": (slices, (11, 3.4)),
    "parallel": (parallel, (12, 4.4)),
    "curves": (curves, (8, 3.8)),
    "front": (front, (8, 4)),
}


def contest(cells: pd.DataFrame, metric: str, path: Path) -> str:
    """Draw every fresh seed's score and the mean with its interval, a row per configuration; returns a caption."""
    models = list(dict.fromkeys(cells["model"]))
    figure = Figure(figsize=(8, 0.7 * len(models) + 1.4), layout="constrained", dpi=figures.DPI)
    axes = figure.subplots()
    for row, model in enumerate(models):
        found = cells.loc[(cells["model"] == model) & cells["counted"], "score"]
        figures.dots(axes, row, found, figures.COLOURS[0 if row else 1])
    axes.set(yticks=range(len(models)), yticklabels=models, ylim=(len(models) - 0.4, -0.6))
    axes.set_xlabel(f"{metric} (lower is better); mean with its 95 % interval, and every fresh seed")
    axes.grid(alpha=0.3)
    figures.save(figure, path)
    return f"{metric} of {', '.join(models)} from fresh training seeds: every seed, means and 95 % intervals."
