"""What MLflow's UI shows first of an experiment: views with the columns and the order that matter, and links.

A view is kept as a tag of the experiment, as the UI's own *Share* keeps it, and opened by its key. In a new
browser the UI starts in a mode without runs, and forgets how they were shown: a link says both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from gans import schema

VIEW = "mlflow.sharedViewState."  # and a key: a tag of an experiment
EXPERIMENT_KIND, TRAINING = "mlflow.experimentKind", "custom_model_development"
OURS = "gans-"  # how our keys begin
INTRODUCTION = "The step of every metric is the number of images seen. Lower scores are better."
SECTION = "gans"
MANY = 10  # curves in one chart, the number that the UI shows of its own accord


@dataclass(frozen=True)
class View:
    """All runs of a kind, ordered by what decides between them.

    Attributes:
        kind: CELL or TRIAL.
        metric: that decides, `score/fd_digits` say.
        curve: its metric during training.
    """

    kind: str
    metric: str
    curve: str

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> View | None:
        """The one that shows a run of these tags; None for runs that nothing is to be compared with."""
        kind, distance = tags.get(schema.KIND), tags.get(schema.METRIC)
        if kind == schema.CELL and distance:
            return cls(kind, schema.score(distance), schema.curve(distance))
        if kind == schema.TRIAL and distance:
            return cls(kind, schema.SWEEP_SCORE, schema.curve(distance))
        return None

    @property
    def key(self) -> str:
        """What the experiment keeps it under."""
        return f"{OURS}{self.kind}-{self.metric.replace('/', '-')}"

    def state(self) -> str:
        """As the UI reads it; what it does not say is as the UI has it."""
        columns = [
            f"metrics.`{self.metric}`",
            *([f"metrics.`{self.metric}_se`"] if self.kind == schema.CELL else []),
            f"metrics.`{schema.TRAINING}`",
            *(f"tags.`{tag}`" for tag in (schema.STATUS, schema.MODEL, schema.DATASET, schema.SEED)),
            "attributes.`Models`",
        ]
        state: dict[str, Any] = {
            "searchFilter": f"tags.`{schema.KIND}` = '{self.kind}'",
            "orderByKey": f"metrics.`{self.metric}`",
            "orderByAsc": True,
            "selectedColumns": columns,
            "runsHiddenMode": "FIRST_10_RUNS",
            "compareRunSections": [
                {"uuid": SECTION, "name": "Scores and samples", "display": True, "isReordered": True}
            ],
            "isAccordionReordered": True,  # else the UI sorts the sections by name
            "compareRunCharts": self.charts(),
        }
        return json.dumps(state)

    def charts(self) -> list[dict[str, Any]]:
        """The score, its curve, what the best checkpoints draw, the grids by step, and the losses."""
        common = {"metricSectionId": SECTION, "deleted": False, "isGenerated": False, "runsCountToCompare": MANY}
        bar = {"type": "BAR", "uuid": "score", "metricKey": self.metric}
        lines: list[dict[str, Any]] = [
            {
                "type": "LINE",
                "uuid": metric,
                "metricKey": metric,
                "selectedMetricKeys": [metric],
                "xAxisKey": "step",
                "scaleType": "log" if metric == self.curve else "linear",
                "xAxisScaleType": "linear",
                "lineSmoothness": 0,
            }
            for metric in (self.curve, schema.LOSS_G, schema.LOSS_D)
        ]
        images: list[dict[str, Any]] = [
            # a picture of another step than a chart's is not shown: the slider begins where all runs have one
            {"type": "IMAGE", "uuid": key, "imageKeys": [key], "step": 0, "showRunParams": False}
            for key in (schema.BEST, schema.GRIDS)
        ]
        return [common | chart for chart in (bar, lines[0], *images, *lines[1:])]

    def link(self, experiment_id: str, charts: bool = False) -> str:
        """Within the UI, to be put behind its address."""
        asked = {"workflowType": "machine_learning", "viewStateShareKey": self.key}
        mode = {"compareRunsMode": "CHART"} if charts else {}
        return f"/#/experiments/{experiment_id}/runs?{urlencode(asked | mode)}"

    def line(self, experiment_id: str) -> str:
        """Of the experiment's description."""
        table, charts = self.link(experiment_id)[1:], self.link(experiment_id, charts=True)[1:]
        return f"All {self.kind}s by `{self.metric}`: [table]({table}), [charts and samples]({charts})"


def presented(experiment_id: str, tags: Mapping[str, str], views: Iterable[View]) -> dict[str, str]:
    """Tags that an experiment lacks to show these views; a description that somebody wrote is only added to."""
    missing = {VIEW + view.key: view for view in views if VIEW + view.key not in tags}
    lacking = {name: view.state() for name, view in missing.items()}
    if EXPERIMENT_KIND not in tags:
        lacking[EXPERIMENT_KIND] = TRAINING
    note = tags.get(schema.NOTE, "")
    lines = [line for view in missing.values() if (line := view.line(experiment_id)) not in note]
    if lines:
        # the UI shows the first line before a click
        lacking[schema.NOTE] = "\n\n".join(filter(None, [*lines, note or INTRODUCTION]))
    return lacking
