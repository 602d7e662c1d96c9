"""What the Makefile runs: `make` puts its variables into the environment, from which a command line is made.

`python -m gans.commands.make bench` runs what `make bench` does.
`python -m gans.commands.make help` says what there is.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from gans.commands import options
from gans.errors import exit_code, unknown
from gans.registry import load
from gans.urls import without_secrets

# options that go into the environment if they hold a password
SECRETS = {"--storage": "GANS_STORAGE"}
# of the Makefile itself; SHELL is make's own
MAKEFILE_VARIABLES = ("PYTHON", "VENV", "EXTRAS", "ARGS", "FROM", "PLUGIN", "SHELL")


@dataclass(frozen=True)
class Target:
    """A target whose variables are a command's options.

    Attributes:
        words: the command line's first words, after `python -m`.
        declaration: `package.module:Name` of the command's options.
    """

    words: tuple[str, ...]
    declaration: str

    @property
    def options(self) -> type:
        return load("command", self.declaration)


TARGETS = {
    "bench": Target(("benchmarks",), "benchmarks.options:Bench"),
    "sweep": Target(("sweeps",), "sweeps.options:Search"),
    "score": Target(("benchmarks.score",), "benchmarks.options:Score"),
    "speed": Target(("benchmarks.speed",), "benchmarks.speed.options:Speed"),
    "gpu": Target(("benchmarks.speed.gpu",), "benchmarks.speed.options:Goals"),
    "chaos": Target(("tests.chaos",), "tests.chaos.options:Chaos"),
    "report": Target(("benchmarks.report",), "benchmarks.options:Report"),
    "ui": Target(("gans", "ui"), "gans.commands.ui:Ui"),
}


def main() -> int:
    return exit_code(lambda: run(sys.argv[1:], os.environ))


def run(words: Sequence[str], variables: Mapping[str, str]) -> int:
    """Print the help, or become the command of the target that is the first word."""
    target, goals = words[0], variables.get("MAKECMDGOALS", "").split() or words[:1]
    if target != "help":
        check(overrides(variables.get("MAKEFLAGS", "")), goals)
        words, secrets = without_secrets(command_line(target, variables), SECRETS)
        os.environ.update(secrets)
        _become(words)
    print(describe(Path("Makefile").read_text(encoding="utf-8")))
    return 0


def _become(words: Sequence[str]) -> NoReturn:
    """Go on as `python -m WORDS`: the same process, so that Ctrl-C and the exit code are the command's."""
    os.execv(sys.executable, [sys.executable, "-m", *words])


def command_line(target: str, variables: Mapping[str, str]) -> list[str]:
    """What follows `python -m`."""
    return [*TARGETS[target].words, *options.arguments(target, TARGETS[target].options, variables)]


def overrides(flags: str) -> list[str]:
    """The names of the variables on make's command line, handed down in MAKEFLAGS: `-j2 -- A=b C=d\\ e`."""
    words = re.findall(r"(?:\\.|\S)+", flags)
    return [found[1] for word in words if (found := re.match(r"([A-Za-z_]\w*)[:+?!]*=", word))]


def check(names: Sequence[str], goals: Sequence[str]) -> None:
    """Refuse a variable that none of the goals takes.

    Raises:
        InputError: with the nearest name.
    """
    taken = [flag.variable for goal in goals if goal in TARGETS for flag in variables_of(goal)]
    for name in names:
        if name not in (*taken, *MAKEFILE_VARIABLES):
            raise unknown("variable", name, taken, f" of make {' '.join(goals)}")


def variables_of(target: str) -> list[options.Flag]:
    """The options of a target that make takes."""
    return [flag for flag in options.flags(TARGETS[target].options) if flag.option.variable]


def describe(makefile: str) -> str:
    """The targets, as the Makefile's `## ` comments say what they do, with their variables and defaults."""
    return "\n".join(line for found in _targets(makefile) for line in _lines(*found))


def _targets(makefile: str) -> Iterator[tuple[str, str]]:
    yield from re.findall(r"^([a-z-]+):.*?## (.*)$", makefile, re.MULTILINE)


def _lines(target: str, text: str) -> Iterator[str]:
    yield f"{target:<10} {text}"
    for flag in variables_of(target) if target in TARGETS else ():
        yield f"    {flag.variable:<10} {flag.help}"


if __name__ == "__main__":
    sys.exit(main())
