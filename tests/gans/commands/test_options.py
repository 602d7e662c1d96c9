"""Options over all commands: values, defaults, variables of make, and the command that gives the same again."""

import re
import shlex
import shutil
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin

import pytest
from cyclopts.argument import Argument
from cyclopts.validators import Number

from gans.commands import main, make
from gans.commands.options import ONCE, command_line
from gans.errors import InputError
from tests.conftest import parsed

ROOT = Path(__file__).parents[3]
COMMANDS = [name for name in main.COMMANDS if name != "chaos"]
# what has to be given; every command is called with it
NEEDED = {
    "train": "gan",
    "sample": "g",
    "interpolate": "g",
    "walk": "g",
    "export": "g",
    "arithmetic": "g --a 1 --b 2 --c 3",
    "push": "abcd1234 me/mine --licence MIT",
    "register": "abcd1234",
    "extractor": "digits",
    "sweep": "gan",
    "compare": "a b",
    "sensitivity": "digits",
    "publish": "x",
}
# names are checked as they are read
NAMES = {
    "device": "cpu",
    "dataset": "mnist",
    "reference": "mnist",
    "model": "dcgan",
    "name": "mine",
    "set": "batch=8",
}
NAMES |= {"study": "it's $HOME", "run_id": "0123abcd", "data": "mnist"}


@cache
def options(command: str) -> list[Argument]:
    return [one for one in main.app()[command].assemble_argument_collection() if one.parse and one.show]


def field(argument: Argument) -> str:
    return str([argument.field_info.name, *argument.keys][-1])


def of(found: Any, argument: Argument) -> Any:
    """An option's value in the options of a command."""
    for key in argument.keys or [field(argument)]:
        found = getattr(found, key)
    return found


def given(command: str) -> list[str]:
    return [command, *shlex.split(NEEDED.get(command, ""))]


def words(argument: Argument) -> list[str]:
    """A value that is not the default, as hard to quote as its type allows."""
    kind = argument.resolved_hint
    many = get_origin(kind) not in (None, Literal)
    if many:
        kind = get_args(kind)[0]
    if choices := argument.get_choices():
        one = next(choice for choice in choices if choice != argument.field_info.default)
    else:
        texts = {int: "100", float: "0.125", Path: "a b/it's.toml", str: "it's $HOME, a\\b"}
        one = NAMES.get(field(argument).rstrip("_")) or texts[kind]
    count = argument.token_count()[0]
    return [one] * count if not argument.token_count()[1] else [one, *([] if choices else [one])]


def kinds_of(argument: Argument) -> set[Any]:
    return {argument.resolved_hint, *get_args(argument.resolved_hint)}


OPTIONS = [
    pytest.param(command, argument, id=f"{command}{argument.name}")
    for command in COMMANDS
    for argument in options(command)
]
SET = [param for param in OPTIONS if not param.values[1].field_info.required]
NUMBERS = [param for param in OPTIONS if kinds_of(param.values[1]) & {int, float}]


@pytest.mark.parametrize(("command", "argument"), SET)
def test_an_option_has_its_default_or_its_value_and_the_command_that_gives_it_again(command, argument):
    assert argument.parameter.help
    plain = parsed(given(command))
    line = [argument.name, *([] if argument.resolved_hint is bool else words(argument))]
    if command == "sweep" and field(argument) == "objectives":
        line = [argument.name, "score", "seconds"]
    found = parsed([*given(command), *line])
    assert of(found, argument) != of(plain, argument)
    assert all(of(found, other) == of(plain, other) for other in options(command) if other.name != argument.name)
    if isinstance(plain, SimpleNamespace):
        return  # no page tells how to give the command again
    again = command_line(f"gans {command}", found)
    kept = ONCE not in getattr(argument.field_info.hint, "__metadata__", ())
    assert parsed(shlex.split(again)[1:]) == (found if kept else plain)
    assert command_line(f"gans {command}", plain) == " ".join(["gans", *given(command)])


@pytest.mark.parametrize(("command", "argument"), NUMBERS)
def test_every_number_has_limits(command, argument):
    kinds = kinds_of(argument)
    (limits,) = argument.parameter.validator
    assert isinstance(limits, Number)
    assert limits.lte is not None and (limits.gte is None) != (limits.gt is None)
    wrong = [str(limits.lte * 2 + 1), "-1e30" if float in kinds else str(-(10**20)), "one", "", "1,5", "0x10"]
    wrong += ["nan", "inf", "-inf"] if float in kinds else ["1.5", "1e3", "9" * 5000]
    for text in wrong:
        with pytest.raises(InputError, match=f"Invalid value .*{argument.name}"):
            main.parse([*given(command), f"{argument.name}={text}"])


@pytest.mark.parametrize("target", [target for target in make.TARGETS if target != "chaos"])
def test_variables_of_make_give_what_options_give(target, monkeypatch):
    command, taken = make.TARGETS[target], make.arguments(target)
    switches = [argument for argument in taken if argument.resolved_hint is bool]

    def variables(texts: dict[str, str]) -> Any:
        for argument in taken:
            monkeypatch.setenv(make.variable(argument), texts.get(make.variable(argument), " "))
        return parsed([command], make.from_environment)

    texts, line = {}, [command]
    for argument in taken:
        value = [] if argument in switches else words(argument)
        if field(argument) == "objectives":
            value = ["score", "seconds"]
        text = shlex.join(value) if argument.token_count()[1] else "".join(value) or "1"
        texts[make.variable(argument)] = f" {text} "
        line += [argument.name, *value]
    assert variables(texts) == parsed(line)
    required = {"MODEL": "gan"} if command == "sweep" else {}
    assert variables(required) == parsed(given(command))
    off = variables(required | {make.variable(argument): "0" for argument in switches})
    assert not any(of(off, argument) for argument in switches)


def test_variables_that_make_no_sense(monkeypatch):
    monkeypatch.setenv("DATASETS", "'folder:/my images' digits")
    assert main.parse(["bench"], make.from_environment)[1].args[0].selection.datasets == [
        "folder:/my images",
        "digits",
    ]
    monkeypatch.setenv("DATASETS", "'a")
    with pytest.raises(InputError, match=r"^DATASETS='a: no closing quotation; write 'a b' for a space$"):
        main.parse(["bench"], make.from_environment)
    monkeypatch.delenv("DATASETS")
    monkeypatch.setenv("JOBS", "0")
    with pytest.raises(InputError, match=r'^Invalid value "0" for JOBS\. Must be >= 1\.$'):
        main.parse(["bench"], make.from_environment)


# --- the command line


def test_without_a_command_it_prints_help(gans):
    code, said, err = gans()
    assert (code, err) == (0, "")
    assert (code, said, err) == gans("--help")
    assert all(re.search(rf"│ {name} ", said) for name in COMMANDS)
    assert "--plugin MODULE" in said
    assert gans("--version")[:2] == (0, f"{version('gans')}\n")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("smaple x", "unknown command 'smaple'; did you mean 'sample'?"),
        ("bench --modles gan", "Unknown option: --modles. Did you mean --models?"),
        ("bench digits mnist", "unexpected mnist; gans bench --help lists what it takes"),
        ("bench --models", 'Command "bench" parameter --models requires at least 1 element. Got 0.'),
        ("sweep gan --pruner halvin", 'Invalid value "halvin" for --pruner. '
         'Choose from: "halving", "median", "none". Did you mean "halving"?'),
        ("walk g --through 1:1 1:2",
         'Command "walk" parameter --through requires 3 positional arguments. Only got 2.'),
        ("train gan --device cuad", "unknown device 'cuad'; take auto, cpu, mps, cuda or cuda:0"),
        ("compare a", 'Command "compare" parameter --other requires an argument.'),
        ("bench --plugin a/b", "'a/b' is not the name of a module; write --plugin package.module"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_one_line(line, says, gans):
    assert gans(*line.split()) == (2, "", f"error: {says}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_every_option_with_its_default(command, gans):
    code, said, _ = gans(command, "--help")
    text = " ".join(said.replace("│", " ").split())
    assert code == 0
    for argument in options(command):
        assert argument.name in text
        assert " ".join(argument.parameter.help.split()) in text or "CHOICE" in text
        default = None if argument.required else main.shown(argument.field_info.default)
        assert not default or f"[default: {default}]" in text


# --- make


def program(venv: Path, script: str) -> None:
    """An environment that the Makefile takes for ready; its Python is a shell script."""
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
    names |= {make.variable(argument) for known in make.TARGETS for argument in make.arguments(known)}
    words = [f"{name}={HOSTILE}" for name in sorted({*names, "MAKEFILE_LIST", "MAKECMDGOALS"} - {"VENV", "SHELL"})]
    command = ["make", "-s", target, f"VENV={tmp_path}/venv", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert HOSTILE in done.stdout
    assert not (tmp_path / "ran").exists()
    for hostile in ("x; touch ran #", "x ;touch ran", "x: ; touch ran"):  # as the name of a folder, too
        subprocess.run(["make", "-s", target, f"VENV={hostile}"], cwd=tmp_path, capture_output=True, check=False)
        assert not (tmp_path / "ran").exists()


def test_make_help_lists_every_target_with_its_variables_and_their_defaults():
    makefile = (ROOT / "Makefile").read_text()
    lines = make.describe(makefile).splitlines()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    expected = [
        word
        for target in targets
        for word in (target, *map(make.variable, make.arguments(target) if target in make.TARGETS else ()))
    ]
    assert [line.split()[0] for line in lines] == expected
    assert (
        "    MATRIX      name of a matrix in benchmarks/matrices, or path of a TOML file (default: digits)"
        in lines
    )
    # before there is an environment, its targets alone
    bare = subprocess.run(["make", "-s", "help", "VENV=/nowhere"], cwd=ROOT, capture_output=True, text=True)
    assert {line.split()[0] for line in bare.stdout.splitlines()} >= {"setup", "test", *make.TARGETS}


def test_a_variable_that_no_goal_takes_is_named(monkeypatch, capsys):
    make.check(["MODELS", "PYTHON", "VENV", "EXTRAS", "ROUNDS"], ["bench", "speed"])
    with pytest.raises(InputError, match=r"^unknown variable 'ROUNDS' of make bench report; "):
        make.check(["ROUNDS"], ["bench", "report"])
    monkeypatch.setenv("MAKEFLAGS", " -j2 --jobserver-auth=3,4 -- PORT=x\\ A=y PROT=5001")
    monkeypatch.delenv("MAKECMDGOALS", raising=False)  # of `make test`
    monkeypatch.setattr("sys.argv", ["make", "ui"])
    assert make.main() == 2
    assert capsys.readouterr().err == "error: unknown variable 'PROT' of make ui; did you mean 'PORT'?\n"


def test_every_variable_of_the_makefile_is_known():
    makefile = (ROOT / "Makefile").read_text()
    used = {*re.findall(r"\$\(([A-Z_]+)\)", makefile), *re.findall(r"^([A-Z]+) *[?:]?=", makefile, re.MULTILINE)}
    taken = {make.variable(argument) for target in make.TARGETS for argument in make.arguments(target)}
    assert used - taken - {"BIN", "READY", "CLUSTER"} <= {*make.MAKEFILE_VARIABLES}
