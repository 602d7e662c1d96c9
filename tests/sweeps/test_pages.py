"""Pages and presets of studies: what is written where, and what stays."""

import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.matrix import PRESETS, cells, read_matrix
from benchmarks.options import Machine
from gans.errors import InputError
from reports.studies import Record, Study, Swept, Trial
from sweeps import pages, publish
from sweeps.options import Request
from sweeps.runner import SweepRun
from tests.conftest import parsed
from tests.gans.data.conftest import SHARED
from tests.gans.data.test_datasets import needs_mnist

DEFAULT = [8.0, 8.1, 7.9]
BETTER, LOWER, WORSE = [2.0, 2.1, 1.9], [7.0, 8.6, 6.0], [11.0, 11.2, 11.4]


def study(name: str, tuned: list[float], number: int = 3) -> Study:
    """A study with one finalist and these scores."""
    trial = Trial(number=number, score=1.0, seconds=2.0, settings={"batch": 32 + number})
    about = {"study": name, "model": "gan", "dataset": "digits", "metric": "fd_digits", "objectives": ["score"]}
    about |= {"command": "gans sweep gan", "pruner": "none", "seed": 0, "budget": 1, "kimg": 50, "space": ""}
    counts = {"finished": 4, "pruned": 0, "diverged": 0, "failures": [], "share": 1.0, "hours": 0.1}
    found = {"default": {"batch": 64}, "finalists": [trial], "top": [trial], "importances": {}}
    record = Record.model_validate(about | counts | found)
    return Study(record=record, scores={"default": DEFAULT, f"trial-{number}": tuned})


def put(root: Path, name: str, tuned: list[float] = BETTER) -> None:
    """Write the part of a study's page that the ranking needs."""
    (root / name).mkdir(parents=True)
    (root / name / "README.md").write_text(name)
    (root / name / "study.json").write_text(study(name, tuned).model_dump_json())


@pytest.fixture
def run(tmp_path: Path) -> SweepRun:
    """A sweep's run that has only the folder of presets."""
    run = object.__new__(SweepRun)
    run.machine = Machine(outputs=tmp_path / "outputs")
    run.request = Request("gan", study="mine")
    run.parent = SimpleNamespace(artifact=lambda path, place: None)
    return run


def offer(run: SweepRun, tmp_path: Path, found: Study) -> Path:
    candidate = tmp_path / "candidate.toml"
    candidate.write_text(pages.preset(found, found.winner))
    run.write_preset(found, candidate)
    return candidate


def test_settings_that_do_not_beat_the_default_are_no_preset(run, tmp_path, capsys):
    preset = tmp_path / "outputs/presets/gan-digits.toml"
    preset.parent.mkdir(parents=True)
    preset.write_text("batch = 1\n")
    for tuned in (LOWER, WORSE, BETTER[:1]):
        found = study("gan-digits", tuned)
        candidate = offer(run, tmp_path, found)
        assert capsys.readouterr().out.splitlines() == [
            f"no preset: trial 3 {found.difference(found.winner).verdict}",
            f"to use it anyway, copy {candidate} to {preset}; then train it and the default: "
            "gans bench --models gan gan-tuned --preset tuned",
        ]
    assert preset.read_text() == "batch = 1\n"


def test_presets_that_ship_beat_their_default_beyond_chance():
    shipped = list(PRESETS.glob("*.toml"))
    assert shipped
    for preset in shipped:
        text = preset.read_text()
        assert "# it is significantly better than the default" in text, preset


def test_a_proven_preset_is_written_and_the_earlier_one_kept(run, tmp_path, capsys):
    candidate = offer(run, tmp_path, study("gan-digits", BETTER))
    preset = tmp_path / "outputs/presets/gan-digits.toml"
    assert preset.read_bytes() == candidate.read_bytes()
    offer(run, tmp_path, study("gan-digits", BETTER))
    assert list(preset.parent.iterdir()) == [preset]  # the same again
    preset.write_text("batch = 1\n")
    offer(run, tmp_path, study("gan-digits", BETTER, number=4))
    assert "batch = 36" in preset.read_text()
    assert preset.with_stem("gan-digits-2").read_text() == "batch = 1\n"
    assert f"the earlier preset {preset} is now {preset.with_stem('gan-digits-2')}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "request_",
    [
        Request("gan", budget=0.03),
        Request("gan", study="mine", precision="float32"),
        Request("gan", objectives=("score", "seconds")),
        pytest.param(Request("dcgan", "mnist", budget=0.5), marks=needs_mnist),
    ],
)
def test_the_printed_command_trains_the_preset_that_was_written(run, tmp_path, capsys, monkeypatch, request_):
    if request_.dataset == "mnist":
        monkeypatch.setenv("GANS_DATA", str(SHARED))
    run.request = request_
    offer(run, tmp_path, study("any-name", BETTER))
    command = capsys.readouterr().out.strip().rpartition("and the default: ")[2]
    gans, *words = shlex.split(command)
    assert gans == "gans"
    bench = parsed(words)
    matrix = read_matrix(bench.matrix, bench.preset, run.machine.outputs, bench.selection)
    default, tuned = cells(matrix, replace(bench.selection, seeds=[0]), torch.device("cpu"))
    assert (default.model, tuned.model) == (request_.model, f"{request_.model}-tuned")
    assert tuned.experiment.dataset == request_.dataset
    assert (tuned.experiment.batch, tuned.experiment.kimg) == (35, default.experiment.kimg)


def test_the_ranking_is_made_from_the_folders_of_pages(tmp_path):
    assert pages.write_ranking(tmp_path) is None
    put(tmp_path, "a", LOWER)
    put(tmp_path, "b")
    text = pages.write_ranking(tmp_path).read_text()
    assert "[a](a/README.md)" in text and "[b](b/README.md)" in text
    assert "7.12 (" in text
    assert "2.00 (1.76 to 2.26)" in text


def test_a_ranking_that_would_lose_a_page_stays(tmp_path):
    put(tmp_path, "a")
    pages.write_ranking(tmp_path)
    before = (tmp_path / "README.md").read_bytes()
    put(tmp_path, "old")
    (tmp_path / "old/study.json").unlink()
    with pytest.raises(InputError, match=r"README.md is unchanged: .*old has no study.json"):
        pages.write_ranking(tmp_path)
    assert (tmp_path / "README.md").read_bytes() == before


def test_a_page_is_written_over_its_own_files_only(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    for name in ("history.png", "mine.png", "notes.md"):
        (folder / name).write_text("mine")
    pages.write(Swept(study("a", BETTER)), tmp_path)
    kept = {path.name for path in folder.iterdir() if path.is_file() and path.read_bytes() == b"mine"}
    assert kept == {"mine.png", "notes.md"}
    assert pages.read(folder) == study("a", BETTER)


# --- among what ships


@pytest.fixture
def clone(tmp_path: Path) -> dict[str, Path]:
    """A folder of outputs next to places that ship."""
    return {kind: tmp_path / "ships" / kind for kind in ("reports", "presets", "speed")}


def test_a_page_takes_the_place_of_the_one_that_ships(tmp_path):
    root, shipped, made = (tmp_path / path for path in ("outputs", "results/digits", "outputs/reports/digits"))
    for path in (shipped / "old.png", shipped / "deeper/README.md", made / "new.png", made / "report.html"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (made / "README.md").write_text("![a](new.png)")
    assert publish.put(made / "README.md", root, {"reports": tmp_path / "results"}) == shipped
    assert {path.name for path in shipped.iterdir()} == {"README.md", "new.png", "deeper"}
    assert (shipped / "README.md").read_text() == "![a](new.png)"


def test_a_preset_and_a_page_of_speed_go_alone(tmp_path, clone):
    root = tmp_path / "outputs"
    for name in ("presets/a.toml", "presets/b.toml", "speed/cpu.md", "speed/cpu.json", "speed/other.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    publish.put(root / "presets/a.toml", root, clone)
    publish.put(root / "speed/cpu.md", root, clone)
    assert {path.name for path in (tmp_path / "ships").rglob("*.*")} == {"a.toml", "cpu.md", "cpu.json"}


def test_a_published_page_gets_the_conclusion_of_its_matrix():
    page = "# T\n\n## Curves\n\n## Samples: A\n\n## Samples: B\n\n## Cost\n"
    concluded = publish.concluded(page, "mdgan-published-budget0.04")
    before, _, after = concluded.partition(
        "## What the figures show, and what they do not\n\nAfter 2,000 iterations"
    )
    assert before == "# T\n\n## Curves\n\n" and after.endswith("\n\n## Samples: A\n\n## Samples: B\n\n## Cost\n")
    assert publish.concluded(concluded, "mdgan-published-budget0.04") == concluded
    assert publish.concluded(page, "digits") == publish.concluded(page, "photos") == page


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("outputs/reports/none", "'.*none' does not exist; use for example gans publish .*digits"),
        ("outputs/samples/a.png", "does not ship; name something in .*reports, .*presets, .*speed"),
        ("elsewhere", "is not in .*outputs; GANS_OUTPUTS names another"),
        ("outputs/reports/sweeps", "holds several pages; publish them one by one"),
    ],
)
def test_what_does_not_ship_is_refused(tmp_path, clone, source, says):
    put(tmp_path / "outputs/reports/sweeps", "a")
    pages.write_ranking(tmp_path / "outputs/reports/sweeps")
    for folder in ("outputs/samples", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "outputs/samples/a.png").touch()
    with pytest.raises(InputError, match=says):
        publish.put(tmp_path / source, tmp_path / "outputs", clone)
    assert not (tmp_path / "ships").exists()


def test_a_published_study_joins_the_ranking_of_those_that_ship(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GANS_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(publish, "RANKED", tmp_path / "ships/sweeps")
    monkeypatch.setitem(publish.PLACES, "reports", tmp_path / "ships")
    put(tmp_path / "ships/sweeps", "a")
    put(tmp_path / "outputs/reports/sweeps", "b")
    assert publish.publish(tmp_path / "outputs/reports/sweeps/b") == 0
    text = (tmp_path / "ships/sweeps/README.md").read_text()
    assert "(a/README.md)" in text and "(b/README.md)" in text
    assert capsys.readouterr().out.splitlines() == [
        str(tmp_path / "ships/sweeps/b"),
        str(tmp_path / "ships/sweeps/README.md"),
    ]
