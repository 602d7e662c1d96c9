"""Search spaces: what a sweep may change, as a model's file (`Model.space`) or a TOML file describes it.

A setting of the experiment is searched in one of these ways; a setting without an entry keeps its default.

    optimizer.lr_g = { low = 1e-5, high = 1e-2, log = true }         # a range, on a log scale
    batch = { choices = [0.5, 1, 2], relative = true }               # multiples of the default
    update.batches = { low = 1, high = 8, at_most = "update.workers" }  # whole numbers, k <= N
    loss.name = ["hinge", "wasserstein-gp"]                          # one of these
    loss.penalty = { low = 1, high = 30, log = true, when = { loss.name = "wasserstein-gp" } }
    optimizer.beta2 = 0.99                                           # one value that is not the default
"""

from __future__ import annotations

import json
import random
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from optuna.trial import BaseTrial, FixedTrial
from pydantic import Field, ValidationInfo, field_validator, model_validator

from gans.config import Experiment, Settings, experiment, flatten, read_toml, validated
from gans.data import datasets
from gans.errors import InputError, unknown
from gans.recipes import recipe
from gans.runs.cell import check_fit

# the rest of an experiment is what trials are compared on
SEARCHABLE = ("batch", "networks.", "update.", "loss.", "penalties.", "augment", "optimizer.", "anneal.", "ema.")
FIXED = ("update.rule", "networks.name")
DRAWS = 64  # of ends of ranges, to find settings that do not go together

Value = bool | int | float | str
Chosen = dict[str, Any]  # settings by dotted key


class Parameter(Settings):
    """How a setting is searched: any number between two, or one of some values."""

    relative: bool = Field(False, description="whether the numbers are multiples of the default")
    when: dict[str, tuple[Value, ...]] = Field(
        {}, strict=False, description="searched only if these settings have one of these values"
    )
    low: int | float | None = Field(None, description="lower bound; integers if the setting is one")
    high: int | float | None = Field(None, description="the largest number")
    log: bool = Field(False, description="whether to search on a logarithmic scale")
    at_most: str | None = Field(None, description="a setting that this one must not exceed")
    choices: tuple[Value, ...] = Field((), min_length=1, strict=False, description="in place of low and high")

    @field_validator("when", mode="before")
    @classmethod
    def dotted(cls, when: Any) -> Any:
        """Accept nested tables and single values, too."""
        if not isinstance(when, Mapping):
            return when
        return {k: v if isinstance(v, (list, tuple)) else (v,) for k, v in flatten(when)}

    @field_validator("low", "high", mode="before")
    @classmethod
    def numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse others by name: of a union, pydantic names the first type."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"{info.field_name} = {literal(value)} is not a number")
        return value

    @model_validator(mode="after")
    def ordered(self) -> Self:
        if (self.low is None) != (self.high is None) or (self.low is None) != bool(self.choices):
            raise InputError("give either low and high, or choices")
        if self.low is None or self.high is None:
            return self
        if not self.low < self.high:
            raise InputError(
                f"low = {self.low!r} is not below high = {self.high!r}; swap them, or give the single value"
            )
        if self.log and self.low <= 0:
            raise InputError(f"low = {self.low!r} has no logarithm; take a number above 0 or leave out log")
        return self

    def bound(self, default: Any) -> Parameter:
        """The same in absolute numbers of the default's type."""
        fields = self.model_dump(exclude_defaults=True, exclude={"relative", "choices"})
        fields |= {end: absolute(fields[end], default, self.relative) for end in ("low", "high") if end in fields}
        if self.choices:
            values = (absolute(value, default, self.relative) for value in self.choices)
            fields["choices"] = tuple(dict.fromkeys(values))
        return Parameter(**fields)

    def suggest(self, trial: BaseTrial | Ends, key: str, chosen: Mapping[str, Any]) -> Any:
        """This trial's value, given those chosen before it."""
        if self.fixed:
            return self.choices[0]
        if self.low is None or self.high is None:
            return trial.suggest_categorical(key, self.choices)
        high = min(self.high, chosen[self.at_most]) if self.at_most else self.high
        draw = trial.suggest_int if isinstance(self.low, int) else trial.suggest_float
        return draw(key, self.low, high, log=self.log)  # type: ignore[arg-type]

    @property
    def fixed(self) -> bool:
        """Whether there is one value only: no parameter of the study."""
        return len(self.choices) == 1

    def allows(self, value: Value) -> bool:
        if self.low is None or self.high is None:
            return value in self.choices
        return not isinstance(value, str) and self.low <= value <= self.high

    def brief(self) -> Any:
        """The parameter as a value of a TOML file."""
        fields = self.model_dump(exclude_defaults=True)
        return fields["choices"] if list(fields) == ["choices"] else fields


def absolute(value: Value, default: Any, relative: bool) -> Value:
    """A number of the default's type, times the default if it is relative."""
    if isinstance(value, str) or isinstance(default, str):
        if relative:
            raise InputError(f"{value!r} cannot be a multiple of the default {default!r}; leave out relative")
        return value
    if isinstance(value, bool) or isinstance(default, bool):  # which Python takes for 0 and 1
        if relative or type(value) is not type(default):
            raise InputError(f"{literal(value)} is not of the same type as the default, {literal(default)}")
        return value
    number = value * default if relative else value
    if not isinstance(default, int):
        return float(number)
    if not relative and number != int(number):
        raise InputError(f"{value!r} is not a whole number")
    return round(number)


@dataclass(frozen=True)
class Space:
    """What a sweep of one model searches, in absolute numbers.

    Attributes:
        parameters: by dotted key of the setting, in the order in which they are suggested.
        defaults: the settings of the default experiment by dotted key.
    """

    parameters: Mapping[str, Parameter]
    defaults: Mapping[str, Any]

    def suggest(self, trial: BaseTrial | Ends) -> dict[str, Any]:
        """The settings of a trial, as tables that are laid over the default experiment."""
        chosen: Chosen = {}
        for key, parameter in self.parameters.items():
            if self.applies(parameter, chosen):
                chosen[key] = parameter.suggest(trial, key, {**self.defaults, **chosen})
        return nest(chosen)

    def applies(self, parameter: Parameter, chosen: Mapping[str, Any]) -> bool:
        values = {**self.defaults, **chosen}
        return all(values[key] in wanted for key, wanted in parameter.when.items())

    def default(self) -> Chosen | None:
        """The parameters of the default, for the first trial; None if the space excludes it."""
        chosen = {k: self.defaults[k] for k, p in self.parameters.items() if self.applies(p, {})}
        inside = all(self.parameters[key].allows(value) for key, value in chosen.items())
        return {k: v for k, v in chosen.items() if not self.parameters[k].fixed} if inside else None

    def settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a trial with these parameters by dotted key, those that the space fixes included."""
        return dict(flatten(self.suggest(FixedTrial(dict(params)))))

    def text(self) -> str:
        """The space as the TOML that describes it."""
        return "".join(f"{key} = {literal(p.brief())}\n" for key, p in self.parameters.items())


def read_space(model: str, base: Experiment, file: Path | None = None) -> Space:
    """The search space of a recipe around its default experiment, or the one of a TOML file in its place.

    An InputError for no such file, a wrong key, or a space that is empty or contradicts itself.
    """
    if file:
        return space(read_toml(file), base, file.name)
    return space(recipe(model).space, base, f"the search space of {model}")


def space(tables: Mapping[str, Any], base: Experiment, where: str) -> Space:
    """The search space that the tables of a TOML file describe, checked."""
    defaults = base.flat()
    parameters = {}
    for key, entry in entries(tables, defaults, where):
        try:
            parameters[key] = parse(entry, key).bound(defaults[key])
        except InputError as error:
            raise InputError(f"{where}: {key}: {str(error).removeprefix(f'{key}: ')}") from None
    found = Space(parameters, defaults)
    if all(parameter.fixed for parameter in parameters.values()):
        raise InputError(f"{where} leaves nothing to search; give at least one setting more than one value")
    check(found, base, where)
    return found


def entries(
    tables: Mapping[str, Any], defaults: Mapping[str, Any], where: str, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Dotted key and entry of every setting that is searched."""
    for name, entry in tables.items():
        key = f"{prefix}{name}"
        if isinstance(entry, Mapping) and any(other.startswith(f"{key}.") for other in defaults):
            yield from entries(entry, defaults, where, f"{key}.")
        elif key in defaults and not searchable(key):
            raise InputError(f"{where}: {key} cannot be searched: trials must be compared at equal values")
        elif key not in defaults:
            raise unknown("key", key, filter(searchable, defaults), f" in {where}")
        else:
            yield key, entry


def searchable(key: str) -> bool:
    return key.startswith(SEARCHABLE) and key not in FIXED


def parse(entry: Any, key: str) -> Parameter:
    """A range, choices, or one value; not bound to a default yet."""
    if not isinstance(entry, Mapping):
        entry = {"choices": entry if isinstance(entry, list) else [entry]}
    return validated(Parameter, entry, key)


class Ends:
    """Stands in for a trial: suggests an end of every range, or one of the choices, at random.

    Of a range that conditions depend on, it also suggests the values that they name.
    """

    def __init__(self, seed: int, named: Mapping[str, Sequence[Any]]) -> None:
        self.random, self.named = random.Random(seed), named

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        return self.random.choice(choices)

    def suggest_float(self, name: str, low: float, high: float, log: bool = False) -> float:
        named = (type(low)(value) for value in self.named.get(name, ()) if value <= high)
        return self.random.choice((low, high, *named))

    suggest_int = suggest_float


def check(space: Space, base: Experiment, where: str) -> None:
    """Refuse a space in which a trial could not be trained, or a setting would never be searched.

    The InputError has the file, the key and the remedy.
    """
    earlier: set[str] = set()
    named: dict[str, list[Value]] = {}
    for key, parameter in space.parameters.items():
        for other in (*parameter.when, *filter(None, (parameter.at_most,))):
            if other not in space.defaults:
                raise unknown("key", other, space.defaults, f" in {where}, on which {key} depends")
            if other in space.parameters and other not in earlier:
                raise InputError(f"{where}: {key} depends on {other}, which must come before it")
        for other, wanted in parameter.when.items():
            searched = space.parameters.get(other)
            possible = [v for v in wanted if (searched.allows(v) if searched else v == space.defaults[other])]
            if not possible:
                raise InputError(f"{where}: {key} is searched only under conditions (when) that never hold")
            named.setdefault(other, []).extend(possible)
        earlier.add(key)
    images = datasets.load(base.dataset, resolution=base.resolution)
    for seed in range(DRAWS):
        tables = space.suggest(Ends(seed, named))
        try:
            check_fit(experiment(base.model_dump(), tables, where=where), images)
        except InputError as error:
            raise error if where in str(error) else InputError(f"{where}: {error}") from None


# --- settings as TOML text: Python reads TOML but does not write it


def literal(value: Any) -> str:
    """A value as TOML: a string, number or truth value, or a list or an inline table of them."""
    if isinstance(value, Mapping):
        inside = ", ".join(f"{bare(key)} = {literal(item)}" for key, item in value.items())
        return f"{{ {inside} }}"
    if isinstance(value, (bool, str)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(literal, value))}]"
    return repr(value)  # Python's floats, inf and nan too, are TOML's


def bare(key: str) -> str:
    """A key, in quotes if it needs them."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def lines(table: Mapping[str, Any]) -> str:
    """One line per setting with its dotted key, `optimizer.lr_g = 0.0002`; what is None is left out."""
    return "".join(f"{key} = {literal(value)}\n" for key, value in flatten(table) if value is not None)


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested tables, the reverse of `gans.config.flatten`."""
    return tomllib.loads(lines(flat))
