"""What was tracked, from what is at hand: the store if it answers, completed by what stands in journals only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol, Self, TypeVar

from mlflow.entities import Metric, Param, RunData, RunInfo, RunTag

from gans import schema
from gans.runs.journal import Journal, journals
from gans.runs.sync import answers, compare, keys
from gans.runs.tracking import Absent, MlflowRun, Store

Answer = TypeVar("Answer")


class Source(Protocol):
    """What was tracked: a store, or more than that."""

    @property
    def uri(self) -> str: ...

    def experiments(self, prefix: str = "") -> list[str]: ...

    def runs(self, experiment: str) -> list[MlflowRun]: ...

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]: ...

    def histories(self, run_ids: Sequence[str], metric: str) -> dict[str, list[tuple[int, float]]]: ...

    def artifact(self, run: MlflowRun, path: str) -> Path | None: ...

    def lost(self, run: MlflowRun) -> Path | None: ...


class Recorded:
    """A run as its journal tells it.

    Args:
        journal: the run's.
        base: the run as the store has it, where the journal does not hold all of it.
    """

    def __init__(self, journal: Journal, base: MlflowRun | None = None) -> None:
        self.journal, self.base = journal, base
        self.points: dict[str, list[Metric]] = {}
        self.params: dict[str, str] = dict(base.data.params) if base else {}
        self.tags: dict[str, str] = dict(base.data.tags) if base else dict(journal.about["tags"])
        self.status = "RUNNING"
        self.ended: int | None = None
        self.files: dict[str, Path] = {}  # by their paths among the artifacts
        for line in journal.lines():
            given = line.given
            match line.call:
                case "log":
                    for name, value in given["values"].items():
                        self.points.setdefault(name, []).append(Metric(name, value, line.at, given["images"]))
                case "params":
                    self.params |= given["values"]
                case "tag":
                    self.tags |= given["values"]
                case "untag":
                    self.tags = {k: v for k, v in self.tags.items() if not k.startswith(given["prefix"])}
                case "artifact" | "artifacts":
                    self.files |= dict(files(journal.folder / given["path"], given["folder"]))
                case "resume":
                    self.status, self.ended = "RUNNING", None
                case "end":
                    self.status, self.ended = given["status"], line.at
        self.tags[schema.JOURNAL] = journal.key

    @cached_property
    def run(self) -> MlflowRun:
        """As MLflow would give it."""
        base, about = self.base, self.journal.about
        latest = {
            name: max(some, key=lambda p: (p.step, p.timestamp, p.value)) for name, some in self.points.items()
        }
        kept = (
            [] if base is None else [Metric(k, v, 0, 0) for k, v in base.data.metrics.items() if k not in latest]
        )
        info = RunInfo(
            run_id=base.info.run_id if base else self.journal.sent.run or self.journal.key,
            experiment_id=base.info.experiment_id if base else "",
            user_id="",
            status=self.status,
            start_time=base.info.start_time if base else self.journal.begun,
            end_time=self.ended,
            lifecycle_stage="active",
            artifact_uri=base.info.artifact_uri if base else self.journal.folder.absolute().as_uri(),
            run_name=base.info.run_name if base else about["name"],
        )
        params = [Param(key, value) for key, value in self.params.items()]
        tags = [RunTag(key, value) for key, value in self.tags.items()]
        return MlflowRun(info, RunData([*kept, *latest.values()], params, tags))

    def history(self, metric: str) -> list[tuple[int, float]]:
        """As `Store.history`."""
        points = sorted(self.points.get(metric, ()), key=lambda point: (point.timestamp, point.step))
        return sorted({point.step: point.value for point in points}.items())

    def artifact(self, path: str) -> Path | None:
        """The file of this name; or the folder, if all that it holds lies together."""
        if path in self.files:
            return self.files[path]
        folder = PurePosixPath(path)
        inside = {file.parent for name, file in self.files.items() if folder in PurePosixPath(name).parents}
        return inside.pop() if len(inside) == 1 else None


def files(path: Path, folder: str | None) -> Iterator[tuple[str, Path]]:
    """Each file that was told, by its path among the artifacts; those that are no longer there are none."""
    root = PurePosixPath(folder or "")
    if path.is_dir():
        yield from ((str(root / file.relative_to(path)), file) for file in path.rglob("*") if file.is_file())
    elif path.is_file():
        yield str(root / path.name), path


class Reader:
    """A store, completed by the journals below a folder.

    A store that does not answer, or ceases to, is not asked again: then all is read from the journals.

    Args:
        store: which need not answer.
        folder: of runs; there may be none.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.found: dict[str, Recorded] = {}  # what was read from journals, by MLflow's id or key

    @classmethod
    def of(cls, uri: str, folder: Path, answers: bool) -> Self:
        """Of a store at this address, as `gans.runs.databases.check_reading` found it."""
        return cls(Store(uri) if answers else Absent(uri), folder)

    @property
    def uri(self) -> str:
        return self.store.uri

    @cached_property
    def journals(self) -> list[Journal]:
        return journals(self.folder)

    @cached_property
    def alive(self) -> bool:
        return answers(self.store)

    def ask(self, question: Callable[[], Answer], otherwise: Callable[[], Answer]) -> Answer:
        """What the store says; something else if it does not answer."""
        if self.alive:
            try:
                return question()
            except Exception:
                if answers(self.store):
                    raise
                self.alive = False
        return otherwise()

    def experiments(self, prefix: str = "") -> list[str]:
        names = {journal.experiment for journal in self.journals if journal.experiment.startswith(prefix)}
        nothing: list[str] = []
        return sorted(names.union(self.ask(lambda: self.store.experiments(prefix), lambda: nothing)))

    def runs(self, experiment: str) -> list[MlflowRun]:
        """All runs of the experiment of this name, oldest first."""
        own = [journal for journal in self.journals if journal.experiment == experiment]

        return self.ask(
            lambda: self.completed(*compare(own, self.store, experiment)), lambda: self.completed([], own)
        )

    def completed(self, known: list[MlflowRun], late: list[Journal]) -> list[MlflowRun]:
        """These runs, and what these journals say of them or others, oldest first."""
        runs = {run.info.run_id: run for run in known}
        ids = {key: run.info.run_id for run in known for key in keys(run)}
        for journal in late:
            base = None if journal.whole else runs.get(ids.get(journal.key, ""))
            if base is None and not journal.whole:
                continue  # the store that has the rest of it does not answer
            recorded = Recorded(journal, base)
            run_id = ids.setdefault(journal.key, recorded.run.info.run_id)
            runs[run_id] = recorded.run
            self.found[run_id] = recorded
        return sorted(runs.values(), key=lambda run: run.info.start_time)

    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """As `Store.history`."""
        recorded = self.found.get(run_id)
        if recorded and recorded.base is None:
            return recorded.history(metric)

        def remembered() -> list[tuple[int, float]]:
            found = self.remembered(run_id)
            return found.history(metric) if found else []

        stored = self.ask(lambda: self.store.history(run_id, metric), remembered)
        return sorted({**dict(stored), **dict(recorded.history(metric) if recorded else ())}.items())

    def histories(self, run_ids: Sequence[str], metric: str) -> dict[str, list[tuple[int, float]]]:
        """As `Store.histories`."""
        late = [run_id for run_id in run_ids if run_id in self.found]
        stored = [run_id for run_id in run_ids if run_id not in self.found]

        def one_by_one() -> dict[str, list[tuple[int, float]]]:
            return {run_id: self.history(run_id, metric) for run_id in stored}

        found = self.ask(lambda: self.store.histories(stored, metric), one_by_one)
        return found | {run_id: self.history(run_id, metric) for run_id in late}

    def artifact(self, run: MlflowRun, path: str) -> Path | None:
        """As `Store.artifact`."""
        recorded = self.found.get(run.info.run_id)
        here = recorded.artifact(path) if recorded else None
        if here or (recorded and recorded.base is None):
            return here

        def remembered() -> Path | None:
            found = self.remembered(run.info.run_id)
            return found.artifact(path) if found else None

        return self.ask(lambda: self.store.artifact(run, path), remembered)

    def lost(self, run: MlflowRun) -> Path | None:
        """As `Store.lost`; of what journals hold whole, nothing is."""
        recorded = self.found.get(run.info.run_id)
        nothing: Path | None = None
        if recorded and recorded.base is None:
            return nothing
        return self.ask(lambda: self.store.lost(run), lambda: nothing)

    def remembered(self, run_id: str) -> Recorded | None:
        """A run whose store has ceased to answer."""
        for journal in self.journals if run_id not in self.found else ():
            if journal.whole and journal.sent.run == run_id:
                self.found[run_id] = Recorded(journal)
        return self.found.get(run_id)
