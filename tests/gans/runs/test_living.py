"""Runs of the dead are closed, those of the living are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gans import schema
from gans.runs.living import DIED, close_dead
from gans.runs.locks import LOCK, SESSION, Holder
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
    def start(name, holder=None, **more):
        tags = {schema.STATUS: schema.RUNNING} | more
        return store.start(f"e-{name}", name, tags | ({schema.HOLDER: holder.text()} if holder else {}))

    free, busy = Holder.me(tmp_path / "free" / LOCK), Holder.me(tmp_path / "busy" / LOCK)
    (tmp_path / "free").mkdir()
    (tmp_path / "free" / LOCK).touch()
    cell, other = start("cell", free), start("other", busy)
    gone = start("gone", replace(Holder.me(tmp_path / "none" / LOCK), born=1.0))
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


def test_a_sweep_is_closed_when_its_last_session_has_died(store, tmp_path):
    one, two = (Holder.me(tmp_path / f"{SESSION}{name}") for name in "ab")
    tags = {f"{schema.HOLDER}.a": one.text(), f"{schema.HOLDER}.b": two.text()}
    run = store.start("sweep", "sweep", tags)
    (tmp_path / f"{SESSION}a").touch()
    with holding(tmp_path / f"{SESSION}b"):
        assert close_dead(store) == []
    assert close_dead(store) == [run.id]
    assert not [tag for tag in store.client.get_run(run.id).data.tags if tag.startswith(schema.HOLDER)]
    assert list(tmp_path.iterdir()) == []
