"""Runs a sweep: trials until there are enough, the winners' retraining, the preset and the pages."""

from __future__ import annotations

import tempfile
import time
import uuid
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import torch
from optuna import Study as OptunaStudy
from optuna.trial import FrozenTrial

from benchmarks import executors
from benchmarks.job import Job, Progress, Restarted, Result
from benchmarks.matrix import MATRICES, Matrix, cells, preset_name, read_matrix
from benchmarks.options import MATRIX, Bench, Machine, Selection
from benchmarks.runner import MatrixRun, place
from gans import schema
from gans.commands.options import command_line
from gans.commands.progress import Display
from gans.compute import devices
from gans.config import experiment
from gans.errors import InputError
from gans.files import PRESETS, REPORTS, free, write_bytes
from gans.recipes import recipe
from gans.runs.cell import Cell, check_cell, identify
from gans.runs.locks import InUse, locked
from gans.runs.run import Run, invocation
from gans.runs.store import Store, Tracked, shown
from reports import studies
from reports.studies import Study
from sweeps import ROOT, pages, plots, winners
from sweeps.options import Request
from sweeps.space import read_space
from sweeps.study import Sweep, Tally, counted, fail, held_by, origin, release_stale, unclaimed
from sweeps.trial import trial_folder, trial_job

FAILURES = 5  # trials in a row that fail before the sweep gives up: then it is not the parameters
OTHERS = "trials/others"  # what the display calls them
LIMIT_MINUTES = 600.0  # of a trial where no matrix gives one
ALLOWANCE = 2.0  # a trial may be larger than the default, for which the matrix's limit is meant
PATIENCE = 2.0  # seconds between looks at the trials of other processes


class GaveUp(Exception):
    """Too many trials failed one after the other."""


class SweepRun:
    """One session of a sweep; its construction raises `InputError` if something of the request cannot be had."""

    def __init__(self, request: Request, machine: Machine, store: Store) -> None:
        self.request, self.machine, self.store = request, machine, store
        self.sweep = plan(request, devices.resolve(machine.device))
        if machine.cluster:
            machine.cluster.check_cells([self.sweep.default], machine.threads(self.sweep.base.resolution), 0)
        self.study = self.sweep.create()
        self.folder = machine.runs / self.sweep.name
        self.failures = 0

    def run(self) -> int:
        """Returns the exit code: 0 if the study is complete and its winners are retrained."""
        about = {
            schema.KIND: schema.SWEEP,
            schema.STUDY: self.sweep.study,
            schema.STORAGE: shown(self.sweep.storage),
            schema.MODEL: self.sweep.default.model,
            schema.DATASET: self.sweep.base.dataset,
            schema.COMMAND: self.request.command(),
            schema.NOTE: self.note(),
        }
        with invocation(self.folder, self.sweep.name, f"sweep {self.sweep.study}", about) as self.parent:
            self.parent.text(self.sweep.space.text(), schema.SWEEP_SPACE)
            code = self.stages()
            self.parent.finish(schema.FINISHED if code == 0 else schema.FAILED)
        return code

    def stages(self) -> int:
        try:
            self.search()
        except GaveUp as error:
            print(f"gave up: {error}")
            return 1
        print(winners.summary(self.study))
        if self.request.join:
            return 0
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.folder))
            except InUse:
                print("another process retrains the winners and writes the report")
                return 0
            return self.conclude()

    # --- trials

    def search(self) -> None:
        """Run trials until enough have finished or were pruned, over all processes.

        `GaveUp` if they fail in a row.
        """
        with display(self.study, self.sweep) as bars:
            screen = TrialScreen(self.study, bars)
            while counted(self.study) < self.sweep.trials:
                release_stale(self.study, self.sweep.storage)
                jobs = self.jobs()
                if jobs:
                    self.work(jobs, screen)
                else:
                    screen.wait()
                    time.sleep(PATIENCE)

    def jobs(self) -> list[Job]:
        """One for every trial that no process works on."""
        side, budget, seconds = self.sweep.base.resolution, self.sweep.base.budget, self.sweep.seconds
        where = place(self.machine, self.sweep.name, side, self.parent)
        names = [uuid.uuid4().hex[:12] for _ in range(unclaimed(self.study, self.sweep.trials))]
        calls = {name: partial(trial_job, sweep=self.sweep, place=where, job=name) for name in names}
        return [Job(name, calls[name], self.folder, budget, seconds, resumes=False) for name in names]

    def work(self, jobs: list[Job], screen: TrialScreen) -> None:
        """Run the jobs; an interrupt fails the trials that were running, and retries them."""
        events = executors.run(self.machine, jobs, self.sweep.base.resolution)
        try:
            with closing(events):
                for job, what in events:
                    if isinstance(what, Restarted):  # it takes another trial, or a retry of this one
                        self.release(job.name, Result(schema.INTERRUPTED, what.why))
                    if isinstance(what, Result):
                        self.release(job.name, what)
                    screen.show(job, what)
                    if isinstance(what, Result):
                        self.give_up(what)
        finally:
            for job in jobs:
                self.release(job.name, Result(schema.INTERRUPTED, "the sweep was interrupted"))
            release_stale(self.study, self.sweep.storage)  # what was stopped as it began

    def give_up(self, result: Result) -> None:
        """Count failures in a row."""
        if result.status in ("surplus", schema.INTERRUPTED):
            return
        self.failures = 0 if result.status in (schema.FINISHED, schema.PRUNED) else self.failures + 1
        if self.failures >= FAILURES:
            raise GaveUp(f"{FAILURES} trials failed in a row, the last one with: {result.reason}")

    def release(self, job: str, result: Result) -> None:
        """Fail a trial that an ended job left running, and its run; retry it unless it ran out of time."""
        late = result.status == schema.TIMED_OUT
        for trial in held_by(self.study, job):
            if fail(self.study, trial, again=not late):
                run = Run.open(trial_folder(self.folder, origin(trial)))
                if run:
                    run.finish(result.status if late else schema.INTERRUPTED, result.reason)

    # --- winners

    def conclude(self) -> int:
        """Retrain the winners, then write the record, the preset and the pages."""
        finalists = winners.finalists(self.study, self.sweep, self.request.finalists)
        kept = winners.record(self.study, self.sweep, self.request, finalists)
        with tempfile.TemporaryDirectory() as figures:
            plots.draw_all(self.study, self.sweep, Path(figures))
            self.parent.artifact(Path(figures), schema.SWEEP_PLOTS)
        self.parent.text(kept.model_dump_json(indent=1), schema.SWEEP_RECORD)
        code = self.retrain(finalists) if finalists else int(not kept.finished)
        root = self.machine.outputs / REPORTS / ROOT.name
        swept = studies.load(Tracked(self.store, self.machine.runs), self.sweep.name)
        path = pages.write(swept, root)
        self.write_preset(swept.study, path.parent / pages.CANDIDATE)
        if winner := swept.study.winner:
            score = f"{swept.study.estimate(winner.label).mean:.4g}"
            self.parent.params({"winner": winner.label, f"{kept.metric} of the winner": score})
        self.parent.artifact(path.parent, schema.REPORT)
        print(f"report: {path}")
        try:
            pages.write_ranking(root)
        except InputError as error:  # of other studies; this one is done
            print(error)
        return code

    def retrain(self, finalists: list[FrozenTrial]) -> int:
        """Train the finalists and the default from fresh seeds, except what is finished."""
        names = [winners.name(trial) for trial in finalists]
        print(f"retraining with {self.request.fresh} fresh seeds each: the default, {', '.join(names)}")
        matrix = winners.matrix(self.sweep, finalists, self.request.fresh)
        return MatrixRun(matrix, Selection(), self.machine, self.store).run()

    def write_preset(self, study: Study, candidate: Path) -> None:
        """Write the winner's settings, a candidate, where PRESET=tuned finds them if they beat the default."""
        if study.winner is None:
            print("no preset: no winner has scores from fresh seeds")
            return
        name = preset_name(self.request.model, self.request.dataset, self.request.budget)
        path = self.machine.outputs / PRESETS / name
        use = f"train it and the default: {tuned_bench(self.request)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not study.proven:
            print(f"no preset: trial {study.winner.number} {study.difference(study.winner).verdict}")
            print(f"to use it anyway, copy {candidate} to {path}; then {use}")
            return
        content = candidate.read_bytes()
        if path.exists() and path.read_bytes() != content:  # an earlier winner's, or the user's own
            (aside,) = free(path.parent, path.stem, path.suffix)
            print(f"the earlier preset {path} is now {path.replace(aside)}")
        write_bytes(path, content)
        self.parent.artifact(path, schema.SWEEP_PRESET)
        print(f"preset: {path}; {use}")

    # --- tracking

    def note(self) -> str:
        return (
            f"The sweep `{self.sweep.study}`: `{self.request.command()}`. Its child runs are trials; select them "
            f"and compare `{schema.SWEEP_SCORE}`, the best point of `{self.sweep.curve}`, by which the study "
            "ranks them. The matrix in this experiment trained the winners and the default, with fresh seeds."
        )


# --- the plan


def plan(request: Request, device: torch.device) -> Sweep:
    """The sweep of a request on a device; an InputError for what would keep its trials from training."""
    default, seconds = default_cell(request, device)
    check_cell(default, device)
    return Sweep(
        study=request.name,
        storage=request.storage,
        default=default,
        space=read_space(request.model, default.experiment, request.space),
        trials=request.trials,
        seed=request.seed,
        pruner="none" if len(request.objectives) > 1 else request.pruner,
        objectives=request.objectives,
        seconds=seconds,
    )


def default_cell(request: Request, device: torch.device) -> tuple[Cell, float]:
    """What `make bench` trains for this model, with another training seed, and a trial's time limit in seconds.

    The matrix of the data set's name defines both, if there is one that has the model; else the recipe.
    """
    model, dataset, seed = request.model, request.dataset, winners.TRIAL_SEED
    matrix = own_matrix(request)
    if matrix:
        selection = Selection([model], [dataset], [seed], request.budget, request.precision)
        (cell,) = cells(matrix, selection, device)
        return cell, 60 * matrix.file.time_limit_minutes * ALLOWANCE
    settings = {"dataset": dataset, "seed": seed, "precision": request.precision or "auto"}
    base = experiment(recipe(model).settings, settings, where="the recipe")
    return identify(model, base.scaled(request.budget), device), 60 * LIMIT_MINUTES


def own_matrix(request: Request) -> Matrix | None:
    """The matrix of the data set's name, if it trains the model."""
    if not (MATRICES / f"{request.dataset}.toml").exists():
        return None
    matrix = read_matrix(request.dataset)
    return matrix if request.model in matrix.file.models else None


def tuned_bench(request: Request) -> str:
    """The command that trains the default and the preset on the data set's matrix, else on its data."""
    matrix = own_matrix(request)
    selection = Selection(
        models=[request.model, f"{request.model}-tuned"],
        datasets=None if matrix else [request.dataset],
        budget=request.budget,
        precision=request.precision,
    )
    bench = Bench(matrix.name if matrix else MATRIX, selection=selection, preset="tuned")
    return command_line("gans bench", bench)


# --- the display


def display(study: OptunaStudy, sweep: Sweep) -> Display:
    """A display of the trials that are left, those of other processes included."""
    first = len(study.get_trials(deepcopy=False))
    numbers = range(first, first + max(0, sweep.trials - counted(study)))
    return Display({f"trial/{number}": sweep.base.budget for number in numbers}, unit="trials")


class TrialScreen:
    """Shows events of jobs under the numbers of their trials."""

    def __init__(self, study: OptunaStudy, screen: Display) -> None:
        self.study, self.screen = study, screen
        self.names: dict[str, str] = {}  # of running trials, by job
        self.waiting = False

    def show(self, job: Job, what: object) -> None:
        match what:
            case Progress(_, values) if "trial" in values:
                self.begin(job.name, f"trial/{values['trial']:.0f}", job.images)
            case Progress(images, values) if job.name in self.names:
                self.screen.update(self.names[job.name], images, values)
            case Restarted(why) if job.name in self.names:
                self.screen.end(self.names.pop(job.name), schema.INTERRUPTED, why, counts=False)
            case Result(status, reason) if status != "surplus":
                if job.name not in self.names:
                    self.begin(job.name, f"trial/{job.name}", 0)
                reason = "  ".join(part for part in (reason, str(Tally.of(self.study))) if part)
                self.screen.end(self.names.pop(job.name), status, reason)

    def begin(self, job: str, name: str, images: int) -> None:
        if name in self.names.values():  # retried, since the process that still trains it gave no sign
            name += f" ({job})"
        self.names[job] = name
        self.screen.start(name, images)

    def wait(self) -> None:
        """Show that other processes have the last trials."""
        if not self.waiting:
            self.waiting = True
            self.screen.start(OTHERS, 0)
        self.screen.wait(OTHERS, f"other processes have the last trials: {Tally.of(self.study)}")
