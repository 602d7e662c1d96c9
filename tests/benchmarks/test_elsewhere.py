"""Jobs that other processes do: waited for, taken over from the dead, given up in time."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

from benchmarks import elsewhere
from benchmarks.elsewhere import shared
from benchmarks.engine import Ended, Job, Result, Started, Waiting
from gans import schema
from gans.runs.locks import LOCK, InUse, locked
from tests.gans.runs.test_locks import holding


class Here:
    """An engine that runs jobs one by one, in this process."""

    def __init__(self) -> None:
        self.rounds: list[list[str]] = []

    def run(self, jobs):
        self.rounds.append([job.name for job in jobs])
        for job in jobs:
            yield Started(job)
            yield Ended(job, job.call(lambda images, values: None))


def work(tell, folder: Path) -> Result:
    try:
        with locked(folder):
            return Result(schema.FINISHED)
    except InUse as other:
        return Result(schema.SKIPPED, str(other))


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    monkeypatch.setattr(elsewhere, "PATIENCE", 0.05)
    folders = {name: tmp_path / name for name in "abc"}
    return [Job(name, partial(work, folder=path), 1000, path / "log.txt", 60.0) for name, path in folders.items()]


def test_what_another_process_does_comes_last_and_is_done_when_that_has_died(tmp_path, jobs):
    engine, said = Here(), []
    with holding(tmp_path / "a" / LOCK) as other:
        for event in shared(engine, jobs):
            said.append((type(event), event.job.name))
            if len(said) > 12:
                other.kill()
    assert said[:7] == [
        (Started, "a"),
        (Waiting, "a"),
        (Started, "b"),
        (Ended, "b"),
        (Started, "c"),
        (Ended, "c"),
        (Waiting, "a"),
    ]
    assert said[-1] == (Ended, "a")
    assert said.count((Started, "a")) == said.count((Ended, "a")) == 1
    assert engine.rounds == [["a", "b", "c"], ["a"]]


def test_a_job_that_is_waited_for_too_long_has_timed_out(tmp_path, jobs):
    short = [Job("a", jobs[0].call, 1000, jobs[0].log, 0.3)]
    with holding(tmp_path / "a" / LOCK):
        *_, last = shared(Here(), short)
    assert isinstance(last, Ended)
    assert last.result.status == schema.TIMED_OUT
    assert "still does it" in last.result.reason


def test_what_became_free_while_others_ran_is_done_however_late_it_is(tmp_path, jobs):
    short = [Job("a", jobs[0].call, 1000, jobs[0].log, 0.0), jobs[1]]
    with holding(tmp_path / "a" / LOCK) as other:
        events = shared(Here(), short)
        told = []
        for event in events:
            told.append(event)
            if isinstance(event, Ended) and event.job.name == "b":
                other.kill()
                other.wait()
    assert {e.job.name: e.result.status for e in told if isinstance(e, Ended)} == {
        "a": "finished",
        "b": "finished",
    }


def test_who_waits_is_told_how_far_the_other_is(tmp_path, jobs):
    with locked(tmp_path / "a") as lock:
        lock.told = time.monotonic() - 60
        lock.beat(450)
        events = shared(Here(), jobs[:1])
        next(events)
        waiting = next(events)
        events.close()
    assert isinstance(waiting, Waiting)
    assert (waiting.images, waiting.who.split()[0]) == (450, "process")
