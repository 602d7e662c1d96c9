"""A store can move: artifacts of an embedded one are found, and written, beside its database."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from gans.errors import InputError
from gans.runs.artifacts import bring_home, home, located
from gans.runs.find import IN_RUN, find_generator
from gans.runs.tracking import Run, Store


@pytest.fixture
def moved(tmp_path):
    """A store with one run, copied to another folder; the old one is renamed."""
    old, new = tmp_path / "old", tmp_path / "new place"
    old.mkdir()
    store = Store(f"sqlite:///{old}/mlflow.db")
    run = store.start("cells", "a", {})
    run.text("weights", IN_RUN)
    shutil.copytree(old, new)
    old.rename(tmp_path / "renamed")
    return Store(f"sqlite:///{new}/mlflow.db"), run.id, old


def test_artifacts_are_found_and_written_beside_the_database(moved, monkeypatch):
    store, run_id, old = moved
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    here = Path(store.uri.removeprefix("sqlite:///")).parent
    assert find_generator(run_id[:8]).is_relative_to(here)
    known = Run(store, run_id)
    known.text("more", "folder/note.txt")
    known.artifact(find_generator(run_id), "again")
    assert store.artifact(store.client.get_run(run_id), "folder/note.txt").read_text() == "more"
    new = store.start("cells", "b", {})
    new.artifacts(here / "mlartifacts" / "cells" / run_id / "artifacts" / "folder", "copied")
    assert store.artifact(store.client.get_run(new.id), "copied/note.txt").is_relative_to(here)
    assert not old.exists()


def test_a_copy_does_not_write_into_its_original(moved):
    store, run_id, old = moved
    (old.parent / "renamed").rename(old)
    before = sorted(old.rglob("*"))
    Run(store, run_id).text("more", "note.txt")
    store.start("cells", "b", {}).text("other", "note.txt")
    assert sorted(old.rglob("*")) == before


def test_a_moved_store_is_told_where_its_artifacts_are_so_that_mlflow_itself_finds_them(moved):
    store, run_id, old = moved
    assert bring_home(store.uri) == 2  # the experiment's, and the run's
    assert bring_home(store.uri) == 0
    assert bring_home(f"sqlite:///{old.parent}/renamed/mlflow.db") == 2  # a store in its own right by now
    plain = MlflowClient(store.uri)  # without our knowledge of places
    assert Path(plain.download_artifacts(run_id, IN_RUN)).read_text() == "weights"
    new = plain.create_run(plain.get_run(run_id).info.experiment_id)
    assert new.info.artifact_uri.startswith(home(store.uri).as_uri())


def test_what_is_missing_is_named_with_its_path(moved, monkeypatch):
    store, run_id, _ = moved
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    folder = home(store.uri) / "cells" / run_id / "artifacts"
    shutil.rmtree(home(store.uri))
    with pytest.raises(InputError, match=r"artifacts of run .* are missing: no folder") as error:
        find_generator(run_id)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_only_what_was_beside_a_database_moves_with_it(tmp_path):
    assert located("s3://bucket/x", tmp_path) is None
    assert located("mlflow-artifacts:/1/x", None) is None
    assert located("file:///big/disk/7/run/artifacts", tmp_path) == Path("/big/disk/7/run/artifacts")
    assert located("file:///a%20b/mlartifacts/e/run/artifacts", tmp_path / "mlartifacts") == (
        tmp_path / "mlartifacts/e/run/artifacts"
    )
    assert home("http://127.0.0.1:5000") is None
