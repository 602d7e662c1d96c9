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


def ended(place, folder, since, status=schema.FINISHED, parent="theirs"):
    """How a cell has ended for an invocation that was planned then."""
    run = Run.start(folder, place.experiment, "a", {}, parent)
    run.finish(status, "so it is")
    found = SharedCell(None, folder, place, lambda images, values: None, since).ended()
    return found and (found.status, found.reason)


@pytest.mark.parametrize("status", [schema.FINISHED, schema.DIVERGED, schema.FAILED, schema.TIMED_OUT])
def test_the_result_of_another_invocation_is_taken(place, tmp_path, status):
    assert ended(place, tmp_path / "a", now() - 60_000, status) == (status, "so it is")


def test_what_was_interrupted_or_known_before_or_our_own_is_gone_on_with(place, tmp_path):
    before = now() - 60_000
    assert ended(place, tmp_path / "a", before, schema.INTERRUPTED) is None
    assert ended(place, tmp_path / "b", now() + 60_000) is None
    assert ended(place, tmp_path / "c", before, schema.FAILED, parent="ours") is None  # a card's process died
    nothing = SharedCell(None, tmp_path / "d", place, lambda images, values: None, before)
    assert nothing.ended() is None


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
