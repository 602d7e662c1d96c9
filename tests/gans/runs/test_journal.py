"""What is told about a run reaches the store by itself, once and in order, whatever the store does meanwhile."""

from __future__ import annotations

import json
import math
import threading
import time
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from gans import schema
from gans.commands import main
from gans.data.datasets import load
from gans.runs import courier, live, reader, sync, tracking
from gans.runs.journal import FILE, LOCK, SENT, Held, Journal, journals
from gans.runs.live import LiveRun
from gans.runs.reader import Reader
from gans.runs.sync import Amount, Synced
from gans.runs.tracking import Store

EXPERIMENT = "journal"
UNREACHABLE = MlflowException("API request to /log-batch failed: connection refused")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db")


class Server:
    """A store whose server can go away: what tells it then fails, or waits until it is back."""

    def __init__(self, store: Store, patch: pytest.MonkeyPatch) -> None:
        self.store, self.patch = store, patch
        self.down = False
        self.stopped = False
        self.asked = 0
        for name in ("log_batch", "create_run", "set_terminated", "log_artifact", "get_run", "search_runs"):
            self.guard(name)
        patch.setattr(courier, "Store", lambda uri: store)  # one client for all, which is guarded
        patch.setattr(courier, "embedded", lambda uri: False)
        patch.setattr(sync, "embedded", lambda uri: False)
        for module in (sync, reader):
            patch.setattr(module, "answers", lambda store: not (self.down or self.stopped))

    def guard(self, name: str) -> None:
        call = getattr(self.store.client, name)

        def guarded(*arguments, **named):
            self.asked += 1
            while self.stopped:
                time.sleep(0.01)
            if self.down:
                raise UNREACHABLE
            return call(*arguments, **named)

        self.patch.setattr(self.store.client, name, guarded)


@pytest.fixture
def server(store, monkeypatch):
    return Server(store, monkeypatch)


def start(folder: Path, uri: str, name: str = "a", **tags: str) -> LiveRun:
    return LiveRun.start(folder, uri, EXPERIMENT, name, tags)


def rows(store: Store, run_id: str, metric: str) -> list[tuple[int, float, int]]:
    """All that MLflow has of a metric: images, value, time."""
    return [(p.step, p.value, p.timestamp) for p in store.client.get_metric_history(run_id, metric)]


def written(folder: Path, metric: str) -> list[tuple[int, float, int]]:
    """What the journal says of it."""
    lines = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    logs = [line for line in lines if line["call"] == "log"]
    return [(log["given"]["images"], log["given"]["values"][metric], log["at"]) for log in logs]


def run_of(store: Store, name: str):
    (found,) = [run for run in store.runs(EXPERIMENT) if run.info.run_name == name]
    return found


# --- a store that answers


def test_all_that_is_told_is_in_the_store_when_the_run_has_ended(store, tmp_path):
    run = start(tmp_path / "run", store.uri, "whole", kind="x")
    data = load("digits")
    run.params({f"p{n}": n for n in range(250)})  # more than MLflow takes at once
    run.tag({f"t{n}": "x" for n in range(250)})
    run.untag("t2")
    run.dataset(data)
    run.text("here", "notes/a.txt")
    (tmp_path / "outside.txt").write_text("kept")
    run.artifact(tmp_path / "outside.txt", "samples")
    (tmp_path / "outside.txt").unlink()  # a temporary one
    for images in range(1500):
        run.log(images, {"x": images / 3, "y": math.nan if images == 7 else 1.0})
    run.finish("finished", "because")
    found = run_of(store, "whole")
    assert (found.info.run_id, found.info.status) == (run.id, "FINISHED")
    assert len(found.data.params) == 250 and found.data.params["p249"] == "249"
    assert {tag for tag in found.data.tags if tag.startswith("t")} == {
        f"t{n}" for n in range(250) if not str(n).startswith("2")
    }
    assert (found.data.tags["kind"], found.data.tags[schema.REASON]) == ("x", "because")
    assert found.data.tags[schema.JOURNAL] == run.key
    assert found.data.tags["version.torch"].count(".") >= 2
    assert found.inputs.dataset_inputs[0].dataset.digest == data.hash[:12]
    assert store.artifact(found, "notes/a.txt").read_text() == "here"
    assert store.artifact(found, "samples/outside.txt").read_text() == "kept"
    assert rows(store, run.id, "x") == written(tmp_path / "run", "x")
    begun = Journal(tmp_path / "run").begun
    assert found.info.start_time == begun and found.info.end_time >= begun


def test_a_run_goes_on_under_its_own_record(store, tmp_path):
    run = start(tmp_path, store.uri, "twice")
    run.log(1, {"x": 1.0})
    run.interrupt("stopped")
    assert run_of(store, "twice").info.status == "KILLED"
    parent = start(tmp_path / "parent", store.uri, "parent")
    again = LiveRun.of(tmp_path, store.uri, EXPERIMENT)
    assert again is not None
    assert (again.id, again.status(), again.new) == (run.id, "interrupted", False)
    again.resume(parent.key)
    again.log(2, {"x": 2.0})
    again.settle(60)
    found = run_of(store, "twice")
    assert found.info.status == "RUNNING"
    assert found.data.tags[schema.PARENT] == parent.id
    assert store.history(run.id, "x") == [(1, 1.0), (2, 2.0)]


def test_a_run_that_was_made_without_a_journal_goes_on(store, tmp_path):
    old = store.start(EXPERIMENT, "old", {})
    old.log(1, {"x": 1.0})
    old.interrupt("stopped")
    (tmp_path / schema.RUN_FILE).write_text(json.dumps({"run": old.id}))
    run = LiveRun.of(tmp_path, store.uri, EXPERIMENT)
    assert run is not None and run.id == old.id
    run.resume()
    run.log(2, {"x": 2.0})
    run.finish("finished")
    assert store.history(old.id, "x") == [(1, 1.0), (2, 2.0)]
    assert run_of(store, "old").info.status == "FINISHED"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"run": null}', '{"ru'])
def test_a_damaged_run_file_is_none(store, tmp_path, content):
    (tmp_path / schema.RUN_FILE).write_text(content)
    assert LiveRun.of(tmp_path, store.uri, EXPERIMENT) is None


def test_a_run_that_was_deleted_is_not_taken_up_nor_told_again(store, tmp_path):
    run = start(tmp_path / "run", store.uri, "deleted")
    run.finish("finished")
    store.client.delete_run(run.id)
    assert sync.sync(tmp_path, store) == Synced()
    assert LiveRun.of(tmp_path / "run", store.uri, EXPERIMENT) is None
    assert not (tmp_path / "run" / FILE).exists()
    assert not [found for found in store.runs(EXPERIMENT) if found.info.run_name == "deleted"]


def test_what_the_store_refuses_is_said_and_the_rest_is_told(store, tmp_path, capsys):
    run = start(tmp_path, store.uri, "refused")
    run.log(1, {"good": 1.0, "no \x00 name": 1.0, "better": 2.0})
    run.params({"p": "1"})
    run.params({"p": "another"})
    run.finish("finished")
    found = run_of(store, "refused")
    assert found.info.status == "FINISHED"
    assert found.data.metrics == {"good": 1.0, "better": 2.0}
    assert found.data.params == {"p": "1"}
    assert capsys.readouterr().err.count("the store did not take") == 2


# --- a journal


def test_a_last_line_that_was_cut_is_taken_off(store, tmp_path):
    run = start(tmp_path, store.uri, "cut")
    run.log(1, {"x": 1.0})
    whole = (tmp_path / FILE).read_bytes()
    for cut in (1, 20, len(whole.splitlines()[-1])):
        (tmp_path / FILE).write_bytes(whole[:-cut] if cut < 20 else whole + whole.splitlines()[-1][:cut])
        journal = Journal.open(tmp_path)
        assert journal is not None
        journal.append("log", images=2, values={"x": 2.0})
        assert [line.given["values"]["x"] for line in journal.lines() if line.call == "log"][-1] == 2.0
        assert (tmp_path / FILE).read_bytes().count(b"\n{") == (tmp_path / FILE).read_bytes().count(b"\n") - 1
    (tmp_path / FILE).write_bytes(whole[:10])
    assert Journal.open(tmp_path) is None


def test_a_damaged_line_costs_itself_only(store, tmp_path):
    run = start(tmp_path, store.uri, "damaged")
    for images in range(3):
        run.log(images, {"x": float(images)})
    text = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(text.replace('"images": 1', '"images\x01'))
    (tmp_path / SENT).write_text("{]")
    run.finish("finished")
    assert store.history(run.id, "x") == [(0, 0.0), (2, 2.0)]


def test_one_at_a_time_tells_a_store_of_a_journal(store, tmp_path):
    journal = Journal.start(tmp_path, EXPERIMENT, "held", {})
    with journal.held(), pytest.raises(Held), journal.held(0.1):
        pass


def test_who_has_told_all_lets_go_of_the_journal_first(store, tmp_path, monkeypatch):
    monkeypatch.setattr(courier, "EVERY", 1e6)
    for n in range(3):
        run = start(tmp_path / str(n), store.uri, "free")
        with run.journal.held():
            pass


# --- a server that goes away


def test_what_was_told_while_the_server_was_away_is_brought_once_it_is_back(server, store, tmp_path):
    run = start(tmp_path, store.uri, "away")
    run.log(1, {"x": 1.0})
    assert run.settle(10)
    server.down = True
    run.log(2, {"x": 2.0})
    assert not run.settle(10)
    server.down = False
    run.log(3, {"x": 3.0})
    run.finish("finished")
    assert rows(store, run.id, "x") == written(tmp_path, "x")
    assert [step for step, _, _ in rows(store, run.id, "x")] == [1, 2, 3]


def test_a_run_that_ends_while_the_server_is_away_ends_at_once_and_is_brought_by_sync(
    server, store, tmp_path, monkeypatch, capsys
):
    server.down = True
    monkeypatch.setattr(live, "OPENING", 1e3)
    monkeypatch.setattr(live, "GRACE", 1e3)
    begun = time.monotonic()
    run = start(tmp_path / "run", store.uri, "unmet", kind="x")
    for images in range(412):
        run.log(images, {"x": float(images)})
    run.text("here", "note.txt")
    run.finish("finished")
    assert time.monotonic() - begun < 500
    synced = sync.sync(tmp_path, store)
    assert synced.left == Amount(1, 412)
    assert synced.lines()[0].startswith("not told yet: 1 run, 412 points; gans sync brings them (")
    assert "412 points; another command does (" in synced.lines("another command does")[0]
    # what is at hand is read from the journal
    (read,) = Reader(store, tmp_path).runs(EXPERIMENT)
    assert (read.info.run_name, read.info.status, read.data.metrics["x"]) == ("unmet", "FINISHED", 411.0)
    server.down = False
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    for says in ("told the tracking store what it had missed: 1 run, 412 points\n", f"{store.uri} knows all that"):
        monkeypatch.setattr("sys.argv", ["gans", "sync", str(tmp_path)])
        assert main.main() == 0
        assert capsys.readouterr().out.startswith(says)
    found = run_of(store, "unmet")
    assert rows(store, found.info.run_id, "x") == written(tmp_path / "run", "x")
    assert store.artifact(found, "note.txt").read_text() == "here"
    end = [line.at for line in Journal(tmp_path / "run").lines() if line.call == "end"]
    assert [found.info.end_time] == end
    assert found.info.start_time == Journal(tmp_path / "run").begun


def test_nothing_waits_for_a_server_that_is_stopped(server, store, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "GRACE", 1e3)
    run = start(tmp_path / "a", store.uri, "stopped")
    server.stopped = True
    run.log(0, {"x": 0.0})
    assert not run.settle(0.2)
    begun = time.monotonic()
    for images in range(1, 500):
        run.log(images, {"x": 1.0})
    run.tag({"t": str(images)})
    run.flush()
    run.finish("finished")
    # another process, another cell of the matrix: the first has waited for all of them
    monkeypatch.setattr(live, "OPENING", 1e3)
    other = start(tmp_path / "b", store.uri, "beside")
    other.finish("finished")
    parent = start(tmp_path / schema.INVOCATIONS / "c", store.uri, "parent")
    parent.finish("finished")
    assert time.monotonic() - begun < 500
    server.stopped = False
    for one in (run, other, parent):
        one.courier.silence.end()  # as soon as one is answered
        assert one.settle(60)
    assert not [path for path in tmp_path.rglob(".*") if path.name != LOCK]
    assert len(rows(store, run.id, "x")) == 500


def test_a_run_is_made_once_though_the_answer_was_lost(server, store, tmp_path, monkeypatch):
    make, calls = store.client.create_run, []

    def unanswered(*arguments, **named):
        calls.append(make(*arguments, **named))
        if len(calls) == 1:
            raise MlflowException("timed out")
        return calls[-1]

    monkeypatch.setattr(store.client, "create_run", unanswered)
    run = start(tmp_path, store.uri, "once")
    run.finish("finished")
    assert run.settle(10)
    assert len(calls) == 1
    assert run_of(store, "once").info.status == "FINISHED"


def test_of_a_run_that_a_late_answer_made_twice_one_goes(server, store, tmp_path, monkeypatch):
    make, calls = store.client.create_run, []

    def late(*arguments, **named):
        calls.append((arguments, named))
        if len(calls) == 1:
            raise MlflowException("timed out")
        made = make(*arguments, **named)
        make(*calls[0][0], **calls[0][1])  # the first request comes through after all
        return made

    monkeypatch.setattr(store.client, "create_run", late)
    run = start(tmp_path, store.uri, "late")
    run.log(1, {"x": 1.0})
    run.finish("finished")
    assert run.settle(10)
    assert run_of(store, "late").info.run_id == run.id
    assert store.history(run.id, "x") == [(1, 1.0)]


def test_a_batch_that_was_told_and_not_marked_is_told_again_without_harm(store, tmp_path):
    run = start(tmp_path, store.uri, "again")
    for images in range(10):
        run.log(images, {"x": float(images), "y": math.nan})
    run.finish("finished")
    before = rows(store, run.id, "x")
    (tmp_path / SENT).unlink()  # killed before anything was marked
    synced = sync.sync(tmp_path, store)
    assert synced.left == Amount()
    assert rows(store, run.id, "x") == before == written(tmp_path, "x")
    assert run_of(store, "again").info.status == "FINISHED"
    assert Journal(tmp_path).sent.run == run.id


# --- another store


def test_a_store_that_was_begun_anew_is_made_complete_parents_first(store, tmp_path):
    parent = start(tmp_path / "runs" / "parent", store.uri, "bench")
    child = LiveRun.start(tmp_path / "runs" / "a", store.uri, EXPERIMENT, "cell", {}, parent.key)
    child.log(5, {"x": 1.5})
    child.finish("finished")
    parent.finish("finished")
    parent_id, child_id = parent.id, child.id
    assert run_of(store, "cell").data.tags[schema.PARENT] == parent_id
    anew = Store(f"sqlite:///{tmp_path}/anew.db")
    assert sync.sync(tmp_path / "runs", anew).told == Amount(2, 1)
    found = {run.info.run_name: run for run in anew.runs(EXPERIMENT)}
    assert set(found) == {"bench", "cell"}
    assert found["cell"].data.tags[schema.PARENT] == found["bench"].info.run_id != parent_id
    assert rows(anew, found["cell"].info.run_id, "x") == rows(store, child_id, "x")
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert sync.sync(tmp_path / "runs", anew) == Synced()


def test_a_child_that_comes_before_its_parent_is_linked_when_that_comes(store, tmp_path):
    parent = Journal.start(tmp_path / "parent", EXPERIMENT, "late parent", {})
    child = LiveRun.start(tmp_path / "child", store.uri, EXPERIMENT, "early child", {}, parent.key)
    child.finish("finished")
    assert schema.PARENT not in run_of(store, "early child").data.tags
    sync.sync(tmp_path, store)
    parent_id = run_of(store, "late parent").info.run_id
    sync.sync(tmp_path, store)
    assert run_of(store, "early child").data.tags[schema.PARENT] == parent_id


# --- what reports read


def test_a_journal_is_read_as_the_store_would_be(server, store, tmp_path):
    run = start(tmp_path / "run", store.uri, "read", kind="x", other="y")
    (tmp_path / "run" / "samples").mkdir()
    (tmp_path / "run" / "samples" / "final.png").write_bytes(b"picture")
    run.params({"p": 0.5})
    for images, value in ((1, 1.0), (2, 5.0), (1, 3.0), (3, 4.0)):
        run.log(images, {"x": value})
        time.sleep(0.002)
    run.untag("other")
    run.artifact(tmp_path / "run" / "samples" / "final.png", "samples")
    run.text("{}", "cells.json")
    run.finish("diverged", "a loss is nan")
    whole = run_of(store, "read")
    server.down = True
    source = Reader(store, tmp_path)
    (read,) = source.runs(EXPERIMENT)
    assert read.data.tags == {k: v for k, v in whole.data.tags.items() if k in read.data.tags}
    given = {k for k in whole.data.tags if k not in ("mlflow.runName", "mlflow.log-model.history")}
    assert given == set(read.data.tags)
    assert (read.data.params, read.data.metrics) == (whole.data.params, whole.data.metrics)
    for field in ("run_id", "run_name", "status", "start_time", "end_time"):
        assert getattr(read.info, field) == getattr(whole.info, field)
    assert source.history(read.info.run_id, "x") == [(1, 3.0), (2, 5.0), (3, 4.0)]
    assert source.histories([read.info.run_id], "x") == {read.info.run_id: [(1, 3.0), (2, 5.0), (3, 4.0)]}
    assert source.artifact(read, "samples").name == "samples"
    assert source.artifact(read, "samples/final.png").read_bytes() == b"picture"
    assert source.artifact(read, "cells.json").read_text() == "{}"
    assert source.artifact(read, "nothing") is None
    assert source.experiments() == [EXPERIMENT]
    server.down = False
    assert store.history(whole.info.run_id, "x") == [(1, 3.0), (2, 5.0), (3, 4.0)]


def test_what_a_store_lacks_is_completed_by_the_journal_whatever_began_the_run(server, store, tmp_path):
    old = store.start(EXPERIMENT, "half", {"gans.kind": "cell"})
    old.log(1, {"x": 1.0, "y": 7.0})
    old.finish("finished")
    server.down = True
    run = LiveRun.of(tmp_path / "half", store.uri, EXPERIMENT, old.id)
    assert run is not None
    run.log(2, {"x": 2.0})
    run.tag({"gans.scored.a.1": "{}"})
    run.close(0)
    server.down = False
    source = Reader(store, tmp_path)
    (read,) = [found for found in source.runs(EXPERIMENT) if found.info.run_name == "half"]
    assert read.data.metrics == {"x": 2.0, "y": 7.0}
    assert {"gans.kind", "gans.scored.a.1"} <= set(read.data.tags)
    assert source.history(old.id, "x") == [(1, 1.0), (2, 2.0)]
    assert source.histories([old.id], "x") == {old.id: [(1, 1.0), (2, 2.0)]}


def test_the_folder_of_runs_need_not_be_there(store, tmp_path, monkeypatch, capsys):
    assert journals(tmp_path / "none") == []
    assert sync.sync(tmp_path / "none", store) == Synced()
    assert sync.left_behind(tmp_path) == []
    monkeypatch.setattr("sys.argv", ["gans", "sync", str(tmp_path / "none")])
    assert main.main() == 2
    assert capsys.readouterr().err.startswith(f"error: no folder {tmp_path}/none; name the one")


def test_a_store_that_hangs_is_known_not_to_answer(monkeypatch):
    class Hangs:
        uri = "http://127.0.0.1:1"

        def experiments(self) -> None:
            forever.wait()

    forever = threading.Event()
    monkeypatch.setattr(sync, "GRACE", 0.2)
    assert not sync.answers(Hangs())  # type: ignore[arg-type]
    forever.set()


def test_requests_end_before_minutes_have_passed():
    from mlflow import environment_variables as environment

    assert environment.MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 1
    assert environment.MLFLOW_HTTP_REQUEST_TIMEOUT.get() == 30
    assert tracking.BATCH_LIMIT == 1000
