"""The tracking store: artifacts and links."""

import pytest

from gans.runs.store import Store, link_of
from tests.recorded import recorded


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "my ö folder"
    folder.mkdir()
    return Store(f"sqlite:///{folder}/mlflow.db")


def test_a_folder_of_any_name_holds_its_artifacts(store):
    run = recorded(store, "an experiment", "a", {})
    run.text("here", "note.txt")
    assert store.artifact(store.client.get_run(run.id), "note.txt").read_text() == "here"


def test_runs_of_an_experiment_have_a_link_for_each_way_to_compare_them(store):
    for kind, metric in (
        ("cell", "fd_digits"),
        ("cell", "fd_mnist"),
        ("cell", "fd_digits"),
        ("floor", "fd_mnist"),
    ):
        recorded(store, "linked", "a", {"gans.kind": kind, "gans.metric": metric})
    assert [(experiment, name) for experiment, name, _ in store.links()] == [
        ("linked", "cells by score/fd_digits"),
        ("linked", "cells by score/fd_mnist"),
    ]
    assert "orderByKey=metrics.%60sweep%2Fscore%60" in link_of("1", {"gans.kind": "trial", "gans.metric": "x"})[1]
