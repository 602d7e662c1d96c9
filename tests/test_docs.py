"""The documents are true: links, commands, settings, files and examples that they name."""

from __future__ import annotations

import doctest
import importlib.util
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from benchmarks.matrix import MATRICES, Selection, cells, read_matrix
from gans import recipes
from gans.commands import main, make
from gans.config import PROTOCOL_VERSION, OptimizerConfig, describe, experiment
from gans.errors import InputError
from gans.files import save_weights
from gans.models import build_generator
from gans.models.layers import Shape
from gans.registry import LOSSES, METRICS, MODELS, allow
from gans.runs.tracking import Store
from sweeps.space import read_space
from tests import test_conformance
from tests.conftest import CPU
from tests.reports import test_report

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
HISTORY = ("CHANGELOG.md", "speed-log.md")  # they name what was
PRESENT = [page for page in PAGES if page.name not in HISTORY]
MINE = "docs.examples.mine:MINE"
ROOMS = ("gans", "benchmarks", "sweeps", "reports", "tests", "docs", ".ci")


@pytest.fixture(autouse=True)
def example(nothing_allowed: None) -> None:
    """As a command that names it."""
    allow(MINE)


def named(pages: list[Path]) -> Any:
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.name)


def code(page: Path) -> str:
    """All that the page sets as code: blocks and spans, one a line."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return "\n".join([*blocks, *(" ".join(span.split()) for span in spans)])


def commands(page: Path, program: str) -> Iterator[list[str]]:
    """The words of every command that the page names, without the program and what stands before it."""
    for line in code(page).splitlines():
        if found := re.match(rf"(?:\w+=\S+ )*{program} (\S.*)", line):
            yield shlex.split(found[1], comments=True)


# --- one page


def test_the_readme_is_a_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 900


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    for target in targets:
        path, _, anchor = target.partition("#")
        if re.match(r"https?://", target):
            continue
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    """Of its headings, as they are made on the web."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_found_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert page.name == "README.md" or str(page.relative_to(ROOT)) in text, page.name


# --- what they name


@named(PRESENT)
def test_files_exist(page: Path) -> None:
    for path in re.findall(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, ROOMS))})/[\w./-]*", code(page)):
        generated = path.endswith("mine.py") and path.startswith("gans/")  # to be made by the reader
        assert generated or (ROOT / path).exists(), path


@named(PRESENT)
def test_make_targets_and_their_variables(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for words in commands(page, "make"):
        goals = [word for word in words if "=" not in word]
        assert goals, words
        assert targets.issuperset(goals), words
        given = dict(word.split("=", 1) for word in words if "=" in word)
        make.check(list(given), goals)
        for goal in goals:
            if goal in make.TARGETS and all(given.values()):
                with pytest.MonkeyPatch.context() as patch:
                    for name, value in given.items():
                        patch.setenv(name, value)
                    main.parse([make.TARGETS[goal]], make.from_environment)


@named(PRESENT)
def test_bench_commands_name_what_matrices_have(page: Path) -> None:
    for goal, *words in commands(page, "make"):
        given = dict(word.split("=", 1) for word in words if "=" in word)
        if goal != "bench" or given.get("MATRIX") == "":
            continue
        name = given.get("MATRIX", "digits")
        matrix = read_matrix(str(ROOT / name) if name.endswith(".toml") else name)
        models = [model for model in given.get("MODELS", "").split() if model != "mine"]
        data = [] if "PATH" in words else given.get("DATASETS", "").split()
        matrix.check_names(Selection(models, [one for one in data if not one.startswith(("folder:", "'"))]))


@named(PRESENT)
def test_gans_commands_parse(page: Path) -> None:
    for words in commands(page, "gans"):
        if words != ["COMMAND", "--help"]:
            try:
                main.parse(words)
            except InputError as error:  # a page's NAME is no data set's
                assert not re.match("unknown command|Unknown option|unexpected", str(error)), words


@named(PRESENT)
def test_python_modules_exist(page: Path) -> None:
    for module in re.findall(r"python -m ([\w.]+)", code(page)):
        assert importlib.util.find_spec(module), module


@named(PRESENT)
def test_settings_exist(page: Path) -> None:
    known = {key for name in (*recipes.names(), MINE) for key, _, _ in settings(name)}
    sections = "|".join(sorted({key.partition(".")[0] for key in known if "." in key}))
    text = re.sub(r"gans\.[\w.]+", "", code(page))
    for key in re.findall(rf"(?<![\w./])(?:{sections})\.[a-z_]+\b(?![/(.])", text):
        assert key in known, key


def settings(name: str) -> Iterator[tuple[str, Any, str]]:
    return describe(experiment(recipes.recipe(name).settings))


def test_every_optimizer_is_in_extending() -> None:
    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    for name in get_args(OptimizerConfig.model_fields["name"].annotation):
        assert f"`{name}`" in text, name


def test_the_protocol_page_names_the_version() -> None:
    text = " ".join((ROOT / "docs/protocol.md").read_text(encoding="utf-8").split())
    assert f"Today's protocol version is {PROTOCOL_VERSION}." in text


def test_the_models_and_losses_of_the_readme_exist() -> None:
    """And not the other way round: a model of one's own is one file and one line, none of them here."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| [^|]+ \|[^|]*\|$", text, re.MULTILINE)
    assert len(rows) == 9
    assert set(rows) <= set(recipes.names())
    (losses,) = re.findall(r"^Losses: (.*?)\.", text, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`([\w-]+)`", losses)) <= set(LOSSES)
    (matrices,) = re.findall(r"run a matrix: (.*) \|$", text, re.MULTILINE)
    assert set(re.findall(r"`([\w-]+)`", matrices)) <= {path.stem for path in MATRICES.glob("*.toml")}


def test_the_table_of_metrics_is_the_registrys() -> None:
    text = (ROOT / "docs/reading-a-report.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+_`.*?) \| (.*?) \|", text, re.MULTILINE)
    told = {name: best for names, best in rows for name in re.findall(r"`(\w+)`", names)}
    known = {f"{metric.name}_": metric.best for metric in METRICS.values()}
    known |= {metric.published: metric.best for metric in METRICS.values() if metric.published}
    assert len(told) == 18
    assert told == {name: known[name].removeprefix("→ ") for name in told}


def test_the_table_of_rooms_is_the_contract_on_imports() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    told = [set(re.findall(r"`gans/(\w+)", row)) for row in re.findall(r"^\| (`gans/.*?) \|", text, re.MULTILINE)]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [one["layers"] for one in contracts if one.get("containers") == ["gans"]]
    held = [set(re.findall(r"\w+", layer)) for layer in layers if not layer.startswith("(__main__)")]
    assert told == held[::-1]


def test_one_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"\nversion: {project['version']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest
    assert newest[1] == project["version"]
    assert "MIT License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


# --- the Python API


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tiny generator and a small store, as the page takes them to be."""
    made = experiment({"networks": {"name": "dcgan", "latent": 8, "width": 4}})
    about = {
        "shape": [1, 16],
        "networks": made.networks.model_dump(),
        "experiment": made.model_dump(mode="json"),
        "data": "Digits",
        "images": 0,
    }
    generator = build_generator(Shape(1, 16), made.networks, seed=0)
    save_weights(tmp_path / "generator.safetensors", generator.state_dict(), about)
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    for (model, seed), score in {("dcgan", 0): 12.5, ("dcgan", 1): 11.0, ("gan", 0): 31.0}.items():
        run = test_report.start(store, model, seed)
        test_report.train(run, score, seed)
        test_report.finish(run, score, tmp_path, seed)
    planned = [test_report.cell(model, seed) for model in ("dcgan", "gan") for seed in (0, 1)]
    test_report.invoke(store, test_report.plan(cells=planned, floors=[]))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_python_api_page_runs(workplace: Path, one_thread: None) -> None:
    page = ROOT / "docs/python-api.md"
    found = doctest.DocTestParser().get_doctest(page.read_text(encoding="utf-8"), {}, page.name, str(page), 0)
    told: list[str] = []
    ran = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL).run(found, out=told.append)
    assert ran.failed == 0, "".join(told)
    assert ran.attempted >= 25
    assert (workplace / "samples.png").stat().st_size > 0


# --- the example of a model


def test_the_example_is_short_and_whole() -> None:
    text = (ROOT / "docs/examples/mine.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 80
    said = re.search(r"of (\d+) lines", (ROOT / "docs/extending.md").read_text(encoding="utf-8"))
    assert said
    assert int(said[1]) == len(text.splitlines())
    assert {"networks.width", "networks.depth"} <= {key for key, _, _ in settings(MINE)}
    assert all(text for _, _, text in settings(MINE))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [16, 32])
def test_the_example_conforms(side: int, channels: int) -> None:
    test_conformance.test_networks(MINE, side, channels)


def test_the_example_gives_logits() -> None:
    test_conformance.test_logits_are_not_probabilities(MINE)


@pytest.mark.parametrize("rule", ["two-player", "mdgan", "fl-gan"])
@pytest.mark.parametrize("loss", ["non-saturating", "wasserstein-gp"])
def test_the_example_trains_by_every_rule(loss: str, rule: str, tiny: Any, blobs: Any, one_thread: None) -> None:
    test_conformance.test_every_rule_trains_every_network_with_every_loss(MINE, loss, rule, False, tiny, blobs)


def test_the_example_trains_to_the_end_with_its_own_hyperparameter(
    tiny: Any, blobs: Any, stub_scorer: Any, recorder: Any, tmp_path: Path, one_thread: None
) -> None:
    test_conformance.test_every_recipe_trains_to_the_end(MINE, tiny, blobs, stub_scorer, recorder, tmp_path)
    sizes = []
    for depth in (1, 2):
        made = tiny(recipes.recipe(MINE).settings, {"networks": {"depth": depth}})
        generator = build_generator(Shape(1, 16), made.networks, seed=0)
        sizes.append(sum(parameter.numel() for parameter in generator.parameters()))
    # a block is two 3x3 convolutions of 4 channels with biases; there are two doublings to 16x16
    assert sizes[1] - sizes[0] == 2 * 2 * (3 * 3 * 4 * 4 + 4)


def test_the_examples_matrix_has_its_cells_beside_dcgan() -> None:
    matrix = read_matrix(str(ROOT / "docs/examples/mine.toml"))
    found = cells(matrix, Selection(precision="float32"), CPU)
    assert [cell.name for cell in found[::3]] == ["dcgan/digits/0", "mine/digits/0"]
    assert {cell.experiment.networks.name for cell in found} == {"dcgan", MINE}
    assert {cell.experiment.precision for cell in found} == {"float32"}
    ours = read_matrix("digits")
    (dcgan, *_) = cells(ours, Selection(["dcgan"], precision="float32"), CPU)
    assert dcgan.identity == found[0].identity


def test_a_sweep_searches_the_examples_own_hyperparameter() -> None:
    default = experiment(recipes.recipe(MINE).settings)
    space = read_space(MINE, default)
    assert space.parameters["networks.depth"].choices == (1, 2)


def test_the_example_in_the_repository_is_a_line_of_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "docs/examples/mine.py", tmp_path / "copied.py")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(MODELS.entries, "mine", "copied:MINE")
    assert '"mine": "gans.models.mine:MINE"' in (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    assert recipes.recipe("mine").settings["networks"]["name"] == "mine"
    test_conformance.test_networks("mine", 16, 1)
    text = "seeds = [3, 4]\n[datasets.digits]\n[models.dcgan]\n[models.mine]\nnetworks = { width = 8 }\n"
    (tmp_path / "own.toml").write_text(text, encoding="utf-8")
    found = cells(read_matrix(str(tmp_path / "own.toml")), Selection(["mine"]), CPU)
    assert [(cell.name, cell.experiment.networks.width) for cell in found] == [
        ("mine/digits/3", 8),
        ("mine/digits/4", 8),
    ]


def test_without_evidence_a_model_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"amx_bf16": True, "avx512_bf16": True})
    found = cells(read_matrix(str(ROOT / "docs/examples/mine.toml")), Selection(seeds=[0]), CPU)
    assert [cell.experiment.precision for cell in found] == ["bf16", "float32"]
