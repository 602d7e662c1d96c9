"""`gans bench`, run as a user runs it: records, exit codes, skipping, resuming."""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.executors import executor
from benchmarks.executors.processes import Pool
from benchmarks.job import Begun, Event, Job
from benchmarks.matrix import read_matrix
from benchmarks.options import Machine, Rescore, Selection
from benchmarks.runner import MatrixRun, ScoreRun
from gans import files, schema
from gans.commands.main import main
from gans.compute import devices
from gans.fidelity import require
from gans.runs.events import now, run_folders, state_of
from gans.runs.execute import CellRun, Place
from gans.runs.export import LOCK as EXPORT_LOCK
from gans.runs.export import exporting, sync
from gans.runs.locks import LOCK, held
from gans.runs.run import Run
from gans.runs.scores import ScoreKey, records
from gans.runs.store import Store, Tracked
from gans.schema import CHECKPOINT
from reports.results import load
from tests.conftest import until
from tests.desk import Desk, ended

OWN = ScoreKey("digits", 500)

TINY = """
description = "Two tiny models."
seeds = [0]
time_limit_minutes = 20
[datasets.digits]
[defaults]
kimg = 1.6
batch = 20
networks = { latent = 8, width = 8 }
optimizer = { lr_g = 3e-3, lr_d = 3e-3 }
score = { images = 500, curve_images = 500 }
schedule = { evaluations = 2, grids = 1, checkpoints = 2, logs = 4 }
[models.gan]
[models.dcgan]
"""


class Bench(Desk):
    """A working directory with a matrix file, data and a store of its own."""

    def __init__(self, folder: Path, text: str = TINY, **variables: str) -> None:
        super().__init__(folder, GANS_DATA=str(folder / "data"), **variables)
        (folder / "tiny.toml").write_text(text)

    def start(self, *flags: str) -> subprocess.Popen[str]:
        return self.gans("bench", "tiny.toml", *flags)

    def run(self, *flags: str) -> tuple[int, str]:
        return ended(self.start(*flags))

    def runs(self, kind: str = "cell"):
        return {run.name: run for run in self.all_runs() if run.tags.get("gans.kind") == kind}

    def all_runs(self):
        """The runs, oldest first."""
        return Tracked(self.store).runs("tiny")

    def scores(self) -> dict[str, dict[str, float]]:
        return {name: scores_of(run) for name, run in self.runs().items()}


def scores_of(run) -> dict[str, float]:
    return {key: value for key, value in run.metrics.items() if key.startswith("score/")}


def planned(store: Store, runs: Path = Path("runs")) -> MatrixRun:
    return MatrixRun(read_matrix("tiny.toml"), Selection(), Machine("cpu", 1, runs), store)


def add(store: Store, count: int | None = None, models: list[str] | None = None) -> int:
    options = Rescore(extractors=["digits"], count=count, selection=Selection(models=models))
    run = ScoreRun(read_matrix("tiny.toml"), options, Machine("cpu", 1), store)
    with exporting(run.folder, store):
        return run.run()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A matrix that ran to its end."""
    bench = Bench(tmp_path_factory.mktemp("bench"))
    assert bench.store  # a copy, see `making_stores`
    code, output = bench.run()
    assert code == 0, output
    return bench, output


def test_every_cell_leaves_a_finished_record(finished):
    bench, output = finished
    runs = bench.runs()
    assert set(runs) == {"gan/digits/0", "dcgan/digits/0"}
    for run in runs.values():
        tags, metrics = run.tags, run.metrics
        assert tags["gans.status"] == "finished"
        assert run.status == "FINISHED"
        assert {"gans.commit", "gans.dirty", "gans.device", "gans.threads", "version.torch"} <= set(tags)
        assert metrics["score/fd_digits"] > 0
        scored = list(require("digits").metrics())
        assert {f"score/{name}{error}" for name in scored for error in ("", "_se")} <= set(metrics)
        assert {"loss/generator", "D/real", "seconds/training"} <= set(metrics)
        assert {"memory/peak_mib", "parameters/generator"} <= set(metrics)
        assert run.params["networks.width"] == "8"
        (dataset,) = run.run.inputs.dataset_inputs
        assert json.loads(dataset.dataset.profile)["train images"] == 1438
        parent = bench.runs("matrix")["bench tiny"]
        assert tags["mlflow.parentRunId"] == parent.id
    assert "finished  gan/digits/0" in output


def test_artifacts_report_and_floor_are_kept(finished):
    bench, _ = finished
    run = bench.runs()["dcgan/digits/0"]
    pictures = [f"samples/{name}.png" for name in ("final", "neighbours", "classes")]
    for path in ("curves.png", "training.gif", *pictures, "checkpoint/generator.safetensors"):
        assert run.artifact(path), path
    (parent,) = bench.runs("matrix").values()
    assert parent.artifact("matrix.toml").read_text() == TINY
    folder = parent.artifact("report")
    assert (folder / "README.md").read_text().startswith("# GAN benchmark: tiny")
    page = (folder / "report.html").read_text()
    assert page.count('src="data:image/') == len([*folder.glob("*.png"), *folder.glob("*.gif")]) > 2
    metrics = bench.runs("floor")["real/digits"].metrics
    assert 0 < metrics["half/fd_digits"] < metrics["test/fd_digits"] * 10
    assert metrics["half/n_reference"] == 719


@pytest.mark.slow
def test_cells_that_share_a_process_score_to_the_digit_what_cells_alone_do(finished, tmp_path, monkeypatch):
    """All cells run at once in two processes that take the place of GPUs, with one CPU thread each."""
    bench, _ = finished
    monkeypatch.setattr("benchmarks.executors.executor", lambda *_: Pool([None, None], 3))
    (tmp_path / "tiny.toml").write_text(TINY)
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    machine = Machine("cpu", devices.cores(), tmp_path / "runs")
    assert MatrixRun(read_matrix(str(tmp_path / "tiny.toml")), Selection(), machine, store).run() == 0
    cells = [run for run in Tracked(store, tmp_path / "runs").runs("tiny") if run.tags["gans.kind"] == "cell"]
    assert {run.name: scores_of(run) for run in cells} == bench.scores()
    assert all(len(found) > 5 for found in bench.scores().values())


@pytest.fixture
def here(finished, monkeypatch, capsys):
    """Runs a bench over the finished one's store in this process; returns exit code and output."""
    bench, _ = finished
    for key in ("MLFLOW_TRACKING_URI", "GANS_DATA"):
        monkeypatch.setenv(key, bench.environment[key])
    monkeypatch.chdir(bench.folder)
    monkeypatch.setattr("benchmarks.executors.processes.preload", lambda *modules: None)
    handler = signal.getsignal(signal.SIGTERM)

    def run(*flags: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["gans", "bench", "tiny.toml", *flags])
        code = main()
        return code, "".join(capsys.readouterr())

    yield run
    signal.signal(signal.SIGTERM, handler)


def test_a_second_run_finds_all_finished(finished, here):
    bench, _ = finished

    def ends() -> dict[str, int]:
        return {run.id: run.ended for run in bench.all_runs()}

    before = ends()
    code, output = here()
    assert code == 0, output
    assert "start" not in output
    assert "what it lacked" not in output and "not in the tracking store" not in output
    assert "report: " in output
    assert ends() == before
    code, output = here("--dry-run")
    assert code == 0
    assert output.count("finished") == 2
    assert "0 of 2 cells to do" in output


def in_process(machine: Machine, jobs: list[Job], side: int, spread: int) -> Generator[Event]:
    """Run jobs in this process: others would take seconds for their imports."""
    for job in jobs:
        yield job, Begun()
        yield job, job.run(lambda images, values: None)


def test_scores_of_another_version_are_not_shown_and_made_again(finished, here, monkeypatch):
    monkeypatch.setattr("benchmarks.executors.run", in_process)
    bench, _ = finished
    store, run = bench.store, bench.runs()["dcgan/digits/0"]
    kept = records(run.tags)[OWN]
    (folder,) = bench.folder.glob("runs/tiny/dcgan-digits-0-*")
    Run.open(folder).tag({OWN.tag: replace(kept, version=kept.version - 1).text()})
    sync(bench.folder / "runs", store)
    assert [p.cell.model for p in planned(store).planned if p.unscored] == ["dcgan"]
    results = load(Tracked(store), "tiny")
    cells = results.cells.set_index("name")
    assert not cells.loc["dcgan/digits/0", "counted"]
    assert results.unscored == {OWN: 1}
    assert add(store) == 0
    assert load(Tracked(store, bench.folder / "runs"), "tiny").cells["counted"].all()


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine with two GPUs of other sizes and 24 cores; the free memory of each is read once."""
    free = {torch.device("cuda", 0): iter([6]), torch.device("cuda", 1): iter([20])}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(devices, "cores", lambda: 24)
    monkeypatch.setattr(devices, "room", lambda device, gibibytes: next(free[device]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_cells_run_on_all_gpus_unless_one_is_named(two_gpus, monkeypatch):
    def pool(machine: Machine, spread: int = 0) -> tuple[list[str | None], int]:
        found = executor(machine, 60, 32, spread)
        assert isinstance(found, Pool)
        return [worker.visible for worker in found.workers], found.workers[0].width

    assert pool(Machine()) == (["0", "1"], 4)
    assert pool(Machine("cuda:1", jobs=3)) == (["1"], 3)
    assert pool(Machine(jobs=3), spread=5) == (["0"], 1)  # Ray's workers belong to a whole process
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-7f")
    assert pool(Machine("cuda:1", jobs=3)) == (["GPU-7f"], 3)


@pytest.mark.parametrize(
    ("jobs", "spread", "parallel", "threads"), [(None, 0, 8, 1), (3, 0, 3, 2), (None, 5, 1, 1)]
)
def test_cells_on_a_cpu_have_processes(monkeypatch, jobs, spread, parallel, threads):
    monkeypatch.setattr(devices, "cores", lambda: 8)
    machine = Machine("cpu", jobs=jobs)
    found = executor(machine, 60, 16, spread)
    assert isinstance(found, Pool)
    assert [(worker.visible, worker.width) for worker in found.workers] == [(None, 1)] * parallel
    assert machine.threads(16) == threads


@pytest.mark.slow
def test_a_cell_that_fails_is_recorded_and_the_others_finish(tmp_path):
    bench = Bench(tmp_path)
    (bench.folder / "runs" / "tiny").mkdir(parents=True)
    _, listing = bench.run("--dry-run")
    identity = next(line.split()[0] for line in listing.splitlines() if "gan/digits/0" in line)
    folder = bench.folder / "runs" / "tiny" / f"gan-digits-0-{identity[:8]}"
    folder.mkdir()
    files.save(folder / CHECKPOINT, {"images": 1})  # whole, and another training's
    code, _ = bench.run()
    assert code == 1
    runs = bench.runs()
    assert runs["gan/digits/0"].tags["gans.status"] == "failed"
    assert "move it away to start the cell again" in runs["gan/digits/0"].tags["gans.reason"]
    assert runs["gan/digits/0"].status == "FAILED"
    assert runs["dcgan/digits/0"].tags["gans.status"] == "finished"
    (folder / CHECKPOINT).unlink()
    code, output = bench.run()  # what failed is tried again, what finished is not
    assert code == 0
    assert "start     gan/digits/0" in output
    assert "start     dcgan/digits/0" not in output


@pytest.mark.slow
def test_ctrl_c_leaves_the_cell_to_be_resumed(tmp_path):
    bench = Bench(tmp_path, TINY.replace("kimg = 1.6", "kimg = 400"))
    process = bench.start("--models", "gan")
    until(lambda: list(bench.folder.glob("runs/tiny/gan*/samples/*.png")), process.poll)
    process.send_signal(signal.SIGINT)
    code, output = ended(process)
    assert code == 130
    assert "interrupted: finished cells are kept" in output
    assert "Traceback" not in output
    tags = bench.runs()["gan/digits/0"].tags
    assert (tags["gans.status"], tags["gans.reason"]) == ("interrupted", "stopped by the user")
    assert bench.runs("matrix")["bench tiny"].tags["gans.status"] == "interrupted"


def points(bench: Bench) -> Counter[tuple[str, str, int]]:
    """Counts the records of each metric of a run at each number of images."""
    found: Counter[tuple[str, str, int]] = Counter()
    for run in run_folders(bench.folder / "runs"):
        for event, _ in run.events():
            if event and event.kind == "metrics":
                names = (name for name in event.fields["values"] if not name.startswith("system/"))
                found.update((run.first.fields["name"], name, event.fields["step"]) for name in names)
    return found


@pytest.mark.slow
def test_kill_9_then_run_again_gives_the_scores_of_an_uninterrupted_run(tmp_path):
    text = TINY.replace("kimg = 1.6", "kimg = 3.2").replace("checkpoints = 2", "checkpoints = 16")
    whole, killed = Bench(make(tmp_path / "whole"), text), Bench(make(tmp_path / "killed"), text)
    code, output = whole.run("--jobs", "1")
    assert code == 0, output
    process = killed.start("--jobs", "1")
    (checkpoint,) = until(lambda: list(killed.folder.glob(f"runs/tiny/dcgan*/{CHECKPOINT}")), process.poll)
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not held(checkpoint.parent))  # the cell's process dies with it
    # the store may lag some seconds behind the folders
    gan, dcgan = (state_of(next(killed.folder.glob(f"runs/tiny/{name}-*"))) for name in ("gan", "dcgan"))
    assert (gan.result, dcgan.result) == ("finished", "running")
    code, output = killed.run("--jobs", "1")
    assert code == 0, output
    assert "start     gan/digits/0" not in output
    assert killed.runs()["gan/digits/0"].ended == gan.ended
    assert killed.scores() == whole.scores()
    assert points(killed) == points(whole)
    parents = [run for run in killed.all_runs() if run.tags["gans.kind"] == "matrix"]
    assert [(run.status, run.tags["gans.status"]) for run in parents] == [
        ("KILLED", "interrupted"),
        ("FINISHED", "finished"),
    ]
    assert not [run for run in killed.all_runs() if run.status == "RUNNING"]
    assert left_over(killed.folder) == []


@pytest.mark.parametrize(
    ("status", "later", "taken"),
    [
        (schema.FINISHED, 60_000, True),
        (schema.DIVERGED, 60_000, True),
        (schema.FAILED, 60_000, False),
        (schema.INTERRUPTED, 60_000, False),
        (schema.FINISHED, -60_000, False),  # it was known before, and lacked something
    ],
)
def test_the_result_of_another_invocation_is_taken(tmp_path, status, later, taken):
    place = Place("tiny", "cpu", 1, since=now() - later)
    Run.start(tmp_path, "tiny", "a", {}, "theirs").finish(status, "so it is")
    found = CellRun(None, tmp_path, place, lambda images, values: None).ended()
    assert (found and (found.status, found.reason)) == ((status, "so it is") if taken else None)


@pytest.mark.slow
def test_two_at_once_share_the_work_and_both_succeed(tmp_path):
    bench = Bench(tmp_path)
    both = [bench.start("--jobs", "1"), bench.start("--jobs", "1")]
    codes, outputs = zip(*map(ended, both), strict=True)
    assert codes == (0, 0), outputs
    assert any("waiting   " in output for output in outputs)
    runs = bench.all_runs()
    assert all(run.status == "FINISHED" for run in runs), runs
    names = sorted(run.name for run in runs)
    assert names == ["bench tiny", "bench tiny", "dcgan/digits/0", "gan/digits/0", "real/digits"]
    assert left_over(tmp_path) == []


def left_over(folder: Path) -> list[Path]:
    """Files that no process will remove; a lock that nobody holds is not one of them."""
    return [path for path in folder.rglob(".*") if path.name not in (LOCK, EXPORT_LOCK, ".report")]


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder
