"""The program behind the Makefile: `make` exports its variables, from which options take their values."""

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cyclopts import App
from cyclopts.argument import Argument, ArgumentCollection
from cyclopts.token import Token

from gans.commands import main as gans
from gans.errors import InputError, exit_code, unknown
from gans.registry import allow, allow_named

# for developers: the wheel lacks it
gans.COMMANDS["chaos"] = ("tests.chaos.command:chaos", "Kill and damage tiny runs, and count the losses.")
# the command of each target
TARGETS = {name: name for name in ("bench", "sweep", "speed", "gpu", "chaos", "report", "ui")} | {
    "score": "rescore"
}
# of the Makefile itself; SHELL is make's own
MAKEFILE_VARIABLES = ("PYTHON", "VENV", "EXTRAS", "ARGS", "FROM", "PLUGIN", "SHELL")


def main() -> int:
    return exit_code(lambda: run(sys.argv[1]))


def run(target: str) -> int:
    if target == "help":
        print(describe(Path("Makefile").read_text(encoding="utf-8")))
        return 0
    check(overrides(os.environ.get("MAKEFLAGS", "")), os.environ.get("MAKECMDGOALS", "").split() or [target])
    allow(*os.environ.get("PLUGIN", "").split())
    return gans.run([TARGETS[target]], from_environment)


def from_environment(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Give options the values of their variables.

    An empty variable counts as not given; a switch is off if it is 0; lists are words as a shell reads them, so
    that `DATASETS="'folder:/my images'"` is one.
    """
    for argument in arguments:
        name = variable(argument)
        given = os.environ.get(name, "").strip() if argument.parse else ""
        allow_named(given)
        try:
            words = shlex.split(given) if argument.token_count() != (1, False) else [given]
        except ValueError as error:
            raise InputError(f"{name}={given}: {str(error).lower()}; write 'a b' for a space") from None
        for index, word in enumerate(words if given else ()):
            argument.append(Token(keyword=name, value=word, source="", index=index))


def variable(argument: Argument) -> str:
    """An option's name as a variable of `make`."""
    return argument.name.lstrip("-").replace("-", "_").upper()


def arguments(target: str) -> list[Argument]:
    return [argument for argument in gans.app()[TARGETS[target]].assemble_argument_collection() if argument.show]


def overrides(flags: str) -> list[str]:
    """The names of the variables on make's command line, handed down in MAKEFLAGS: `-j2 -- A=b C=d\\ e`."""
    words = re.findall(r"(?:\\.|\S)+", flags)
    return [found[1] for word in words if (found := re.match(r"([A-Za-z_]\w*)[:+?!]*=", word))]


def check(names: Sequence[str], goals: Sequence[str]) -> None:
    """Refuse a variable that none of the goals takes, with the nearest name."""
    taken = [variable(argument) for goal in goals if goal in TARGETS for argument in arguments(goal)]
    for name in names:
        if name not in (*taken, *MAKEFILE_VARIABLES):
            raise unknown("variable", name, taken, f" of make {' '.join(goals)}")


def describe(makefile: str) -> str:
    """The targets, as the Makefile's `## ` comments say what they do, with their variables and defaults."""
    found = re.findall(r"^([a-z-]+):.*?## (.*)$", makefile, re.MULTILINE)
    return "\n".join(line for target, text in found for line in (f"{target:<10} {text}", *_variables(target)))


def _variables(target: str) -> Iterator[str]:
    for argument in arguments(target) if target in TARGETS else ():
        default = gans.shown(argument.field_info.default) if not argument.required else None
        end = f" (default: {default})" if default else ""
        yield f"    {variable(argument):<11} {argument.parameter.help}{end}"


if __name__ == "__main__":
    sys.exit(main())
