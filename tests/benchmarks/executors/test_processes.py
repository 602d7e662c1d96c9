"""Processes of this machine, of one job or of several: results, crashes, time limits, and what outlives whom."""

import multiprocessing
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from benchmarks.executors.processes import Pool
from benchmarks.job import Begun, Fault, Job, Lost, Progress, Result
from benchmarks.supervisor import Supervisor
from tests.benchmarks.toys import (
    aborting,
    endless,
    exiting,
    insatiable,
    killed,
    leaving,
    raising,
    refusing,
    steady,
    waiting,
    well,
)
from tests.conftest import until

ROOT = Path(__file__).parents[3]
LATE = Result("timed out", "still running after 0.0333333 minutes")

multiprocessing.set_forkserver_preload(["tests.benchmarks.toys", "benchmarks.executors.worker"])


def run(tmp_path, calls, processes=2, width=3, pool=None):
    jobs = [Job(name, call, tmp_path / name, 10, 2.0 if call is endless else 60.0) for name, call in calls.items()]
    return list(Supervisor(pool or Pool([None] * processes, width), jobs).events())


def results(events):
    return {job.name: what for job, what in events if isinstance(what, Result)}


def starts(folder: Path) -> list[str]:
    return (folder / "starts.txt").read_text().split()


def wait_for(pidfile: Path) -> int:
    return int(until(lambda: pidfile.exists() and pidfile.read_text()))


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


ENDS = {
    well: Result("finished"),
    raising: Result("failed", "ValueError: first line"),
    refusing: Result("failed", "the folder is in use"),
    waiting: Result("finished"),
    leaving: Result("failed", "SystemExit: 3"),
    exiting: Result("failed", "the worker exited with code 3, 3 times"),
    aborting: Result("failed", "killed by SIGABRT, 3 times"),
    killed: Result("failed", "killed by SIGKILL (out of memory?), 3 times"),
    insatiable: Result("failed", "MemoryError: tried to allocate 999 GiB"),
    endless: LATE,
}


@pytest.mark.parametrize(("processes", "width"), [(4, 1), (2, 3)])
def test_jobs_end_in_every_way_and_cost_no_other(tmp_path, processes, width):
    calls = {call.__name__: call for call in ENDS}
    shared = partial(steady, shared=str(tmp_path), seconds=0.7)
    events = run(tmp_path, calls | {f"steady{n}": shared for n in range(3)}, processes, width)
    found = results(events)
    assert {call: found[call.__name__] for call in ENDS} == ENDS
    assert [found[f"steady{n}"].status for n in range(3)] == ["finished"] * 3
    # each starts once and ends once, whatever became of its neighbours
    for kind in (Begun, Result):
        assert sorted(job.name for job, what in events if isinstance(what, kind)) == sorted(found)
    assert [what for job, what in events if isinstance(what, Progress) and job.name == "well"] == [
        Progress(3, {"loss": 0.5})
    ]
    assert (tmp_path / "well" / "log.txt").read_text() == "said on standard output\n"
    log = (tmp_path / "aborting" / "log.txt").read_text()
    assert "the process died: killed by SIGABRT" in log
    assert "in aborting" in log  # where it was, as faulthandler says


@pytest.mark.parametrize(("processes", "width", "at_once"), [(2, 3, 6), (3, 1, 3)])
def test_as_many_jobs_at_a_time_as_there_is_room_for(tmp_path, processes, width, at_once):
    calls = {f"steady{n}": partial(steady, shared=str(tmp_path), starts=at_once) for n in range(7)}
    events = run(tmp_path, calls, processes, width)
    where = {name: result.reason for name, result in results(events).items()}
    assert len(set(where.values())) == (2 if width > 1 else 7)  # a job on the CPU has a process of its own
    running = [0]
    for _, what in events:
        running.append(running[-1] + isinstance(what, Begun) - isinstance(what, Result))
    assert max(running) <= at_once  # and not fewer: the first ones wait for so many starts
    # dealt out in turn, not one process after the other
    assert where["steady0"] != where["steady1"]


def test_the_guilty_one_is_found_and_the_innocent_finish_together(tmp_path):
    calls = {
        "aborting": partial(aborting, shared=str(tmp_path), others=3),
        **{f"steady{n}": partial(steady, shared=str(tmp_path), starts=6) for n in range(3)},
    }
    ended = results(run(tmp_path, calls, processes=1, width=4))
    assert ended["aborting"] == Result("failed", "killed by SIGABRT, 3 times")
    assert [ended[f"steady{n}"].status for n in range(3)] == ["finished"] * 3
    # the three begin together, die together, and go on together when the guilty one has died alone
    begun = starts(tmp_path)
    assert len(begun) == 6
    assert len(set(begun)) == len(set(begun[3:])) + 1 == 2


def test_a_job_that_is_late_is_killed_and_its_neighbours_go_on(tmp_path):
    neighbour = partial(steady, shared=str(tmp_path), starts=2)
    ended = results(run(tmp_path, {"late": endless, "also": endless, "steady": neighbour}, processes=1))
    assert ended["late"] == ended["also"] == LATE  # at the same moment
    assert ended["steady"].status == "finished"
    assert len(set(starts(tmp_path))) == 2


def test_a_process_that_does_not_start_is_a_lost_job(tmp_path, monkeypatch):
    def start(process):
        raise EOFError("unexpected EOF")

    monkeypatch.setattr("multiprocessing.context.ForkServerProcess.start", start)
    pool = Pool([None], 1)
    pool.submit(0, Job("well", well, tmp_path, 0, 60))
    assert list(pool.poll(0)) == [(0, Lost("its process did not start: EOFError: unexpected EOF", Fault.OWN))]
    assert pool.room()
    pool.close()


RUNNER = """
import sys
import time
from functools import partial
from pathlib import Path
from benchmarks.executors.processes import Pool
from benchmarks.job import Job
from tests.benchmarks.toys import endless

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    pools = [Pool([None], 1), Pool([None], 3)]  # one that is forgotten ends its processes
    for number, pool in enumerate(pools):
        call = partial(endless, pidfile=str(folder / f"pid{number}"))
        pool.submit(number, Job(f"endless{number}", call, folder, 0, 60))
    time.sleep(600)
"""


def test_a_runner_that_is_killed_takes_its_processes_along(tmp_path):
    """The processes of one job and of several jobs end."""
    script = tmp_path / "runner.py"
    script.write_text(RUNNER)
    command = [sys.executable, str(script), str(tmp_path)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as runner:
        pids = {wait_for(tmp_path / f"pid{n}") for n in range(2)}
        runner.kill()
    until(lambda: all(gone(pid) for pid in pids))


# --- on a GPU


def on_gpu(report, folder, shared, seconds=1.0):
    """Compute on this job's stream for some seconds; the result names the stream."""
    import torch

    until = time.monotonic() + seconds
    x = torch.randn(256, 256, device="cuda")
    while time.monotonic() < until:
        x = (x @ x).tanh()
    torch.cuda.current_stream().synchronize()
    return Result("finished", f"{torch.cuda.device_count()} {torch.cuda.current_stream().cuda_stream}")


def asserting(report, folder):
    """Use an index that is out of range: every later CUDA call of the process fails."""
    import torch

    time.sleep(0.5)
    torch.zeros(3, device="cuda")[torch.tensor([7], device="cuda")].item()
    return Result("finished")


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="needs a CUDA device")
def test_a_cuda_error_fails_the_guilty_job_only_and_others_have_streams_of_their_own(tmp_path):
    calls = {"asserting": asserting, **{f"work{n}": partial(on_gpu, shared=str(tmp_path)) for n in range(3)}}
    ended = results(run(tmp_path, calls, pool=Pool(["0"], 4)))
    guilty = ended.pop("asserting")
    assert guilty.status == "failed"
    assert "CUDA error" in guilty.reason
    assert "device-side assert" in (tmp_path / "asserting" / "log.txt").read_text()
    assert {result.status for result in ended.values()} == {"finished"}
    seen = {tuple(result.reason.split()) for result in ended.values()}
    assert {gpus for gpus, _ in seen} == {"1"}
    assert len({stream for _, stream in seen} - {"0"}) == 3
