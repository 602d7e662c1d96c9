"""Scores without training: what a trained cell lacks is added to its run, and reports say what is missing."""

import re

import pytest

from benchmarks.matrix import read_matrix
from benchmarks.options import Machine, Rescore, Selection
from benchmarks.runner import ScoreRun
from gans.errors import InputError
from gans.runs.scores import ScoreKey, records
from gans.runs.store import Store, Tracked
from reports.report import write
from reports.results import load
from tests.benchmarks.test_runner import OWN, Bench, add, planned
from tests.recorded import recorded

CONTRAST = """
from gans.fidelity import Measured, Metric


def measure(compared):
    apart = compared.generated.features.std() - compared.real.features.std()
    return Measured(abs(apart.item()), 0.5)


CONTRAST = Metric("contrast", "↓", "difference of the features' spread", measure)
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    """A matrix that ran to its end."""
    made = Bench(tmp_path_factory.mktemp("score"))
    code, output = made.run()
    assert code == 0, output
    return made


@pytest.fixture
def store(bench, monkeypatch) -> Store:
    monkeypatch.chdir(bench.folder)
    return bench.store


def trained(bench) -> dict[str, int]:
    """The times at which the checkpoints were written."""
    return {str(path): path.stat().st_mtime_ns for path in bench.folder.glob("runs/tiny/*/checkpoint.pt")}


@pytest.mark.slow
def test_a_new_metric_is_scored_without_training_and_the_others_stay_as_they_are_to_the_digit(bench, store):
    """A package with the metric is installed after all cells have finished."""
    (bench.folder / "contrast.py").write_text(CONTRAST)
    package = bench.folder / "contrast-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: contrast\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[gans.metrics]\ncontrast = contrast:CONTRAST\n")
    before, checkpoints, scores = bench.runs(), trained(bench), bench.scores()
    code, output = bench.run("--dry-run")
    assert output.count("finished, to be scored by digits at 500") == 2
    code, output = bench.run()
    assert code == 0, output
    after = bench.runs()
    assert {n: r.id for n, r in after.items()} == {n: r.id for n, r in before.items()}
    assert {run.status for run in after.values()} == {"FINISHED"}
    assert trained(bench) == checkpoints
    for name, own in bench.scores().items():
        assert own.pop("score/contrast_digits") > 0
        assert own.pop("score/contrast_digits_se") == 0.5
        assert own == scores[name]  # whether scored in one go with training or afterwards
        assert "contrast_digits" in records(after[name].tags)[OWN].metrics
    assert bench.runs("floor")["real/digits"].metrics["half/contrast_digits"] > 0
    assert "contrast_digits ↓" in (bench.folder / "outputs/reports/tiny/README.md").read_text()
    code, output = bench.run("--dry-run")
    assert "to be scored" not in output


@pytest.mark.slow
def test_another_number_of_images_stands_apart_and_the_report_says_who_lacks_it(bench, store, capsys):
    own = bench.scores()
    assert add(store, 300, ["gan"]) == 0
    run = bench.runs()["gan/digits/0"]
    assert run.metrics["score-300/fd_digits"] > 0
    assert run.metrics["score-300/fd_digits"] != run.metrics["score/fd_digits"]
    assert bench.scores() == own
    assert set(records(run.tags)) == {OWN, ScoreKey("digits", 300)}
    results = load(Tracked(store), "tiny")
    assert results.counts == [300]
    assert results.unscored == {ScoreKey("digits", 300): 1}
    cells = results.at(300).cells.set_index("name")
    assert cells.loc["gan/digits/0", "score/fd_digits"] == run.metrics["score-300/fd_digits"]
    assert set(results.at(300).floors["n_generated"]) == {300}
    text = write(load(Tracked(store), "tiny"), "tiny", bench.folder / "reports").read_text()
    assert "On 300 generated images, added by `make score`" in text
    command = "gans rescore tiny.toml --extractors digits --count 300"
    assert f"Not scored by `digits` at 300 images: 1 cell; `{command}`" in text
    assert add(store, 300) == 0
    assert "score-300/fd_digits" in bench.runs()["dcgan/digits/0"].metrics
    assert load(Tracked(store), "tiny").unscored == {}
    ScoreRun(read_matrix("tiny.toml"), Rescore(selection=Selection(seeds=[0, 5])), Machine("cpu", 1), store)
    assert "not finished, so not scored: 2 of the selected cells" in capsys.readouterr().out


@pytest.mark.slow
def test_a_cell_that_cannot_be_scored_fails_the_invocation_and_stays_trained(bench, store, capsys):
    # last: it takes the generator away
    for path in bench.folder.glob("**/generator.safetensors"):
        path.unlink()
    assert add(store, 200, ["gan"]) == 1
    assert re.search(
        r"failed    gan/digits/0 .* no file .*/gan-digits-0-\w+/generator.safetensors; .*; "
        "delete run gan/digits/0 and train it again",
        capsys.readouterr().out,
    )
    assert bench.runs()["gan/digits/0"].tags["gans.status"] == "finished"


@pytest.fixture
def untrained(tmp_path, monkeypatch) -> Store:
    """An empty store, and a matrix that was not run."""
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path).store


def test_bad_input_is_one_line(untrained, tmp_path):
    matrix, machine = read_matrix("tiny.toml"), Machine("cpu", 1, tmp_path)
    with pytest.raises(InputError, match=r"unknown extractor 'digit'; did you mean 'digits'\?"):
        ScoreRun(matrix, Rescore(extractors=["digit"]), machine, untrained)
    with pytest.raises(InputError, match=r"no cell of tiny.toml is finished in 'tiny'; run `gans bench` first"):
        ScoreRun(matrix, Rescore(), machine, untrained)


def test_another_budget_is_said_to_train_from_the_first_image(untrained, tmp_path):
    assert planned(untrained).remarks() == []
    (tmp_path / "runs" / "tiny-budget0.1").mkdir(parents=True)
    (remark,) = planned(untrained).remarks()
    assert remark.startswith("cells of tiny-budget0.1 are kept, but of another budget: the cells of tiny train")


def test_a_store_of_an_earlier_protocol_gets_a_line_of_its_own(untrained):
    first = {"gans.protocol": "1", "gans.commit": "c0ffee"}
    parent = recorded(untrained, "tiny", "bench tiny", first | {"gans.kind": "matrix"})
    parent.text("{}", "cells.json")
    for number in range(3):
        tags = first | {"gans.kind": "cell", "gans.cell": str(number)}
        recorded(untrained, "tiny", f"gan/digits/{number}", tags).finish("finished")
    says = "has cells of protocol 1, not comparable with version 2; run `gans bench` .* commit c0ffee"
    with pytest.raises(InputError, match=says):
        load(Tracked(untrained), "tiny")
