"""Folders that travel: paths and files, on a node that is played and on a cluster of this machine."""

from __future__ import annotations

import importlib.util
import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from benchmarks import away
from benchmarks.away import Abroad, Guests, Loan, pack, states, unpack
from benchmarks.cluster import Attempt, RayEngine, Share
from benchmarks.engine import Ended, Job, Moved, Result
from benchmarks.nodes import Cluster
from gans import schema
from gans.errors import InputError
from gans.runs import events
from gans.runs.locks import LOCK, InUse, held, locked
from tests.benchmarks.toys import writing

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs ray: make setup EXTRAS=cluster"
)


def job_of(runs, name="cell", **more):
    folder = runs / name
    return Job(name, partial(writing, folder=folder, **more), 10, folder / schema.LOG, 60.0, folder=folder)


def quiet(images, values):
    """What a job tells, told to nobody."""


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


# --- parcels


def test_a_parcel_has_networks_first_and_the_journal_last(tmp_path):
    names = [
        events.FILE,
        events.MARKS,
        schema.CHECKPOINT,
        "samples/final.png",
        LOCK,
        ".a.pt.123",
        schema.PREVIOUS,
    ]
    for name in names:
        put(tmp_path / "cell" / name, name.encode())
    found = [path.relative_to(tmp_path / "cell").as_posix() for path in states(tmp_path)]
    assert found == [schema.CHECKPOINT, "samples/final.png", events.MARKS, events.FILE]  # as they are read
    paths = unpack(pack(tmp_path, states(tmp_path)), tmp_path / "there")
    put_down = [path.relative_to(tmp_path / "there" / "cell").as_posix() for path in paths]
    assert put_down == [schema.CHECKPOINT, "samples/final.png", events.FILE, events.MARKS]
    assert (tmp_path / "there" / "cell" / "samples" / "final.png").read_bytes() == b"samples/final.png"


def test_a_log_is_added_to_the_one_that_is_there_and_a_parcel_stays_below_its_folder(tmp_path):
    put(tmp_path / "a" / schema.LOG, b"second\n")
    put(tmp_path / "b" / schema.LOG, b"first\n")
    unpack(pack(tmp_path / "a", [tmp_path / "a" / schema.LOG]), tmp_path / "b")
    assert (tmp_path / "b" / schema.LOG).read_text() == "first\nsecond\n"
    with pytest.raises(ValueError, match=r"\.\./a/log\.txt leads out of"):
        unpack(pack(tmp_path / "b", [tmp_path / "b" / ".." / "a" / schema.LOG]), tmp_path / "c")


# --- a node without the runner's folder


def test_a_job_works_in_a_folder_of_its_node_and_what_changes_is_brought(tmp_path):
    runs, guests = tmp_path / "runs", Guests(tmp_path / "node")
    put(runs / "cell" / schema.CHECKPOINT, b"5")
    loan = Loan(job_of(runs), runs, None)
    assert held(runs / "cell" / LOCK)
    with pytest.raises(InUse), locked(runs / "cell"):
        pass
    with pytest.raises(InUse):
        Loan(job_of(runs), runs, None)
    job = guests.settle(3, loan.packed())
    assert job.log.is_relative_to(tmp_path / "node")
    assert job.call(quiet) == Result("finished")
    guests.there[3].due = time.monotonic()
    put(job.log, b"said\n")  # before a parcel, and not again
    ((number, parcel),) = guests.parcels()
    assert number == 3
    assert list(guests.parcels()) == []  # not due, and nothing has changed
    assert guests.there[3].parcel() == b""
    assert (runs / "cell" / schema.CHECKPOINT).read_bytes() == b"5"
    loan.receive(parcel)
    assert (runs / "cell" / schema.CHECKPOINT).read_bytes() == b"6"  # it went on from the one that was sent along
    loan.receive(guests.leave(3))
    assert (runs / "cell" / schema.LOG).read_text() == "said\n"
    assert list((tmp_path / "node").iterdir()) == []
    loan.close()
    assert not held(runs / "cell" / LOCK)


def test_networks_of_which_the_runner_has_no_use_stay_and_nothing_is_sent_along(tmp_path):
    runs, guests = tmp_path / "runs", Guests(tmp_path / "node")
    put(runs / "cell" / schema.CHECKPOINT, b"5")
    sent = Abroad.of(replace(job_of(runs), folder=None), runs)
    assert sent.parcel == b""
    loan = Loan(replace(job_of(runs), folder=None), runs, None)
    assert loan.lock is None
    job = guests.settle(0, loan.packed())
    job.call(quiet)
    loan.receive(guests.leave(0))
    assert (runs / "cell" / schema.CHECKPOINT).read_bytes() == b"5"
    assert (runs / "cell" / "picture.png").read_bytes() == b"picture"


def test_what_was_sent_along_is_not_sent_back(tmp_path):
    runs, guests = tmp_path / "runs", Guests(tmp_path / "node")
    put(runs / "cell" / schema.CHECKPOINT, b"5")
    loan = Loan(job_of(runs), runs, None)
    guests.settle(1, loan.packed())
    assert guests.there[1].parcel() == b""
    loan.close()


def test_a_node_without_room_for_a_jobs_files_fails_that_job(tmp_path):
    runs = tmp_path / "runs"
    put(runs / "cell" / schema.CHECKPOINT, b"5")
    put(tmp_path / "file", b"")
    loan = Loan(job_of(runs), runs, None)
    job = Guests(tmp_path / "file").settle(1, loan.packed())
    with pytest.raises(InputError, match=r"its files cannot be kept on .*: .*Not a directory"):
        job.call(quiet)
    loan.close()


def test_files_that_cannot_be_kept_here_fail_their_job(tmp_path):
    runs = tmp_path / "runs"
    attempt = Attempt(0, job_of(runs), loan=Loan(job_of(runs), runs, None))
    put(tmp_path / "there" / "cell" / "samples" / "a.png", b"picture")
    put(runs / "cell" / "samples", b"a file where a folder should be")
    attempt.receive(pack(tmp_path / "there", states(tmp_path / "there")))
    assert attempt.unkept.startswith("its files cannot be kept: ")
    attempt.give_back()
    assert not held(runs / "cell" / LOCK)


# --- on a cluster of this machine, as if its nodes were elsewhere


@needs_ray
def test_a_process_that_dies_elsewhere_goes_on_from_what_it_had_brought(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    )
    monkeypatch.setattr(away, "EVERY", 0.5)
    runs = tmp_path / "runs"
    cluster = Cluster()
    cluster.ready(1)
    try:
        cluster.runs = runs
        cluster.away = {node.id for node in cluster.nodes()}
        jobs = [job_of(runs, "dying", dies=2), job_of(runs, "taken")]
        with locked(runs / "taken"):
            events = list(RayEngine(cluster, Share(1, most=1)).run(jobs))
    finally:
        cluster.leave()
    ended = {event.job.name: event.result for event in events if isinstance(event, Ended)}
    assert ended["dying"] == Result("finished")
    assert ended["taken"].status == "skipped"
    moved = [(event.why.split(",")[0], event.anew) for event in events if isinstance(event, Moved)]
    assert moved == [("killed by SIGKILL (out of memory?)", False)] * 2
    assert (runs / "dying" / schema.CHECKPOINT).read_bytes() == b"3"  # one more each time
    assert (runs / "dying" / schema.LOG).read_text() == 3 * "began\n"
    assert not held(runs / "dying" / LOCK)
