"""A cell or a floor that another invocation has done since this one was planned is not done again."""

from __future__ import annotations

from functools import partial

import pytest

from benchmarks import jobs
from benchmarks.job import Job, Result
from benchmarks.jobs import Floor, SharedCell, floor_job
from gans import schema
from gans.runs.events import now
from gans.runs.execute import Place
from gans.runs.locks import LOCK
from gans.runs.run import Run
from tests.gans.runs.test_locks import holding


@pytest.fixture
def place():
    return Place("shared", "cpu", 1, parent="ours")


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
def test_the_result_of_another_invocation_is_taken(place, tmp_path, status, later, taken):
    since = now() - later
    Run.start(tmp_path, place.experiment, "a", {}, "theirs").finish(status, "so it is")
    found = SharedCell(None, tmp_path, place, lambda images, values: None, since).ended()
    assert (found and (found.status, found.reason)) == ((status, "so it is") if taken else None)


def test_a_floor_is_measured_once(place, tmp_path, monkeypatch):
    folder, calls = tmp_path / "floor", []
    floor = Floor("digits", 8, "digits", 100, "0" * 16, "fd_digits", "Digits")

    def measure(report, folder, floor, place):
        calls.append(folder)
        Run.start(folder, place.experiment, floor.name, {}).finish(schema.FINISHED)

    monkeypatch.setattr(jobs, "measure", measure)

    def job(since):
        call = partial(floor_job, floor=floor, place=place, since=since)
        return Job("real/digits", call, folder, 0, 60.0).run(lambda images, values: None)

    with holding(folder / LOCK):
        assert job(0).status == schema.SKIPPED
    began = now()
    assert [job(began), job(began)] == [Result(schema.FINISHED)] * 2
    assert len(calls) == 1
    job(now() + 60_000)  # what was there before had been seen, and lacked something
    assert len(calls) == 2
