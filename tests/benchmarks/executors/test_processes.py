"""Processes of this machine: results, crashes, time limits, and workers that never outlive the runner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import psutil

from benchmarks.executors.processes import Processes
from benchmarks.job import Ended, Job, Progressed, Result, Started
from benchmarks.supervisor import Supervisor
from tests.benchmarks.toys import endless, killed, raising, refusing, slow, well
from tests.conftest import until


def run(tmp_path, calls, parallel=2, seconds=60.0):
    jobs = [Job(name, call, tmp_path / name, 10, seconds) for name, call in calls.items()]
    return list(Supervisor(Processes(parallel), jobs).events())


def results(events):
    return {event.job.name: event.result for event in events if isinstance(event, Ended)}


def test_a_job_reports_progress_and_result(tmp_path):
    events = run(tmp_path, {"well": well})
    assert isinstance(events[0], Started)
    assert [(e.images, e.values) for e in events if isinstance(e, Progressed)] == [(3, {"loss": 0.5})]
    assert results(events) == {"well": Result("finished")}
    assert (tmp_path / "well" / "log.txt").read_text() == "said on standard output\n"


def test_one_failure_does_not_stop_the_others(tmp_path):
    calls = {"raising": raising, "killed": killed, "refusing": refusing, "well": well}
    ended = results(run(tmp_path, calls, parallel=1))
    assert ended["raising"] == Result("failed", "ValueError: first line")
    assert ended["killed"] == Result("failed", "killed by SIGKILL (out of memory?)")
    assert ended["refusing"] == Result("failed", "the folder is in use")
    assert ended["well"] == Result("finished")


def test_the_time_limit_is_hard(tmp_path):
    ended = results(run(tmp_path, {"endless": endless}, seconds=1.2))
    assert ended["endless"] == Result("timed out", "still running after 0.02 minutes")


def test_never_more_than_parallel_at_a_time(tmp_path):
    events = run(tmp_path, {f"slow{i}": slow for i in range(5)}, parallel=2)
    running, most = 0, 0
    for event in events:
        running += isinstance(event, Started) - isinstance(event, Ended)
        most = max(most, running)
    assert most == 2
    assert len(results(events)) == 5


def test_closing_the_events_stops_its_workers(tmp_path):
    pidfile = tmp_path / "pid"
    job = Job("endless", partial(endless, pidfile=str(pidfile)), tmp_path, 0, 60)
    events = Supervisor(Processes(1), [job]).events()
    assert isinstance(next(events), Started)
    pid = wait_for(pidfile)
    events.close()
    assert gone(pid)


RUNNER = """
import sys
from functools import partial
from pathlib import Path
from benchmarks.executors.processes import Processes
from benchmarks.job import Job
from benchmarks.supervisor import Supervisor
from tests.benchmarks.toys import endless

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    job = Job("endless", partial(endless, pidfile=str(folder / "pid")), folder, 0, 60)
    list(Supervisor(Processes(1), [job]).events())
"""


def test_a_killed_runner_takes_its_workers_along(tmp_path):
    script = tmp_path / "runner.py"
    script.write_text(RUNNER)
    root = str(Path(__file__).parents[3])
    runner = subprocess.Popen([sys.executable, script, tmp_path], env={**os.environ, "PYTHONPATH": root})
    pid = wait_for(tmp_path / "pid")
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    until(lambda: gone(pid))


def wait_for(pidfile: Path) -> int:
    return int(until(lambda: pidfile.exists() and pidfile.read_text()))


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


HURRIED = """
from multiprocessing import forkserver
from benchmarks.executors.processes import preload
preload("tests.benchmarks.sleeper")
print(forkserver._forkserver._forkserver_pid, flush=True)
raise KeyboardInterrupt
"""


def test_a_runner_that_ends_at_once_takes_the_server_along_that_still_imports():
    done = subprocess.run(
        [sys.executable, "-c", HURRIED],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )
    pid = int(done.stdout)
    until(lambda: gone(pid), seconds=10)
