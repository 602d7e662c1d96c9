"""Options over all declarations: defaults, command lines, variables of make, and the command that asks again."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from benchmarks.options import Bench, Report, Score
from benchmarks.speed.options import Goals, Speed
from gans.commands import (
    arithmetic,
    config,
    extractor,
    interpolate,
    main,
    make,
    options,
    sample,
    score,
    train,
    ui,
    walk,
)
from gans.commands.options import Flag, Option
from gans.errors import InputError
from sweeps.options import Search

ROOT = Path(__file__).parents[3]
TARGETS = {
    "bench": Bench,
    "sweep": Search,
    "score": Score,
    "speed": Speed,
    "gpu": Goals,
    "report": Report,
    "ui": ui.Ui,
}
COMMANDS = {
    "train": train.Train,
    "sample": sample.Sample,
    "interpolate": interpolate.Interpolate,
    "arithmetic": arithmetic.Arithmetic,
    "walk": walk.Walk,
    "score": score.Score,
    "extractor": extractor.Extractor,
    "config": config.Config,
    "ui": ui.Ui,
}
DECLARATIONS = [*TARGETS.values(), *COMMANDS.values()]
FLAGS = [
    pytest.param(declaration, flag, id=f"{declaration.__module__}-{flag.name}")
    for declaration in dict.fromkeys(DECLARATIONS)
    for flag in options.flags(declaration)
]
TOLD = [
    pytest.param(target, flag, id=f"{target}-{flag.variable}")
    for target in TARGETS
    for flag in make.variables_of(target)
]
# what a command line, or make, gave before there were declarations
DEFAULTS: dict[str, dict[str, Any]] = {
    "bench": {
        "MATRIX": "digits",
        "MODELS": None,
        "DATASETS": None,
        "SEEDS": None,
        "BUDGET": 1.0,
        "PRECISION": None,
        "PRESET": "",
        "DEVICE": "auto",
        "JOBS": None,
        "RUNS": Path("runs"),
        "OUTPUTS": Path("outputs"),
        "GRAPH": None,
        "COMPILE": False,
        "WORKERS": None,
        "ENGINE": "local",
        "RUNTIME_ENV": None,
        "DRY_RUN": False,
    },
    "sweep": {
        "MODEL": MISSING,
        "DATASET": "digits",
        "TRIALS": 30,
        "STORAGE": "sqlite:///sweeps.db",
        "STUDY": None,
        "SEED": 0,
        "PRUNER": "halving",
        "OBJECTIVES": ("score",),
        "SPACE": None,
        "BUDGET": 1.0,
        "PRECISION": None,
        "FINALISTS": 3,
        "FRESH": 5,
        "JOIN": False,
        "DEVICE": "auto",
        "JOBS": None,
        "RUNS": Path("runs"),
        "OUTPUTS": Path("outputs"),
        "ENGINE": "local",
        "RUNTIME_ENV": None,
    },
    "score": {
        "MATRIX": "digits",
        "EXTRACTORS": None,
        "COUNT": None,
        "MODELS": None,
        "DATASETS": None,
        "SEEDS": None,
        "BUDGET": 1.0,
        "PRECISION": None,
        "PRESET": "",
        "DEVICE": "auto",
        "JOBS": None,
        "RUNS": Path("runs"),
        "OUTPUTS": Path("outputs"),
        "ENGINE": "local",
        "RUNTIME_ENV": None,
    },
    "speed": {
        "PARTS": None,
        "COUNT": 2_000,
        "MODELS": None,
        "ROUNDS": None,
        "DEVICE": "auto",
        "PRECISION": None,
        "THREADS": None,
        "GRAPH": None,
        "QUICK": False,
        "OUTPUTS": Path("outputs"),
    },
    "gpu": {"DEVICE": "auto", "ROUNDS": 5, "OUTPUTS": Path("outputs")},
    "report": {
        "MATRIX": "digits",
        "DATASETS": None,
        "BUDGET": 1.0,
        "PRECISION": None,
        "PRESET": "",
        "OUTPUTS": Path("outputs"),
    },
    "ui": {"PORT": 5000},
}


def some(flag: Flag) -> Any:
    """A value that is not the default, as hard to quote as its type allows."""
    if flag.kind is bool:
        return True
    one = {int: 7, float: 0.123456789, Path: Path("a b/it's.toml"), str: "it's $HOME, a\\b"}[flag.kind]
    if flag.choices:
        one = next(choice for choice in flag.choices if choice != flag.default)
    if flag.count is None:
        return one
    return tuple([one, *("xyz" if flag.kind is str else "89")][: flag.count if isinstance(flag.count, int) else 1])


def words(flag: Flag, value: Any) -> list[str]:
    """How a person types it."""
    if value is True:
        return [flag.flag]
    texts = [str(one) for one in (value if isinstance(value, tuple) else [value])]
    return texts if flag.option.positional else [flag.flag, *texts]


def required(declaration: type) -> dict[str, Any]:
    return {flag.name: some(flag) for flag in options.flags(declaration) if flag.default is MISSING}


def parse(declaration: type, given: dict[str, Any]) -> Any:
    typed = sorted(options.flags(declaration), key=lambda flag: not flag.option.positional)
    line = [word for flag in typed if flag.name in given for word in words(flag, given[flag.name])]
    return options.parse(declaration, line, "it")


def repeated(target: str) -> dict[str, Any]:
    """A value other than the default for all that a command to reproduce has."""
    return {flag.name: some(flag) for flag in make.variables_of(target) if flag.option.repeated}


def variables(command: str) -> dict[str, str]:
    """What make hands down for a command that a shell has read."""
    pairs = [word.partition("=") for word in shlex.split(command)[2:]]
    return {name: value.replace("$$", "$") for name, _, value in pairs}


@pytest.mark.parametrize("target", TARGETS)
def test_variables_and_defaults_are_what_they_were(target):
    assert {flag.variable: flag.default for flag in make.variables_of(target)} == DEFAULTS[target]
    assert make.TARGETS[target].options is TARGETS[target]


@pytest.mark.parametrize("declaration", DECLARATIONS)
def test_every_option_has_a_name_of_its_own_and_a_help_text(declaration):
    flags = options.flags(declaration)
    assert len({flag.name for flag in flags}) == len(flags)
    assert all(flag.option.help for flag in flags)
    assert len(options.about(declaration)) > 10


@pytest.mark.parametrize(("declaration", "flag"), FLAGS)
def test_an_option_that_is_not_given_has_its_default_and_one_that_is_has_its_value(declaration, flag):
    needed = required(declaration)
    asked = parse(declaration, needed)
    assert flag.of(asked) == needed.get(flag.name, flag.default)
    value = some(flag)
    given = parse(declaration, {**needed, flag.name: value})
    assert flag.of(given) == value
    others = [other for other in options.flags(declaration) if other.name != flag.name]
    assert all(other.of(given) == other.of(asked) for other in others)


@pytest.mark.parametrize(("target", "flag"), TOLD)
def test_a_variable_of_make_gives_what_the_flag_gives(target, flag):
    declaration = TARGETS[target]
    needed = {name.upper(): str(value) for name, value in required(declaration).items()}
    value = some(flag)
    given = options.arguments(target, declaration, {**needed, flag.variable: f" {options.as_text(value)} "})
    assert options.parse(declaration, given, "it") == parse(
        declaration, {**required(declaration), flag.name: value}
    )
    if flag.default is not MISSING:
        for empty in ("", "  ", *(["0"] if flag.default is False else [])):
            given = options.arguments(target, declaration, {**needed, flag.variable: empty})
            assert options.parse(declaration, given, "it") == parse(declaration, required(declaration))


@pytest.mark.parametrize(("target", "flag"), TOLD)
def test_the_command_to_reproduce_gives_the_same_object(target, flag):
    declaration = TARGETS[target]
    needed, value = required(declaration), {flag.name: some(flag)}
    command = options.command(target, parse(declaration, needed | value))
    kept = needed | value if flag.option.repeated else needed
    assert set(variables(command)) == {name.upper() for name in kept}  # nothing that has its default
    again = options.arguments(target, declaration, variables(command))
    assert options.parse(declaration, again, "it") == parse(declaration, kept)


def program(venv: Path, script: str) -> None:
    """An environment that the Makefile takes for ready; its Python is a line of shell."""
    (venv / "bin").mkdir()
    (venv / "bin/python").write_text(f"#!/bin/sh\n{script}\n")
    (venv / "bin/python").chmod(0o755)
    for mark in (".ready", ".cluster"):
        (venv / mark).touch()


HOSTILE = """a"; touch ran; '"; touch ran; `touch ran`; 'b c'"""


@pytest.mark.parametrize("target", ["bench", "sweep", "score", "report", "publish", "test", "test-all", "help"])
def test_no_shell_runs_what_a_variable_of_make_holds(target, tmp_path):
    for file in ("Makefile", "requirements.lock", "requirements-cluster.lock", "pyproject.toml"):
        shutil.copy(ROOT / file, tmp_path)
    (tmp_path / "venv").mkdir()
    program(tmp_path / "venv", """printf '%s\\n' "$@" "$ARGS" """)
    names = {
        *make.MAKEFILE_VARIABLES,
        *re.findall(r"^(?:override )?(\w+) *[?:]?=", (ROOT / "Makefile").read_text(), re.M),
    }
    names |= {flag.variable for known in TARGETS for flag in make.variables_of(known)}
    words = [f"{name}={HOSTILE}" for name in sorted({*names, "MAKEFILE_LIST", "MAKECMDGOALS"} - {"VENV", "SHELL"})]
    command = ["make", "-s", target, f"VENV={tmp_path}/venv", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert HOSTILE in done.stdout
    assert not (tmp_path / "ran").exists()
    for hostile in ("x; touch ran #", "x ;touch ran", "x: ; touch ran"):  # as the name of a folder, too
        subprocess.run(["make", "-s", target, f"VENV={hostile}"], cwd=tmp_path, capture_output=True, check=False)
        assert not (tmp_path / "ran").exists()


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str, str], Any]:
    """Runs a `make` command in a shell, whose recipe only says its arguments; gives what they ask for."""
    show = "import json, os, sys; from gans.commands import make; "
    show += "'gans.commands.make' in sys.argv and print(json.dumps(make.command_line(sys.argv[3], os.environ)))"
    program(tmp_path, f'exec {sys.executable} -c "{show}" "$@"')
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MAKEFLAGS": ""}

    def run(target: str, command: str) -> Any:
        line = f"{command} -s VENV={shlex.quote(str(tmp_path))}"
        said = subprocess.run(
            line, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        words = json.loads(said.stdout)[len(make.TARGETS[target].words) :]
        return options.parse(TARGETS[target], words, "it")

    return run


@pytest.mark.parametrize(("declaration", "flag"), FLAGS)
def test_the_command_line_that_asks_again_gives_the_same_object(declaration, flag):
    needed, value = required(declaration), {flag.name: some(flag)}
    program, *line = shlex.split(options.command_line("it", parse(declaration, needed | value)))
    kept = needed | value if flag.option.repeated else needed
    assert program == "it"
    assert options.parse(declaration, line, "it") == parse(declaration, kept)


@pytest.mark.parametrize("target", TARGETS)
def test_make_itself_hands_down_what_the_command_says(target, made):
    """Through a shell, make and its recipe, with every variable that a command repeats."""
    asked = parse(TARGETS[target], repeated(target))
    assert made(target, options.command(target, asked)) == asked


@pytest.mark.parametrize(("value", "given"), [("", False), ("0", False), ("1", True)])
def test_a_switch_of_make_is_off_if_it_is_empty_or_0(value, given, made):
    for target, names in {"bench": ["DRY_RUN"], "speed": ["QUICK"], "sweep": ["JOIN"]}.items():
        words = [f"{name}={value}" for name in names] + ["MODEL=gan"] * (target == "sweep")
        asked = made(target, " ".join(["make", target, *words]))
        for flag in options.flags(TARGETS[target]):
            if flag.variable in names:
                assert flag.of(asked) is given


@pytest.mark.parametrize("target", ["bench", "speed"])
@pytest.mark.parametrize(("value", "given"), [("", None), ("0", False), ("1", True)])
def test_a_switch_that_may_be_left_out_can_be_turned_off(value, given, target, made):
    (flag,) = [flag for flag in options.flags(TARGETS[target]) if flag.variable == "GRAPH"]
    asked = made(target, f"make {target} GRAPH={value}")
    assert flag.of(asked) is given
    command = options.command(target, asked)
    assert command == f"make {target}" + (f" GRAPH={value}" if value else "")
    assert made(target, command) == asked
    line = options.command_line("it", asked)
    assert line == {None: "it", True: "it --graph", False: "it --no-graph"}[given]


def test_a_list_is_words_as_a_shell_reads_them():
    given = options.arguments("bench", Bench, {"DATASETS": "'folder:/my images' digits", "SEEDS": "1 2"})
    assert given == ["--datasets", "folder:/my images", "digits", "--seeds", "1", "2"]
    with pytest.raises(InputError, match=r"^DATASETS='a: no closing quotation; write 'a b' for a space$"):
        options.arguments("bench", Bench, {"DATASETS": "'a"})


def test_what_has_to_be_given_is_asked_for():
    with pytest.raises(InputError, match=r"^name a model: make sweep MODEL=sagan$"):
        options.arguments("sweep", Search, {})
    with pytest.raises(InputError, match=r"^the following arguments are required: MODEL; it --help lists"):
        options.parse(Search, [], "it")


@dataclass(frozen=True)
class Declared:
    """Try it. Nothing more."""

    one: Annotated[Literal["a", "b"] | None, Option("one of two, in 100 %")] = None
    three: Annotated[tuple[int, int, int] | None, Option("three numbers")] = None
    some: Annotated[tuple[float, ...], Option("numbers")] = (0.5, 2.0)
    plain: int = 3  # no option


def test_types_say_how_values_are_read():
    found = {flag.name: (flag.kind, flag.count, flag.choices) for flag in options.flags(Declared)}
    assert found == {"one": (str, None, ("a", "b")), "three": (int, 3, None), "some": (float, "+", None)}
    assert options.flags(Declared)[2].help == "numbers (default: 0.5 2)"
    assert options.parse(Declared, ["--three", "1", "2", "3", "--one", "b"], "it") == Declared("b", (1, 2, 3))
    for line in (["--one", "c"], ["--three", "1"], ["--some", "x"], ["--plain", "1"], ["--two"]):
        with pytest.raises(InputError, match=r"; it --help lists what it takes$"):
            options.parse(Declared, line, "it")


# --- limits

NUMBERS = [
    pytest.param(*param.values, id=param.id)
    for param in FLAGS
    if param.values[1].kind in (int, float)  # type: ignore[attr-defined]
]


@pytest.mark.parametrize(("declaration", "flag"), NUMBERS)
def test_every_number_has_limits_that_are_told(declaration, flag):
    option = flag.option
    named = {one.name: one for one in options.flags(declaration)}
    assert option.most is not None and (option.least is None) != (option.above is None)
    wrong = [-(10**30), 10**30, option.most + 1]
    wrong += [math.nan, math.inf, -math.inf] if flag.kind is float else []
    wrong += [option.above] if option.least is None else [option.least - 1]
    line = [word for name, value in required(declaration).items() for word in words(named[name], value)]
    for value in wrong:
        given = options.parse(declaration, [*line, f"{flag.flag}={value}"], "it")
        with pytest.raises(InputError, match=f"^{flag.variable}=.* must be ") as caught:
            options.check(given)
        assert options.as_text(option.most if value != wrong[0] else option.least or option.above or 0) in str(
            caught.value
        )
    for text in ("true", "1e3" if flag.kind is int else "one", "", "1,5", "0x10"):
        with pytest.raises(InputError, match=f"argument {flag.flag}: "):
            options.parse(declaration, [*line, f"{flag.flag}={text}"], "it")
    options.check(parse(declaration, required(declaration)))  # the defaults


# --- help


def text_of(line: list[str], capsys: pytest.CaptureFixture[str], read: Any) -> str:
    with pytest.raises(SystemExit) as ended:
        read([*line, "--help"])
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("target", [target for target in TARGETS if target != "ui"])
def test_help_of_a_target_says_every_default(target, capsys):
    said = text_of([], capsys, lambda line: options.parse(TARGETS[target], line, "it"))
    for flag in options.flags(TARGETS[target]):
        assert " ".join(flag.help.split()) in said
        assert flag.option.positional or flag.flag in said


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_says_every_default(name, capsys):
    said = text_of([name], capsys, main.parser().parse_args)
    for flag in options.flags(COMMANDS[name]):
        assert " ".join(flag.help.split()) in said
    assert options.about(COMMANDS[name]) in said


def test_make_help_lists_every_target_with_its_variables_and_their_defaults():
    makefile = (ROOT / "Makefile").read_text()
    lines = make.describe(makefile).splitlines()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == targets
    for target in TARGETS:
        start = next(place for place, line in enumerate(lines) if line.split()[0] == target)
        shown = [line.split(maxsplit=1) for line in lines[start + 1 : start + 1 + len(DEFAULTS[target])]]
        assert shown == [[flag.variable, flag.help] for flag in make.variables_of(target)]


def test_make_help_names_the_targets_before_there_is_an_environment():
    said = subprocess.run(
        ["make", "-s", "help", "VENV=/nowhere"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {line.split()[0] for line in said.stdout.splitlines()} >= {"setup", "test", *TARGETS}
    assert "MODELS" not in said.stdout


# --- make


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ("", []),
        (" -j2 --jobserver-auth=3,4 -- B=a$$$$b'q' A=x\\ y\\ C=d", ["B", "A"]),
        ("ks -- MODLES=dcgan SEEDS=", ["MODLES", "SEEDS"]),
        (" -- A:=1 B+=2", ["A", "B"]),
    ],
)
def test_the_variables_on_makes_command_line(flags, names):
    assert make.overrides(flags) == names


def test_a_variable_that_no_goal_takes_is_named(monkeypatch, capsys):
    make.check(["MODELS", "PYTHON", "VENV", "EXTRAS", "ROUNDS"], ["bench", "speed"])
    for names, goals, says in (
        (["MODLES"], ["bench"], r"unknown variable 'MODLES' of make bench; did you mean 'MODELS'\?"),
        (["MODELS"], ["sweep"], r"unknown variable 'MODELS' of make sweep; did you mean 'MODEL'\?"),
        (["ROUNDS"], ["bench", "report"], r"unknown variable 'ROUNDS' of make bench report; "),
    ):
        with pytest.raises(InputError, match=f"^{says}"):
            make.check(names, goals)
    monkeypatch.setenv("MAKEFLAGS", " -- PROT=5001")
    monkeypatch.setattr("sys.argv", ["make", "ui"])
    assert make.main() == 2
    assert capsys.readouterr().err == "error: unknown variable 'PROT' of make ui; did you mean 'PORT'?\n"


def test_every_variable_of_the_makefile_is_known():
    makefile = (ROOT / "Makefile").read_text()
    used = {*re.findall(r"\$\(([A-Z_]+)\)", makefile), *re.findall(r"^([A-Z]+) *[?:]?=", makefile, re.MULTILINE)}
    taken = {flag.variable for target in TARGETS for flag in make.variables_of(target)}
    assert used - taken - {"BIN", "READY", "CLUSTER"} <= {*make.MAKEFILE_VARIABLES}


def test_a_password_of_make_goes_into_the_environment(monkeypatch):
    became: list[list[str]] = []
    monkeypatch.setattr(make, "_become", became.append)
    monkeypatch.setenv("GANS_STORAGE", "")
    monkeypatch.setattr(make, "describe", lambda text: "")
    make.run(["sweep"], {"MODEL": "gan", "STORAGE": "postgresql://u:hush@h/x", "MAKEFLAGS": ""})
    assert became == [["sweeps", "gan"]]
    assert os.environ["GANS_STORAGE"] == "postgresql://u:hush@h/x"


def test_the_process_becomes_the_command(monkeypatch):
    became: list[tuple[str, list[str]]] = []

    def become(path: str, line: list[str]) -> None:
        became.append((path, line))
        raise SystemExit

    monkeypatch.setattr(os, "execv", become)
    for target, given, line in (
        ("bench", {"MATRIX": "mnist", "JOBS": "-2", "DRY_RUN": "1"}, "benchmarks mnist --jobs=-2 --dry-run"),
        ("sweep", {"MODEL": "gan", "OBJECTIVES": "score seconds"}, "sweeps gan --objectives score seconds"),
        (
            "score",
            {"EXTRACTORS": "inception", "COUNT": "50000"},
            "benchmarks.score --extractors inception --count=50000",
        ),
        ("speed", {"QUICK": "1", "GRAPH": "0"}, "benchmarks.speed --no-graph --quick"),
        ("gpu", {"ROUNDS": "9"}, "benchmarks.speed.gpu --rounds=9"),
        ("report", {"PRECISION": "bf16", "MODELS": "gan"}, "benchmarks.report --precision=bf16"),
        ("ui", {"PORT": "81"}, "gans ui --port=81"),
    ):
        with pytest.raises(SystemExit):
            make.run([target, target], {**given, "MAKEFLAGS": ""})
        assert became[-1] == (sys.executable, [sys.executable, "-m", *line.split()])


# --- speed


def test_nothing_heavy_is_imported_before_it_is_needed():
    """What takes a second or more: a wrong flag, name or key is answered without it, and so is help."""
    heavy = ["torch", "mlflow", "optuna", "pandas", "matplotlib", "scipy", "torch_fidelity", "sklearn"]
    modules = ["benchmarks.__main__", "benchmarks.score", "benchmarks.speed.__main__", "benchmarks.report"]
    modules += ["benchmarks.speed.gpu", "sweeps.__main__", "gans.__main__", "gans.commands.make"]
    code = f"import sys, importlib\n[importlib.import_module(name) for name in {modules}]\n"
    code += "from gans.commands import main, make\nmain.parser(); make.describe(open('Makefile').read())\n"
    code += f"print(*sorted(set({heavy}) & set(sys.modules)))"
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == ""
