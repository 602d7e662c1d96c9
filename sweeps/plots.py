"""Optuna's pictures of a study, and one of the winners."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import optuna
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from optuna.exceptions import ExperimentalWarning
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from gans.files import atomically
from reports import figures
from reports.tables import Estimate
from sweeps.study import Sweep

ENOUGH = 2  # finished trials before there is anything to compare
SLICES = 6  # settings, those that matter most, that fit beside each other


def draw_all(study: Study, sweep: Sweep, folder: Path) -> dict[str, str]:
    """Write every picture that the study has enough finished trials for; returns file name by kind."""
    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for kind, plot in KINDS.items():
        with styled():
            axes = plot(study, sweep) if enough(study) else None
            if axes is None:
                continue
            path = folder / f"{kind}.png"
            save(figure_of(axes), path)
            drawn[kind] = path.name
    return drawn


def enough(study: Study) -> bool:
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) >= ENOUGH


@contextmanager
def styled() -> Iterator[None]:
    """Optuna's plots set styles and open figures for the whole process; leave neither behind."""
    import matplotlib.pyplot as plt

    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)
        try:
            yield
        finally:
            plt.close("all")


def figure_of(axes: Axes | np.ndarray) -> Figure:
    first = axes if isinstance(axes, Axes) else axes.flat[0]
    figure = first.get_figure()
    assert isinstance(figure, Figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure with all of its labels, which Optuna lets run over the edges; no dates."""

    def write(temporary: Path) -> None:
        figure.savefig(temporary, format="png", dpi=100, bbox_inches="tight", metadata={"Software": None})

    atomically(path, write)


def score(trial: FrozenTrial) -> float:
    return trial.values[0]


def log_score(trial: FrozenTrial) -> float:
    """Scores spread over powers of ten; a scale for colours must, too."""
    return math.log10(max(trial.values[0], 1e-12))


def history(study: Study, sweep: Sweep) -> Axes:
    name = sweep.default.metric
    # only without a target does Optuna draw the best so far
    target = score if len(sweep.objectives) > 1 else None
    axes = plots().plot_optimization_history(study, target=target, target_name=name)
    axes.set(yscale="log", title="Scores in the order of the trials", ylabel=f"{name} (lower is better)")
    return axes


def importances(study: Study, sweep: Sweep) -> Axes:
    axes = plots().plot_param_importances(study, target=score, target_name=sweep.default.metric)
    axes.set_title("", loc="left")
    axes.set(title="Share in the score's variation", xlabel="", ylabel="")
    return axes


def slices(study: Study, sweep: Sweep) -> Any:
    params = list(optuna.importance.get_param_importances(study, target=score))[:SLICES]
    panels = plots().plot_slice(study, params=params, target=score, target_name=sweep.default.metric)
    flat = [panels] if isinstance(panels, Axes) else list(panels.flat)
    for axes in flat:
        axes.set_yscale("log")
        axes.tick_params(axis="x", labelrotation=60)
        axes.xaxis.set_minor_formatter(NullFormatter())
    figure = figure_of(panels)
    figure.set_size_inches(2.2 * len(flat) + 1, 4.2)
    figure.suptitle("")
    return panels


def parallel(study: Study, sweep: Sweep) -> Axes:
    name = f"log10 {sweep.default.metric}"
    axes = plots().plot_parallel_coordinate(study, target=log_score, target_name=name)
    figure_of(axes).set_size_inches(12, 5)
    axes.tick_params(axis="x", labelrotation=30)
    axes.set_title("Finished trials across all parameters")
    return axes


def curves(study: Study, sweep: Sweep) -> Axes | None:
    if not any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
        return None
    axes = plots().plot_intermediate_values(study)
    axes.set(
        yscale="log",
        title="Score curves of all trials; the short ones were pruned",
        xlabel="real images seen",
        ylabel=f"{sweep.default.metric} (lower is better)",
    )
    legend = axes.get_legend()
    if legend:
        legend.remove()
    return axes


def front(study: Study, sweep: Sweep) -> Axes | None:
    if len(sweep.objectives) < 2:
        return None
    axes = plots().plot_pareto_front(study, target_names=[sweep.default.metric, "training seconds"])
    axes.set(xscale="log", yscale="log", title="Score against training time; the front in red")
    return axes


def plots() -> Any:
    """Optuna's module of plots; it opens a window toolkit on import unless told not to before."""
    optuna.logging.get_logger("optuna.visualization").setLevel(logging.ERROR)
    return optuna.visualization.matplotlib


KINDS: dict[str, Callable[[Study, Sweep], Any]] = {
    "history": history,
    "importances": importances,
    "slices": slices,
    "parallel": parallel,
    "curves": curves,
    "front": front,
}


def contest(cells: pd.DataFrame, metric: str, path: Path) -> str:
    """Every fresh seed's score and the mean with its interval, a row per configuration; returns what it shows."""
    models = list(dict.fromkeys(cells["model"]))
    figure = Figure(figsize=(8, 0.7 * len(models) + 1.4), layout="constrained", dpi=figures.DPI)
    axes = figure.subplots()
    for row, model in enumerate(models):
        scores = cells.loc[(cells["model"] == model) & cells["counted"], "score"]
        estimate = Estimate.of(scores)
        colour = figures.COLOURS[0 if row else 1]
        half = estimate.half if math.isfinite(estimate.half) else 0
        axes.errorbar([estimate.mean], [row], xerr=[half], fmt="D", color=colour, capsize=5, ms=6)
        axes.plot(scores, [row] * len(scores), "o", color=colour, alpha=0.35, ms=6)
    axes.set(yticks=range(len(models)), yticklabels=models, ylim=(len(models) - 0.4, -0.6))
    axes.set_xlabel(f"{metric} (lower is better); mean with its 95 % interval, and every fresh seed")
    axes.grid(alpha=0.3)
    figures.save(figure, path)
    return f"{metric} of {', '.join(models)} from fresh training seeds: every seed, means and 95 % intervals."
