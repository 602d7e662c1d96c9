"""The documents are true: links, commands, settings, files and examples that they name."""

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.matrix import MATRICES, NAMES, MatrixFile, Selection, read_matrix
from benchmarks.options import Bench
from gans import recipes
from gans.commands import main, make
from gans.config import PROTOCOL_VERSION, describe, experiment
from gans.errors import InputError
from gans.registry import LOSSES, METRICS, allow
from gans.runs.store import Store
from sweeps.space import read_space
from tests.conftest import untrained
from tests.reports import test_report

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
HISTORY = ("CHANGELOG.md", "speed-log.md")  # they name what was
PRESENT = [page for page in PAGES if page.name not in HISTORY]
MINE = "docs.examples.mine:MINE"
ROOMS = ("gans", "benchmarks", "sweeps", "reports", "tests", "docs", ".ci")


@pytest.fixture(autouse=True)
def example(nothing_from_outside: None) -> None:
    """A command that names this example."""
    allow(MINE)


def named(pages: list[Path]) -> Any:
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.name)


def code(page: Path) -> str:
    """All code of a page: blocks and spans, one a line."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return "\n".join([*blocks, *(" ".join(span.split()) for span in spans)]).replace("\\\n", " ")


def commands(page: Path, program: str) -> Iterator[list[str]]:
    """The words of every command that the page names, without the program and what stands before it."""
    for line in code(page).splitlines():
        if found := re.match(rf"(?:\w+=\S+ )*{program} (\S.*)", line):
            yield shlex.split(found[1], comments=True)


# --- one page


def test_the_page_on_matrix_files_has_every_key() -> None:
    text = (ROOT / "docs/matrix-files.md").read_text(encoding="utf-8")
    found = {key for name in recipes.names() for key, _, _ in settings(name)} - {"dataset", "seed"}
    assert {key for key in (*found, *MatrixFile.model_fields, *NAMES) if f"| `{key}` |" not in text} == set()


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
    """The anchors of its headings, as GitHub makes them."""
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
        generated = path.endswith(("mine.py", "/parts.py")) and path.startswith(
            "gans/"
        )  # to be made by the reader
        assert generated or (ROOT / path).exists(), path


@named(PRESENT)
def test_make_commands_parse(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for words in commands(page, "make"):
        goals = [word for word in words if "=" not in word]
        assert goals, words
        assert targets.issuperset(goals), words
        given = dict(word.split("=", 1) for word in words if "=" in word)
        make.check(list(given), goals)
        with monkeypatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            for goal in goals if all(given.values()) else ():
                parsed = (
                    goal in make.TARGETS and main.parse([make.TARGETS[goal]], make.from_environment)[1].args[0]
                )
                if goal == "bench":
                    check_names(parsed)


def check_names(options: Bench) -> None:
    """All names of a command are in its matrix; PATH and `mine` are the reader's own."""
    name = options.matrix
    matrix = read_matrix(str(ROOT / name) if name.endswith(".toml") else name)
    models = [model for model in options.selection.models or [] if model != "mine"]
    data = [one for one in options.selection.datasets or [] if not one.startswith("folder:")]
    matrix.check_names(Selection(models, data))


@named(PRESENT)
def test_gans_commands_parse(page: Path) -> None:
    for words in commands(page, "gans"):
        if words != ["COMMAND", "--help"]:
            try:
                main.parse(words)
            except InputError as error:  # a page's NAME is no data set's
                assert not re.match("unknown command|Unknown option|unexpected", str(error)), words


@named(PRESENT)
def test_settings_exist(page: Path) -> None:
    known = {key for name in (*recipes.names(), MINE) for key, _, _ in settings(name)}
    sections = "|".join(sorted({key.partition(".")[0] for key in known if "." in key}))
    text = re.sub(r"gans\.[\w.]+", "", code(page))
    for key in re.findall(rf"(?<![\w./])(?:{sections})\.[a-z_]+\b(?![/(.])", text):
        assert key in known, key


def settings(name: str) -> Iterator[tuple[str, Any, str]]:
    return describe(experiment(recipes.recipe(name).settings))


def test_the_protocol_page_names_the_version() -> None:
    text = " ".join((ROOT / "docs/protocol.md").read_text(encoding="utf-8").split())
    assert f"Today's protocol version is {PROTOCOL_VERSION}." in text


def test_the_models_and_losses_of_the_readme_exist() -> None:
    """The README need not name all: a user's model is one file and one line."""
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
    stated = {name: best for names, best in rows for name in re.findall(r"`(\w+)`", names)}
    metrics = [METRICS[name] for name in (*METRICS, *METRICS.optional)]
    known = {f"{metric.name}_": metric.best for metric in metrics}
    known |= {metric.published: metric.best for metric in metrics if metric.published}
    assert len(stated) == 21
    assert stated == {name: known[name].removeprefix("→ ") for name in stated}


def test_the_table_of_rooms_is_the_contract_on_imports() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    stated: list[set[str]] = []
    for floor, package in re.findall(r"^\| (\d?) ?\| (`gans/.*?) \|", text, re.MULTILINE):
        stated += [set()] if floor else []
        stated[-1] |= set(re.findall(r"`gans/(\w+)", package))
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [one["layers"] for one in contracts if one.get("containers") == ["gans"]]
    held = [set(re.findall(r"\w+", layer)) for layer in layers if not layer.startswith("(__main__)")]
    assert stated == held


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
    path, said = tmp_path / "generator.safetensors", made.model_dump(mode="json")
    untrained(path, made.networks, experiment=said, data="Digits", images=0)
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
    said: list[str] = []
    ran = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL).run(found, out=said.append)
    assert ran.failed == 0, "".join(said)
    assert ran.attempted >= 25
    assert (workplace / "samples.png").stat().st_size > 0


# --- the example of a model


def test_the_example_says_what_its_hyperparameters_are_and_sweeps_search_them() -> None:
    assert {"networks.width", "networks.depth"} <= {key for key, _, _ in settings(MINE)}
    assert all(text for _, _, text in settings(MINE))
    space = read_space(MINE, experiment(recipes.recipe(MINE).settings))
    assert space.parameters["networks.depth"].choices == (1, 2)


def section(heading: str) -> str:
    """Of docs/extending.md."""
    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def scripts(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def reader(tmp_path: Path) -> Callable[[str, Path], str]:
    """Types the commands of a page into a shell in the temporary folder; `code` is the repository that runs."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name, command in {"python": sys.executable, "gans": f"{sys.executable} -m gans"}.items():
        (tmp_path / ".venv/bin" / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (tmp_path / ".venv/bin" / name).chmod(0o755)
    Store(f"sqlite:///{tmp_path}/mlflow.db")  # of the tests' template
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "GANS_"))}
    path = f"{tmp_path}/.venv/bin:{os.environ['PATH']}"
    environment = {**kept, "PATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}

    def run(script: str, code: Path) -> str:
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(code)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_examples_work_from_outside(reader: Callable[[str, Path], str], tmp_path: Path) -> None:
    for file in (ROOT / "docs/examples").glob("*.py"):
        shutil.copy(file, tmp_path)
    said = reader(scripts(section("From outside"))[0], ROOT)
    assert "networks.depth" in said
    assert "finished  mine:MINE/parts:bars/0" in said
    assert re.search(r"^away_parts_pixels +\d", said, re.MULTILINE)


@pytest.mark.slow
def test_the_examples_work_in_the_repository(reader: Callable[[str, Path], str], tmp_path: Path) -> None:
    text, ignored = section("Into the repository"), shutil.ignore_patterns("__pycache__")
    for name in ("gans", "docs/examples"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    (tmp_path / "tests").mkdir()
    for name in ("pyproject.toml", "tests/__init__.py", "tests/conftest.py", "tests/test_conformance.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    copy, *rest = scripts(text)
    reader(copy, tmp_path)
    registry = tmp_path / "gans/registry.py"
    for name, line in re.findall(r"^\| `([A-Z]+)` \| `(.*)` \|$", text, re.MULTILINE):
        before, after = registry.read_text().split(f"\n{name} = Registry(")
        after = after.replace("    },", f"        {line}\n    }},", 1)
        registry.write_text(f"{before}\n{name} = Registry({after}")
    said = "".join(reader(script, tmp_path) for script in rest)
    assert re.search(r"^mine  +a small residual GAN", said, re.MULTILINE)
    assert "cmine" not in said
    assert "finished  mine/mine/0" in said
    assert "[100%]" in said
