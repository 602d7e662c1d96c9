"""What is written to a run's folder reaches a store once and in order, whatever the store does meanwhile."""

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copyfile

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from PIL import Image

from gans import schema
from gans.commands import main
from gans.data.datasets import load
from gans.runs import export as exporting
from gans.runs import locks
from gans.runs import store as stores
from gans.runs.events import DELETED, FILE, RunFolder
from gans.runs.export import Exporter, export, sync
from gans.runs.run import Run
from gans.runs.store import Store, Tracked

EXPERIMENT = "export"
UNREACHABLE = MlflowException("API request to /log-batch failed: connection refused")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db")


class Server:
    """A store whose server can go away: requests then fail, or wait until it is back."""

    def __init__(self, store: Store, patch: pytest.MonkeyPatch) -> None:
        self.store, self.patch = store, patch
        self.down = self.stopped = False
        for name in ("log_batch", "create_run", "log_artifact", "get_run", "search_runs", "search_experiments"):
            self.guard(name)
        patch.setattr(store, "embedded", False)
        patch.setattr(store, "answers", True)

    def guard(self, name: str) -> None:
        call = getattr(self.store.client, name)

        def guarded(*arguments, **named):
            while self.stopped:
                time.sleep(0.01)
            if self.down:
                raise UNREACHABLE
            return call(*arguments, **named)

        self.patch.setattr(self.store.client, name, guarded)

    def back(self) -> None:
        self.down = self.stopped = False
        self.store.answers = True


@pytest.fixture
def server(store, monkeypatch):
    return Server(store, monkeypatch)


def start(folder: Path, name: str, **tags: str) -> Run:
    return Run.start(folder, EXPERIMENT, name, tags)


def rows(store: Store, run_id: str, metric: str) -> list[tuple[int, float, int]]:
    """All that MLflow has of a metric: images, value, time."""
    return [(p.step, p.value, p.timestamp) for p in store.client.get_metric_history(run_id, metric)]


def synced(root: Path, store: Store) -> tuple[int, int]:
    """The number of exported runs, and of runs that are left."""
    exporter = sync(root, store)
    return len(exporter.exported), exporter.left


def written(folder: Path, metric: str) -> list[tuple[int, float, int]]:
    """The points of a metric in the events."""
    found = [event for event, _ in RunFolder.of(folder).events() if event and event.kind == "metrics"]
    return [(event.fields["step"], event.fields["values"][metric], event.time) for event in found]


def run_of(store: Store, name: str):
    (found,) = [run for run in Tracked(store).runs(EXPERIMENT) if run.name == name]
    return found


# --- a store that answers


def test_all_that_is_written_is_in_the_store(store, tmp_path):
    run = start(tmp_path / "run", "whole", kind="x")
    data = load("digits")
    run.params({f"p{n}": n for n in range(250)})  # more than MLflow takes at once
    run.tag({f"t{n}": "x" for n in range(250)})
    run.dataset(data)
    run.text("here", "notes/a.txt")
    (tmp_path / "outside.txt").write_text("kept")
    run.artifact(tmp_path / "outside.txt", "samples")
    Image.new("RGB", (600, 300)).save(tmp_path / "grid.png")
    run.picture(tmp_path / "grid.png", "grids", 1600)
    (tmp_path / "outside.txt").unlink()  # a temporary one
    for images in range(1500):
        run.log(images, {"x": images / 3, "y": math.nan if images == 7 else 1.0})
    run.finish("finished", "because")
    assert synced(tmp_path, store) == (1, 0)
    found = run_of(store, "whole")
    assert found.status == "FINISHED"
    assert len(found.params) == 250 and found.params["p249"] == "249"
    assert {tag for tag in found.tags if tag.startswith("t")} == {f"t{n}" for n in range(250)}
    assert (found.tags["kind"], found.tags[schema.REASON]) == ("x", "because")
    assert found.tags[schema.JOURNAL] == run.key
    (dataset,) = found.run.inputs.dataset_inputs
    assert (dataset.dataset.digest, dataset.tags[0].value) == (data.hash[:12], "training")
    assert found.artifact("notes/a.txt").read_text() == "here"
    assert found.artifact("samples/outside.txt").read_text() == "kept"
    assert found.artifact("samples/other.txt") is None
    small, whole = sorted(found.artifact("images").iterdir(), key=lambda path: path.suffix, reverse=True)
    assert whole.name.startswith("grids+step+1600+timestamp+") and Image.open(whole).size == (600, 300)
    assert small.name == f"{whole.stem}+compressed.webp"
    assert rows(store, found.id, "x") == written(tmp_path / "run", "x")
    state = run.state()
    assert (found.began, found.ended) == (state.began, state.ended)


def test_curves_are_in_the_store_while_runs_go_on(store, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "EVERY", 0.05)
    with Exporter(tmp_path, store):
        run = start(tmp_path / "run", "live")
        for images in range(2):
            run.log(images, {"x": float(images)})
            until = time.monotonic() + 30
            while store.exported.get(run.key) != run.size and time.monotonic() < until:
                time.sleep(0.01)
            found = run_of(store, "live")
            assert (found.status, found.metrics) == ("RUNNING", {"x": float(images)})
        run.finish("finished")
    assert run_of(store, "live").status == "FINISHED"


def test_a_run_goes_on_under_its_own_record_as_a_child_of_another(store, tmp_path):
    run = start(tmp_path / "run", "twice")
    run.log(1, {"x": 1.0})
    run.finish(schema.INTERRUPTED, "stopped")
    sync(tmp_path, store)
    assert run_of(store, "twice").status == "KILLED"
    parent = start(tmp_path / schema.INVOCATIONS / "now", "parent")
    again = Run.begin(tmp_path / "run", EXPERIMENT, "twice", {}, parent.key)
    assert (again.key, again.state().result) == (run.key, "running")
    again.log(2, {"x": 2.0})
    sync(tmp_path, store)
    found = run_of(store, "twice")
    assert found.status == "RUNNING"
    assert found.tags[schema.PARENT] == run_of(store, "parent").id
    assert found.history("x") == [(1, 1.0), (2, 2.0)]


def test_a_run_that_was_deleted_in_the_store_stays_so(store, tmp_path):
    run = start(tmp_path / "run", "deleted")
    sync(tmp_path, store)
    store.client.delete_run(run_of(store, "deleted").id)
    run.log(1, {"x": 1.0})
    export(run, store)
    run.finish("finished")
    store.exported.clear()
    assert synced(tmp_path, store) == (0, 0)
    reader = Tracked(store, tmp_path)
    with locks.locked(tmp_path / "run"):  # while it is written, its folder goes on by itself
        reader.runs(EXPERIMENT)
        assert Run.open(tmp_path / "run")
    assert not [found for found in reader.runs(EXPERIMENT) if found.name == "deleted"]
    assert Run.open(tmp_path / "run") is None  # the next run of this folder is another
    copyfile(tmp_path / "run" / DELETED, tmp_path / "run" / FILE)  # as it comes back from a URL
    assert Run.open(tmp_path / "run") is None
    again = start(tmp_path / "run", "deleted")
    sync(tmp_path, store)
    assert run_of(store, "deleted").tags[schema.JOURNAL] == again.key


def test_what_the_store_refuses_is_reported_and_the_rest_is_exported(store, tmp_path, capsys):
    run = start(tmp_path, "refused")
    run.log(1, {"good": 1.0, "no \x00 name": 1.0, "better": 2.0})
    run.params({"p": "1"})
    sync(tmp_path, store)
    run.params({"p": "another"})
    run.finish("finished")
    sync(tmp_path, store)
    found = run_of(store, "refused")
    assert found.status == "FINISHED"
    assert found.metrics == {"good": 1.0, "better": 2.0}
    assert found.params == {"p": "1"}
    assert capsys.readouterr().err.count("the store did not take") == 2


def test_artifacts_outside_of_the_folder_are_no_artifacts(store, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    run = start(tmp_path / "run", "stranger")
    (tmp_path / "run" / "link").symlink_to(tmp_path)
    for path in ("../secret.txt", str(tmp_path / "secret.txt"), "link/secret.txt", "gone.txt"):
        run.write("artifact", path=path, folder="")
    sync(tmp_path, store)
    assert run_of(store, "stranger").artifact("secret.txt") is None
    assert not run.state().files


# --- a server that goes away


@pytest.mark.parametrize("how", ["down", "stopped"])
def test_nothing_waits_for_a_server_that_does_not_answer_and_sync_exports_it_later(
    server, store, tmp_path, monkeypatch, capsys, how
):
    setattr(server, how, True)
    monkeypatch.setattr(exporting, "LIMIT", 0.5)
    begun = time.monotonic()
    with Exporter(tmp_path, store) as exporter:
        run = start(tmp_path / "run", how, kind="x")
        for images in range(412):
            run.log(images, {"x": float(images)})
        run.text("here", "note.txt")
        run.finish("finished")
    assert sync(tmp_path, store).left == 1  # at once: it has just not answered
    assert time.monotonic() - begun < 30
    exporter.say()
    assert capsys.readouterr().out.startswith("not in the tracking store yet: 1 run; the same command exports")
    (read,) = Tracked(store, tmp_path).runs(EXPERIMENT)  # what is at hand
    assert (read.name, read.status, read.metrics["x"]) == (how, "FINISHED", 411.0)
    server.back()
    monkeypatch.setattr(exporting, "LIMIT", 30.0)
    exporter.thread.join()  # the request that waited may have written all
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    complete = f"{store.uri} has all runs"
    for says in (
        "exported to the tracking store: 1 run\n" if how == "down" else complete,
        complete,
    ):
        monkeypatch.setattr("sys.argv", ["gans", "sync", str(tmp_path)])
        assert main.main() == 0
        assert capsys.readouterr().out.startswith(says)
    found = run_of(store, how)
    assert rows(store, found.id, "x") == written(tmp_path / "run", "x")
    assert found.artifact("note.txt").read_text() == "here"
    assert (found.began, found.ended) == (run.state().began, run.state().ended)


class Bad(BaseHTTPRequestHandler):
    """A server that answers badly, as its address says: by a status, or `half` of an answer, or `nothing`."""

    def answer(self) -> None:
        how = self.path.split("/")[1]
        if how != "nothing":
            self.send_response(int(how) if how.isdigit() else 200)
            self.send_header("Retry-After", "120")
            self.send_header("Content-Length", "13")
            self.end_headers()
            self.wfile.write(b"<html>" if how == "half" else b"<html></html>")

    do_GET = do_POST = answer

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.mark.parametrize("how", ["503", "429", "401", "200", "half", "nothing"])
def test_a_server_that_answers_badly_is_given_up_within_seconds(tmp_path, how):
    start(tmp_path / "run", "bad").finish("finished")
    with ThreadingHTTPServer(("127.0.0.1", 0), Bad) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        bad = Store(f"http://127.0.0.1:{server.server_port}/{how}", answers=False)  # it did when the command began
        bad.client, bad.answers = MlflowClient(bad.uri), True
        begun = time.monotonic()
        exporter = sync(tmp_path, bad)
        assert (exporter.exported, exporter.left, bool(exporter.why)) == (set(), 1, True)
        assert [run.name for run in Tracked(bad, tmp_path).runs(EXPERIMENT)] == ["bad"]
        assert sync(tmp_path, bad).left == 1
        assert time.monotonic() - begun < 10
        server.shutdown()


@pytest.mark.parametrize("late", [False, True])
def test_a_run_is_made_once_though_the_answer_was_lost(store, tmp_path, monkeypatch, late):
    make, calls = store.client.create_run, []

    def unanswered(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            if not late:
                make(*arguments)
            raise MlflowException("timed out")
        if late:
            make(*calls[0])  # the first request comes through after all
        return make(*arguments)

    monkeypatch.setattr(store.client, "create_run", unanswered)
    name = f"once {late}"
    run = start(tmp_path, name)
    run.log(1, {"x": 1.0})
    run.finish("finished")
    with pytest.raises(MlflowException):
        export(run, store)
    export(run, store)
    assert len(calls) == 1 + late
    assert run_of(store, name).history("x") == [(1, 1.0)]


def test_what_was_exported_and_not_marked_is_exported_again_without_harm(store, tmp_path):
    run = start(tmp_path, "again")
    for images in range(10):
        run.log(images, {"x": float(images), "y": math.nan})
    Image.new("L", (8, 8)).save(tmp_path / "grid.png")
    run.picture(tmp_path / "grid.png", schema.GRIDS, 3)
    run.finish("finished")
    sync(tmp_path, store)
    run_id = run_of(store, "again").id
    before = rows(store, run_id, "x"), run_of(store, "again").run.info
    pictures = store.client.list_artifacts(run_id, "images")
    store.client.delete_tag(run_id, schema.EXPORTED)
    assert synced(tmp_path, store) == (1, 0)
    assert (rows(store, run_id, "x"), run_of(store, "again").run.info) == before
    assert store.client.list_artifacts(run_id, "images") == pictures != []
    assert before[0] == written(tmp_path, "x")


def test_one_at_a_time_exports_a_run(store, tmp_path):
    run = start(tmp_path, "held")
    with ThreadPoolExecutor() as pool:
        with locks.acquire(tmp_path / exporting.LOCK):
            other = pool.submit(export, run, store)
            assert not wait([other], timeout=0.2).done
        assert other.result() == run.size


# --- other stores


def test_every_store_gets_all_parents_first(store, tmp_path):
    child = Run.start(tmp_path / "runs" / "a", EXPERIMENT, "cell", {}, "to come")
    child.finish("interrupted")
    parent = start(tmp_path / "runs" / schema.INVOCATIONS / "now", "bench")
    child = Run.begin(child.path, EXPERIMENT, "cell", {}, parent.key)
    child.log(5, {"x": 1.5})
    child.finish("finished")
    sync(tmp_path / "runs", store)
    anew = Store(f"sqlite:///{tmp_path}/anew.db")
    assert synced(tmp_path / "runs", anew) == (2, 0)
    for one in (store, anew):
        found = {run.name: run for run in Tracked(one).runs(EXPERIMENT)}
        assert found["cell"].tags[schema.PARENT] == found["bench"].id
        assert synced(tmp_path / "runs", one) == (0, 0)
    parent.finish("finished")
    assert [synced(tmp_path / "runs", one) for one in (store, anew)] == [(1, 0)] * 2


# --- the reader


@pytest.mark.parametrize("where", ["folder and store", "folder", "store"])
def test_a_run_reads_the_same_from_wherever_it_is(server, store, tmp_path, where):
    experiment = f"read {where}"
    run = Run.start(tmp_path / "runs" / "a", experiment, "cell", {"gans.kind": "cell"})
    run.params({"lr": 0.1})
    for images, value in ((1, 3.0), (3, 4.0), (2, 5.0)):
        run.log(images, {"x": value})
    (tmp_path / "final.png").write_bytes(b"picture")
    run.artifact(tmp_path / "final.png", "samples")
    run.text("{}", "cells.json")
    run.finish("finished")
    sync(tmp_path, store)
    whole = Tracked(store).runs(experiment)[0]
    server.down = where == "folder"
    if where == "store":
        (tmp_path / "runs").rename(tmp_path / "moved")
    if where == "folder and store":
        folder = whole.artifact("samples").parent
        folder.rename(folder.with_name("moved"))
    source = Tracked(store, tmp_path / "runs")
    (read,) = source.runs(experiment)
    for field in ("status", "began", "ended", "name"):
        assert getattr(read, field) == getattr(whole, field)
    assert (read.metrics, read.params) == (whole.metrics, whole.params)
    assert read.tags.items() <= whole.tags.items()
    points = [(1, 3.0), (2, 5.0), (3, 4.0)]
    assert read.history("x") == points
    assert read.artifact("samples/final.png").read_bytes() == b"picture"
    assert read.artifact("samples").is_dir()
    assert read.artifact("nothing") is None
    assert experiment in source.experiments()


def test_a_server_that_did_not_answer_gets_no_more_requests(server, store, monkeypatch):
    monkeypatch.setattr(stores, "ANSWER", 0.2)
    server.stopped = True
    assert Tracked(store).experiments() == []
    server.stopped = False
    assert Tracked(store).experiments() == []
    server.back()
    assert Tracked(store).experiments()
