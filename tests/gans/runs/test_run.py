"""What a run's folder holds: events that survive kills and damage, each point once, and pictures by step."""

import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

from gans import schema
from gans.runs.events import FILE, RunFolder, state_of
from gans.runs.execute import Tracker
from gans.runs.locks import HOST, LOCK
from gans.runs.run import DIED, Run, close_stale
from tests.gans.runs.test_locks import holding

ROOT = Path(__file__).parents[3]


def points(folder: Path) -> Counter[tuple[str, int]]:
    """Metrics with their numbers of images, once for each record."""
    found: Counter[tuple[str, int]] = Counter()
    for event, _ in RunFolder.of(folder).events():
        if event and event.kind == "metrics":
            found.update((name, event.fields["step"]) for name in event.fields["values"])
    return found


def test_a_last_line_that_was_cut_is_taken_off(tmp_path):
    Run.start(tmp_path, "e", "cut", {}).log(1, {"x": 1.0})
    whole = (tmp_path / FILE).read_bytes()
    last = whole.splitlines()[-1]
    for cut in (whole[:-1], whole + last[:20], whole + last):
        (tmp_path / FILE).write_bytes(cut)
        Run.open(tmp_path).log(2, {"x": 2.0})
        assert state_of(tmp_path).points["x"][2][0] == 2.0
        assert all(event for event, _ in RunFolder.of(tmp_path).events())
    (tmp_path / FILE).write_bytes(whole[:10])
    assert Run.open(tmp_path) is None


def test_a_damaged_line_costs_itself_only(tmp_path):
    run = Run.start(tmp_path, "e", "damaged", {})
    for images in range(4):
        run.log(images, {"x": float(images)})
    text = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(
        text.replace('"step": 1', '"step\x01').replace('"values": {"x": 2', '"valves": {"x": 2')
    )
    assert sorted(Run.open(tmp_path).state().points["x"]) == [0, 3]


def test_who_ran_what_is_tagged(tmp_path):
    tags = Run.start(tmp_path, "e", "a", {"own": "x"}).state().tags
    assert tags["own"] == "x" and tags["gans.dirty"] in ("true", "false") and tags["gans.protocol"] == "2"
    assert tags["version.torch"].count(".") >= 2
    assert tags["mlflow.user"] and tags["mlflow.source.name"] and tags["mlflow.source.type"] == "LOCAL"
    assert tags.get("mlflow.source.git.commit", "unknown") == tags["gans.commit"]


def test_points_that_are_recorded_are_not_recorded_again_by_who_goes_on(tmp_path):
    run = Run.start(tmp_path, "e", "a", {})
    for images in (0, 10, 20, 20):  # the last: costs of training, then with those of scoring
        run.log(images, {"x": images + 1.0})
    run.picture(tmp_path / FILE, "grid", 10)
    again = Run.begin(tmp_path, "e", "a", {})
    again.picture(tmp_path / FILE, "grid", 10)
    for images in (10, 20, 20, 20, 30):
        again.log(images, {"x": 0.0, "y": 1.0})
    assert points(tmp_path) == Counter(
        {("x", 0): 1, ("x", 10): 1, ("x", 20): 3, ("x", 30): 1, ("y", 10): 1, ("y", 20): 3, ("y", 30): 1}
    )
    assert (tmp_path / FILE).read_text().count('"event": "image"') == 1
    state = state_of(tmp_path)
    assert (state.points["x"][10][0], state.points["x"][20][0], state.points["y"][10][0]) == (11.0, 0.0, 1.0)


def test_a_checkpoint_whose_run_is_gone_brings_its_history(tiny, tmp_path):
    run = Run.start(tmp_path, "e", "a", {})
    Tracker(run, lambda images, values: None, tiny()).resumed({"x": [(0, 1.0), (10, 2.0)]})
    assert run.state().points["x"].keys() == {0, 10}


def test_models_with_batches_of_different_sizes_share_the_steps_of_the_slider(tiny, tmp_path):
    drawn: dict[str, list[tuple[str, int]]] = {}
    for name, ends in {"small": (0, 504, 1000), "large": (0, 512, 1024)}.items():
        own = drawn.setdefault(name, [])
        run = SimpleNamespace(
            artifact=lambda path, folder: None,
            picture=lambda path, key, images, own=own: own.append((key, images)),
        )
        tracker = Tracker(run, lambda images, values: None, tiny(kimg=1.0, schedule={"grids": 2}))
        for images in ends:
            tracker.picture(tmp_path / f"{images / 1000:010.3f}kimg.png")
        tracker.picture(tmp_path / "final.png")
    assert drawn["small"] == drawn["large"]
    assert drawn["small"] == [("samples", 0), ("samples", 500), ("samples", 1000), ("best checkpoint", 0)]


def test_code_of_no_repository_is_tracked_as_unknown_and_that_is_said_once(tmp_path, monkeypatch, caplog):
    for path, name in ((os.environ["PATH"], "safe.directory"), (os.devnull, "no git")):
        monkeypatch.setenv("PATH", path)
        monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git calls the clone dubious
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        caplog.clear()
        parent = Run.start(tmp_path / name, "e", "a", {})
        tags = Run.start(tmp_path / f"{name} child", "e", "a", {}, parent.key).state().tags
        assert (tags["gans.commit"], tags["gans.dirty"]) == ("unknown", "unknown")
        assert "mlflow.source.git.commit" not in tags
        assert [record.getMessage() for record in caplog.records] == [
            "git has no commit of this code: it is tracked as unknown"
        ]


# --- stale runs


def begun(folder: Path, host: str = HOST) -> Run:
    """A run in a folder, by a process of this machine or another one that held it."""
    run = Run.start(folder, "stale", folder.name, {})
    (folder / LOCK).write_text(f"process 12 on {host}\n")
    return run


def test_runs_that_no_process_holds_are_closed(tmp_path):
    free, busy = (begun(tmp_path / name) for name in ("free", "busy"))
    begun(tmp_path / "away", host="elsewhere")
    copied = Run.start(tmp_path / "copied", "stale", "copied", {})
    begun(tmp_path / "done").finish("finished")
    with holding(tmp_path / "busy" / LOCK):
        assert sorted(close_stale(tmp_path)) == sorted([free.key, copied.key])
        assert close_stale(tmp_path) == []
        found = {path.name: state_of(path) for path in tmp_path.iterdir()}
    ends = {name: (one.status, one.result, one.tags.get(schema.REASON)) for name, one in found.items()}
    assert ends["free"] == ends["copied"] == ("KILLED", schema.INTERRUPTED, DIED)
    assert ends["busy"] == ends["away"] == ("RUNNING", schema.RUNNING, None)
    assert ends["done"][:2] == ("FINISHED", schema.FINISHED)
    assert close_stale(tmp_path) == [busy.key]
