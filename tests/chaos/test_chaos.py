"""`make chaos`: its trials follow from the seed, what it counts is what is there; and some of it for real."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from tests.chaos import found
from tests.chaos.command import Chaos
from tests.chaos.plan import DAMAGES, MOMENTS, trial
from tests.chaos.site import ROOT, SIGNS


def test_trials_follow_from_seed_and_number_and_a_hundred_try_everything():
    some = [trial(1, n) for n in range(100)]
    assert some == [trial(1, n) for n in range(100)] != [trial(2, n) for n in range(100)]
    assert {one.kind for one in some} == {"bench", "damage", "server", "sweep"}
    kills = [one for one in some if one.kind in ("bench", "sweep")]
    assert len(kills) >= 60
    assert {one.moment for one in kills} == set(MOMENTS) == set(SIGNS)
    assert {one.victim for one in kills} == {"runner", "cell", "fork server", "group"}
    assert {one.signal for one in kills} == {"KILL", "TERM", "INT"}
    assert {one.victim for one in some if one.kind == "damage"} == set(DAMAGES)


def test_a_store_is_read_from_its_database(tmp_path):
    """It has a finished cell that began twice, an open parent, and a point that is there twice."""
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as db:
        db.execute("CREATE TABLE runs (run_uuid, name, status, lifecycle_stage, start_time)")
        db.execute("CREATE TABLE tags (run_uuid, key, value)")
        db.execute("CREATE TABLE latest_metrics (run_uuid, key, value, is_nan)")
        db.execute("CREATE TABLE metrics (run_uuid, key, step)")
        for run, name, status, kind in (
            ("a", "gan/digits/0", "KILLED", "cell"),
            ("b", "gan/digits/0", "FINISHED", "cell"),
            ("c", "bench tiny", "RUNNING", "matrix"),
        ):
            db.execute("INSERT INTO runs VALUES (?, ?, ?, 'active', ?)", (run, name, status, ord(run)))
            db.execute("INSERT INTO tags VALUES (?, 'gans.kind', ?)", (run, kind))
            db.execute("INSERT INTO latest_metrics VALUES (?, 'score/fd_digits', ?, 0)", (run, float(ord(run))))
        for key, step in (("loss/d", 20), ("loss/d", 20), ("loss/d", 40), ("system/cpu", 1), ("system/cpu", 1)):
            db.execute("INSERT INTO metrics VALUES ('b', ?, ?)", (key, step))
        db.commit()
    tracked = found.tracked(tmp_path / "mlflow.db")
    assert tracked == found.Tracked({"gan/digits/0": {"score/fd_digits": 98.0}}, open=1, twice=1)
    assert found.moved(tracked.scores, tracked.scores) == []
    assert found.moved({"gan/digits/0": {"score/fd_digits": 98.00000000000001}}, tracked.scores)
    assert found.moved({"dcgan/digits/0": {"score/fd_digits": None}}, tracked.scores)


def test_finished_work_and_stray_files_are_found(tmp_path):
    for run, status in (("whole", "finished"), ("cut", "interrupted")):
        folder = tmp_path / "runs" / "tiny" / run
        folder.mkdir(parents=True)
        lines = [f'{{"event": "start", "key": "{run}"}}', f'{{"event": "end", "status": "{status}"}}', '{"cut']
        (folder / "events.jsonl").write_text("\n".join(lines))
    assert found.finished(tmp_path) == {"runs/tiny/whole": "whole"}
    strays = [".checkpoint.pt.1234", f".mlflow.db.{'a' * 32}", f"x.safetensors.{'0' * 32}", "j.lock123.rename"]
    for name in (*strays, ".lock", "checkpoint.pt", "digits-0123.safetensors"):
        (tmp_path / name).touch()
    assert found.stray(tmp_path) == sorted(strays)


@pytest.mark.slow
def test_three_trials_for_real(tmp_path):
    """They kill a process, damage a file and kill another process; nothing may be lost."""
    done = subprocess.run(
        [sys.executable, "-m", "gans.commands.make", "chaos"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COUNT": "3", "OUTPUTS": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    text = (Chaos(outputs=tmp_path).folder / "README.md").read_text()
    assert "| 3 | 3 | 0 | 0 | 0 | 0 | 0 | 0 | 0 |" in text, done.stderr
