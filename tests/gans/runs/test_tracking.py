"""The tracking store: batching, resuming, history, and clear words when it cannot be used."""

from __future__ import annotations

import gc
import threading

import pytest

from gans.commands import main
from gans.errors import InputError
from gans.runs import store as stores
from gans.runs.store import Store, link_of
from tests.recorded import recorded


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db")


@pytest.mark.parametrize("server", [False, True])
def test_histories_of_many_runs_are_those_of_each(store, monkeypatch, server):
    runs = [recorded(store, "many", str(n), {}) for n in range(5)]
    for n, run in enumerate(runs):
        for images in (0, 10, 20, 10, 20)[:n]:
            run.log(images, {"x": float(n * images)})
        run.flush()
    monkeypatch.setattr(stores, "RUNS_LIMIT", 2)
    if server:  # whose client answers for one run at a time
        monkeypatch.delattr(type(store.client._tracking_client.store), "get_metric_history_bulk")
    ids = [run.id for run in runs]
    assert store.histories(ids, "x") == {run: store.history(run, "x") for run in ids}
    assert store.histories(ids, "x")[ids[4]] == [(0, 0.0), (10, 40.0), (20, 80.0)]
    assert store.histories([], "x") == {}


def test_a_folder_of_any_name_holds_its_artifacts(tmp_path):
    folder = tmp_path / "my ö folder"
    folder.mkdir()
    odd = Store(f"sqlite:///{folder}/mlflow.db")
    run = recorded(odd, "an experiment", "a", {})
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


def test_an_experiment_links_to_its_cells_by_score_and_keeps_what_was_written_on_it(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    place = store.experiment("noted")
    store.client.set_experiment_tag(place, "mlflow.note.content", "Mine.")
    for metric in ("fd_digits", "fd_mnist", "fd_digits"):
        recorded(store, "noted", "a", {"gans.kind": "cell", "gans.metric": metric})
    tags = store.client.get_experiment(place).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    note = tags["mlflow.note.content"].splitlines()
    assert note[-1] == "Mine."
    assert [line.partition("]")[0] for line in note if line.startswith("[")] == [
        f"[cells by score/fd_{x}" for x in ("mnist", "digits")
    ]
    links = [link for _, _, link in store.links()]
    assert len(links) == 2
    assert all(f"]({link[1:]})" in tags["mlflow.note.content"] for link in links)
    assert "orderByKey=metrics.%60sweep%2Fscore%60" in link_of("1", {"gans.kind": "trial", "gans.metric": "x"})[1]
    assert link_of("1", {"gans.kind": "floor", "gans.metric": "x"}) is None


@pytest.mark.parametrize("hangs", [True, False])
def test_a_store_that_hangs_or_fails_does_not_answer_and_is_not_requests_again_at_once(monkeypatch, hangs):
    store, forever, requests = Store.absent("http://127.0.0.1:1"), threading.Event(), []

    def experiments():
        requests.append(1)
        forever.wait(10 if hangs else 0)
        raise OSError

    store.retry_at = 0.0
    monkeypatch.setattr(store, "experiments", experiments)
    monkeypatch.setattr(stores, "ANSWER", 0.2)
    assert not store.answers() and not store.answers()
    assert len(requests) == 1
    forever.set()


def test_the_ui_of_a_server_is_refused_before_it_is_announced_and_without_the_password(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.test/x")
    monkeypatch.setattr("sys.argv", ["gans", "ui"])
    assert main.main() == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(
        "error: MLFLOW_TRACKING_URI is a server already; open https://me:***@mlflow.test/x "
    )


def test_memory_is_searched_for_cycles_again_once_runs_were_read(store, monkeypatch):
    recorded(store, "read", "a run", {})
    requests: list[bool] = []
    search = store.client.search_runs
    monkeypatch.setattr(
        store.client,
        "search_runs",
        lambda *args, **kwargs: requests.append(gc.isenabled()) or search(*args, **kwargs),
    )
    assert [run.info.run_name for run in store.runs("read")] == ["a run"]
    assert requests == [False]
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), stores.uncollected(), stores.uncollected():
        raise ZeroDivisionError
    assert gc.isenabled()
