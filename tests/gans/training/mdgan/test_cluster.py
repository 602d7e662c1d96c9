"""MD-GAN over Ray: the same numbers as in process, workers that die, clusters that are not there."""

from __future__ import annotations

import copy
import importlib.util
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from gans.compute.cluster import QUIET, own_signals
from gans.config import Experiment, experiment
from gans.errors import InputError
from gans.models.layers import Shape
from gans.runs.cell import resolve
from gans.runs.execute import Place, check_workers
from gans.runs.store import Tracked
from gans.schema import CHECKPOINT
from gans.training.mdgan import cluster
from gans.training.mdgan.server import MDGAN
from gans.training.mdgan.workers import WorkersLost
from gans.training.updates import Context
from tests import free_port
from tests.conftest import discriminators, until, values
from tests.desk import Desk, ended

SHAPE = Shape(1, 16)
CPU = torch.device("cpu")
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs ray: make setup EXTRAS=cluster"
)


def small(workers: int = 2, **tables) -> Experiment:
    table = {"rule": "mdgan", "workers": workers, "batches": 2, "swap_epochs": 0.4}
    networks = {"name": "dcgan", "latent": 8, "width": 8}
    return experiment({"networks": networks, "batch": 4, "precision": "float32", "update": table}, tables)


# what workers need of the server's position, or of their own, besides the iteration; labels go with images
MOVING = {
    "networks": {"conditional": True},
    "kimg": 1,
    "loss": {"name": "relativistic"},
    "augment": "color,translation",
    "anneal": {"shape": "cosine", "lr": 0.1, "beta2": 0.1},
}


def run(rule: MDGAN, steps: int, images: int = 0) -> tuple[Tensor, int]:
    """So many steps; returns all statistics, and where it stands."""
    statistics = []
    for _ in range(steps):
        statistics.append(values(rule.step(images)))
        images += rule.images_per_step
    return torch.stack(statistics), images


def difference(one: MDGAN, other: MDGAN) -> float:
    states = one.generator.network.state_dict(), other.generator.network.state_dict()
    return max(float((states[0][key].double() - states[1][key].double()).abs().max()) for key in states[0])


@pytest.fixture(scope="module")
def local_cluster():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with cluster.connected(2):
        yield
    torch.set_num_threads(threads)


@needs_ray
def test_training_over_processes_is_training_in_process(local_cluster, blobs) -> None:
    """One team through its life, since every team costs seconds to start.

    20 iterations as in process, with swaps; a checkpoint that either kind of team can go on from; a
    worker killed with kill -9; the last one killed.
    """
    data, shape, made = blobs(n=60, classes=3), Shape(1, 16, 3), small(**MOVING)
    context = Context(data.train, data.train_labels)
    lost: dict[int, str] = {}
    local = MDGAN(made, shape, context)
    factory = partial(cluster.RayTeam, lost=lost.__setitem__)
    remote = MDGAN(made, shape, replace(context, worker_factory=factory))
    pids = remote.team.pids
    assert len({os.getpid(), *pids.values()}) == 3
    assert discriminators(remote) == []  # no discriminator in the server
    assert remote.discriminator_size() == local.discriminator_size()

    found, at = run(remote, 20)
    expected, _ = run(local, 20)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert difference(remote, local) < 1e-6
    assert remote.metrics() == local.metrics()
    assert local.metrics()["traffic/server_to_worker"] == 2 * (4 * 4 * 256 + 4 * 8)
    assert remote.finite()

    state = copy.deepcopy(remote.state())
    assert state.keys() == local.state().keys()
    other = MDGAN(made, shape, context)
    other.load(copy.deepcopy(state))
    found, _ = run(remote, 5, at)
    assert torch.allclose(run(other, 5, at)[0], found, rtol=1e-5, atol=1e-6)
    remote.load(state)
    assert torch.equal(run(remote, 5, at)[0], found)
    assert difference(remote, other) < 1e-6

    at += 5 * 8
    os.kill(pids[1], signal.SIGKILL)
    _, after = run(remote, 8, at)
    assert remote.team.alive == [0]
    assert lost.keys() == {1}
    assert f"process {pids[1]}" in lost[1]
    assert remote.metrics()["workers/alive"] == 1
    assert after == at + 8 * 4  # the iteration in which it died counts what the other saw
    assert remote.discriminator_size() == local.discriminator_size() / 2
    assert set(remote.state()["team"]["discriminators"]) == {0}

    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(WorkersLost, match="all 2 workers were lost by iteration 33"):
        run(remote, 2, after)
    assert lost.keys() == {0, 1}


@needs_ray
@pytest.mark.slow
def test_nobody_swaps_while_a_worker_dies(local_cluster, blobs) -> None:
    made = small(update={"swap_epochs": float("inf")})
    remote = MDGAN(made, SHAPE, Context(blobs(n=60).train, worker_factory=cluster.RayTeam))
    run(remote, 2)
    before = remote.team.states()
    os.kill(remote.team.pids[0], signal.SIGKILL)
    time.sleep(1)
    remote.team.swap({1: 0, 0: 1})
    after = remote.team.states()
    assert set(after) == {1}
    assert all(torch.equal(value, before[1]["network"][key]) for key, value in after[1]["network"].items())
    assert remote.team.traffic.moves == 0


@needs_ray
def test_where_a_giver_dies_after_it_gave_the_own_discriminator_stays(monkeypatch) -> None:
    errors = cluster.ray_module().exceptions

    def get(reference):
        if reference == "D0":
            raise errors.OwnerDiedError("00" * 28, None, "")
        return reference

    monkeypatch.setattr(cluster, "ray_module", lambda: SimpleNamespace(get=get, exceptions=errors))
    worker, taken = cluster.RemoteWorker.__new__(cluster.RemoteWorker), []
    monkeypatch.setattr(worker, "put", taken.append, raising=False)
    assert worker.take(["D2"])
    assert not worker.take(["D0"])
    assert taken == ["D2"]


def test_what_a_worker_books() -> None:
    cuda = torch.device("cuda")
    assert cluster.needs(5, CPU, {"CPU": 2.0}) == {"CPU": 1.0}
    assert cluster.needs(5, cuda, {"CPU": 8.0, "GPU": 8.0}) == {"CPU": 1.0, "GPU": 1.0}
    assert cluster.needs(5, cuda, {"CPU": 8.0, "GPU": 1.0}) == {"CPU": 1.0, "GPU": 0.2}
    # 3 on one, 2 on the other
    assert cluster.needs(5, cuda, {"CPU": 8.0, "GPU": 2.0}) == {"CPU": 1.0, "GPU": 0.3333}
    assert cluster.needs(5, cuda, {"CPU": 8.0}) == {"CPU": 1.0, "GPU": 1.0}  # more than there are: refused


# bad input


def test_a_cluster_that_does_not_start_leaves_the_answer_to_a_polite_kill_as_it_was() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(OSError, match="no room"), own_signals():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise OSError("no room")
    found = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, handler)
    assert found == handler


@needs_ray
def test_more_processes_than_there_is_memory_for_are_refused(monkeypatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2 * 2**30))
    cluster.require(5, CPU)
    with pytest.raises(
        InputError, match=r"6 workers in separate processes need about 2.3 GiB .* and 2.0 are free"
    ):
        cluster.require(6, CPU)


def test_without_ray_the_remedy_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        InputError,
        match=r"not installed; make setup EXTRAS=cluster, or pip install 'gans.cluster.'",
    ):
        cluster.require(3, CPU)


def test_workers_of_a_rule_that_has_none_are_refused() -> None:
    made = experiment({"score": {"images": 200, "curve_images": 200}})
    place = Place("train", "cpu", 1, workers="ray")
    with pytest.raises(InputError, match="update two-player has no workers for --workers ray; leave it out"):
        check_workers(resolve("dcgan", made, CPU), place)


@needs_ray
@pytest.mark.slow
def test_a_worker_refuses_a_precision_that_its_machine_lacks(local_cluster, blobs) -> None:
    """The server's may have it: no process here does."""
    tf32 = small().model_copy(update={"precision": "tf32"})
    with pytest.raises(
        InputError, match="does not start in the Ray cluster: precision = tf32 needs a CUDA device"
    ):
        MDGAN(tf32, SHAPE, Context(blobs(n=60).train, worker_factory=cluster.RayTeam))


# as users run it

TINY = """
seeds = [0]
time_limit_minutes = 5
[datasets.digits]
[defaults]
kimg = 4
batch = 8
networks = { latent = 8, width = 8 }
score = { images = 200, curve_images = 200 }
schedule = { evaluations = 2, grids = 1, checkpoints = 4, logs = 40 }
[models.gan]
[models.mdgan]
update = { workers = 2 }
"""


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Desk:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return Desk(tmp_path)


KILLER = """
import os, signal, sys
from gans.training.mdgan import cluster
from gans.training.state import Training
from gans.commands.main import main
victims = [int(n) for n in sys.argv.pop().split(",")]
step = Training.step
def killing(self):
    statistics = step(self)
    if self.update.iteration == 20:
        for n in victims:
            os.kill(self.update.team.pids[n], signal.SIGKILL)
    return statistics
Training.step = killing
sys.exit(main())
"""


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize(("victims", "code"), [("1", 0), ("0,1", 1)])
def test_a_killed_worker_is_an_event_of_the_run_and_the_last_one_its_end(
    victims: str, code: int, desk, tmp_path
) -> None:
    settings = ["kimg=2", "batch=8", "networks.width=8", "update.workers=2", "update.swap_epochs=0.05"]
    settings += ["score.images=200", "score.curve_images=200", "schedule.checkpoints=10"]
    arguments = ["train", "mdgan", "digits", "--workers", "ray", "--set", *settings]
    returned, said = ended(desk.python("-c", KILLER, *arguments, victims))
    assert returned == code, said
    (found,) = Tracked(desk.store).runs("train")
    tags = found.tags
    assert tags["gans.lost.1"].startswith("died in iteration 20 (process ")
    (kept,) = (tmp_path / "runs").rglob(CHECKPOINT)
    if code == 0:
        assert tags["gans.status"] == "finished"
        assert tags["gans.reason"] == f"worker 1 {tags['gans.lost.1']}"
        assert found.metrics["workers/alive"] == 1
    else:
        assert tags["gans.status"] == "failed"
        assert tags["gans.reason"].startswith("WorkersLost: all 2 workers were lost by iteration 20")
        assert 0 < torch.load(kept, weights_only=True)["images"] <= 20 * 16
        # the same command goes on from the checkpoint, with all the workers that it knows
        again = KILLER.replace("== 20", "== -1")
        returned, said = ended(desk.python("-c", again, *arguments, victims))
        assert returned == 0, said
        (found,) = Tracked(desk.store).runs("train")
        assert found.tags["gans.status"] == "finished"
        assert not any(why for tag, why in found.tags.items() if tag.startswith("gans.lost."))


@needs_ray
@pytest.mark.slow
def test_an_existing_cluster_is_used_and_one_that_is_too_small_is_refused(desk, tmp_path) -> None:
    """A head node of 2 CPUs by `ray start`, from elsewhere: workers are sent the code."""
    port = free_port()
    there = Desk(tmp_path, RAY_ADDRESS=f"127.0.0.1:{port}")
    (tmp_path / "elsewhere").mkdir()
    quiet = {**desk.environment, **QUIET, "PYTHONPATH": ""}
    start = ("-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}", "--num-cpus=2")
    head = desk.python(
        *start, "--include-dashboard=false", cwd=tmp_path / "elsewhere", env=quiet, stdout=subprocess.DEVNULL
    )
    try:
        # whether Ray sends a token is decided when it is imported, so each look is by a process of its own
        ask = "import torch; from gans.training.mdgan import cluster; cluster.require(1, torch.device('cpu'))"
        until(lambda: ended(there.python("-c", ask))[0] == 0)
        (tmp_path / "tiny.toml").write_text(TINY)
        bench = ["bench", "tiny.toml", "--workers", "ray"]
        code, output = ended(there.gans(*bench))
        assert code == 0, output
        (tmp_path / "tiny.toml").write_text(TINY.replace("workers = 2", "workers = 3"))
        code, output = ended(there.gans(*bench, "--models", "mdgan"))
        assert code == 2
        assert output.startswith(f"error: the Ray cluster at 127.0.0.1:{port} has 2 CPUs, fewer than the 3 that")
        assert len(output.splitlines()) == 1
    finally:
        head.terminate()
        head.wait(timeout=60)
