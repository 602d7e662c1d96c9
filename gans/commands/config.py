"""`gans config`: the recipes; of one of them every setting, its value, and what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from gans.commands.options import flat, option


@flat
@dataclass(frozen=True)
class Config:
    recipe: Annotated[str, option("gan, dcgan, ..., or package.module:Name; default: list the recipes")] = ""


def config(options: Config = Config()) -> int:
    from gans.recipes import names, recipe

    if options.recipe:
        from gans.config import describe, experiment

        for key, value, text in describe(experiment(recipe(options.recipe).settings)):
            print(f"{key:<24} {value!s:<18} {text}")
        return 0
    for name in names():
        print(f"{name:<24} {recipe(name).about}".rstrip())
    print("\ngans config NAME lists the settings of one; gans train NAME DATASET trains it")
    return 0
