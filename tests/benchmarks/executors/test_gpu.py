"""The pool of GPUs, with processes that compute on the CPU in their place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from benchmarks.executors.gpu import GpuPool
from benchmarks.executors.processes import Processes
from benchmarks.job import Ended, Job, Progressed, Result, Started
from benchmarks.supervisor import Supervisor
from tests.benchmarks.executors.test_processes import gone, results, wait_for
from tests.benchmarks.toys import (
    aborting,
    endless,
    exiting,
    greedy,
    insatiable,
    leaving,
    quick,
    raising,
    refusing,
    steady,
    telling,
    well,
)
from tests.conftest import until

GRACE = 0.5


def run(tmp_path, calls, gpus=2, width=3, executor=None):
    jobs = [
        Job(name, call, tmp_path / name, 10, 2.0 if call in (endless, telling) else 60.0)
        for name, call in calls.items()
    ]
    return list(Supervisor(executor or GpuPool([None] * gpus, width, GRACE), jobs).events())


def starts(folder: Path) -> list[str]:
    return (folder / "starts.txt").read_text().split()


def test_jobs_end_as_they_do_in_processes_of_their_own(tmp_path):
    calls = {
        "well": well,
        "raising": raising,
        "refusing": refusing,
        "endless": endless,
        "telling": telling,
        "aborting": aborting,
        "leaving": leaving,
        "exiting": exiting,
        **{f"steady{n}": partial(quick, shared=str(tmp_path)) for n in range(4)},
    }
    here = run(tmp_path, calls)
    expected = results(run(tmp_path, calls, executor=Processes(4)))
    assert results(here) == expected
    assert {name: result.status for name, result in expected.items()} == {
        "well": "finished",
        "raising": "failed",
        "refusing": "failed",
        "endless": "timed out",
        "telling": "timed out",
        "aborting": "failed",
        "leaving": "failed",
        "exiting": "failed",
        **{f"steady{n}": "finished" for n in range(4)},
    }
    # each starts once and ends once, whatever became of its neighbours
    assert sorted(e.job.name for e in here if isinstance(e, Started)) == sorted(calls)
    assert sorted(e.job.name for e in here if isinstance(e, Ended)) == sorted(calls)
    assert [(e.images, e.values) for e in here if isinstance(e, Progressed) and e.job.name == "well"] == [
        (3, {"loss": 0.5})
    ]


def test_every_gpu_has_a_process_and_jobs_at_the_same_time(tmp_path):
    calls = {f"steady{n}": partial(steady, shared=str(tmp_path), starts=6) for n in range(7)}
    events = run(tmp_path, calls, gpus=2, width=3)
    where = {name: result.reason for name, result in results(events).items()}
    assert len(set(where.values())) == 2
    running, most = 0, 0
    for event in events:
        running += isinstance(event, Started) - isinstance(event, Ended)
        most = max(most, running)
    assert most == 6
    # dealt out in turn, not one GPU after the other
    assert where["steady0"] != where["steady1"]


def test_a_job_prints_to_its_own_log(tmp_path):
    run(tmp_path, {f"well{n}": well for n in range(3)}, gpus=1)
    for n in range(3):
        assert (tmp_path / f"well{n}" / "log.txt").read_text() == "said on standard output\n"


def test_the_guilty_one_is_found_and_the_innocent_finish_together(tmp_path):
    calls = {
        "aborting": partial(aborting, shared=str(tmp_path), others=3),
        **{f"steady{n}": partial(steady, shared=str(tmp_path), starts=6) for n in range(3)},
    }
    ended = results(run(tmp_path, calls, gpus=1, width=4))
    assert ended["aborting"] == Result("failed", "killed by SIGABRT")
    assert [ended[f"steady{n}"].status for n in range(3)] == ["finished"] * 3
    # the three begin together, die together, and go on together when the guilty one has died alone
    begun = starts(tmp_path)
    assert len(begun) == 6
    assert len(set(begun)) == len(set(begun[3:])) + 1 == 2
    log = (tmp_path / "aborting" / "log.txt").read_text()
    assert log.count("the process of this GPU died: killed by SIGABRT") == 2
    assert "in aborting" in log  # where it was, as faulthandler says


def test_a_job_without_memory_beside_others_goes_on_alone(tmp_path):
    calls = {f"greedy{n}": partial(greedy, shared=str(tmp_path)) for n in range(2)}
    events = run(tmp_path, calls | {"insatiable": insatiable, "well": well}, gpus=1, width=4)
    ended = results(events)
    assert [ended[f"greedy{n}"].status for n in range(2)] == ["finished"] * 2
    assert ended["well"].status == "finished"
    assert ended["insatiable"] == Result("failed", "MemoryError: tried to allocate 999 GiB")
    begun = starts(tmp_path)
    assert len(begun) == 3  # the second of them twice
    assert len(set(begun)) == 1  # the process lived on
    assert sorted(e.job.name for e in events if isinstance(e, Started)) == sorted([*calls, "insatiable", "well"])


def test_a_job_that_hears_it_is_late_costs_the_others_nothing(tmp_path):
    calls = {"telling": telling, "steady": partial(steady, shared=str(tmp_path), seconds=3.5)}
    ended = results(run(tmp_path, calls, gpus=1))
    assert ended["telling"] == Result("timed out", "still running after 0.0333333 minutes")
    assert ended["steady"].status == "finished"
    assert len(starts(tmp_path)) == 1


def test_a_job_that_hangs_costs_its_process_and_no_other_job(tmp_path):
    calls = {"endless": endless, "steady": partial(steady, shared=str(tmp_path), starts=2)}
    ended = results(run(tmp_path, calls, gpus=1))
    assert ended["endless"] == Result("timed out", "still running after 0.0333333 minutes")
    assert ended["steady"].status == "finished"
    assert len(set(starts(tmp_path))) == 2


RUNNER = """
import sys
from functools import partial
from pathlib import Path
from benchmarks.executors.gpu import GpuPool
from benchmarks.job import Job
from benchmarks.supervisor import Supervisor
from tests.benchmarks.toys import endless

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    call = [partial(endless, pidfile=str(folder / f"pid{n}")) for n in range(2)]
    jobs = [Job(f"endless{n}", call[n], folder, 0, 60) for n in range(2)]
    list(Supervisor(GpuPool([None, None], 3), jobs).events())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_runner_takes_its_gpus_processes_along(tmp_path, how):
    script = tmp_path / "runner.py"
    script.write_text(RUNNER)
    root = str(Path(__file__).parents[3])
    runner = subprocess.Popen(
        [sys.executable, script, tmp_path], env={**os.environ, "PYTHONPATH": root}, stderr=subprocess.DEVNULL
    )
    pids = {wait_for(tmp_path / f"pid{n}") for n in range(2)}
    assert len(pids) == 2
    runner.send_signal(how)
    runner.wait(timeout=300)
    until(lambda: all(gone(pid) for pid in pids))


def on_gpu(report, folder, shared, seconds=1.0):
    """Works on its stream for some time, and says which that is."""
    import torch

    until = time.monotonic() + seconds
    x = torch.randn(256, 256, device="cuda")
    while time.monotonic() < until:
        x = (x @ x).tanh()
    torch.cuda.current_stream().synchronize()
    with (Path(shared) / "starts.txt").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return Result("finished", f"{torch.cuda.device_count()} {torch.cuda.current_stream().cuda_stream}")


def asserting(report, folder):
    """An index out of range: from here on every call of the process fails."""
    import torch

    time.sleep(0.5)
    torch.zeros(3, device="cuda")[torch.tensor([7], device="cuda")].item()
    return Result("finished")


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="needs a CUDA device")
def test_jobs_on_a_gpu_have_streams_of_their_own(tmp_path):
    calls = {f"work{n}": partial(on_gpu, shared=str(tmp_path)) for n in range(4)}
    ended = results(run(tmp_path, calls, executor=GpuPool(["0"], 4)))
    assert {result.status for result in ended.values()} == {"finished"}
    seen = {tuple(result.reason.split()) for result in ended.values()}
    assert {gpus for gpus, _ in seen} == {"1"}
    assert len({stream for _, stream in seen} - {"0"}) == 4


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="needs a CUDA device")
def test_a_cuda_error_fails_the_guilty_job_only(tmp_path):
    calls = {"asserting": asserting, **{f"work{n}": partial(on_gpu, shared=str(tmp_path)) for n in range(3)}}
    ended = results(run(tmp_path, calls, executor=GpuPool(["0"], 4)))
    assert ended["asserting"].status == "failed"
    assert "CUDA error" in ended["asserting"].reason
    assert [ended[f"work{n}"].status for n in range(3)] == ["finished"] * 3
    assert "device-side assert" in (tmp_path / "asserting" / "log.txt").read_text()
