"""The supervisor: retries, time limits, and jobs that other processes do, on scripted executors."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

import pytest

from benchmarks import supervisor
from benchmarks.job import Begun, Ended, Fault, Job, Lost, Progress, Restarted, Result, Started, Waiting
from benchmarks.supervisor import Supervisor
from gans import schema
from gans.runs.locks import LOCK, locked
from gans.runs.run import Run
from tests.benchmarks.toys import well
from tests.gans.runs.test_locks import holding


class Here:
    """Runs jobs one by one, in this process."""

    deaths, grace = 1, 0.0

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

    def __init__(self, deaths=1, grace=0.0, **ends) -> None:
        super().__init__()
        self.deaths, self.grace, self.ends = deaths, grace, {name: deque(each) for name, each in ends.items()}
        self.running: dict[int, tuple[str, bool]] = {}
        self.cancelled: list[tuple[str, bool]] = []

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

    def cancel(self, number, force=False):
        self.cancelled.append((self.running[number][0], force))
        if force:
            del self.running[number]
            self.news.append((number, Lost("killed", Fault.OWN)))


def events(tmp_path, executor, names, seconds=60.0):
    jobs = [Job(name, well, tmp_path / name, 10, seconds) for name in names]
    return list(Supervisor(executor, jobs).events())


def results(found):
    return {event.job.name: event.result for event in found if isinstance(event, Ended)}


DONE = Result(schema.FINISHED)


def test_a_job_whose_process_dies_starts_again_as_often_as_the_executor_allows(tmp_path):
    own = Lost("killed by SIGKILL", Fault.OWN)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / schema.CHECKPOINT).touch()
    found = events(tmp_path, Script(3, a=[own] * 3, b=[own, own, DONE]), "ab")
    assert results(found) == {"a": Result("failed", "killed by SIGKILL, 3 times"), "b": DONE}
    why = sorted(event.job.name + event.why[len(own.reason) :] for event in found if isinstance(event, Restarted))
    assert why == ["a; it begins anew"] * 2 + ["b; it goes on"] * 2
    assert sorted(event.job.name for event in found if isinstance(event, Started)) == ["a", "b"]
    assert results(events(tmp_path, Script(1, a=[own]), "a")) == {"a": Result("failed", "killed by SIGKILL")}


def test_a_node_that_goes_costs_a_job_nothing(tmp_path):
    gone = Lost("node x is gone", Fault.NONE)
    assert results(events(tmp_path, Script(1, a=[gone] * 5 + [DONE]), "a")) == {"a": DONE}


def test_who_shared_a_dead_process_goes_on_alone_until_the_guilty_one_is_found(tmp_path):
    shared, own = Lost("killed", Fault.SHARED), Lost("killed", Fault.OWN)
    script = Script(a=[shared, own], b=[shared, DONE], c=[DONE])
    assert results(events(tmp_path, script, "abc")) == {"a": Result("failed", "killed"), "b": DONE, "c": DONE}
    assert script.submitted == ["a", "b", "a alone", "b", "c"]


def test_a_job_without_memory_goes_on_alone_and_is_no_suspect(tmp_path):
    script = Script(a=[Lost("no memory", Fault.MEMORY), DONE], b=[DONE])
    found = events(tmp_path, script, "ab")
    assert results(found) == {"a": DONE, "b": DONE}
    assert "a alone" in script.submitted
    assert not [event for event in found if isinstance(event, Restarted)]


def test_a_job_over_its_time_limit_is_cancelled_and_then_killed(tmp_path):
    script = Script(grace=0.05, a=[None])
    found = events(tmp_path, script, "a", 0.05)
    assert results(found) == {"a": Result("timed out", "still running after 0.000833333 minutes")}
    assert script.cancelled == [("a", False), ("a", True)]


def test_news_of_a_job_that_has_ended_are_ignored(tmp_path):
    watch = Supervisor(Here(), [])
    assert list(watch.take((7, Progress(3, {})))) == []


# --- other processes


def work(report, folder: Path) -> Result:
    with locked(folder):
        return DONE


@pytest.fixture
def watch(tmp_path, monkeypatch):
    """What runs jobs of these names in this process."""
    monkeypatch.setattr(supervisor, "LOOK", 0.05)

    def make(names, seconds=60.0):
        return Supervisor(Here(), [Job(name, work, tmp_path / name, 1000, seconds) for name in names])

    return make


def test_what_another_process_does_is_waited_for_and_done_when_that_has_died(tmp_path, watch):
    watched, seen = watch("abc"), []
    with holding(tmp_path / "a" / LOCK) as other:
        for event in watched.events():
            seen.append((type(event), event.job.name))
            if len(seen) > 12:
                other.kill()
    assert seen[:2] == [(Started, "a"), (Waiting, "a")]
    assert {(Ended, "b"), (Ended, "c"), (Waiting, "a")} <= set(seen[2:10])
    assert seen[-1] == (Ended, "a")
    assert seen.count((Started, "a")) == seen.count((Ended, "a")) == 1
    assert watched.executor.submitted == ["a", "b", "c", "a"]


def test_a_job_that_is_waited_for_too_long_has_timed_out(tmp_path, watch):
    with holding(tmp_path / "a" / LOCK):
        *_, last = watch("a", 0.3).events()
    assert last.result.status == schema.TIMED_OUT
    assert "still does it" in last.result.reason


def test_who_waits_sees_how_far_the_other_is(tmp_path, watch):
    Run.start(tmp_path / "a", "digits", "a", {}).log(450, {"loss/generator": 1.0})
    with locked(tmp_path / "a"):
        found = watch("a").events()
        next(found)
        waiting = next(found)
        found.close()
    assert isinstance(waiting, Waiting)
    assert (waiting.images, waiting.who.split()[0]) == (450, "process")
