"""How a command's options are declared: once, as the annotated fields of a dataclass, which cyclopts reads.

    @flat
    @dataclass(frozen=True)
    class Ui:
        port: Annotated[int, option("TCP port on localhost", least=1, most=65_535)] = 5000

gives `--port` and, for `make ui`, `PORT=`. Fields before `_: KW_ONLY` may also be given by their place. A field
that is such a dataclass itself adds its options. What differs from the defaults is a command that gives the same
again.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_origin, get_type_hints

from cyclopts import Parameter, convert
from cyclopts.validators import Number

from gans.commands import checks
from gans.places import VARIABLE
from gans.registry import PLUGIN, allowed

ONCE = (
    "once"  # notes an option that is one machine's or one call's: the command that gives the same again lacks it
)

Declared = TypeVar("Declared")


def flat(declaration: type[Declared]) -> type[Declared]:
    """Decorates a dataclass whose fields are options of the command itself, without a prefix."""
    # cyclopts reads those of the constructor, where names from the modules of base classes are not found
    declaration.__init__.__annotations__ = get_type_hints(declaration, include_extras=True)
    return Parameter(name="*")(declaration)


def option(
    text: str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    check: Callable[[str], object] | None = None,
    **further: Any,
) -> Parameter:
    """What an option means, and which values it takes.

    Args:
        text: its help.
        least: smallest number.
        above: in place of `least`, a limit that is not allowed itself.
        most: largest number; with limits, nan and inf are refused.
        check: raises an `InputError` for a name that is none.
        further: of `cyclopts.Parameter`.
    """
    validators: list[Callable[[Any, Any], object]] = []
    if most is not None:
        validators.append(Number(gte=least, gt=above, lte=most))
        further["converter"] = number
    if check is not None:
        validators.append(lambda _, value: [check(one) for one in several(value) if one is not None])
    return Parameter(help=text, validator=validators, **further)


def several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else (value,)


def number(kind: Any, tokens: Any) -> Any:
    """Numbers as they are written: cyclopts by itself rounds 1.5 to a whole one."""

    def read(one: type, text: str) -> Any:
        if one is int and not re.fullmatch(r"[+-]?[0-9]{1,30}", text):
            raise ValueError(f"'{text}' is not a whole number.")
        return one(text)

    return convert(kind, tokens, converter=read)


# What several commands take

Device = Annotated[str, option("auto, cpu, cuda or cuda:1", check=checks.device)]
Graph = Annotated[
    bool | None, option("record training steps as CUDA graphs; if not given, on CUDA", negative="--no-graph")
]
Compile = Annotated[bool, option("compile both networks within the recorded step (CUDA; not measured)")]
Outputs = Annotated[
    Path, option(f"folder of what is made here: reports, presets, samples, speed; {VARIABLE} names it too"), ONCE
]


# The command that gives the same again


def command_line(program: str, options: object) -> str:
    """The command that gives these options again, quoted for a shell: what differs from the defaults."""
    words = [*_words(options), *(word for module in plugins() for word in ("--plugin", module))]
    return " ".join([program, *map(shlex.quote, words)])


def plugins() -> list[str]:
    """The modules that `--plugin` allowed, for a command that does the same again."""
    return [name for name in allowed() if not PLUGIN.fullmatch(name)]


def _words(options: object, keywords: object = False) -> Iterator[str]:
    """Words of what differs from the defaults; with `keywords`, none is given by its place."""
    hints = get_type_hints(type(options), include_extras=True)
    for field in fields(options):  # type: ignore[arg-type]
        value, hint = getattr(options, field.name), hints[field.name]
        if is_dataclass(value):
            yield from _words(value, keywords or field.kw_only)
        elif get_origin(hint) is Annotated and ONCE not in hint.__metadata__ and value != _default(field):
            yield from _typed(field, value, keywords or field.kw_only)


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _typed(field: Field[Any], value: Any, keyword: object) -> Iterator[str]:
    """The words that give an option a value."""
    name = flag(field.name)
    if isinstance(value, bool):
        yield name if value else f"--no-{name[2:]}"
        return
    values = [as_text(one) for one in several(value)]
    if keyword:
        yield name
    yield from values


def flag(name: str) -> str:
    """The option of a field; a word of Python's, as `class`, has `_` behind it."""
    return f"--{name.rstrip('_').replace('_', '-')}"


def as_text(value: Any) -> str:
    """A value as people type it: 0.05, not 5e-2."""
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return repr(value) if isinstance(value, float) and float(short) != value else short
