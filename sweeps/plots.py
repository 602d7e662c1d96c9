"""The figures of a study, by Optuna, and one of the winners."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as optuna_plots

from reports import figures
from sweeps.study import COUNTED, Sweep

ENOUGH = 2  # finished trials that a figure needs
BEST, FINISHED, PRUNED = figures.COLOURS[1], figures.COLOURS[0], "0.65"
MOST = 6  # settings of a figure, those that matter most
KINDS = ("front", "history", "curves", "slices")  # in the order of a page


def draw_all(study: Study, sweep: Sweep, folder: Path) -> None:
    """Write every figure that the study has enough finished trials for, as `KIND.png`."""
    draw: dict[str, Callable[[Study, str], Axes]] = {"history": history, "slices": slices}
    if any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
        draw["curves"] = curves
    if len(sweep.objectives) > 1:
        draw["front"] = front
    pyplot.switch_backend("agg")
    for kind in draw if enough(study) else ():
        look: dict[Any, Any] = {"figure.dpi": figures.DPI, "figure.constrained_layout.use": True}
        with pyplot.rc_context(look):  # Optuna sets pyplot's style for the whole process
            axes = draw[kind](study, sweep.default.metric)
            axes.set_yscale("log")
            figures.log_ticks(axes.yaxis)
            axes.set_ylabel(f"{sweep.default.metric} (lower is better)")
            figure = pyplot.gcf()
            for panel in figure.axes:
                plain(panel)
            figure.set_size_inches(11 if kind == "slices" else 8, 3.6)
            figures.save(figure, folder / f"{kind}.png")
        pyplot.close("all")


def enough(study: Study) -> bool:
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) >= ENOUGH


def score(trial: FrozenTrial) -> float:
    return trial.values[0]


def importances(study: Study) -> dict[str, float]:
    """Each parameter's share in the variation of the score, by Optuna's default method."""
    return optuna.importance.get_param_importances(study, target=score) if enough(study) else {}


def plain(axes: Axes) -> None:
    """White, with a grey grid and without Optuna's title, as the figures of all pages."""
    axes.set_title("")
    axes.set_facecolor("white")
    axes.grid(visible=True, color="0.85")
    axes.set_axisbelow(True)


def history(study: Study, metric: str) -> Axes:
    target = score if len(study.directions) > 1 else None  # with a target Optuna draws no line of the best so far
    return optuna_plots.plot_optimization_history(study, target=target, target_name=metric)


def slices(study: Study, metric: str) -> Axes:
    names = list(importances(study))[:MOST]
    optuna_plots.plot_slice(study, names, target=score, target_name=metric)
    figure = pyplot.gcf()
    figure.suptitle("")
    for axes in figure.axes[: len(names)]:
        axes.set_xlabel(axes.get_xlabel().replace(".", ".\n", 1))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", labelsize=8, labelrotation=35)
    return figure.axes[0]


def curves(study: Study, metric: str) -> Axes:
    """Finished trials in blue, the best in orange, pruned ones in grey."""
    axes = pyplot.figure().subplots()
    for trial in study.get_trials(deepcopy=False, states=COUNTED):
        colour, layer = (FINISHED, 3) if trial.state == TrialState.COMPLETE else (PRUNED, 2)
        if trial.number == study.best_trial.number:
            colour, layer = BEST, 4
        images = np.fromiter(trial.intermediate_values, float)
        axes.plot(images / 1000, list(trial.intermediate_values.values()), color=colour, zorder=layer)
    axes.set_xlabel("real images seen (thousands)")
    return axes


def front(study: Study, metric: str) -> Axes:
    names = ["training seconds", metric]
    axes = optuna_plots.plot_pareto_front(study, target_names=names, targets=lambda t: (t.values[1], t.values[0]))
    axes.set_xscale("log")
    figures.log_ticks(axes.xaxis)
    return axes


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
