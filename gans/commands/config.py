"""`gans config`: every setting of an experiment, its value under a recipe, and what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from gans.commands import options
from gans.commands.options import Option


@dataclass(frozen=True)
class Config:
    """List every setting of an experiment, with a recipe's values."""

    recipe: Annotated[str, Option("gan, dcgan, ..., or package.module:Name", positional=True)] = "dcgan"


def add(commands: Any) -> None:
    """Add the command to the parser."""
    options.add(commands, "config", Config, run)


def run(asked: Config) -> int:
    """Print one line for each setting."""
    from gans.config import describe, experiment
    from gans.recipes import recipe

    for key, value, text in describe(experiment(recipe(asked.recipe).settings)):
        print(f"{key:<24} {value!s:<18} {text}")
    return 0
