"""Runs of the dead are closed, those of the living are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gans import schema
from gans.runs.last import Last
from gans.runs.live import LiveRun
from gans.runs.living import DIED, close_dead
from gans.runs.locks import LOCK, Holder
from gans.runs.tracking import Store
from tests.gans.runs.test_locks import holding


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db")


def state(store, run):
    found = store.client.get_run(run.id)
    return found.info.status, found.data.tags.get(schema.STATUS), found.data.tags.get(schema.REASON)


CLOSED = ("KILLED", schema.INTERRUPTED, DIED)
OPEN = ("RUNNING", schema.RUNNING, None)


def test_what_no_living_process_holds_is_closed(store, tmp_path):
    def start(name, holder=None):
        tags = {schema.STATUS: schema.RUNNING} | ({schema.HOLDER: holder.text()} if holder else {})
        return store.start(f"e-{name}", name, tags)

    free, busy = Holder.of(tmp_path / "free"), Holder.of(tmp_path / "busy")
    (tmp_path / "free").mkdir()
    (tmp_path / "free" / LOCK).touch()
    cell, other = start("cell", free), start("other", busy)
    gone = start("gone", replace(Holder.of(tmp_path / "none"), born=1.0))
    away = start("away", replace(free, host="elsewhere"))
    unknown = start("unknown")
    done = start("done", free)
    done.finish("finished")
    with holding(tmp_path / "busy" / LOCK):
        assert sorted(close_dead(store)) == sorted([cell.id, gone.id])
        assert close_dead(store) == []
        assert [state(store, run) for run in (cell, gone)] == [CLOSED] * 2
        assert [state(store, run) for run in (other, away, unknown)] == [OPEN] * 3
        assert state(store, done)[0] == "FINISHED"
    assert close_dead(store) == [other.id]


def begin(store, folder, tag=schema.HOLDER):
    """A run that tells its journal, whose process died."""
    told = {tag: Holder.of(folder).text(), schema.STATUS: schema.RUNNING}
    run = LiveRun.start(folder, store.uri, "journals", folder.name, told)
    assert run.settle(60)
    (folder / LOCK).touch()
    return run


def test_the_journal_of_a_dead_run_says_so_too(store, tmp_path):
    run = begin(store, tmp_path / "cell")
    assert close_dead(store) == [run.id]
    assert state(store, run) == CLOSED
    last = Last.of(tmp_path / "cell")
    assert (last.status, last.ended > 0) == (schema.INTERRUPTED, True)


def test_a_run_whose_end_was_told_to_its_journal_only_ends_as_it_says(store, tmp_path):
    run = begin(store, tmp_path / "told")
    run.journal.append("tag", values={schema.STATUS: schema.FINISHED, schema.REASON: ""})
    assert close_dead(store) == [run.id]
    assert state(store, run) == ("FINISHED", schema.FINISHED, "")


def test_a_sweep_is_closed_when_its_last_session_has_died(store, tmp_path):
    run = begin(store, tmp_path / "one", f"{schema.HOLDER}.one")
    two = LiveRun.of(tmp_path / "two", store.uri, "journals", run.key)
    two.tag({f"{schema.HOLDER}.two": Holder.of(tmp_path / "two").text()})
    assert two.settle(60)
    with holding(tmp_path / "two" / LOCK):
        assert close_dead(store) == []
    assert close_dead(store) == [run.id]
    assert state(store, run) == CLOSED
    assert not [tag for tag in store.client.get_run(run.id).data.tags if tag.startswith(schema.HOLDER)]
