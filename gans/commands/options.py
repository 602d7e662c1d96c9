"""A command's options: the annotated fields of a dataclass, which cyclopts reads; of `make`, variables.

Fields before `_: KW_ONLY` may also be given by their place; a field that is such a dataclass adds its options.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints

from cyclopts import Parameter, convert
from cyclopts.validators import Number

from gans.errors import InputError, unknown
from gans.files import VARIABLE, expand
from gans.registry import DATASETS, FOLDER, HUB, PLUGIN, allowed, folder
from gans.schema import Where

ONCE = "once"  # marks an option of one machine or one call, which the command to reproduce omits

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
    """The help text of an option, and its valid values; `further` is of `cyclopts.Parameter`.

    Numbers go from `least`, or beyond `above`, to `most`; nan and inf are refused. `check` raises an `InputError`.
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
    """Numbers as they are written, where cyclopts rounds 1.5 to a whole one."""

    def read(one: type, text: str) -> Any:
        if one is int and not re.fullmatch(r"[+-]?[0-9]{1,30}", text):
            raise ValueError(f"'{text}' is not a whole number.")
        return one(text)

    return convert(kind, tokens, converter=read)


# What several commands take


def check_device(name: str) -> str:
    """The name of a device, which this machine need not have: to ask torch would take seconds."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise InputError(f"unknown device '{name}'; take auto, cpu, mps, cuda or cuda:0")
    return name


def check_workers(where: str, context: str = "") -> Where:
    """The name of a place where an update rule's workers can run; `context` says where the name was read."""
    if where not in get_args(Where):
        raise unknown("place for workers", where, get_args(Where), context)
    return cast("Where", where)


def check_dataset(name: str) -> str:
    """The name of a data set that there is, or of a folder or archive that exists."""
    if name.startswith(FOLDER):
        path = expand(folder(name)[0])
        if path.name and not path.exists():
            raise InputError(f"{name}: {path} does not exist; check the path")
    elif name and not name.startswith(HUB) and name not in DATASETS:
        raise unknown("data set", name, [*DATASETS, f"{FOLDER}PATH", f"{HUB}OWNER/NAME"])
    return name


Device = Annotated[str, option("auto, cpu, mps (Apple), cuda or cuda:1", check=check_device)]
Graph = Annotated[
    bool | None, option("record training steps as CUDA graphs; default: on CUDA", negative="--no-graph")
]
Compile = Annotated[bool, option("compile both networks within the recorded step (CUDA only)")]
Outputs = Annotated[
    Path, option(f"folder of results: reports, presets, samples, speed; also set by {VARIABLE}"), ONCE
]


# The command to reproduce


def command_line(program: str, options: object) -> str:
    """The command with these options, quoted for a shell: those that differ from the defaults."""
    plugins = [word for name in allowed() if not PLUGIN.fullmatch(name) for word in ("--plugin", name)]
    return " ".join([program, *map(shlex.quote, [*_words(options), *plugins])])


def _words(options: object, keywords: object = False) -> Iterator[str]:
    """Words of what differs from the defaults; with `keywords`, none is given by its place."""
    hints = get_type_hints(type(options), include_extras=True)
    for field in fields(options):  # type: ignore[arg-type]
        value, hint = getattr(options, field.name), hints[field.name]
        if is_dataclass(value):
            yield from _words(value, keywords or field.kw_only)
            continue
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if get_origin(hint) is not Annotated or ONCE in hint.__metadata__ or value == default:
            continue
        name = field.name.rstrip("_").replace("_", "-")  # a word of Python's, as `class`, has `_` behind it
        if isinstance(value, bool):
            yield f"--{name}" if value else f"--no-{name}"
            continue
        if keywords or field.kw_only:
            yield f"--{name}"
        yield from map(as_text, several(value))


def as_text(value: Any) -> str:
    """A value as people type it: 0.05, not 5e-2."""
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return repr(value) if isinstance(value, float) and float(short) != value else short
