"""What was tracked: the store if it answers, completed by the folders of runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self, TypeVar

from mlflow.entities import Metric, Param, RunData, RunInfo, RunTag

from gans import schema
from gans.errors import brief
from gans.runs.events import RunFolder, State, run_folders, run_paths
from gans.runs.export import compare, keys
from gans.runs.tracking import MlflowRun, Store
from gans.urls import shown

Answer = TypeVar("Answer")


def as_mlflow(folder: RunFolder, state: State, run_id: str, base: MlflowRun | None = None) -> MlflowRun:
    """A run as MLflow would give it.

    Args:
        folder: its own.
        state: what the events there come to.
        run_id: MLflow's, or the key of a run that the store does not have.
        base: the run as the store has it, where the folder does not hold all of it.
    """
    latest = {name: Metric(name, *points[max(points)], max(points)) for name, points in state.points.items()}
    metrics = {name: Metric(name, value, 0, 0) for name, value in (base.data.metrics if base else {}).items()}
    params = (base.data.params if base else {}) | state.params
    tags = (base.data.tags if base else {}) | state.tags | {schema.JOURNAL: folder.key}
    changed = bool(state.since or state.ended)  # else it only adds to a run
    info = RunInfo(
        run_id=run_id,
        experiment_id=base.info.experiment_id if base else "",
        user_id="",
        status=base.info.status if base and not changed else state.status,
        start_time=base.info.start_time if base else state.began,
        end_time=base.info.end_time if base and not changed else state.ended or None,
        lifecycle_stage="active",
        artifact_uri=base.info.artifact_uri if base else folder.path.absolute().as_uri(),
        run_name=base.info.run_name if base else state.name,
    )
    return MlflowRun(
        info,
        RunData(
            list((metrics | latest).values()),
            [Param(*item) for item in params.items()],
            [RunTag(*item) for item in tags.items()],
        ),
    )


class Reader:
    """A store, completed by the folders of runs.

    A server that ceases to answer is not asked again: then all is read from the folders. What a server and a
    folder both have is read from the folder, which takes no requests.

    Args:
        store: which need not answer.
        root: of the folders; there may be none.
    """

    def __init__(self, store: Store, root: Path) -> None:
        self.store, self.root = store, root
        self.states: dict[Path, State] = {}
        self.late: set[str] = set()  # ids of runs of which whole folders hold more than the store
        self.parts: dict[str, list[State]] = {}  # by id, what other folders add to a run

    @classmethod
    def of(cls, uri: str, root: Path, answers: bool) -> Self:
        """Of a store at this address, as `gans.runs.databases.check_reading` found it."""
        return cls(Store(uri) if answers else Store.absent(uri), root)

    @property
    def uri(self) -> str:
        return self.store.uri

    @cached_property
    def alive(self) -> bool:
        return self.store.answers()

    @cached_property
    def folders(self) -> list[RunFolder]:
        return run_folders(run_paths(self.root))

    @cached_property
    def whole(self) -> Mapping[str, RunFolder]:
        """The folders that hold all of a run, by its key and by its id in this store."""
        found = [folder for folder in self.folders if folder.whole]
        return {name: folder for folder in found for name in (folder.key, folder.mark(self.store.name).run)}

    def ask(self, question: Callable[[], Answer], otherwise: Callable[[], Answer]) -> Answer:
        """What the store answers; something else if it does not."""
        if self.alive:
            try:
                return question()
            except Exception as error:
                if self.store.embedded:
                    raise
                self.alive = False
                self.store.silent()
                print(f"{shown(self.uri)} does not answer: {brief(error)}", file=sys.stderr)
        return otherwise()

    def state(self, folder: RunFolder) -> State:
        if folder.path not in self.states:
            self.states[folder.path] = folder.state()
        return self.states[folder.path]

    def local(self, run_id: str) -> State | None:
        """What is read from the folder of a run in place of the store."""
        folder = self.whole.get(run_id)
        if folder is None or (self.alive and self.store.embedded and run_id not in self.late):
            return None
        state = self.state(folder)
        return None if self.alive and state.damaged else state

    # --- what reports read

    def experiments(self, prefix: str = "") -> list[str]:
        names = {folder.experiment for folder in self.folders if folder.experiment.startswith(prefix)}
        nothing: list[str] = []
        return sorted(names.union(self.ask(lambda: self.store.experiments(prefix), lambda: nothing)))

    def runs(self, experiment: str) -> list[MlflowRun]:
        """All runs of the experiment of this name, oldest first."""
        own = [folder for folder in self.folders if folder.experiment == experiment]
        return self.ask(
            lambda: self.completed(*compare(own, self.store, experiment)), lambda: self.completed([], own)
        )

    def completed(self, known: list[MlflowRun], late: list[RunFolder]) -> list[MlflowRun]:
        """These runs, and what these folders hold of them or of others, oldest first."""
        runs = {run.info.run_id: run for run in known}
        ids = {key: run.info.run_id for run in known for key in keys(run)}
        for folder in late:
            run_id = ids.setdefault(folder.key, folder.mark(self.store.name).run or folder.key)
            base = None if folder.whole else runs.get(run_id)
            if base is None and not folder.whole:
                continue  # the store that has the rest of it does not answer
            state = self.state(folder)
            runs[run_id] = as_mlflow(folder, state, run_id, base)
            if folder.whole:
                self.late.add(run_id)
            else:
                self.parts.setdefault(run_id, []).append(state)
        return sorted(runs.values(), key=lambda run: run.info.start_time)

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """As `Store.history`."""
        return self.histories([run_id], metric)[run_id]

    def histories(self, run_ids: Sequence[str], metric: str) -> dict[str, list[tuple[int, float]]]:
        """As `Store.histories`."""
        states = {run_id: state for run_id in run_ids if (state := self.local(run_id))}
        stored = [run_id for run_id in run_ids if run_id not in states]
        nothing: dict[str, list[tuple[int, float]]] = {run_id: [] for run_id in stored}
        found = self.ask(lambda: self.store.histories(stored, metric), lambda: nothing)
        for run_id in run_ids:
            added = [states[run_id]] if run_id in states else self.parts.get(run_id, [])
            points = {step: value for state in added for step, (value, _) in state.points.get(metric, {}).items()}
            if added:
                found[run_id] = sorted((dict(found.get(run_id, [])) | points).items())
        return found

    def artifact(self, run: MlflowRun, path: str) -> Path | None:
        """As `Store.artifact`; what the store has lost is taken from the folder."""
        run_id = run.info.run_id
        nearest = self.local(run_id), *self.parts.get(run_id, [])
        found = next((file for state in nearest if state and (file := state.artifact(path))), None)
        found = found or self.ask(lambda: self.store.artifact(run, path), lambda: None)
        folder = self.whole.get(run_id) if found is None else None
        return self.state(folder).artifact(path) if folder else found

    def lost(self, run: MlflowRun) -> Path | None:
        """As `Store.lost`; of what folders hold, nothing is."""
        return None if run.info.run_id in self.whole else self.ask(lambda: self.store.lost(run), lambda: None)


Source = Store | Reader  # what reports read
