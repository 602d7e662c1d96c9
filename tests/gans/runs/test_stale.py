"""Runs of dead processes are closed, those of others are not."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from gans import schema
from gans.runs.events import state_of
from gans.runs.export import sync
from gans.runs.locks import LOCK, Holder
from gans.runs.run import Run
from gans.runs.stale import DIED, close_stale
from gans.runs.store import Store
from tests.gans.runs.test_locks import holding


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db")


CLOSED = ("KILLED", schema.INTERRUPTED, DIED)
OPEN = ("RUNNING", schema.RUNNING, None)


def begin(folder, holder=None, tag=schema.HOLDER):
    """A run in a folder, by the process that holds it or another."""
    tags = {tag: (holder or Holder.of(folder)).text(), schema.STATUS: schema.RUNNING}
    run = Run.start(folder, "stale", folder.name, tags)
    (folder / LOCK).touch()
    return run


def state(folder):
    found = state_of(folder)
    return found.status, found.result, found.tags.get(schema.REASON)


def in_store(store, run):
    (found,) = store.named("stale", run.key)
    return found.info.status, found.data.tags.get(schema.STATUS), found.data.tags.get(schema.REASON)


def test_what_no_living_process_holds_is_closed(store, tmp_path):
    free = begin(tmp_path / "free")
    gone = begin(tmp_path / "gone", Holder.of(tmp_path / "none"))
    begin(tmp_path / "away", replace(Holder.of(tmp_path / "away"), host="elsewhere"))
    Run.start(tmp_path / "unknown", "stale", "unknown", {schema.STATUS: schema.RUNNING})
    begin(tmp_path / "done").finish("finished")
    busy = begin(tmp_path / "busy")
    with holding(tmp_path / "busy" / LOCK):
        assert sorted(close_stale(tmp_path, store)) == sorted([free.key, gone.key])
        assert close_stale(tmp_path, store) == []
        assert [state(tmp_path / name) for name in ("free", "gone")] == [CLOSED] * 2
        assert [state(tmp_path / name) for name in ("busy", "away", "unknown")] == [OPEN] * 3
        assert state(tmp_path / "done")[0] == "FINISHED"
    assert close_stale(tmp_path, Store.absent("http://127.0.0.1:1")) == [busy.key]


def test_runs_of_other_folders_are_found_by_the_store(store, tmp_path):
    dead = Holder.of(tmp_path / "none")
    run, lost = begin(tmp_path / "elsewhere" / "run"), begin(tmp_path / "elsewhere" / "lost", dead)
    sync(tmp_path, store)
    shutil.rmtree(tmp_path / "elsewhere" / "lost")
    assert len(close_stale(tmp_path / "here", store)) == 2
    assert [in_store(store, one) for one in (run, lost)] == [CLOSED] * 2
    assert state(tmp_path / "elsewhere" / "run") == CLOSED


def test_a_run_that_was_killed_between_its_status_and_its_end_ends_as_it_says(store, tmp_path):
    run = begin(tmp_path / "said")
    run.tag({schema.STATUS: schema.FINISHED, schema.REASON: ""})
    assert close_stale(tmp_path, store) == [run.key]
    assert state(tmp_path / "said") == ("FINISHED", schema.FINISHED, "")


def test_a_sweep_is_closed_when_its_last_session_has_died(store, tmp_path):
    run = begin(tmp_path / "one", tag=f"{schema.HOLDER}.one")
    two = Run.take(tmp_path / "two", "stale", run.key)
    two.tag({f"{schema.HOLDER}.two": Holder.of(tmp_path / "two").text()})
    two.resume()
    with holding(tmp_path / "two" / LOCK):
        assert close_stale(tmp_path, store) == []
    assert close_stale(tmp_path, store) == [run.key]
    sync(tmp_path, store)
    assert in_store(store, run) == CLOSED
    (found,) = store.named("stale", run.key)
    assert not [tag for tag in found.data.tags if tag.startswith(schema.HOLDER)]
    assert close_stale(tmp_path, store) == []
