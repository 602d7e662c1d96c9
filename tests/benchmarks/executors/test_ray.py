"""Jobs on a Ray cluster of this machine, and what nodes are refused for."""

import importlib.util
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.executors import executor
from benchmarks.executors import ray as executors
from benchmarks.executors.ray import Cluster, Node, RayExecutor, Site, build, device, joined, refusal
from benchmarks.job import Fault, Job, Progress, Restarted
from benchmarks.options import Machine
from benchmarks.storage import write_token
from benchmarks.supervisor import Supervisor
from gans.compute import cluster as boundary
from gans.compute import devices
from gans.data import datasets
from gans.errors import InputError
from tests import free_port
from tests.benchmarks.executors.test_processes import ENDS, gone, results, wait_for
from tests.benchmarks.toys import endless, killed, raising, refusing, well
from tests.conftest import until

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs ray: make setup EXTRAS=cluster"
)


@needs_ray
def test_a_cluster_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    with (
        pytest.raises(InputError, match=r"no Ray cluster answers at RAY_ADDRESS=127.0.0.1:"),
        joined(Machine(engine="ray")),
    ):
        pass
    with joined(Machine()) as plain:
        assert plain.cluster is None


# --- on a cluster of this machine


@pytest.fixture(scope="module")
def local():
    """A cluster of this machine, started once; the environment is restored."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        root = str(Path(__file__).parents[3])
        patch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
        before = dict(os.environ)
        found = Cluster(3)
        yield found
        found.ray.shutdown()
        os.environ.clear()
        os.environ.update(before)


@needs_ray
def test_jobs_end_as_they_do_in_processes(local, tmp_path):
    calls = {call.__name__: call for call in (well, raising, refusing, endless, killed)}
    jobs = [Job(name, call, tmp_path / name, 10, 2.0 if call is endless else 60.0) for name, call in calls.items()]
    found = list(Supervisor(RayExecutor(local, 1), jobs).events())
    ended = results(found)
    reason = ended.pop("killed").reason
    assert reason.startswith("its process died, on node ") and reason.endswith(", 3 times")
    assert ended == {name: ENDS[calls[name]] for name in ended}
    assert len([what for _, what in found if isinstance(what, Restarted)]) == 2
    assert [what for job, what in found if isinstance(what, Progress) and job.name == "well"] == [
        Progress(3, {"loss": 0.5})
    ]
    assert (tmp_path / "well" / "log.txt").read_text() == "said on standard output\n"


@needs_ray
def test_closing_stops_jobs(local, tmp_path):
    pidfile = tmp_path / "pid"
    job = Job("endless", partial(endless, pidfile=str(pidfile)), tmp_path, 10, 60.0)
    events = Supervisor(RayExecutor(local, 1), [job]).events()
    next(events)
    pid = wait_for(pidfile)
    events.close()
    until(lambda: gone(pid))


def test_what_ray_cannot_do_is_said_with_a_remedy(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert boundary.address() == "auto"
    assert "RAY_TMPDIR=/tmp" in boundary.remedy("AF_UNIX path length cannot exceed 107 bytes: '/long...'")
    assert "ray start --head" in boundary.remedy("Could not find any running Ray instance. Please specify")
    assert "versions and token" in boundary.remedy("Version mismatch")


# --- nodes


@pytest.fixture
def site(tmp_path) -> Site:
    """The site of a runner on another machine that has all that this machine has."""
    runs = str(tmp_path / "runs")
    return Site("alpha", "/", {}, runs, token=write_token(runs), build=build())


def test_a_node_that_fits_is_not_refused(site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANS_DATA", "/own")
    monkeypatch.setenv("GANS_STORAGE", "")  # so that it is put back
    monkeypatch.delenv("GANS_STORAGE")
    theirs = {"GANS_DATA": "/theirs", "GANS_STORAGE": "postgresql://db"}
    data = {("digits", None): datasets.load("digits").hash}
    assert refusal(replace(site, data=data, variables=theirs)) == ""
    # it works where the runner does, with its own variables before the runner's
    assert (str(Path.cwd()), os.environ["GANS_DATA"], os.environ["GANS_STORAGE"]) == (
        "/",
        "/own",
        "postgresql://db",
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"build": build() | {"torch": "2.12.0"}}, "torch is 2"),
        ({"build": build() | {"the suite": "files 13"}}, "and files 13 on alpha; install the same"),
        ({"runs": "/lacking"}, "it does not have the folder of runs /lacking of alpha"),
        ({"token": "another"}, "use a folder that all machines share (RUNS=/shared/runs), or a URL"),
        ({"runs": "file:///nowhere/runs"}, "it does not have the folder of runs file:///nowhere/runs"),
        ({"runs": "nosuch://x"}, "RUNS=nosuch://x: Protocol not known"),
        ({"data": {("digits", None): "fedc"}}, "and fedc on alpha; put the same files into GANS_DATA of both"),
        ({"data": {("nothing", None): "fedc"}}, "unknown data set 'nothing'"),
    ],
)
def test_what_a_node_is_refused_for_is_one_line(site, changes, says, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    why = refusal(replace(site, **changes))
    assert says in why
    assert len(why.splitlines()) == 1


class Played(Cluster):
    """A fake cluster of two machines."""

    def __init__(self, gpus: float = 0.0) -> None:
        self.gpus, self.mirror = gpus, None
        self.site, self.excluded = Site("alpha", "/", {}), set()

    def nodes(self):
        names = {"a": 4.0, "b": 9.0}
        return [Node(n, n, {"GPU": self.gpus, "CPU": c}) for n, c in names.items() if n not in self.excluded]

    def name(self, node):
        return node

    def check(self, **changes):
        self.site = replace(self.site, **changes)


def cell(dataset="digits"):
    return SimpleNamespace(
        experiment=SimpleNamespace(dataset=dataset, resolution=16), images=SimpleNamespace(hash="0123")
    )


def test_a_cell_for_which_there_is_no_room_is_refused():
    played = Played()
    played.check_cells([cell()], 1, 12)
    assert played.site.data == {("digits", 16): "0123"}
    with pytest.raises(
        InputError, match=r"no room for the largest cell, .* 1 CPUs .*13 for its workers: .*13 CPUs"
    ):
        played.check_cells([cell()], 1, 13)
    with pytest.raises(InputError, match="9 at most on one"):
        played.check_cells([cell()], 10, 0)


def test_on_which_device_the_cells_of_a_cluster_are(monkeypatch):
    assert device(Played(), "auto") == "cpu"
    with pytest.raises(InputError, match="has no GPU; leave DEVICE out"):
        device(Played(), "cuda")
    with pytest.raises(InputError, match="Ray chooses the GPU"):
        device(Played(), "cuda:1")
    assert device(Played(1.0), "cpu") == "cpu"
    monkeypatch.setattr(devices, "gpus", lambda name: [])
    with pytest.raises(InputError, match=r"has GPUs but .* has none, needed to plan precisions"):
        device(Played(1.0), "auto")
    monkeypatch.setattr(devices, "gpus", lambda name: [0])
    assert device(Played(1.0), "auto") == "cuda"


class Idle(RayExecutor):
    """An executor on a fake cluster."""

    def __init__(self, cluster, threads, workers=0, per_gpu=0) -> None:
        self.cluster, self.threads, self.workers, self.per_gpu = cluster, threads, workers, per_gpu


def slots(machine: Machine, monkeypatch, spread: int = 0) -> int:
    monkeypatch.setattr("benchmarks.executors.RayExecutor", Idle)
    found = executor(machine, 100, 16, spread)
    assert isinstance(found, Idle)
    return found.slots


def test_what_jobs_book(monkeypatch):
    assert slots(Machine(cluster=Played()), monkeypatch) == 13
    assert slots(Machine(cluster=Played(), jobs=2), monkeypatch) == 6  # of two threads each
    assert slots(Machine(cluster=Played()), monkeypatch, spread=5) == 2  # six CPUs each, of 13
    shared = Idle(Played(2.0), 1, per_gpu=4)
    assert (shared.options(alone=False)["num_gpus"], shared.options(alone=True)["num_gpus"]) == (0.25, 1)


def test_a_node_that_joins_and_does_not_fit_gets_no_more_tasks(capsys):
    idle = Idle(Played(), 1)
    assert "label_selector" not in idle.options(alone=False)
    for _ in range(2):
        assert idle.exclude("b", "another version").fault is Fault.NONE
    assert capsys.readouterr().err == "node b: another version; it is not used\n"
    assert idle.options(alone=False)["label_selector"] == {"ray.io/node-id": "!in(b)"}
    assert idle.exclude("a", "another version").fault is Fault.OWN  # there is no other


def test_a_file_is_no_storage_for_several_machines():
    executors.check_file(Played(), "")
    executors.check_file(Played(), "postgresql://me@db/study")
    with pytest.raises(InputError, match=r"storage of a sweep sqlite:///x.db is a file, .* STORAGE=postgresql"):
        executors.check_file(Played(), "sqlite:///x.db")


@pytest.mark.parametrize(
    ("runs", "url"),
    [("s3://bucket/runs", "s3://bucket/runs"), ("file:///data/runs", "file:///data/runs"), ("runs", "")],
)
def test_runs_may_be_at_a_url(runs, url):
    assert Machine(runs=Path(runs)).url == url
