"""The tracking store: batching, resuming, history, and clear words when it cannot be used."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from gans.commands import main
from gans.data.datasets import load
from gans.errors import InputError
from gans.runs import tracking
from gans.runs.execute import Tracker
from gans.runs.slider import stepped
from gans.runs.tracking import BATCH_LIMIT, Store, trouble
from gans.runs.views import View


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db")


def test_metrics_are_buffered_and_sent_in_batches(store, monkeypatch):
    run = store.start("batching", "a", {})
    sizes = []
    send = store.client.log_batch
    monkeypatch.setattr(
        store.client, "log_batch", lambda *a, **k: (sizes.append(len(k.get("metrics", ()))), send(*a, **k))
    )
    for images in range(BATCH_LIMIT // 2 + 100):
        run.log(images, {"x": images / 2, "y": 1.0})
    assert sizes == [BATCH_LIMIT]
    run.flush()
    assert sizes == [BATCH_LIMIT, 200]
    assert store.history(run.id, "x") == [(i, i / 2) for i in range(BATCH_LIMIT // 2 + 100)]


def test_a_point_logged_twice_counts_once(store):
    run = store.start("twice", "a", {})
    for images in (0, 10, 20, 10, 20, 30):
        run.log(images, {"x": float(images)})
    run.flush()
    assert store.history(run.id, "x") == [(0, 0.0), (10, 10.0), (20, 20.0), (30, 30.0)]


@pytest.mark.parametrize("server", [False, True])
def test_histories_of_many_runs_are_those_of_each(store, monkeypatch, server):
    runs = [store.start("many", str(n), {}) for n in range(5)]
    for n, run in enumerate(runs):
        for images in (0, 10, 20, 10, 20)[:n]:
            run.log(images, {"x": float(n * images)})
        run.flush()
    monkeypatch.setattr(tracking, "RUNS_LIMIT", 2)
    if server:  # whose client answers for one run at a time
        monkeypatch.delattr(type(store.client._tracking_client.store), "get_metric_history_bulk")
    ids = [run.id for run in runs]
    assert store.histories(ids, "x") == {run: store.history(run, "x") for run in ids}
    assert store.histories(ids, "x")[ids[4]] == [(0, 0.0), (10, 40.0), (20, 80.0)]
    assert store.histories([], "x") == {}


def test_tags_are_removed_by_how_they_begin(store):
    run = store.start(
        "untag", "a", {"gans.lost.0": "x", "gans.lost.12": "y", "gans.lost": "z", "gans.kind": "cell"}
    )
    run.untag("gans.lost.")
    (found,) = store.runs("untag")
    assert {"gans.lost", "gans.kind"} <= set(found.data.tags)
    assert not [key for key in found.data.tags if key.startswith("gans.lost.")]


def test_provenance_is_tagged(store):
    run = store.start("provenance", "a", {})
    tags = store.client.get_run(run.id).data.tags
    assert tags["gans.dirty"] in ("true", "false")
    assert tags["gans.protocol"] == "2"
    assert tags["version.torch"].count(".") >= 2


def test_the_data_set_is_an_mlflow_input(store):
    run = store.start("data", "a", {})
    data = load("digits")
    run.dataset(data)
    (found,) = store.client.get_run(run.id).inputs.dataset_inputs
    assert found.dataset.digest == data.hash[:12]
    assert found.tags[0].value == "training"


def test_artifacts_lie_beside_the_database(store, tmp_path):
    run = store.start("artifacts", "a", {})
    (tmp_path / "note.txt").write_text("here")
    run.artifact(tmp_path / "note.txt", "folder")
    found = store.client.get_run(run.id)
    assert store.artifact(found, "folder/note.txt").read_text() == "here"
    assert store.artifact(found, "folder/other.txt") is None


def test_a_store_says_where_processes_write_artifacts(store, tmp_path, monkeypatch):
    beside = Path(store.uri.removeprefix("sqlite:///")).parent / "mlartifacts"
    assert store.artifacts("new") == beside / "new"
    store.start("known", "a", {})
    assert store.artifacts("known") == beside / "known"
    server = Store.__new__(Store)
    server.uri, server.client = "postgresql://me@db/tracking", store.client
    monkeypatch.chdir(tmp_path)
    assert server.artifacts("new") == tmp_path / "mlruns"
    served = SimpleNamespace(artifact_location="mlflow-artifacts:/0")
    server.uri, server.client = (
        "http://db:5000",
        SimpleNamespace(get_experiment_by_name=lambda name: None, get_experiment=lambda number: served),
    )
    assert server.artifacts("new") is None


def test_a_folder_of_any_name_holds_its_artifacts(tmp_path):
    folder = tmp_path / "my ö folder"
    folder.mkdir()
    odd = Store(f"sqlite:///{folder}/mlflow.db")
    run = odd.start("an experiment", "a", {})
    run.text("here", "note.txt")
    assert odd.artifact(odd.client.get_run(run.id), "note.txt").read_text() == "here"


@pytest.mark.parametrize(
    "uri", ["./mlruns", "nonsense://x", "sqlite:////dev/null/at/all.db", "postgresql://me:secret@127.0.0.1:1/x"]
)
def test_an_unusable_store_is_named(uri):
    with pytest.raises(InputError, match="cannot use the tracking store") as error:
        Store(uri)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_a_driver_that_is_not_installed_is_named_with_the_remedy():
    error = ImportError("Failed to import DB access module")
    error.__cause__ = ModuleNotFoundError("No module named 'psycopg'", name="psycopg")
    assert trouble(error).endswith("-m uv pip install 'psycopg[binary]'")
    assert trouble(OSError("no route\nto the host")) == "no route"


def test_a_store_whose_making_was_cut_short_is_made_again(tmp_path, monkeypatch, making_stores):
    monkeypatch.setattr(tracking, "_create", making_stores)

    def cut_short(uri):
        Path(uri.removeprefix("sqlite:///")).write_text("half a database")
        raise KeyboardInterrupt

    uri = f"sqlite:///{tmp_path}/new.db"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tracking, "MlflowClient", cut_short)
        Store(uri)
    assert Store(uri).runs("none") == []


def test_the_ui_of_a_server_is_refused_before_it_is_announced_and_without_the_password(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.test/x")
    monkeypatch.setattr("sys.argv", ["gans", "ui"])
    assert main.main() == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(
        "error: MLFLOW_TRACKING_URI is a server already; open https://me:***@mlflow.test/x "
    )


def test_an_experiment_shows_its_cells_by_score_and_keeps_what_was_written_on_it(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    place = store.experiment("shown")
    store.client.set_experiment_tag(place, "mlflow.note.content", "Mine.")
    for metric in ("fd_digits", "fd_mnist", "fd_digits"):
        store.start("shown", "a", {"gans.kind": "cell", "gans.metric": metric})
    tags = store.client.get_experiment(place).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    note = tags["mlflow.note.content"].splitlines()
    assert note[-1] == "Mine."
    shown = [line.partition(":")[0] for line in note if line.startswith("All ")]
    assert shown == [f"All cells by `score/fd_{x}`" for x in ("mnist", "digits")]
    state = json.loads(tags["mlflow.sharedViewState.gans-cell-score-fd_digits"])
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`score/fd_digits`", True)
    links = [view.link(number, charts=True) for _, number, view in store.views()]
    assert len(links) == 2
    assert all(link[1:] in tags["mlflow.note.content"] for link in links)


def test_whose_run_it_is_of_which_program_and_commit(store):
    tags = store.client.get_run(store.start("source", "a", {}).id).data.tags
    assert tags["mlflow.user"]
    assert tags["mlflow.source.name"]
    assert tags["mlflow.source.type"] == "LOCAL"
    assert tags.get("mlflow.source.git.commit", "unknown") == tags["gans.commit"]


def test_a_grid_drawn_again_takes_its_place_in_the_slider(tmp_path):
    picture = tmp_path / "grid.png"
    for side in (600, 300):
        Image.new("RGB", (side, side)).save(picture)
        files = stepped(picture, tmp_path / "images", "samples", 1600)
    assert sorted(files) == sorted((tmp_path / "images").iterdir())
    assert Image.open(files[0]).size == (300, 300)
    assert Image.open(files[1]).size == (256, 256)
    assert files[1].name == f"{files[0].stem}+compressed.webp"
    assert files[0].name.startswith("samples+step+1600+timestamp+")


def test_memory_is_searched_for_cycles_again_once_runs_were_read(store, monkeypatch):
    store.create("read", "a run", {})
    asked: list[bool] = []
    search = store.client.search_runs
    monkeypatch.setattr(
        store.client,
        "search_runs",
        lambda *args, **kwargs: asked.append(gc.isenabled()) or search(*args, **kwargs),
    )
    assert [run.info.run_name for run in store.runs("read")] == ["a run"]
    assert asked == [False]
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), tracking.uncollected(), tracking.uncollected():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_models_with_batches_of_different_sizes_share_the_steps_of_the_slider(tiny, tmp_path):
    told: dict[str, list[tuple[str, int]]] = {}
    for name, ends in {"small": (0, 504, 1000), "large": (0, 512, 1024)}.items():
        own = told.setdefault(name, [])
        run = SimpleNamespace(
            artifact=lambda path, folder: None,
            picture=lambda path, key, images, own=own: own.append((key, images)),
        )
        tracker = Tracker(run, lambda images, values: None, tiny(kimg=1.0, schedule={"grids": 2}))
        for images in ends:
            tracker.picture(tmp_path / f"{images / 1000:010.3f}kimg.png")
        tracker.picture(tmp_path / "final.png")
    assert told["small"] == told["large"]
    assert told["small"] == [("samples", 0), ("samples", 500), ("samples", 1000), ("best checkpoint", 0)]


def test_charts_of_images_begin_at_a_step_that_all_runs_have():
    view = View.of({"gans.kind": "cell", "gans.metric": "fd_digits"})
    images = [chart for chart in view.charts() if chart["type"] == "IMAGE"]
    assert [(*chart["imageKeys"], chart["step"]) for chart in images] == [("best checkpoint", 0), ("samples", 0)]
