"""The pictures of a study, and one of the winners."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from reports import figures
from reports.estimate import Estimate
from reports.numbers import number, setting
from sweeps.study import Sweep, origin

ENOUGH = 2  # finished trials before there is anything to compare
BEST, OTHERS = figures.COLOURS[1], figures.COLOURS[0]  # the best trial or trials, and those that lost
SLICES = 6  # settings, those that matter most, that fit beside each other


def draw_all(study: Study, sweep: Sweep, folder: Path) -> dict[str, str]:
    """Write every picture that the study has enough finished trials for; returns file name by kind."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for kind, plot in KINDS.items():
        figure = plot(study, sweep) if enough(study) else None
        if figure is not None:
            path = folder / f"{kind}.png"
            figures.save(figure, path)
            drawn[kind] = path.name
    return drawn


def enough(study: Study) -> bool:
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) >= ENOUGH


def score(trial: FrozenTrial) -> float:
    return trial.values[0]


def finished(study: Study) -> list[FrozenTrial]:
    """In the order of their numbers."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def blank(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained", dpi=figures.DPI)
    panels = figure.subplots(1, columns, sharey=True, squeeze=False)[0]
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    return figure, list(panels)


def scores_axis(axes: Axes, metric: str) -> None:
    """The y axis of scores that lie some tenths or powers of ten apart."""
    axes.set_yscale("log")
    figures.log_ticks(axes.yaxis)
    axes.set_ylabel(f"{metric} (lower is better)")


def history(study: Study, sweep: Sweep) -> Figure:
    figure, (axes,) = blank(8, 3.4)
    trials = finished(study)
    numbers, values = [trial.number for trial in trials], [score(trial) for trial in trials]
    axes.plot(numbers, values, "o", color=OTHERS, ms=6)
    end = max(trial.number for trial in study.get_trials(deepcopy=False))
    best = np.minimum.accumulate(values)
    axes.step([*numbers, end], [*best, best[-1]], where="post", color=BEST, lw=1.6)
    axes.annotate("best so far", (end, best[-1]), (0, 5), textcoords="offset points", ha="right", color=BEST)
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    scores_axis(axes, sweep.default.metric)
    return figure


def importances(study: Study, sweep: Sweep) -> Figure:
    shares = optuna.importance.get_param_importances(study, target=score)
    figure, (axes,) = blank(8, 0.8 + 0.32 * len(shares))
    axes.barh(range(len(shares)), list(shares.values()), height=0.6, color=OTHERS)
    for place, share in enumerate(shares.values()):
        axes.annotate(f"{share:.0%}", (share, place), (4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set(yticks=range(len(shares)), yticklabels=list(shares), ylim=(len(shares) - 0.5, -0.5))
    axes.set_xlim(0, 1.12 * max(shares.values()))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel(f"share in the variation of {sweep.default.metric}")
    return figure


def slices(study: Study, sweep: Sweep) -> Figure:
    names = list(optuna.importance.get_param_importances(study, target=score))[:SLICES]
    figure, panels = blank(11, 3.4, len(names))
    trials = sorted(finished(study), key=score, reverse=True)
    for axes, name in zip(panels, names, strict=True):
        scale = Values.of(trials, name)
        own = [trial for trial in trials if name in trial.params]
        places = [scale.place(trial.params[name]) for trial in own]
        colours = [BEST if trial is trials[-1] else OTHERS for trial in own]
        axes.scatter(places, [score(trial) for trial in own], c=colours, s=30, zorder=2)
        axes.set(xlim=(-0.12, 1.12), xticks=list(scale.ticks), xticklabels=list(scale.ticks.values()))
        axes.tick_params(axis="x", labelsize=8, labelrotation=35 if max(map(len, scale.ticks.values())) > 7 else 0)
        axes.set_title(name.replace(".", ".\n", 1), fontsize=9)
    scores_axis(panels[0], sweep.default.metric)
    return figure


def parallel(study: Study, sweep: Sweep) -> Figure:
    trials = sorted(finished(study), key=score, reverse=True)
    names = sorted({name for trial in trials for name in trial.params})
    figure, (axes,) = blank(max(8, 1.25 * len(names) + 1.2), 4.4)
    scales = {name: Values.of(trials, name) for name in names}
    shades = np.linspace(0.72, 0.25, len(trials))  # of grey: the worst is light, and still seen
    logs = np.log([max(score(trial), 1e-12) for trial in trials])
    low, high = logs.min(), logs.max()
    for trial, log, shade in zip(trials, logs, shades, strict=True):
        best = trial is trials[-1]
        heights = [(log - low) / (high - low or 1)]
        heights += [scales[name].place(trial.params[name]) if name in trial.params else np.nan for name in names]
        axes.plot(heights, color=BEST if best else str(shade), lw=2.4 if best else 1.1, zorder=3 if best else 2)
    ends = {0.0: number(math.exp(low)), 1.0: number(math.exp(high))}
    for place, ticks in enumerate([ends, *(scales[name].ticks for name in names)]):
        axes.axvline(place, color="black", lw=0.8)
        for height, text in ticks.items():
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.2, "alpha": 0.85}
            axes.annotate(
                text,
                (place, height),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                bbox=box,
                zorder=4,
            )
    axes.set_xticks(
        range(len(names) + 1), [sweep.default.metric, *(n.replace(".", ".\n", 1) for n in names)], fontsize=9
    )
    axes.set(yticks=[], xlim=(-0.1, len(names) + 0.75), ylim=(-0.06, 1.06))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure


@dataclass(frozen=True)
class Values:
    """Where the values of a setting lie on an axis from 0 to 1, and what stands beside it.

    Attributes:
        ticks: text by place.
        words: places of values that are choices, or few.
        low, high: ends of the axis; logarithms if the setting is searched on a logarithmic scale.
        logarithmic: whether it is.
    """

    ticks: dict[float, str]
    words: dict[Any, float]
    low: float = 0.0
    high: float = 1.0
    logarithmic: bool = False

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial], name: str) -> Values:
        """The values that these trials tried: choices are each a tick, ranges have their ends and the middle."""
        own = [trial for trial in trials if name in trial.params]
        tried = list(dict.fromkeys(trial.params[name] for trial in own))
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in tried)
        choice = any(isinstance(trial.distributions[name], CategoricalDistribution) for trial in own)
        if choice or not numbers or len(tried) <= 2:
            ordered = sorted(tried) if numbers else sorted(tried, key=str)
            places = np.linspace(0, 1, len(ordered)) if len(ordered) > 1 else [0.5]
            words = {value: float(place) for value, place in zip(ordered, places, strict=True)}
            return cls({place: setting(value) for value, place in words.items()}, words)
        logarithmic = any(getattr(trial.distributions[name], "log", False) for trial in own)
        low, high = (math.log(end) if logarithmic else float(end) for end in (min(tried), max(tried)))
        ends = {place: low + place * (high - low) for place in (0.0, 0.5, 1.0)}
        ticks = {place: number(math.exp(end) if logarithmic else end, 2) for place, end in ends.items()}
        return cls(ticks, {}, low, high, logarithmic)

    def place(self, value: Any) -> float:
        """Of a value, from 0 to 1."""
        if value in self.words:
            return self.words[value]
        found = math.log(value) if self.logarithmic else float(value)
        return (found - self.low) / (self.high - self.low)


def curves(study: Study, sweep: Sweep) -> Figure | None:
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.intermediate_values]
    if not trials:
        return None
    figure, (axes,) = blank(8, 3.8)
    best = min(finished(study), key=score)
    looks = {"pruned": ("0.65", 1.0), "finished": (OTHERS, 1.3), f"the best, trial {origin(best)}": (BEST, 2.2)}
    for trial in trials:
        kind = "finished" if trial.state == TrialState.COMPLETE else "pruned"
        kind = f"the best, trial {origin(best)}" if trial.number == best.number else kind
        colour, width = looks[kind]
        points = sorted(trial.intermediate_values.items())
        x, y = [images / 1000 for images, _ in points], [value for _, value in points]
        axes.plot(x, y, marker="o", ms=3, color=colour, lw=width, zorder=list(looks).index(kind))
    handles = [Line2D([], [], color=colour, lw=width) for colour, width in looks.values()]
    figure.legend(handles, list(looks), loc="outside upper right", ncols=len(looks), frameon=False, fontsize=9)
    axes.set_xlabel("real images seen (thousands)")
    scores_axis(axes, sweep.default.metric)
    return figure


def front(study: Study, sweep: Sweep) -> Figure | None:
    if len(sweep.objectives) < 2:
        return None
    figure, (axes,) = blank(8, 4)
    kept = {trial.number for trial in study.best_trials}
    for trial in finished(study):
        value, seconds = trial.values
        colour = BEST if trial.number in kept else OTHERS
        axes.plot([seconds], [value], "o", color=colour, ms=6)
        if trial.number in kept:
            axes.annotate(
                f"trial {origin(trial)}", (seconds, value), (6, 4), textcoords="offset points", fontsize=8
            )
    axes.set(xscale="log", xlabel="training seconds")
    figures.log_ticks(axes.xaxis)
    scores_axis(axes, sweep.default.metric)
    return figure


KINDS: dict[str, Callable[[Study, Sweep], Figure | None]] = {
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
        reach = estimate.reach if math.isfinite(estimate.low) else None
        axes.errorbar([estimate.mean], [row], xerr=reach, fmt="D", color=colour, capsize=5, ms=6)
        axes.plot(scores, [row] * len(scores), "o", color=colour, alpha=0.35, ms=6)
    axes.set(yticks=range(len(models)), yticklabels=models, ylim=(len(models) - 0.4, -0.6))
    axes.set_xlabel(f"{metric} (lower is better); mean with its 95 % interval, and every fresh seed")
    axes.grid(alpha=0.3)
    figures.save(figure, path)
    return f"{metric} of {', '.join(models)} from fresh training seeds: every seed, means and 95 % intervals."
