"""Checks of arguments that several commands share."""

from __future__ import annotations

import re
from typing import cast, get_args

from gans.errors import InputError, unknown
from gans.files import expand
from gans.recipes import RECIPES, known
from gans.registry import DATASETS, FOLDER
from gans.schema import Where

DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


def device(name: str) -> str:
    """The name of a device, which this machine need not have: to ask torch would take seconds."""
    if not DEVICE.fullmatch(name):
        raise InputError(f"unknown device '{name}'; take auto, cpu, cuda or cuda:0")
    return name


def model(name: str) -> str:
    """The name of a recipe."""
    if not known(name):
        raise unknown("model", name, RECIPES)
    return name


def workers(where: str, context: str = "") -> Where:
    """The name of a place where an update rule's workers can run; `context` says where the name stands."""
    if where not in get_args(Where):
        raise unknown("place for workers", where, get_args(Where), context)
    return cast("Where", where)


def dataset(name: str) -> str:
    """The name of a data set that there is, or of a folder or archive that exists."""
    if name.startswith(FOLDER):
        path = expand(name.removeprefix(FOLDER))
        if path.name and not path.exists():
            raise InputError(f"{name}: {path} does not exist; check the path")
    elif name and name not in DATASETS:
        raise unknown("data set", name, [*DATASETS, f"{FOLDER}PATH"])
    return name
