"""The command line: `gans train | sample | zoo | score | ...`; `COMMANDS` has all of it."""

from __future__ import annotations

import sys

from gans.commands import (
    arithmetic,
    config,
    extractor,
    interpolate,
    register,
    sample,
    score,
    sync,
    train,
    ui,
    walk,
    zoo,
)
from gans.errors import Parser, exit_code

# each adds its command to the parser, and imports what is heavy when it runs
COMMANDS = (train, sample, interpolate, arithmetic, walk, score, zoo, register, extractor, config, sync, ui)


def main() -> int:
    """Entry point of the `gans` command."""

    def run() -> int:
        asked = parser().parse_args()
        return asked.run(asked)

    return exit_code(run)


def parser() -> Parser:
    """The parser of all commands; a parsed namespace holds under `run` what to call with it."""
    top = Parser(prog="gans", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return top


if __name__ == "__main__":
    sys.exit(main())
