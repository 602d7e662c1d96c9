"""Matrix files: what they resolve to, and what is refused in one line."""

import hashlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.matrix import MATRICES, NAMES, cells, read_matrix
from benchmarks.options import Selection
from gans.config import experiment
from gans.errors import InputError
from gans.recipes import recipe
from gans.runs.cell import check_cell, identify
from sweeps.options import Request

CPU = torch.device("cpu")
SMALL = """
seeds = [0, 1]
[datasets.digits]
batch = 20
[defaults]
kimg = 2
batch = 10
networks = { width = 8 }
[models.dcgan]
[models.big]
recipe = "dcgan"
batch = 30
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def test_tables_are_laid_over_each_other_in_order(small):
    found = {cell.name: cell.experiment for cell in cells(read_matrix(str(small)), Selection(), CPU)}
    assert list(found) == ["dcgan/digits/0", "dcgan/digits/1", "big/digits/0", "big/digits/1"]
    assert found["dcgan/digits/0"].batch == 20  # the data set's table wins over [defaults]
    assert found["big/digits/1"].batch == 30  # the model's wins over both
    assert found["big/digits/1"].networks.width == 8
    assert found["big/digits/1"].networks.latent == recipe("dcgan").settings["networks"]["latent"]
    assert found["big/digits/1"].seed == 1


def test_what_else_runs_and_labels_are_no_part_of_an_identity(tmp_path, small):
    matrix = read_matrix(str(small))
    own = cells(matrix, Selection(), CPU)[3].identity
    assert cells(matrix, Selection(models=["big"], seeds=[1]), CPU)[0].identity == own
    small.write_text(SMALL.replace("models.big", "models.large"))
    assert cells(read_matrix(str(small)), Selection(), CPU)[3].identity == own


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("seeds =", "seed ="), "small.toml: unknown key 'seed'; did you mean 'seeds'"),
        (("kimg = 2", "kimgs = 2"), r"small.toml \(model dcgan\): unknown key 'kimgs'; did you mean 'kimg'"),
        (("width = 8", "widht = 8"), r"'widht' in .*table \[networks\]; did you mean 'width'"),
        (('"dcgan"', '"dcgam"'), "unknown recipe 'dcgam' in .*did you mean 'dcgan'"),
        (("[models.big]\nrecipe", "[models.big]\n#"), "unknown recipe 'big' .*needs recipe = "),
        (("batch = 30", "batch = 1"), "batch = 1 is not valid"),
        (("batch = 30", "batch = 3000"), "batch = 3000 exceeds the 1438 training images"),
        (("batch = 30", 'loss = { name = "wasserstein-gp" }'), "wasserstein-gp needs a discriminator without"),
        (("batch = 30", "penalties = { r1 = 0.1 }"), "a gradient penalty needs a discriminator without"),
        (("batch = 30", 'update = { rule = "mdgan", workers = 100 }'), "workers = 100 leaves shards of 14 images"),
        (
            ("batch = 30", 'update = { rule = "mdgan", workers = 2, batches = 3 }'),
            "batches = 3 exceeds workers = 2; k is at most N",
        ),
        (
            ("batch = 30", 'workers = "rai"'),
            "unknown place for workers 'rai' in .*small.toml .*did you mean 'ray'",
        ),
        (("batch = 30", "workers = 10"), r"unknown place for workers '10' .*their number is update.workers"),
        (
            ("seeds =", 'workers = "cloud"\nseeds ='),
            "small.toml: workers = 'cloud' is not valid: .*'local' or 'ray'",
        ),
    ],
)
def test_mistakes_are_named(small, change, says):
    text = small.read_text()
    assert change[0] in text
    small.write_text(text.replace(*change))
    with pytest.raises(InputError, match=says) as error:
        for cell in cells(read_matrix(str(small)), Selection(), CPU):
            check_cell(cell, torch.device("cpu"))
    assert "\n" not in str(error.value)


def test_a_model_a_file_or_an_invocation_says_where_workers_run(small):
    before = [cell.identity for cell in cells(read_matrix(str(small)), Selection(), CPU)]
    for old, new, places in (
        ("batch = 30", "batch = 30", ["local", "local"]),
        ("batch = 30", 'batch = 30\nworkers = "ray"', ["local", "ray"]),
        ("seeds =", 'workers = "ray"\nseeds =', ["ray", "ray"]),
    ):
        small.write_text(SMALL.replace(old, new))
        matrix = read_matrix(str(small))
        assert [matrix.where(model) for model in ("dcgan", "big")] == places
        assert matrix.where("big", "local") == "local"
        assert [cell.identity for cell in cells(matrix, Selection(), CPU)] == before


def test_the_mdgan_matrices_give_every_model_the_same_number_of_iterations():
    """As in the paper, an iteration is a step of the generator."""
    for name, expected in (("mdgan", 800), ("mdgan-mnist", 10_000)):
        file = read_matrix(name).file
        for model, table in file.models.items():
            made = experiment(recipe(table.get("recipe", model)).settings, file.defaults, without_names(table))
            workers = getattr(made.update, "workers", 1)
            alive = (workers + 1) / 2 if getattr(made.update, "crashes", False) else workers
            assert made.budget / (made.batch * alive) == expected, model
            # the average forgets after as many iterations, too
            assert made.ema.halflife_kimg / made.kimg == pytest.approx(
                file.defaults["ema"]["halflife_kimg"] / file.defaults["kimg"]
            )


def without_names(table):
    return {key: value for key, value in table.items() if key not in NAMES}


def test_a_budget_that_leaves_no_image_is_named(small):
    with pytest.raises(InputError, match=r"BUDGET=0: kimg = 0\.0 is not valid: input should be greater than or"):
        cells(read_matrix(str(small)), Selection(budget=0), CPU)


def test_other_data_sets_and_budgets_have_reports_of_their_own(small):
    matrix = read_matrix(str(small))
    assert matrix.experiment_name(1, ["digits"]) == "small"
    assert matrix.experiment_name(1, ["mnist"]) == "small-mnist"
    assert matrix.experiment_name(1, None, "auto") == "small"
    assert matrix.experiment_name(0.1, ["mnist"], "bf16") == "small-mnist-bf16-budget0.1"
    digest = hashlib.sha256(b"/a b/my cats.tar.xz").hexdigest()[:6]
    name = f"small-my-cats-{digest}-digits-budget0.5"
    assert matrix.experiment_name(0.5, ["folder:/a b/my cats.tar.xz", "digits"]) == name
    assert matrix.experiment_name(0.5, ["folder:/another/my cats.tar.xz", "digits"]) != name


def test_a_folder_is_one_data_set_however_it_is_spelled(small, tmp_path, monkeypatch):
    """The path is absolute, relative, or a link; another folder with the same last name is another data set."""
    for place in ("in", "other"):
        (tmp_path / place / "x").mkdir(parents=True)
        for i in range(100):
            Image.new("L", (16, 16), i).save(tmp_path / place / "x" / f"{i}.png")
    (tmp_path / "link").symlink_to(tmp_path / "in/x")
    (tmp_path / "in/sub").mkdir()
    monkeypatch.chdir(tmp_path / "in/sub")
    monkeypatch.setenv("GANS_DATA", str(tmp_path / "data"))
    small.write_text(SMALL.replace("kimg = 2", 'kimg = 2\nscore = { extractors = ["digits"] }'))
    matrix = read_matrix(str(small))
    spelled = [f"folder:{path}" for path in (tmp_path / "in/x", "../x", "../../in/x/", tmp_path / "link")]
    assert len({matrix.experiment_name(1, [name]) for name in spelled}) == 1
    assert matrix.experiment_name(1, [spelled[0]]) != matrix.experiment_name(1, ["folder:../../other/x"])
    assert len({Request("gan", name).name for name in spelled}) == 1
    found = [cells(matrix, Selection(["dcgan"], [name], [0]), CPU)[0] for name in spelled]
    assert len({(cell.identity, cell.slug, cell.name) for cell in found}) == 1
    assert len(cells(matrix, Selection(["dcgan"], spelled, [0]), CPU)) == 1


@pytest.mark.parametrize(
    ("change", "plain", "bf16"),
    [
        (("kimg = 2", "kimg = 2"), "small-float32", "small-bf16"),
        (("kimg = 2", 'kimg = 2\nprecision = "float32"'), "small", "small-bf16"),
        (("kimg = 2", 'kimg = 2\nprecision = "bf16"'), "small-float32", "small"),
        (("batch = 30", 'batch = 30\nprecision = "bf16"'), "small-float32", "small-bf16"),  # of one model
    ],
)
def test_a_precision_that_is_not_the_files_has_a_report_of_its_own(small, change, plain, bf16):
    text = small.read_text()
    assert change[0] in text
    small.write_text(text.replace(*change))
    matrix = read_matrix(str(small))
    assert matrix.experiment_name(1) == "small"
    assert matrix.experiment_name(1, None, "float32") == plain
    assert matrix.experiment_name(1, None, "bf16") == bf16


@pytest.mark.parametrize("path", sorted(MATRICES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_matrix_of_the_suite_is_valid(path):
    """Only experiments are made, since the data may not be on this machine."""
    file = read_matrix(path.stem).file
    for model, table in file.models.items():
        for dataset, over in file.datasets.items():
            settings = recipe(table.get("recipe", model)).settings
            experiment(settings, file.defaults, over, without_names(table), {"dataset": dataset})


def test_a_preset_of_ones_own_or_that_ships_stands_beside_the_model_it_tunes(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.matrix.PRESETS", tmp_path / "ships")
    (plain,) = cells(read_matrix(str(small)), Selection(["dcgan"], seeds=[0]), CPU)
    with pytest.raises(
        InputError, match=r"no preset in outputs/presets or ships for .*; run `gans sweep MODEL` first"
    ):
        read_matrix(str(small), "tuned")
    for folder, rate in (("ships", 1e-3), ("elsewhere/presets", 2e-3)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "dcgan-digits.toml").write_text(f"optimizer = {{ lr_g = {rate} }}\n")
    for outputs, place, rate in (("outputs", "ships", 1e-3), ("elsewhere", "elsewhere/presets", 2e-3)):
        matrix = read_matrix(str(small), "tuned", Path(outputs))
        assert matrix.presets(Selection()) == [f"dcgan-tuned on digits: {place}/dcgan-digits.toml"]
        found = {cell.name: cell for cell in cells(matrix, Selection(seeds=[0]), CPU)}
        assert list(found) == ["dcgan/digits/0", "big/digits/0", "dcgan-tuned/digits/0"]
        tuned = found["dcgan-tuned/digits/0"].experiment
        assert (tuned.optimizer.lr_g, tuned.batch) == (rate, plain.experiment.batch)
        assert found["dcgan/digits/0"].identity == plain.identity


def test_a_precision_is_wanted_of_all_cells_and_checked_on_the_device(small):
    matrix = read_matrix(str(small))
    plain, other = (cells(matrix, Selection(precision=kind), CPU) for kind in ("float32", "tf32"))
    assert {cell.experiment.precision for cell in plain} == {"float32"}
    assert {cell.experiment.precision for cell in other} == {"tf32"}
    assert not {cell.identity for cell in plain} & {cell.identity for cell in other}
    with pytest.raises(InputError, match="precision = tf32 needs a CUDA device"):
        check_cell(other[0], CPU)


def test_unless_named_a_precision_is_the_devices(small, monkeypatch):
    """The cell equals the cell of that precision."""
    monkeypatch.setattr("gans.compute.bfloat16.here", lambda: True)
    monkeypatch.setattr("gans.compute.bfloat16.faster", lambda: True)
    matrix = read_matrix(str(small))
    default, bf16 = (cells(matrix, Selection(precision=kind), CPU) for kind in (None, "bf16"))
    assert [cell.identity for cell in default] == [cell.identity for cell in bf16]
    assert {cell.experiment.precision for cell in cells(matrix, Selection(), torch.device("meta"))} == {"float32"}


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"networks": {"width": 65_536}}, "GB of memory, this machine has .* lower networks.width"),
        (
            {"networks": {"name": "sagan", "width": 65_536}},
            "GB of memory, this machine has .* lower networks.width",
        ),
        ({"score": {"extractors": ["auto", "cifar10"]}}, "takes 3-channel images of side 32, but 'digits'"),
    ],
)
def test_what_no_cell_could_do_is_refused_before_any_runs(small, table, says):
    (cell,) = cells(read_matrix(str(small)), Selection(["dcgan"], None, [0]), CPU)
    wrong = identify("dcgan", experiment(cell.experiment.model_dump(), table), CPU)
    with pytest.raises(InputError, match=says):
        check_cell(wrong, CPU)
