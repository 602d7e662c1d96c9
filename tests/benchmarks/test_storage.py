"""A folder of runs at a URL: what travels, in which order, and who may write there."""

import json
import tempfile
import time
from pathlib import Path

import pytest

from benchmarks.storage import LEASE, Mirror, read_token, temporary_folder, write_token
from gans.errors import InputError
from gans.runs.events import FILE
from gans.runs.locks import HOST, LOCK


@pytest.fixture(autouse=True)
def temporary(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # of mirrors


@pytest.fixture
def there(tmp_path) -> Path:
    return tmp_path / "there"


def fill(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)


EVENTS = FILE.replace(".", "_")


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_jobs_folder_is_fetched_and_what_changes_is_brought(there, tmp_path):
    fill(there / "m" / "a", checkpoint_pt="1", log_txt="old")
    fill(there / "m" / "b", checkpoint_pt="1")
    with Mirror.temporary(there.as_uri()) as mirror:
        mirror.pull("m/a")
        assert [name for name in names(mirror.root) if name != LOCK] == ["m/a/checkpoint.pt", "m/a/log.txt"]
        fill(mirror.root / "m" / "a", checkpoint_pt="22", picture_png="p")
        fill(mirror.root / "m" / "a", _lock="x", _checkpoint_pt_7="half")
        report = mirror.pushing(lambda images, values: None)
        mirror.due = 0.0
        report(1, {})
        assert (there / "m/a/checkpoint.pt").read_text() == "22"
        assert names(there / "m/a") == ["checkpoint.pt", "log.txt", "picture.png"]
        before = (there / "m/a/log.txt").stat().st_mtime_ns
        mirror.push_all()
        assert (there / "m/a/log.txt").stat().st_mtime_ns == before  # as it was
    assert not mirror.root.exists()


def test_networks_travel_first_and_events_behind_what_they_name(there, monkeypatch):
    with Mirror.temporary(there.as_uri()) as mirror:
        fill(mirror.root / "a", **{EVENTS: "e"}, picture_png="p", checkpoint_pt="c")
        brought: list[str] = []
        monkeypatch.setattr(mirror.remote, "write", lambda path, content: brought.append(Path(path).name))
        mirror.push()
    assert brought == ["checkpoint.pt", "picture.png", FILE]


def test_the_runner_has_networks_only_once_events_name_them(there):
    fill(there / "a", checkpoint_pt="c", **{EVENTS: "begun"})
    with Mirror.temporary(there.as_uri()) as mirror:
        mirror.pull(networks=False)
        assert not (mirror.root / "a/checkpoint.pt").exists()
        fill(there / "a", **{EVENTS: "begun checkpoint.pt"})
        mirror.pull(networks=False)
        assert (mirror.root / "a/checkpoint.pt").read_text() == "c"


def test_what_cannot_be_brought_stays_here(there):
    mirror = Mirror(there.as_uri(), temporary_folder("gans-runs"))
    fill(mirror.root / "a", picture_png="p")
    there.mkdir()
    (there / "a").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot use RUNS=.*; files that were not uploaded are in ") as error:
        mirror.push_all()
    assert (Path(str(error.value).rpartition(" in ")[2]) / "a" / "picture.png").exists()


def test_what_a_killed_process_left_is_cleared_away(there, monkeypatch):
    mine = temporary_folder("gans-test")
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: 2**22 + 1)
        left = temporary_folder("gans-test")
    temporary_folder("gans-test")
    assert mine.exists() and not left.exists()


def test_one_runner_at_a_time_writes_there(there):
    url = there.as_uri()
    with Mirror.of_runner(url, writes=True) as first:
        with pytest.raises(InputError, match=r"is in use by process \d+ on .*, which wrote 0 s ago; wait"):  # noqa: SIM117
            with Mirror.of_runner(url, writes=True):
                pass
        with Mirror.of_runner(url, writes=False):
            pass  # who only reads is welcome
        fill(first.root / "m", outcome_json="{}")
    assert names(there) == ["m/outcome.json"]


@pytest.mark.parametrize("host", ["elsewhere", HOST])  # here, too: 1 may be another process by now
@pytest.mark.parametrize(("age", "taken"), [(5.0, False), (90.0, True)])
def test_a_runner_without_a_sign_of_life_is_taken_for_dead_after_a_while(there, host, age, taken):
    there.mkdir()
    (there / LEASE).write_text(json.dumps([1, host, time.time() - age]))
    if not taken:
        with pytest.raises(InputError, match=f"process 1 on {host}"):  # noqa: SIM117
            with Mirror.of_runner(there.as_uri(), writes=True):
                pass
        return
    with Mirror.of_runner(there.as_uri(), writes=True):
        pass


@pytest.mark.parametrize("place", ["runs", "file://{}/there"])
def test_a_file_says_whether_a_folder_is_the_same(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = place.format(tmp_path)
    assert read_token(place) == ""
    token = write_token(place)
    assert len(token) == 32
    assert read_token(place) == write_token(place) == token
