"""Tracked results as pandas tables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ValidationError

from gans import schema
from gans.config import PROTOCOL_VERSION
from gans.errors import InputError, first_line, shown, unknown
from gans.fidelity import SCORING_VERSION
from gans.fidelity.metric import label_of
from gans.pictures.grids import readable
from gans.runs.events import State as Run
from gans.runs.scores import ScoreKey, metric, records
from gans.runs.store import Store, Tracked
from reports.numbers import listed

CLOCK = schema.TRAINING
# columns of `Results.cells` even where no run has them
MEASURES = (CLOCK, schema.EVALUATION, schema.OVERHEAD, schema.PEAK, schema.SIZE_G, schema.SIZE_D, schema.JOULES)
AT_ONCE = 8  # requests to a store
LONG = 16  # letters of an extractor's label that axes and columns have room for
FLOORS = {prefix: comparison for comparison, prefix in schema.FLOORS.items()}
# why a cell without a score and without a reason of its own has none
REASONS = {
    schema.RUNNING: "still running when this report was written, or killed",
    "not run": "no run of it was tracked",
    schema.FINISHED: "its score is not a finite number",
}


class PlannedCell(BaseModel):
    """A cell as the invocation planned it; `selected`: whether that invocation was to run it."""

    name: str
    model: str
    dataset: str
    seed: int
    identity: str
    metric: str
    scores: dict[str, int] = {}  # generated images by extractor
    selected: bool = True


class PlannedFloor(BaseModel):
    """A noise floor as the invocation planned it."""

    dataset: str
    title: str
    identity: str
    metric: str
    images: int = 0  # that were generated for it


class Plan(BaseModel):
    """All cells and floors of a matrix, as the newest invocation resolved them."""

    matrix: str
    budget: float = 1.0
    protocol: int
    scoring: int = SCORING_VERSION
    command: str
    # the commands that write the report again, add scores, and run all of the matrix
    report: str = "gans report"
    score: str = "gans rescore"
    whole: str = ""
    title: str = ""  # where it is not the matrix's name
    description: str = ""
    data: list[str] = []  # what is to be known of folders
    extractors: list[str] = []  # cards of the classifiers
    conclusion: str = ""
    first_picture: str = "leaders"
    cells: list[PlannedCell]
    floors: list[PlannedFloor] = []

    @property
    def models(self) -> list[str]:
        """In the order of the matrix."""
        return list(dict.fromkeys(cell.model for cell in self.cells))

    def joined(self, other: Plan) -> Plan:
        """With the models of another plan that this one lacks, on the data sets that it has."""
        own, datasets = set(self.models), {cell.dataset for cell in self.cells}
        added = [cell for cell in other.cells if cell.model not in own and cell.dataset in datasets]
        return self.model_copy(update={"cells": [*self.cells, *added]})


@dataclass(frozen=True)
class Board:
    """Comparable scores: those of one data set by one metric."""

    dataset: str
    metric: str
    title: str

    def brief(self, score: str = "") -> str:
        """A score's, or the metric's, name on axes and in columns: `fd (own)` if its extractor's is long."""
        score, label = score or self.metric, label_of(self.metric) or ""
        return score.replace(f"_{label}", " (own)") if len(label) > LONG else score


@dataclass(frozen=True)
class Results:
    """Everything a report shows.

    Attributes:
        plan: the matrix.
        cells: one row per cell of the matrix, in its order: the plan's fields; `status`, `reason`, `score`
            (primary, else NaN), `counted` (finished with a finite score); and the tags, params and last metrics
            of its run by their own names, but that `score/...` is on the plan's number of images.
        curves: one row per point of the score and of the training clock: `identity`, `model`, `dataset`, `seed`,
            `counted`, `name`, `images`, `value`.
        floors: one row per data set, metric and kind of comparison: `comparison`, `hash`,
            `n_generated`, `n_reference`, and the scores by name.
        runs: the run of every cell and floor that has one, by identity.
        further: noise floors on other numbers of `images` than the plan's.
        unscored: how many finished cells lack a score that is planned, or that others of their data set have.
    """

    plan: Plan
    cells: pd.DataFrame
    curves: pd.DataFrame
    floors: pd.DataFrame
    runs: Mapping[str, Run] = field(repr=False)
    further: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    unscored: Mapping[ScoreKey, int] = field(default_factory=dict)

    @property
    def counts(self) -> list[int]:
        """Numbers of images other than the plan's that cells were scored on."""
        found = (re.match(r"score-(\d+)/", str(name)) for name in self.cells)
        return sorted({int(match[1]) for match in found if match})

    def at(self, count: int) -> Results:
        """The same with scores and floors on another number of images, in the place of the plan's."""
        prefix = schema.score("", count)
        kept = [name for name in self.cells if not str(name).startswith(schema.SCORE)]
        cells = self.cells[kept].rename(columns=lambda name: re.sub(f"^{prefix}", schema.SCORE, str(name)))
        return replace(self, cells=cells, floors=self.further[self.further["images"] == count])

    @property
    def boards(self) -> list[Board]:
        """In the order of the matrix."""
        titles = {floor.dataset: floor.title for floor in self.plan.floors}
        pairs = dict.fromkeys((cell.dataset, cell.metric) for cell in self.plan.cells)
        return [Board(dataset, metric, titles.get(dataset, dataset)) for dataset, metric in pairs]

    def on(self, board: Board) -> pd.DataFrame:
        """The cells of a board."""
        return self.cells[(self.cells["dataset"] == board.dataset) & (self.cells["metric"] == board.metric)]

    def finished(self, board: Board) -> pd.DataFrame:
        """The finished cells of a board, with the real images `seen` and the images of an `epoch`.

        Both are NaN where no clock or no reference was tracked.
        """
        cells = self.on(board)
        cells = cells[cells["counted"]]
        clocks = self.curves[self.curves["name"] == CLOCK].groupby("identity")["images"].max()
        unknown = pd.Series(np.nan, cells.index, dtype=object)
        reference = cells.get(schema.REFERENCE, unknown).astype(str)
        return cells.assign(
            seen=cells["identity"].map(clocks).astype(float),
            epoch=reference.str.extract(r"train split, (\d+) images")[0].astype(float),
        )

    def of(self, model: str, board: Board | None = None) -> pd.DataFrame:
        """The finished cells of a model, of all boards or of one."""
        cells = self.on(board) if board else self.cells
        return cells[(cells["model"] == model) & cells["counted"]]

    def floors_on(self, board: Board) -> pd.DataFrame:
        """The noise floors of a board, by its own metric."""
        return self.floors[(self.floors["dataset"] == board.dataset) & (self.floors["metric"] == board.metric)]

    def score_curves(self, board: Board) -> pd.DataFrame:
        """The score during training: `model`, `seed`, `counted`, `images`, `score`, training `seconds`."""
        return self._scores[self._scores["identity"].isin(self.on(board)["identity"])]

    @cached_property
    def _scores(self) -> pd.DataFrame:
        """The curves of all scores, with the training seconds at each point."""
        clock = self.curves["name"] == CLOCK
        scores, clocks = self.curves[~clock].rename(columns={"value": "score"}), self.curves[clock]
        # once, and not for every cell: a matrix may have thousands
        by_cell = {str(identity): clock for identity, clock in clocks.groupby("identity", sort=False)}
        parts = [
            part.assign(seconds=_at(part["images"], by_cell.get(str(identity), clocks.iloc[:0])))
            for identity, part in scores.groupby("identity", sort=False)
        ]
        return pd.concat(parts) if parts else scores.assign(seconds=scores["score"])

    def pictures(self, identity: str) -> dict[str, Path]:
        """The sample grids of a cell by file name; none if it has no run or left none."""
        folder = self._artifact(identity, schema.SAMPLES)
        return {path.name: path for path in sorted(folder.glob("*.png")) if readable(path)} if folder else {}

    def picture(self, identity: str, name: str) -> Path | None:
        """A picture that a run has of itself, at its root or among its samples."""
        found = (self._artifact(identity, place) for place in (name, f"{schema.SAMPLES}/{name}"))
        return next((path for path in found if path and readable(path)), None)

    def real(self, board: Board) -> Path | None:
        """The grid of real images of a board's data set, if there is one."""
        floors = (floor.identity for floor in self.plan.floors if floor.dataset == board.dataset)
        return next(filter(None, (self.picture(identity, schema.REAL) for identity in floors)), None)

    def _artifact(self, identity: str, name: str) -> Path | None:
        run = self.runs.get(identity)
        return run.artifact(name) if run else None


def load(tracked: Tracked | Store, experiment: str) -> Results:
    """The results of the newest invocation's matrix, from all invocations under its protocol.

    An InputError if the store has no such experiment, or no invocation in it.
    """
    tracked = Tracked(tracked) if isinstance(tracked, Store) else tracked
    runs = tracked.runs(experiment)
    plan = _plan(tracked, experiment, runs)
    same = [run for run in runs if run.tags.get(schema.PROTOCOL) == str(plan.protocol)]
    # oldest first, so that the newest run of a cell is the one that stays
    newest = {run.tags[schema.IDENTITY]: run for run in same if schema.IDENTITY in run.tags}
    kept = {cell.identity for cell in plan.cells} | {floor.identity for floor in plan.floors}
    newest = {identity: run for identity, run in newest.items() if identity in kept}
    cells = pd.DataFrame([_row(cell, newest.get(cell.identity), runs, plan.scoring) for cell in plan.cells])
    absent = [name for name in MEASURES if name not in cells]
    cells = cells.assign(**dict.fromkeys(absent, np.nan))
    floors = [(floor, run) for floor in plan.floors if (run := newest.get(floor.identity))]
    return Results(
        plan,
        cells,
        curves=_curves(cells, newest),
        floors=_floors(floors),
        runs=newest,
        further=_further(plan, same),
        unscored=_unscored(plan, newest),
    )


def _plan(tracked: Tracked, experiment: str, runs: Iterable[Run]) -> Plan:
    """That of the newest invocation that got as far as planning, with tuned models of one that had some."""
    parents = [run for run in runs if run.tags.get(schema.KIND) == schema.MATRIX]
    same = [run for run in parents if run.tags.get(schema.PROTOCOL) == str(PROTOCOL_VERSION)]
    plan = _newest(experiment, same)
    if plan is None:
        raise _old(tracked, experiment, parents[-1]) if parents else _nothing(tracked, experiment)
    tuned = _newest(experiment, [run for run in same if schema.PRESET in run.tags])
    return plan.joined(tuned) if tuned else plan


def _newest(experiment: str, parents: Sequence[Run]) -> Plan | None:
    """The plan of the newest of these invocations that has one."""
    for run in reversed(parents):
        path = run.artifact(schema.PLAN)
        if path:
            return _parse(path, experiment)
    return None


def _old(tracked: Tracked, experiment: str, newest: Run) -> InputError:
    """The error for results that are all under other protocols."""
    protocol, commit = (newest.tags.get(tag, "unknown") for tag in (schema.PROTOCOL, schema.COMMIT))
    where = f"experiment '{experiment}' in {shown(tracked.store.uri)}"
    return InputError(
        f"{where} has cells of protocol {protocol}, not comparable with "
        f"version {PROTOCOL_VERSION}; run `gans bench` to train the matrix again, or write their report with "
        f"the code that made them: commit {commit[:10]}"
    )


def _parse(path: Path, experiment: str) -> Plan:
    try:
        return Plan.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(
            f"cannot read {schema.PLAN} of experiment '{experiment}', {path}: {first_line(error)}; "
            "run its matrix again"
        ) from None


def _nothing(tracked: Tracked, experiment: str) -> InputError:
    names = tracked.experiments()
    known = [name for name in names if name not in ("Default", experiment)]
    if not known:
        return InputError(f"no benchmark in the tracking store {shown(tracked.store.uri)}; run `gans bench` first")
    if experiment in names:
        return InputError(f"no benchmark run in experiment '{experiment}'; run its matrix first")
    error = unknown("experiment", experiment, known, f" in {shown(tracked.store.uri)}")
    for name in (name for name in known if name.startswith(f"{experiment}-")):  # of another budget, say
        parents = [run for run in tracked.runs(name) if run.tags.get(schema.KIND) == schema.MATRIX]
        if (plan := _newest(name, parents)) is not None:
            return InputError(f"{error}; `{plan.report}` reports it")
    return error


def _row(cell: PlannedCell, run: Run | None, runs: Iterable[Run], scoring: int) -> dict[str, Any]:
    """One row of `Results.cells`."""
    tags, params = (run.tags, run.params) if run else ({}, {})
    metrics = _as_planned(cell, run, scoring) if run else {}
    status = tags.get(schema.STATUS, schema.RUNNING if run else "not run")
    score = metrics.get(schema.score(cell.metric), np.nan)
    remark = "" if run else _remark(cell, runs)
    reason = tags.get(schema.REASON) or REASONS.get(status, "no reason was tracked") + remark
    counted = bool(status == schema.FINISHED and np.isfinite(score))
    if status == schema.FINISHED and schema.score(cell.metric) not in metrics:
        reason = "it was not scored, or by another version"
    return {
        **{key: value for key, value in tags.items() if key.startswith((schema.TAGS, schema.VERSION))},
        **params,
        **metrics,
        **cell.model_dump(exclude={"scores"}),
        **({"score.images": str(next(iter(cell.scores.values())))} if run and cell.scores else {}),
        "status": status,
        "reason": "" if counted else reason,
        "score": score,
        "counted": counted,
    }


def _as_planned(cell: PlannedCell, run: Run, scoring: int) -> dict[str, float]:
    """A run's metrics, with `score/...` on the plan's number of images, and without scores of another version."""
    tags = run.tags
    known = records(tags).items()
    old = {metric(n, key.count, tags) for key, kept in known if kept.version != scoring for n in kept.metrics}
    # one within a class, `score/intra_fd_digits/3`, is of the same version as the whole's
    metrics = {name: value for name, value in run.metrics.items() if not {name, name.rpartition("/")[0]} & old}
    own, planned = int(tags.get(schema.COUNT, 0)), next(iter(cell.scores.values()), 0)
    if not (own and planned) or own == planned:
        return metrics
    # the run was first scored for a plan of another number
    swap = {schema.SCORE: schema.score("", own), schema.score("", planned): schema.SCORE}
    prefix = "|".join(map(re.escape, swap))
    return {re.sub(f"^({prefix})", lambda found: swap[found[0]], name): value for name, value in metrics.items()}


def _unscored(plan: Plan, runs: Mapping[str, Run]) -> dict[ScoreKey, int]:
    """`Results.unscored`."""
    missing: Counter[ScoreKey] = Counter()
    for dataset in dict.fromkeys(cell.dataset for cell in plan.cells):
        cells = [cell for cell in plan.cells if cell.dataset == dataset]
        finished = [
            (cell, {key for key, kept in records(run.tags).items() if kept.version == plan.scoring})
            for cell in cells
            if (run := runs.get(cell.identity)) and run.tags.get(schema.STATUS) == schema.FINISHED
        ]
        planned = {ScoreKey(name, count) for cell in cells for name, count in cell.scores.items()}
        for key in sorted(planned.union(*(known for _, known in finished))):
            missing[key] += sum(key not in known for _, known in finished)
    return {key: cells for key, cells in missing.items() if cells}


def _remark(cell: PlannedCell, runs: Iterable[Run]) -> str:
    """What is known about a cell without a run that counts."""
    key = {schema.MODEL: cell.model, schema.DATASET: cell.dataset, schema.SEED: str(cell.seed)}
    tags = [run.tags for run in runs if key.items() <= run.tags.items()]
    protocols = ", ".join(sorted({other.get(schema.PROTOCOL, "unknown") for other in tags}))
    others = f" (only with other settings, data or code, under protocol {protocols})" if tags else ""
    return others if cell.selected else f"{others}; the newest invocation did not select it"


def _curves(cells: pd.DataFrame, runs: Mapping[str, Run]) -> pd.DataFrame:
    """`Results.curves`."""
    points = []
    for name in (*map(schema.curve, cells["metric"].unique()), CLOCK):
        found = {identity: run for identity, run in runs.items() if name in run.metrics}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            curves = pool.map(lambda run, name=name: run.history(name), found.values())
        for identity, curve in zip(found, curves, strict=True):
            points += [(identity, name, images, value) for images, value in curve]
    frame = pd.DataFrame(points, columns=["identity", "name", "images", "value"])
    # a frame without rows has no types
    frame = frame.astype({"name": str, "images": int, "value": float})
    known = cells[["identity", "model", "dataset", "seed", "counted", "metric"]].merge(frame, on="identity")
    own = (known["name"] == CLOCK) | (known["name"] == known["metric"].map(schema.curve))
    return known[own].drop(columns="metric").reset_index(drop=True)


def _further(plan: Plan, runs: Iterable[Run]) -> pd.DataFrame:
    """`Results.further`: of several runs for one, the newest."""
    planned = {floor.identity for floor in plan.floors}
    wanted = {schema.KIND: schema.FLOOR, schema.SCORING: str(plan.scoring)}
    found: dict[str, tuple[PlannedFloor, Run]] = {}
    for run in runs:
        tags = run.tags
        if wanted.items() <= tags.items() and schema.COUNT in tags and tags[schema.IDENTITY] not in planned:
            floor = PlannedFloor(
                dataset=tags[schema.DATASET],
                title=tags[schema.TITLE],
                identity=tags[schema.IDENTITY],
                metric=tags[schema.METRIC],
                images=int(tags[schema.COUNT]),
            )
            found[floor.identity] = floor, run
    return _floors(found.values())


def _floors(floors: Iterable[tuple[PlannedFloor, Run]]) -> pd.DataFrame:
    """`Results.floors`; a floor that was not measured has no row."""
    rows = [
        {
            "dataset": floor.dataset,
            "metric": floor.metric,
            "images": floor.images,
            "comparison": comparison,
            "hash": run.tags.get(schema.EXTRACTOR_HASH, "unknown"),
            **{key.removeprefix(f"{kind}/"): run.metrics[key] for key in measured},
        }
        for floor, run in floors
        for kind, comparison in FLOORS.items()
        if (measured := [key for key in run.metrics if key.startswith(f"{kind}/")])
    ]
    columns = ["dataset", "metric", "images", "comparison", "hash", "n_generated", "n_reference"]
    frame = pd.DataFrame(rows)
    return frame.assign(**{name: np.nan for name in columns if name not in frame})


def _at(images: pd.Series, clock: pd.DataFrame) -> np.ndarray:
    """Training seconds after so many images; NaN without a clock."""
    if clock.empty:
        return np.full(len(images), np.nan)
    seen, seconds = np.r_[0, clock["images"]], np.r_[0.0, clock["value"]]
    return np.asarray(np.interp(images, seen, seconds))


# --- which cells a report has: those that were selected or ran; the rest is one line


def selected_cells(results: Results) -> Results:
    """The results without cells that the newest invocation did not select and that never ran.

    Where nothing would be left, all of them are.
    """
    kept = [not absent for absent in _absent(results)]
    if not any(kept):
        return results
    cells = [cell for cell, own in zip(results.plan.cells, kept, strict=True) if own]
    return replace(results, plan=results.plan.model_copy(update={"cells": cells}), cells=results.cells[kept])


def left_out(results: Results) -> str:
    """What `selected_cells` leaves out, in words: `sagan and mdgan (6 cells)`; empty for nothing."""
    absent = _absent(results)
    if not any(absent) or all(absent):
        return ""
    cells = Counter(cell.model for cell, own in zip(results.plan.cells, absent, strict=True) if own)
    whole = {cell.model for cell, own in zip(results.plan.cells, absent, strict=True) if not own}
    names = [model if model not in whole else f"other seeds of {model}" for model in cells]
    return f"{listed(names)} ({cells.total()} {'cell' if cells.total() == 1 else 'cells'})"


def _absent(results: Results) -> list[bool]:
    """Of every cell: whether it was neither selected nor ever run."""
    return list((results.cells["status"] == "not run") & ~results.cells["selected"])
