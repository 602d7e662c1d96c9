"""The supervisor: retries, time limits, and jobs that other processes do, on scripted executors."""

import time
from collections import deque
from pathlib import Path

from benchmarks.job import Begun, Fault, Job, Lost, Restarted, Result, Waiting
from benchmarks.supervisor import Supervisor
from gans import schema
from gans.runs.locks import LOCK, locked
from tests.benchmarks.toys import well
from tests.gans.runs.test_locks import holding


class Here:
    """Runs jobs one by one, in this process."""

    def __init__(self) -> None:
        self.submitted: list[str] = []
        self.news: deque = deque()

    def room(self, alone=False):
        return not self.news

    def submit(self, number, job, alone=False):
        self.submitted.append(job.name)
        self.news += [(number, Begun()), (number, job.run(lambda images, values: None))]

    def poll(self, seconds):
        while self.news:
            yield self.news.popleft()
        time.sleep(0.01)

    def close(self):
        self.news.clear()


class Script(Here):
    """Ends each attempt of a job by the next line of its script; two at a time."""

    def __init__(self, **ends) -> None:
        super().__init__()
        self.ends = {name: deque(each) for name, each in ends.items()}
        self.running: dict[int, tuple[str, bool]] = {}

    def room(self, alone=False):
        if alone or any(apart for _, apart in self.running.values()):
            return not self.running
        return len(self.running) < 2

    def submit(self, number, job, alone=False):
        self.submitted.append(f"{job.name} alone" if alone else job.name)
        self.running[number] = job.name, alone
        self.news.append((number, Begun()))

    def poll(self, seconds):
        yield from super().poll(seconds)
        for number, (name, _) in list(self.running.items()):
            end = self.ends[name].popleft()
            if end is not None:
                del self.running[number]
                yield number, end
            elif not self.ends[name]:
                self.ends[name].append(None)


def events(tmp_path, executor, names):
    jobs = [Job(name, well, tmp_path / name, 10, 60.0) for name in names]
    return list(Supervisor(executor, jobs).events())


def results(found):
    return {job.name: what for job, what in found if isinstance(what, Result)}


DONE = Result(schema.FINISHED)


def test_a_job_has_failed_at_the_third_death_of_its_process(tmp_path):
    own = Lost("killed by SIGKILL", Fault.OWN)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / schema.CHECKPOINT).touch()
    found = events(tmp_path, Script(a=[own] * 3, b=[own, own, DONE]), "ab")
    assert results(found) == {"a": Result("failed", "killed by SIGKILL, 3 times"), "b": DONE}
    why = sorted(job.name + what.why[len(own.reason) :] for job, what in found if isinstance(what, Restarted))
    assert why == ["a; it starts again"] * 2 + ["b; it resumes"] * 2
    assert sorted(job.name for job, what in found if isinstance(what, Begun)) == ["a", "b"]


def test_a_node_that_goes_costs_a_job_nothing(tmp_path):
    gone = Lost("node x died", Fault.NONE)
    assert results(events(tmp_path, Script(a=[gone] * 5 + [DONE]), "a")) == {"a": DONE}


def test_a_job_without_memory_goes_on_alone_and_has_failed_if_that_is_not_enough(tmp_path):
    none = Lost("no memory", Fault.SHARED)
    script = Script(a=[none, DONE], b=[DONE], c=[none, none])
    assert results(events(tmp_path, script, "abc")) == {"a": DONE, "b": DONE, "c": Result("failed", "no memory")}
    assert {"a alone", "c alone"} < set(script.submitted)


# --- other processes


def work(report, folder: Path) -> Result:
    with locked(folder):
        return DONE


def test_what_another_process_does_is_waited_for_and_done_when_that_has_died(tmp_path):
    watched = Supervisor(Here(), [Job(name, work, tmp_path / name, 1000, 60.0) for name in "abc"])
    seen = []
    with holding(tmp_path / "a" / LOCK) as other:
        for job, what in watched.events():
            seen.append((type(what), job.name))
            if seen[-1] == (Result, "c"):
                other.kill()
    assert seen[:2] == [(Begun, "a"), (Waiting, "a")]
    assert (Result, "b") in seen
    assert seen[-1] == (Result, "a")
    assert seen.count((Begun, "a")) == seen.count((Result, "a")) == 1
    assert watched.executor.submitted == ["a", "b", "c", "a"]
