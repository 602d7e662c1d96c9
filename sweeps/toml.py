"""Settings as TOML text: Python reads TOML but does not write it."""

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from gans.config import flatten


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
