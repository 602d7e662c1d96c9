"""Tracked runs: those with a folder are read from there, others from the tracking store."""

from pathlib import Path

from gans.runs.events import State, run_folders, state_of
from gans.runs.store import MlflowRun, Store, is_deleted, key_of


class Stored(State):
    """A run as the store has it; its curves and artifacts are read when they are wanted."""

    def __init__(self, store: Store, run: MlflowRun) -> None:
        super().__init__(Path())
        self.store, self.run, self.id = store, run, run.info.run_id
        self.name, self.status = run.info.run_name, run.info.status
        self.began, self.ended = run.info.start_time, run.info.end_time or 0
        self.tags, self.params = run.data.tags, run.data.params

    @property
    def metrics(self) -> dict[str, float]:
        return dict(self.run.data.metrics)

    def history(self, metric: str) -> list[tuple[int, float]]:
        """As of folders; of several values at one number of images, the last."""
        points = self.store.ask(lambda: self.store.client.get_metric_history(self.id, metric)) or ()
        ordered = sorted(points, key=lambda point: (point.step, point.timestamp))
        return list({point.step: point.value for point in ordered}.items())

    def artifact(self, path: str) -> Path | None:
        return self.store.ask(lambda: self.store.artifact(self.run, path))


class Tracked:
    """The runs of a store, and those at or below a folder."""

    def __init__(self, store: Store, root: Path | None = None) -> None:
        self.store, self.folders = store, run_folders(root) if root else []

    def experiments(self, prefix: str = "") -> list[str]:
        """The names of those that begin like this."""
        stored = self.store.ask(lambda: self.store.client.search_experiments())
        names = {found.name for found in stored or ()} | {folder.experiment for folder in self.folders}
        return sorted(name for name in names if name.startswith(prefix))

    def runs(self, experiment: str) -> list[State]:
        """The runs of the experiment of this name, oldest first; folders forget runs that the store deleted."""
        stored = self.store.ask(lambda: self.store.search(experiment)) or ()
        found: dict[str, State] = {key_of(run): Stored(self.store, run) for run in stored if not is_deleted(run)}
        deleted = {key_of(run) for run in stored} - found.keys()
        for folder in self.folders:
            if folder.key in deleted:
                folder.forget()
            elif folder.experiment == experiment and (state := state_of(folder.path)):
                state.stored = found.get(folder.key)
                found[folder.key] = state
        return sorted(found.values(), key=lambda run: run.began)
