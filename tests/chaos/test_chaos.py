"""`make chaos`: what it tries follows from the seed, what it counts is what is there; and some of it for real."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest

from gans.errors import InputError
from tests.chaos import __main__ as command
from tests.chaos import found, page
from tests.chaos.options import Chaos
from tests.chaos.plan import DAMAGES, MOMENTS, trial
from tests.chaos.site import SIGNS, Site
from tests.chaos.trials import Laboratory, Record

ROOT = Path(__file__).parents[2]


def test_trials_follow_from_seed_and_number():
    assert [trial(1, n) for n in range(50)] == [trial(1, n) for n in range(50)]
    assert trial(1, 0) != trial(2, 0)


def test_a_hundred_trials_try_everything():
    some = [trial(1, n) for n in range(100)]
    assert {one.kind for one in some} == {"bench", "damage", "server", "sweep", "ui"}
    kills = [one for one in some if one.kind in ("bench", "sweep")]
    assert len(kills) >= 60
    assert {one.moment for one in kills} == set(MOMENTS) == set(SIGNS)
    assert {one.victim for one in kills} == {"runner", "cell", "fork server", "group"}
    assert {one.signal for one in kills} == {"KILL", "TERM", "INT"}
    assert {one.victim for one in some if one.kind == "damage"} == set(DAMAGES)
    assert all(one.victim in ("runner", "group") for one in kills if one.moment == "report")


def test_every_damage_changes_a_file():
    content = bytes(range(200))
    assert all(damage(content) != content for damage in DAMAGES.values())
    changed = DAMAGES["a byte inverted"](content)
    assert len(changed) == len(content)
    assert sum(a != b for a, b in zip(content, changed, strict=True)) == 1


def store(path: Path) -> Path:
    """With a finished cell that was begun twice, and a parent that is open."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE runs (run_uuid, name, status, lifecycle_stage, start_time)")
        db.execute("CREATE TABLE tags (run_uuid, key, value)")
        db.execute("CREATE TABLE latest_metrics (run_uuid, key, value, is_nan)")
        for run, name, status, kind in (
            ("a", "gan/digits/0", "KILLED", "cell"),
            ("b", "gan/digits/0", "FINISHED", "cell"),
            ("c", "bench tiny", "RUNNING", "matrix"),
        ):
            db.execute("INSERT INTO runs VALUES (?, ?, ?, 'active', ?)", (run, name, status, ord(run)))
            db.execute("INSERT INTO tags VALUES (?, 'gans.kind', ?)", (run, kind))
            db.execute("INSERT INTO latest_metrics VALUES (?, 'score/fd_digits', ?, 0)", (run, float(ord(run))))
        db.commit()
    return path


def test_scores_and_open_runs_are_read_from_the_database(tmp_path):
    tracked = found.tracked(store(tmp_path / "mlflow.db"))
    assert tracked == found.Tracked({"gan/digits/0": {"score/fd_digits": 98.0}}, 1)
    assert found.moved(tracked.scores, tracked.scores) == []
    assert found.moved({"gan/digits/0": {"score/fd_digits": 98.00000000000001}}, tracked.scores)
    assert found.moved({"dcgan/digits/0": {"score/fd_digits": None}}, tracked.scores)


def test_finished_work_is_known_by_its_journal(tmp_path):
    for name, status in (("whole", "FINISHED"), ("cut", "KILLED")):
        folder = tmp_path / "runs" / "tiny" / name
        folder.mkdir(parents=True)
        lines = [{"call": "start", "given": {"key": name}}, {"call": "end", "given": {"status": status}}]
        (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"cut')
    assert found.finished(tmp_path) == {"runs/tiny/whole": "whole"}


def test_stray_files_are_those_that_were_being_written(tmp_path):
    strays = [".checkpoint.pt.1234", f".mlflow.db.{'a' * 32}", f"x.safetensors.{'0' * 32}", "j.lock123.rename"]
    for name in (*strays, ".lock", ".journal.lock", "checkpoint.pt", "journal.jsonl", "digits-0123.safetensors"):
        (tmp_path / name).touch()
    assert found.stray(tmp_path) == sorted(strays)


def test_processes_are_known_by_their_environment(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.chaos.site.PARTING", 0.0)
    site = Site(tmp_path, tmp_path)
    sleeper = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    marked = {**os.environ, "GANS_CHAOS": site.mark}
    with (
        subprocess.Popen(sleeper, env=marked, stdout=subprocess.PIPE) as one,
        subprocess.Popen(sleeper, stdout=subprocess.PIPE) as other,
    ):
        for process in (one, other):
            process.stdout.readline()
        assert site.left_over() == 1
        assert one.wait(10) < 0
        assert other.poll() is None
        other.kill()
    assert site.left_over() == 0


def test_a_call_goes_on_where_the_last_one_was_stopped(tmp_path, monkeypatch, capsys):
    tried = []

    def run(self, one):
        tried.append(one.number)
        if len(tried) == 3:
            raise KeyboardInterrupt
        return Record(asdict(one), hit="cell", codes=[-9, 0], open=int(one.number == 1))

    monkeypatch.setattr(Laboratory, "run", run)
    asked = Chaos(4, 1, tmp_path / "page.md", tmp_path)
    with pytest.raises(KeyboardInterrupt):
        command.run(asked)
    with (asked.folder / "trials.jsonl").open("a") as file:
        file.write('{"trial": {"num')
    assert command.run(asked) == 1
    assert tried == [0, 1, 2, 2, 3]
    assert command.run(asked) == 1
    assert tried == [0, 1, 2, 2, 3]
    text = (tmp_path / "page.md").read_text()
    assert "| runs left open | 1 |" in text
    assert "| trials | 4 |" in text
    assert "| that hit something | 4 |" in text
    assert "Made by `make chaos COUNT=4`" in text
    assert "4/4" in capsys.readouterr().out


def test_limits_are_told(tmp_path):
    with pytest.raises(InputError, match="COUNT=0"):
        command.run(Chaos(0, 1, None, tmp_path))


def test_without_costs_the_page_lists_none(tmp_path):
    page.write(tmp_path / "page.md", Chaos(), [Record(asdict(trial(1, 0)), hit="group", codes=[-9, 0])])
    assert "cost something" not in (tmp_path / "page.md").read_text()


@pytest.mark.slow
def test_three_trials_for_real(tmp_path):
    """A kill, a damaged file and another kill; what they cost is what is asked of all the rest."""
    flags = ["--count", "3", "--outputs", str(tmp_path / "out"), "--page", str(tmp_path / "page.md")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *flags],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    text = (tmp_path / "page.md").read_text()
    assert "| trials | 3 |" in text, done.stderr
    assert "| scores moved | 0 |" in text
    assert "| finished work lost | 0 |" in text
