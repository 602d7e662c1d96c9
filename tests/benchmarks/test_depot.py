"""Runs at a URL: what is fetched, what is brought, and who may."""

from __future__ import annotations

import json
import shutil
import sys
import time
from types import SimpleNamespace

import fsspec  # noqa: F401  its registry
import pytest

from benchmarks import depot as depots
from benchmarks.depot import LEASE, Depot
from benchmarks.options import Machine
from gans import schema
from gans.errors import InputError
from gans.runs import events, locks
from gans.runs.locks import Holder
from gans.runs.run import Run
from tests.benchmarks.test_away import put


@pytest.fixture
def there(tmp_path):
    """A folder with a cell's run, as a URL names it."""
    cell = tmp_path / "there" / "digits" / "gan-0"
    for name in (events.FILE, events.MARKS, schema.CHECKPOINT, "samples/final.png"):
        put(cell / name, name.encode())
    return tmp_path / "there"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(depots, "PAUSE", 0.0)
    monkeypatch.setattr(depots, "SETTLED", 0.0)


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != locks.LOCK)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_what_is_known_of_all_runs_is_fetched_at_once_and_a_cells_files_when_it_goes_on(there):
    depot = Depot(there.as_uri()).enter(writes=True)
    assert (there / LEASE).exists()
    mirror = depot.mirror
    assert files(mirror).keys() == {f"digits/gan-0/{name}" for name in (events.FILE, events.MARKS)}
    assert depot.had(mirror / "digits" / "gan-0" / schema.CHECKPOINT)
    assert not depot.had(mirror / "digits" / "gan-1" / schema.CHECKPOINT)
    depot.fetch(mirror / "digits" / "gan-0")
    assert files(mirror) == {name: content for name, content in files(there).items() if name != LEASE}
    put(mirror / "digits" / "gan-0" / schema.CHECKPOINT, b"newer")
    put(mirror / "digits" / "invocations" / events.FILE, b"begun")
    depot.bring([mirror / "digits" / "gan-0" / schema.CHECKPOINT])
    assert depot.leave() == []
    assert (there / "digits" / "gan-0" / schema.CHECKPOINT).read_bytes() == b"newer"
    assert (there / "digits" / "invocations" / events.FILE).read_bytes() == b"begun"  # all that is new, in the end
    assert not (there / LEASE).exists()
    assert not mirror.exists()


def test_who_only_reads_leaves_nothing_there(there):
    before = files(there)
    depot = Depot(there.as_uri()).enter(writes=False)
    put(depot.mirror / "digits" / "other", b"new")
    assert depot.leave() == []
    assert files(there) == before
    assert Depot((there / "nothing").as_uri()).enter(writes=False).leave() == []
    assert Depot((there / "new" / "runs").as_uri()).enter(writes=True).leave() == []


def test_one_runner_at_a_time(there, monkeypatch):
    first = Depot(there.as_uri()).enter(writes=True)
    with pytest.raises(InputError, match=r"RUNS=file://.* is in use by process \d+, heard \d+ s ago; wait for it"):
        Depot(there.as_uri()).enter(writes=True)
    Depot(there.as_uri()).enter(writes=False).leave()  # to look is allowed
    first.leave()
    elsewhere = Holder("elsewhere", 1, 0.0, "/lock")
    for ago, taken in ((depots.SILENT / 2, False), (2 * depots.SILENT, True)):
        told = {"holder": elsewhere.text(), "at": time.time() - ago}
        (there / LEASE).write_text(json.dumps(told))
        if taken:
            Depot(there.as_uri()).enter(writes=True).leave()
        else:
            with pytest.raises(InputError, match="in use by process 1 on elsewhere"):
                Depot(there.as_uri()).enter(writes=True)
    (there / LEASE).write_text(json.dumps({"holder": elsewhere.text(), "at": time.time()}))
    monkeypatch.setattr(locks, "witness", lambda holder: False)  # a cluster knows that it is dead
    Depot(there.as_uri()).enter(writes=True).leave()


def test_a_runner_that_was_killed_is_in_nobodys_way(there):
    gone = Holder(locks.HOST, 2**22 + 1, 0.0, "/nowhere/.lock")
    (there / LEASE).write_text(json.dumps({"holder": gone.text(), "at": time.time()}))
    Depot(there.as_uri()).enter(writes=True).leave()


def test_what_cannot_be_brought_is_kept_and_said(there, monkeypatch):
    depot = Depot(there.as_uri()).enter(writes=True)

    def refuse(local, remote):
        raise PermissionError("no more room there")

    monkeypatch.setattr(depot.files, "put_file", refuse)
    put(depot.mirror / "digits" / "new", b"new")
    (said,) = depot.leave()
    assert said == (
        f"1 files could not be brought to {there.as_uri()} (no more room there); they are kept in {depot.mirror}"
    )
    assert (depot.mirror / "digits" / "new").read_bytes() == b"new"
    shutil.rmtree(depot.mirror)


def test_a_folder_that_is_gone_there_is_made_again(there):
    depot = Depot(there.as_uri()).enter(writes=True)
    put(depot.mirror / "digits" / "new", b"new")
    depot.make("digits")
    shutil.rmtree(there / "digits")
    assert depot.leave() == []
    assert (there / "digits" / "new").read_bytes() == b"new"


def test_who_finds_another_there_brings_nothing_more(there):
    depot = Depot(there.as_uri()).enter(writes=True)
    other = json.dumps({"holder": Holder("elsewhere", 1, 0.0, "/lock").text(), "at": time.time()})
    (there / LEASE).write_text(other)
    with pytest.raises(InputError, match=r"was taken by process 1 on elsewhere; wait for it"):
        depot.keep()
    put(depot.mirror / "digits" / "new", b"new")
    (said,) = depot.leave()
    assert "(file://" in said
    assert "was taken by process 1 on elsewhere); they are kept in" in said
    assert not (there / "digits" / "new").exists()
    assert (there / LEASE).read_text() == other
    shutil.rmtree(depot.mirror)


def test_the_files_of_a_run_that_is_still_to_be_told_are_fetched_at_once(there):
    (there / "digits" / "gan-0" / events.FILE).unlink()
    Run.start(there / "digits" / "gan-0", "digits", "gan/digits/0", {})
    depot = Depot(there.as_uri()).enter(writes=True)
    assert (depot.mirror / "digits" / "gan-0" / "samples" / "final.png").exists()
    depot.leave()


def test_what_a_store_was_not_told_of_runs_at_a_url_the_next_command_tells(there):
    depot = Depot(there.as_uri()).enter(writes=False)
    machine = Machine(engine="ray", cluster=SimpleNamespace(depot=depot))
    assert machine.remedy == f"the next command with RUNS={there.as_uri()} brings them"
    depot.leave()
    assert Machine().remedy == "gans sync exports them"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nothing://bucket/runs", r"RUNS=nothing://bucket/runs: .*[Pp]rotocol"),
        ("file:///proc/runs", r"cannot use RUNS=file:///proc/runs: .*; see that it is there"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url, says):
    with pytest.raises(InputError, match=says) as refused:
        Depot(url).enter(writes=True)
    assert len(str(refused.value).splitlines()) == 1


def test_a_kind_of_store_whose_package_is_missing_says_which(monkeypatch):
    known = sys.modules["fsspec.registry"].known_implementations
    monkeypatch.setitem(known, "s4", {"class": "s4.Files", "err": "Install s4 for this"})
    with pytest.raises(InputError, match="RUNS=s4://bucket/runs: Install s4 for this"):
        Depot("s4://bucket/runs")
