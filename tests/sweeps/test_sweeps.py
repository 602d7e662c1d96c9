"""Sweeps: spaces that hold, counts that are exact whatever dies, pruning, honest winners, bad input."""

import math
import multiprocessing
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import optuna
import pandas as pd
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FixedTrial, Trial, TrialState, create_trial

from benchmarks.job import Result
from benchmarks.options import Machine
from gans.config import experiment, flatten
from gans.data.datasets import load
from gans.errors import InputError
from gans.recipes import names as recipes
from gans.recipes import recipe
from gans.runs.cell import Cell, check_fit
from gans.runs.execute import Place
from gans.runs.store import Tracked
from gans.schema import CHECKPOINT
from reports.statistics import Difference
from sweeps import winners
from sweeps.options import Request
from sweeps.runner import SweepRun, default_cell, plan
from sweeps.space import Parameter, Space, nest, read_space, space
from sweeps.study import (
    GRACE,
    JOB,
    Sweep,
    Tally,
    counted,
    fail,
    held_by,
    open_storage,
    origin,
    release_stale,
    unclaimed,
)
from sweeps.trial import TrialDiverged, report_score, trial_folder, trial_job
from tests.conftest import until
from tests.desk import ROOT, Desk, ended

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
optuna.logging.set_verbosity(optuna.logging.ERROR)


# --- a sweep that costs nothing


@pytest.fixture
def sweep(tmp_path) -> Sweep:
    """A sweep of two settings of a cell that is never trained, in a database of its own."""
    base = experiment(recipe("gan").settings, {"kimg": 6, "precision": "float32", "schedule": {"evaluations": 6}})
    cell = Cell("gan", base, "0" * 16, "fd_stub")
    parameters = {
        "optimizer.lr_g": Parameter(low=1e-5, high=1e-1, log=True),
        "batch": Parameter(choices=(32, 64, 128)),
    }
    return Sweep(
        study="stub",
        storage=f"sqlite:///{tmp_path}/sweeps.db",
        default=cell,
        space=Space(parameters, base.flat()),
        trials=5,
        seed=0,
        pruner="none",
        objectives=("score",),
        seconds=60,
    )


def score(trial: Trial, sweep: Sweep) -> tuple[float, ...]:
    """The score, which is best at a learning rate of 1e-3."""
    tables = sweep.space.suggest(trial)
    return ((math.log10(tables["optimizer"]["lr_g"]) + 3) ** 2,)


def kill(trial: Trial, sweep: Sweep) -> tuple[float, ...]:
    """End this process as `kill -9` would in the middle of a trial."""
    sweep.space.suggest(trial)
    os.kill(os.getpid(), signal.SIGKILL)
    return ()


def bug(trial: Trial, sweep: Sweep) -> tuple[float, ...]:
    raise ZeroDivisionError("a bug")


def diverge(trial: Trial, sweep: Sweep) -> tuple[float, ...]:
    sweep.space.suggest(trial)
    raise TrialDiverged("diverged: a loss is nan")


def go(sweep: Sweep, train: Callable[[Trial, Sweep], tuple[float, ...]] = score, folder: Path = Path()) -> Result:
    """Run a trial that calls this in place of training."""
    place = Place("stub", device="cpu", threads=1)
    with mock.patch("sweeps.trial.train_trial", lambda trial, report, folder, sweep, place: train(trial, sweep)):
        return trial_job(lambda images, values: None, folder, sweep, place, "job")


def go_in_a_process(sweep: Sweep, *words: Any) -> int:
    """Run such a trial in another process; returns its exit code."""
    process = multiprocessing.get_context("fork").Process(target=go, args=(sweep, *words))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


# --- spaces


@pytest.fixture(scope="module", params=recipes())
def swept(request) -> tuple[str, Cell, Space]:
    cell, _ = default_cell(Request(request.param), CPU)
    return request.param, cell, read_space(request.param, cell.experiment)


def samples(space: Space, count: int) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.suggest(study.ask()) for _ in range(count)]


def test_a_space_searches_the_usual_settings_around_the_default_and_its_samples_are_trainable(swept):
    model, cell, space = swept
    wanted = {"optimizer.lr_g", "optimizer.lr_d", "batch", "networks.width", "loss.name", "ema.halflife_kimg"}
    assert wanted <= set(space.parameters)
    base = cell.experiment.model_dump()
    assert experiment(base, space.suggest(FixedTrial(space.default()))) == experiment(base)
    images, losses = load("digits"), set()
    for tables in samples(space, 50):
        resolved = experiment(base, tables)
        check_fit(resolved, images)
        assert resolved.kimg == cell.experiment.kimg and resolved.seed == winners.TRIAL_SEED
        losses.add(resolved.loss.name)
        assert ("loss.penalty" in dict(flatten(tables))) == (resolved.loss.name == "wasserstein-gp")
        if model == "mdgan":
            assert resolved.update.batches <= resolved.update.workers
    assert len(losses) >= 3 and not (cell.experiment.networks.name == "dcgan" and "wasserstein-gp" in losses)


def test_the_default_is_what_the_matrix_trains():
    file = tomllib.loads((ROOT / "benchmarks/matrices/digits.toml").read_text())
    cell, seconds = default_cell(Request("sagan", budget=0.5), CPU)
    assert cell.experiment.kimg == file["defaults"]["kimg"] / 2
    own = {"networks.width": file["models"]["sagan"]["networks"]["width"], "dataset": "digits"}
    assert own.items() <= cell.experiment.flat().items()
    assert cell.metric == "fd_digits" and seconds == 2 * 60 * file["time_limit_minutes"]


@pytest.mark.parametrize("of_a_matrix", [True, False])
def test_a_precision_is_that_of_all_trainings(of_a_matrix, monkeypatch, tmp_path):
    if not of_a_matrix:
        monkeypatch.setattr("sweeps.runner.MATRICES", tmp_path)
    monkeypatch.setattr("gans.compute.bfloat16.here", lambda: True)
    monkeypatch.setattr("gans.compute.bfloat16.faster", lambda: True)
    cells = [default_cell(Request("sagan", precision=kind), CPU)[0] for kind in (None, "float32")]
    assert [cell.experiment.precision for cell in cells] == ["bf16", "float32"]
    with pytest.raises(InputError, match="tf32 needs a CUDA device"):
        plan(Request("sagan", precision="tf32"), CPU)


def test_an_own_file_takes_the_place_of_the_models(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'batch = { choices = [0.5, 2], relative = true }\nloss.name = "hinge"\noptimizer.beta1 = [0.0, 0.5]'
    )
    cell, _ = default_cell(Request("sagan"), CPU)
    space = read_space("sagan", cell.experiment, file)
    assert set(space.parameters) == {"batch", "loss.name", "optimizer.beta1"}
    assert space.parameters["batch"] == Parameter(choices=(32, 128))
    assert all(tables["loss"] == {"name": "hinge"} for tables in samples(space, 5))
    assert space.default() is None  # a batch of 64 is not in it
    again = dict(flatten(tomllib.loads(space.text())))
    assert again == {"batch": [32, 128], "loss.name": ["hinge"], "optimizer.beta1": [0.0, 0.5]}


@pytest.mark.parametrize(
    ("text", "says"),
    {
        "": "leaves nothing to search",
        "batch = 64": "leaves nothing to search",
        "batch = []": "batch: choices = [] is not valid",
        "bacth = [32, 64]": "unknown key 'bacth' in x.toml; did you mean 'batch'?",
        "optimizer = { lr = [1, 2] }": "unknown key 'optimizer.lr' in x.toml; did you mean 'optimizer.lr_g'?",
        "kimg = [1, 2]": "kimg cannot be searched",
        "update.rule = ['mdgan', 'two-player']": "update.rule cannot be searched",
        "optimizer.lr_g = { low = 1e-2, high = 1e-3 }": "low = 0.01 is not below",
        "optimizer.lr_g = { low = 0, high = 1e-3, log = true }": "low = 0 has no logarithm",
        "batch = { low = true, high = 64 }": "batch: low = true is not a number",
        "batch = { low = '8', high = 64 }": 'low = "8" is not a number',
        "batch = { choices = [1, 2], relative = 1 }": "relative = 1 is not valid",
        "batch = [true, 64]": "true is not of the same type as the default",
        "batch = true": "true is not of the same type as the default",
        "optimizer.beta1 = [0.5, 1.5]": "beta1 = 1.5 is not valid",
        "batch = [32.5, 64]": "32.5 is not a whole number",
        "loss.name = ['hinge', 'wasserstien-gp']": "did you mean 'wasserstein-gp'?",
        "loss.name = ['hinge', 'wasserstein-gp']": "needs a discriminator without BatchNorm",
        "loss.penalty = { low = 1, high = 2, when = { loss.name = 'wasserstein-gp' } }": "that never hold",
        "batch = {low = 8, high = 64}\noptimizer.beta1 = {choices = [0, 0.5], when = {batch = 65}}": "never hold",
        "batch = {low = 8, high = 64}\noptimizer.beta1 = {choices = [0, 1.5], when = {batch = 32}}": "beta1 = 1.5",
        "update.batches = { low = 1, high = 8 }": "k is at most N",
        "update.batches = { low = 1, high = 8, at_most = 'update.worker' }": "did you mean 'update.workers'?",
        "batch = [16, 1500]": "fewer workers or a smaller batch",
        "batch = [16, 128]\nupdate.workers = [4, 16]": "fewer workers or a smaller batch",
    }.items(),
)
def test_a_space_that_cannot_be_is_refused_in_one_line(text, says):
    cell, _ = default_cell(Request("mdgan"), CPU)
    with pytest.raises(InputError) as caught:
        space(tomllib.loads(text), cell.experiment, "x.toml")
    assert says in str(caught.value) and "x.toml" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_condition_may_name_a_number_within_a_range():
    cell, _ = default_cell(Request("mdgan"), CPU)
    text = "batch = {low = 8, high = 64}\noptimizer.beta1 = {low = 0.1, high = 0.9, when = {batch = 32}}"
    found = space(tomllib.loads(text), cell.experiment, "x.toml")
    assert set(found.settings({"batch": 32, "optimizer.beta1": 0.5})) == {"batch", "optimizer.beta1"}
    assert found.settings({"batch": 33}) == {"batch": 33}


# --- counting


def age(study: optuna.Study, seconds: float) -> None:
    """Move the heartbeats of all trials into the past."""
    path = str(study._storage._backend.url).removeprefix("sqlite:///")
    with sqlite3.connect(path) as database:
        database.execute(f"UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-{seconds} seconds')")


def test_a_killed_worker_s_trial_is_retried_and_the_count_is_exact(sweep):
    study = sweep.create()
    go(sweep)
    assert go_in_a_process(sweep, kill) == -signal.SIGKILL
    release_stale(study, sweep.storage)
    assert states(study) == ["COMPLETE", "RUNNING"]  # its worker may live
    killed = study.trials[1]
    age(study, GRACE + 1)
    release_stale(study, sweep.storage)
    release_stale(study, sweep.storage)
    assert states(study) == ["COMPLETE", "FAIL", "WAITING"]
    assert go(sweep).status == "finished"
    again = study.trials[2]
    assert again.params == killed.params and origin(again) == 1
    while unclaimed(study, sweep.trials):  # the same command again
        go(sweep.__class__(**vars(sweep)))
    assert counted(study) == sweep.trials == 5
    assert states(study).count("FAIL") == 1
    assert go(sweep) == Result("surplus")
    more = replace(sweep, trials=7)
    go(more), go(more), go(more)
    assert counted(study) == 7


def test_a_worker_that_died_before_its_first_heartbeat_is_found(sweep, monkeypatch):
    study = sweep.create()
    study.ask()
    server = "postgresql://host/sweeps"  # where another process may just be about to name its job
    release_stale(study, server)
    assert states(study) == ["RUNNING"]
    release_stale(study, sweep.storage)
    assert states(study) == ["FAIL", "WAITING"]
    study.ask()
    monkeypatch.setattr("sweeps.study.GRACE", 0)
    release_stale(study, server)
    assert states(study) == ["FAIL", "FAIL", "WAITING"]


def test_a_trial_that_others_took_for_dead_does_not_count_twice(sweep):
    def slow(trial: Trial, sweep: Sweep) -> tuple[float, ...]:
        sweep.space.suggest(trial)
        fail(trial.study, trial.study.trials[trial.number])
        trial.report(1.0, 1)
        return (1.0,)

    study = sweep.create()
    assert go(sweep, slow).status == "surplus"
    assert states(study) == ["FAIL", "WAITING"]
    assert go(sweep).status == "finished"


def test_a_trial_is_retried_three_times_at_most(sweep):
    study = sweep.create()
    for _ in range(4):
        trial = study.ask()
        trial.set_user_attr(JOB, "mine")
        assert [held.number for held in held_by(study, "mine")] == [trial.number]
        assert fail(study, study.trials[trial.number])
        assert not fail(study, study.trials[trial.number])  # another process is too late
        assert not held_by(study, "mine")
    assert states(study) == ["FAIL"] * 4


def test_a_surplus_trial_does_not_run_nor_count(sweep, monkeypatch):
    study = sweep.create()
    one = replace(sweep, trials=1)
    go(one)
    monkeypatch.setattr("sweeps.trial.unclaimed", lambda study, trials: 1)  # others were quicker after this look
    assert go(one, bug) == Result("surplus")
    assert states(study) == ["COMPLETE", "FAIL"]
    assert Tally.of(study).failed == 0


@pytest.mark.parametrize("before", [0, 10], ids=["start-up", "after it"])
def test_a_study_draws_the_same_trials_however_often_it_is_interrupted(sweep, tmp_path, before):
    ways = {
        "optimizer.lr_g": FloatDistribution(1e-5, 1e-1, log=True),
        "batch": CategoricalDistribution((32, 64, 128)),
    }
    params = [{"optimizer.lr_g": 10 ** -(1 + n / 4), "batch": 64} for n in range(before)]
    earlier = [create_trial(value=1.0 + n, params=own, distributions=ways) for n, own in enumerate(params)]

    def draw(name: str) -> list[float]:
        own = replace(sweep, storage=f"sqlite:///{tmp_path}/{name}.db", trials=before + 3)
        study = own.create()
        study.add_trials(earlier)
        for _ in range(3):  # every call opens the study afresh
            go(own)
        return [trial.params["optimizer.lr_g"] for trial in study.trials]

    first = draw("a")
    assert first == draw("b")
    assert len(set(first)) == before + 3


def test_another_sweep_does_not_join_a_study(sweep):
    sweep.create()
    assert sweep.create().study_name == "stub"
    base = sweep.base.model_copy(update={"precision": "bf16"})
    others = {
        "another precision, .*its PRECISION is float32": {"default": replace(sweep.default, experiment=base)},
        "another space, .*STUDY=NAME": {"space": Space({"batch": Parameter(choices=(1, 2))}, sweep.base.flat())},
        "another objectives": {"objectives": ("score", "seconds")},
    }
    for says, changes in others.items():
        with pytest.raises(InputError, match=says):
            replace(sweep, **changes).create()


def test_a_study_of_another_program_is_refused(sweep):
    optuna.create_study(storage=open_storage(sweep.storage), study_name="stub", direction="maximize")
    with pytest.raises(InputError, match=r"study 'stub' in .* is not from `gans sweep`; start another"):
        sweep.create()


# --- how trials end


def test_an_exception_is_a_failed_trial_with_its_traceback(sweep):
    study = sweep.create()
    result = go(sweep, bug)
    assert result.status == "failed" and "a bug" in result.reason
    (trial,) = study.trials
    assert trial.state == TrialState.FAIL
    assert counted(study) == 0


def test_divergence_prunes_and_an_all_pruned_study_says_so(sweep):
    study = sweep.create()
    for _ in range(2):
        assert go(sweep, diverge) == Result("pruned", "diverged: a loss is nan")
    assert counted(study) == 2
    assert winners.summary(study).startswith("no trial finished: of 2, the pruner stopped 0 and 2 diverged")
    assert not winners.finalists(study, sweep, 3)


@pytest.mark.parametrize(("pruner", "pruned"), [("halving", True), ("median", True), ("none", False)])
def test_the_pruner_prunes_what_is_worse(sweep, pruner, pruned):
    own = replace(sweep, pruner=pruner, trials=20)
    study = own.create()
    reported: list[int] = []

    def curve(trial, sweep, level=1.0):
        sweep.space.suggest(trial)
        reported.clear()
        for images in range(0, 6001, 1000):
            # batches do not divide the interval: every trial is evaluated a little later
            report_score(trial, sweep, images + trial.number if images else 0, level)
            reported.append(images)
        return (level,)

    for _ in range(5):
        assert go(own, curve).status == "finished"
    result = go(own, partial(curve, level=2.0))
    assert result.status == ("pruned" if pruned else "finished")
    trial = study.trials[-1]
    assert list(trial.intermediate_values) == ([1000, 2000] if pruned else list(range(1000, 6001, 1000)))
    assert reported == ([0, 1000] if pruned else list(range(0, 6001, 1000)))
    if pruned:
        assert trial.user_attrs["reason"] == "by the pruner at 2 kimg" and not trial.user_attrs["diverged"]


def test_two_objectives_are_not_pruned(sweep):
    own = replace(sweep, objectives=("score", "seconds"), pruner="halving")
    study = own.create()

    def both(trial, sweep):
        report_score(trial, sweep, 6000, 1.0)
        return score(trial, sweep)[0], 10.0 * trial.number

    for _ in range(5):
        assert go(own, both).status == "finished"
    front = {trial.number for trial in study.best_trials}
    assert 0 in front  # the quickest is on it
    finalists = winners.finalists(study, own, 9)
    assert {trial.number for trial in finalists} == front - {0}  # but it is the default
    assert finalists == sorted(finalists, key=lambda trial: trial.values[0])


def test_the_checkpoint_of_a_trial_stays_until_it_is_over(sweep, tmp_path):
    study = sweep.create()
    checkpoints = [trial_folder(tmp_path, number) / CHECKPOINT for number in range(2)]
    for checkpoint in checkpoints:
        checkpoint.parent.mkdir()
        checkpoint.touch()
    go(sweep, folder=tmp_path)
    go_in_a_process(sweep, kill, tmp_path)
    assert [checkpoint.exists() for checkpoint in checkpoints] == [False, True]
    fail(study, held_by(study, "job")[0])
    go(sweep, folder=tmp_path)  # once more, in the folder of the first try
    assert [trial.number for trial in study.trials if trial.state == TrialState.COMPLETE] == [0, 2]
    assert not checkpoints[1].exists()


def test_finalists_are_the_best_without_the_default(sweep):
    study = sweep.create()
    for _ in range(5):
        go(sweep)
    study.enqueue_trial({"optimizer.lr_g": 2e-4, "batch": 64})  # the default once more
    go(replace(sweep, trials=6))
    best = winners.finalists(study, sweep, 2)
    scores = sorted(trial.value for trial in study.trials[1:5])
    assert [trial.value for trial in best] == scores[:2]
    found = winners.matrix(sweep, best, 3)
    assert list(found.file.models) == ["default", *map(winners.name, best)]
    assert found.file.seeds == (2000, 2001, 2002)
    tables = tomllib.loads(found.text)
    assert tables["models"]["default"]["optimizer"]["lr_g"] == 2e-4
    assert tables["models"] == {name: nest(dict(flatten(table))) for name, table in tables["models"].items()}


# --- statistics


@pytest.mark.parametrize(
    ("tuned", "says"),
    [
        ([1.0, 1.1, 0.9], "is significantly better than the default"),
        ([9.0, 9.1, 8.9], "is significantly worse than the default"),
        ([4.0, 6.5, 3.0], "has the lower mean, but not significantly"),
        ([1.0], "cannot be compared with the default on one seed"),
        ([], "has no score to compare"),
    ],
)
def test_the_verdict_says_whether_the_difference_is_significant(tuned, says):
    found = Difference.of(pd.Series(tuned, dtype=float), pd.Series([5.0, 5.2, 4.8]))
    assert found.verdict.startswith(says)


# --- the runner


def test_a_timed_out_trial_fails_and_is_not_tried_again(sweep, monkeypatch, tmp_path):
    monkeypatch.setattr("sweeps.runner.plan", lambda request, device: sweep)
    store = SimpleNamespace(uri="sqlite:///nowhere.db")  # no run has begun
    run = SweepRun(Request("gan"), Machine(runs=tmp_path / "runs"), store)
    run.study.ask().set_user_attr(JOB, "late")
    run.release("late", Result("timed out", "still running after 1 minutes"))
    assert states(run.study) == ["FAIL"]
    tally = Tally.of(run.study)
    assert (tally.finished, tally.pruned, tally.failed, tally.running) == (0, 0, 1, 0)


# --- the real thing


TINY = """
batch = [20, 40]
networks.width = [4, 8]
optimizer.lr_g = { low = 1e-4, high = 1e-2, log = true }
loss.name = ["hinge", "wasserstein-gp"]
loss.penalty = { low = 1, high = 30, log = true, when = { loss.name = "wasserstein-gp" } }
"""


class SweepDesk(Desk):
    """A working directory with a space, a store and a database of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "tiny.toml").write_text(TINY)

    def sweep(self, *flags: str) -> subprocess.Popen[str]:
        usual = "sweep gan --space tiny.toml --budget 0.01 --finalists 1 --fresh 2"
        return self.gans(*usual.split(), *flags)

    def study(self, name: str = "gan-digits-budget0.01") -> optuna.Study:
        return optuna.load_study(study_name=name, storage=open_storage(f"sqlite:///{self.folder}/sweeps.db"))

    def wait_for(self, state: TrialState, above: int = 0) -> None:
        def there() -> bool:
            try:
                trials = self.study().get_trials(states=(state,))
            except (KeyError, InputError):
                return False  # the study is not
            return any(trial.number >= above and trial.params for trial in trials)

        until(there)


def test_processes_that_begin_together_take_different_trials(sweep):
    sweep.create()  # its first trial waits
    context = multiprocessing.get_context("fork")
    together = context.Barrier(4)

    def begin() -> None:
        together.wait()
        go(sweep)

    processes = [context.Process(target=begin) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert states(sweep.open()) == ["COMPLETE"] * 4


@pytest.mark.slow
def test_two_processes_one_killed_then_resumed_end_with_the_exact_count(tmp_path):
    place = SweepDesk(tmp_path)
    first = place.sweep("--trials", "6", "--jobs", "1")
    place.wait_for(TrialState.RUNNING)
    second = place.sweep("--trials", "6", "--jobs", "1", "--join")
    place.wait_for(TrialState.RUNNING, above=2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    code, output = ended(second)
    assert code == 0, output
    code, output = ended(place.sweep("--trials", "6", "--jobs", "1"))
    assert code == 0, output
    study = place.study()
    assert counted(study) == 6 and not study.get_trials(states=(TrialState.RUNNING,))

    runs = Tracked(place.store).runs("sweep-gan-digits-budget0.01")
    kinds = [run.tags["gans.kind"] for run in runs]
    assert kinds.count("sweep") == 3 and kinds.count("cell") == 4
    parents = [run.id for run in runs if run.tags["gans.kind"] == "sweep"]
    for trial in study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)):
        run = next(run for run in runs if run.tags.get("gans.trial") == str(origin(trial)))
        assert run.tags["mlflow.parentRunId"] in parents
        assert "curve/fd_digits" in run.metrics
        pruned = trial.state == TrialState.PRUNED and not trial.user_attrs["diverged"]
        assert (run.status == "KILLED") == pruned
        assert run.params["batch"] == str(trial.params["batch"])

    page = place.folder / "outputs/reports/sweeps/gan-digits-budget0.01/README.md"
    text = page.read_text()
    assert "## Default against tuned" in text and "Over default" in text
    preset = page.parent / "candidate.toml"
    proven = (place.folder / "outputs/presets/gan-digits-budget0.01.toml").exists()
    assert proven == ("significantly better than the default" in preset.read_text())
    assert "study gan-digits-budget0.01, trial" in preset.read_text()
    assert experiment(recipe("gan").settings, tomllib.loads(preset.read_text())).networks.width in (4, 8)

    # the pages come back from the store alone
    written = {path: path.read_bytes() for path in page.parent.rglob("*.*")}
    shutil.rmtree(page.parent)
    (place.folder / "sweeps.db").unlink()
    code, output = ended(place.gans("sweep-report"))
    assert code == 0, output
    assert {path: path.read_bytes() for path in page.parent.rglob("*.*")} == written
    assert {"README.md", "report.html", "trials.csv"} <= {path.name for path in written}
    assert "| 1 | gan |" in (page.parent.parent / "README.md").read_text()


@pytest.mark.slow
def test_an_interrupt_leaves_a_study_that_goes_on(tmp_path):
    place = SweepDesk(tmp_path)
    words = ("--trials", "3", "--jobs", "2", "--objectives", "score", "seconds", "--study", "mine")
    process = place.sweep(*words)
    name = "mine"
    place.study, study = partial(place.study, name), place.study
    place.wait_for(TrialState.RUNNING)
    process.send_signal(signal.SIGINT)
    code, output = ended(process)
    assert code == 130 and "Traceback" not in output, output
    assert not study(name).get_trials(states=(TrialState.RUNNING,))
    assert study(name).get_trials(states=(TrialState.WAITING,))
    code, output = ended(place.sweep(*words))
    assert code == 0, output
    assert "two objectives: no trial is pruned" in output
    assert counted(study(name)) == 3
    assert (place.folder / f"outputs/reports/sweeps/{name}/front.png").exists()
    # what it printed trains the preset, whatever the study is called
    if copied := re.search(r"copy (\S+) to (\S+);", output):
        shutil.copy(place.folder / copied[1], place.folder / copied[2])
    (printed,) = re.findall(r"train it and the default: gans (.*)", output)
    _, tuned = ended(place.gans(*printed.split(), "--dry-run"))
    assert "gan-tuned/digits/0" in tuned and "6 of 6 cells to do" in tuned
