"""A command's options, declared once: as the fields of a dataclass.

From a declaration follow the command line, the variables of `make` and what `make help` says of them, the object
that the program works with, and the command that gives the same object again.

    @dataclass(frozen=True)
    class Ui:
        '''Open the MLflow UI on this machine.'''

        port: Annotated[int, Option("TCP port on localhost")] = 5000

gives `--port`, `PORT=` and `Ui(port=5000)`. A field's type says how it is read: `bool` is a switch, `Literal` a
choice, a sequence or tuple takes several values; `None` among its types means that it may be left out, and that
a switch can be turned off as well (`--no-graph`, `GRAPH=0`). A field that is a dataclass itself is a part: its
options are the declaration's too.
"""

from __future__ import annotations

import argparse
import inspect
import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from gans.errors import InputError, Parser
from gans.registry import PLUGIN, allow, allow_named, allowed

Declared = TypeVar("Declared")
PLUGIN_HELP = "a Python module whose parts files may name (package.module; repeatable): its code runs"


@dataclass(frozen=True)
class Option:
    """What a field's annotation says beside its type.

    Attributes:
        help: what the option means, with its unit.
        positional: given by its place on the command line, without a flag.
        metavar: what help calls its value; empty: the field's name.
        example: of a value, for an error message, if there is no default.
        variable: whether `make` takes it.
        least, most: limits of a number, both allowed; a declaration's numbers have them all (see `check`).
        above: a limit from below that is not allowed itself, in place of `least`.
        repeated: whether the command that gives the same again has it; not what is one machine's or one call's.
    """

    help: str
    positional: bool = False
    metavar: str = ""
    example: str = ""
    variable: bool = True
    repeated: bool = True
    least: float | None = None
    most: float | None = None
    above: float | None = None

    @property
    def limits(self) -> str:
        """`at least 1, at most 100`."""
        low = f"above {as_text(self.above)}" if self.least is None else f"at least {as_text(self.least)}"
        return f"{low}, at most {as_text(self.most)}"

    def fault(self, value: float) -> str:
        """What is wrong with a number; empty if nothing is."""
        if not math.isfinite(value):  # argparse takes `nan` and `inf` for numbers
            return f"must be a finite number, {self.limits}"
        if self.most is not None and value > self.most:
            return f"must be at most {as_text(self.most)}"
        below = value < self.least if self.least is not None else self.above is not None and value <= self.above
        return f"must be {self.limits}" if below else ""


@dataclass(frozen=True)
class Only:
    """Annotates a part of which a command takes only some fields; the others keep their defaults."""

    fields: tuple[str, ...]


@dataclass(frozen=True)
class Flag:
    """One option of a command.

    Attributes:
        name: of the field; a word of Python's, as `class`, with `_` behind it.
        part: the declaration's field that holds it; empty if the declaration itself does.
        option: what its annotation says.
        kind: type of one value.
        count: how many values: None for one, `+` for one or more, else their number.
        choices: the values that it may have; None: any.
        default: its value if it is not given; `dataclasses.MISSING` if it has to be.
    """

    name: str
    option: Option
    kind: type
    count: int | str | None
    choices: tuple[str, ...] | None
    default: Any
    part: str = ""

    @property
    def variable(self) -> str:
        """Its name as a variable of `make`."""
        return self.name.rstrip("_").upper()

    @property
    def flag(self) -> str:
        return f"--{self.name.rstrip('_').replace('_', '-')}"

    @property
    def negative(self) -> str:
        """Of a switch that may be left out: how it is asked not to be."""
        return f"--no-{self.flag.removeprefix('--')}"

    def text(self, value: Any) -> str:
        """Its value as a variable of `make` holds it."""
        return "0" if value is False and self.default is None else as_text(value)

    @property
    def help(self) -> str:
        """What it means, with its default."""
        default = "" if self.default is MISSING else as_text(self.default)
        return f"{self.option.help} (default: {default})" if default else self.option.help

    def of(self, asked: object) -> Any:
        """Its value in an object of the declaration."""
        return getattr(getattr(asked, self.part) if self.part else asked, self.name)

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Teach it to a parser."""
        settings: dict[str, Any] = {"help": self.help.replace("%", "%%")}
        if self.kind is bool:
            action = "store_true" if self.default is False else argparse.BooleanOptionalAction
            parser.add_argument(self.flag, dest=self.name, action=action, **settings | {"default": self.default})
            return
        settings |= {"type": self.kind, "nargs": self.count, "choices": self.choices}
        settings |= {"metavar": self.option.metavar or None, "default": self.default}
        if self.option.positional:
            optional = {} if self.default is MISSING else {"nargs": "?"}
            required = {"default": None} if self.default is MISSING else {}
            settings |= {"metavar": self.option.metavar or self.variable, **optional, **required}
            parser.add_argument(self.name, **settings)
        elif self.default is MISSING:
            parser.add_argument(self.flag, **settings | {"required": True, "default": None})
        else:
            parser.add_argument(self.flag, dest=self.name, **settings)

    def typed(self, value: Any) -> list[str]:
        """The words of a command line that give it a value; none for its default."""
        text = self.text(value)
        if self.default is not MISSING and text == self.text(self.default):
            return []
        if self.kind is bool:
            return [self.flag if value else self.negative]
        words = shlex.split(text) if self.count else [text]
        return words if self.option.positional else [self.flag, *words]

    def words(self, given: str) -> list[str]:
        """The arguments that a variable of `make` stands for.

        Raises:
            InputError: quotes that do not close.
        """
        given = given.strip()
        if not given:
            return []
        if self.kind is bool:
            return [self.flag] if given != "0" else [self.negative] if self.default is None else []
        if self.count is None:
            return [given] if self.option.positional else [f"{self.flag}={given}"]
        try:
            return [self.flag, *shlex.split(given)]
        except ValueError as error:
            raise InputError(f"{self.variable}={given}: {str(error).lower()}; write 'a b' for a space") from None


_FLAGS: dict[type, tuple[Flag, ...]] = {}  # to read annotations costs more than all else at the start of a command


def flags(declaration: type) -> tuple[Flag, ...]:
    """The options of a declaration, those of its parts in their places."""
    if declaration not in _FLAGS:
        _FLAGS[declaration] = _flags(declaration)
    return _FLAGS[declaration]


def _flags(declaration: type) -> tuple[Flag, ...]:
    found: list[Flag] = []
    for field, kind, notes in _annotated(declaration):
        if isinstance(kind, type) and is_dataclass(kind):
            taken = next((note.fields for note in notes if isinstance(note, Only)), None)
            own = flags(kind)
            found += [replace(flag, part=field.name) for flag in own if taken is None or flag.name in taken]
        found += [_flag(field, kind, note) for note in notes if isinstance(note, Option)]
    return tuple(found)


def _annotated(declaration: type) -> list[tuple[Field[Any], Any, tuple[object, ...]]]:
    """Every field with its type and what its annotation adds."""
    hints = get_type_hints(declaration, include_extras=True)
    split = {
        name: (hint.__origin__, hint.__metadata__) if get_origin(hint) is Annotated else (hint, ())
        for name, hint in hints.items()
    }
    return [(field, *split[field.name]) for field in fields(declaration)]


def _flag(field: Field[Any], annotation: Any, option: Option) -> Flag:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return Flag(field.name, option, *_values(annotation), default)


def _values(annotation: Any) -> tuple[type, int | str | None, tuple[str, ...] | None]:
    """The type of one value, how many there are, and which ones there are to choose from."""
    origin = get_origin(annotation)
    inner = tuple(kind for kind in get_args(annotation) if kind is not NoneType)
    if origin in (Union, UnionType):
        return _values(inner[0])
    if origin is Literal:
        return str, None, inner
    if origin is None:
        return annotation, None, None
    kind, _, choices = _values(inner[0])
    return kind, len(inner) if origin is tuple and Ellipsis not in inner else "+", choices


# --- the command line


def about(declaration: type) -> str:
    """What a command does: the first line of its declaration's docstring."""
    return inspect.cleandoc(declaration.__doc__ or "").partition("\n")[0].removesuffix(".")


def fill(parser: argparse.ArgumentParser, declaration: type) -> None:
    """Teach a parser all options of a declaration, and `--plugin`, which every command takes."""
    for flag in flags(declaration):
        flag.add_to(parser)
    parser.add_argument("--plugin", action="append", default=[], metavar="MODULE", help=PLUGIN_HELP)


def build(declaration: type[Declared], values: Mapping[str, Any]) -> Declared:
    """The object that parsed values make, by the names of their options; parts that they name may be imported."""
    allow(*values["plugin"])
    allow_named([values[flag.name] for flag in flags(declaration)])
    tables: dict[str, dict[str, Any]] = {}
    for flag in flags(declaration):
        value = values[flag.name]
        tables.setdefault(flag.part, {})[flag.name] = tuple(value) if isinstance(value, list) else value
    parts = {field.name: kind for field, kind, _ in _annotated(declaration)}
    own = tables.pop("", {})
    return declaration(**own, **{name: parts[name](**table) for name, table in tables.items()})


def parse(declaration: type[Declared], arguments: Sequence[str], prog: str) -> Declared:
    """The object that a command line asks for.

    Args:
        declaration: of the command.
        arguments: the words of the command line, without the program's name.
        prog: the program's name, for its help and its errors.

    Raises:
        InputError: an unknown flag, a missing value, or one of the wrong type.
    """
    parser = Parser(prog=prog, description=about(declaration))
    fill(parser, declaration)
    return build(declaration, vars(parser.parse_args(arguments)))


def add(commands: Any, name: str, declaration: type[Declared], run: Callable[[Declared], int]) -> None:
    """Add a command to the subparsers of another, which finds under `run` what to call with the namespace."""
    parser = commands.add_parser(name, help=about(declaration), description=about(declaration))
    fill(parser, declaration)

    def checked(namespace: argparse.Namespace) -> int:
        asked = build(declaration, vars(namespace))
        check(asked, lambda flag, value: f"{flag.flag} {value}")
        return run(asked)

    parser.set_defaults(run=checked)


def check(
    asked: object,
    named: Callable[[Flag, float], str] = lambda flag, value: f"{flag.variable}={as_text(value)}",
) -> None:
    """Refuse, before anything is loaded, a number beyond its option's limits.

    Args:
        asked: an object of a declaration.
        named: what the message calls an option with its value.

    Raises:
        InputError: with the option, its value and its limits.
    """
    for flag in flags(type(asked)):
        found = flag.of(asked) if flag.kind in (int, float) else None
        for value in found if isinstance(found, (list, tuple)) else (found,):
            if value is not None and (fault := flag.option.fault(value)):
                raise InputError(f"{named(flag, value)} {fault}")


def command_line(program: str, asked: object) -> str:
    """The command line that asks for the same again, quoted for a shell: what differs from the defaults."""
    words = [
        word
        for flag in _ordered(flags(type(asked)))
        if flag.option.repeated
        for word in flag.typed(flag.of(asked))
    ]
    words += [word for module in plugins() for word in ("--plugin", module)]
    return f"{program} {shlex.join(words)}".strip()


def _ordered(found: Iterable[Flag]) -> list[Flag]:
    """Those that are given by their place first."""
    return sorted(found, key=lambda flag: not flag.option.positional)


# --- make


def arguments(target: str, declaration: type, variables: Mapping[str, str]) -> list[str]:
    """The command line that `make`'s variables stand for.

    A variable that is empty was not given; a switch is off if it is empty or 0; lists are words as a shell reads
    them, so that `DATASETS="'folder:/my images'"` is one.

    Raises:
        InputError: a variable without a default is not given, or has quotes that do not close.
    """
    known = [flag for flag in flags(declaration) if flag.option.variable]
    words: list[str] = []
    for flag in _ordered(known):
        found = flag.words(variables.get(flag.variable, ""))
        if not found and flag.default is MISSING:
            raise InputError(f"name a {flag.name}: make {target} {flag.variable}={flag.option.example}")
        words += found
    modules = variables.get("PLUGIN", "").split()
    return [*words, *(word for module in modules for word in ("--plugin", module))]


def plugins() -> list[str]:
    """The modules that `--plugin` allowed, for a command that does the same again."""
    return [name for name in allowed() if not PLUGIN.fullmatch(name)]


def command(target: str, asked: object) -> str:
    """The `make` command that asks for the same again, quoted for a shell: what differs from the defaults."""
    words = ["make", target]
    for flag in flags(type(asked)):
        text = flag.text(flag.of(asked))
        usual = "" if flag.default is MISSING else flag.text(flag.default)
        if flag.option.variable and flag.option.repeated and text != usual:
            words.append(f"{flag.variable}={shlex.quote(text.replace('$', '$$'))}")  # make expands $
    words += [f"PLUGIN={shlex.quote(' '.join(plugins()))}"] if plugins() else []
    return " ".join(words)


def as_text(value: Any) -> str:
    """A value as a variable of `make` holds it; nothing for None and for a switch that is off."""
    if value is None or value is False:
        return ""
    if value is True:
        return "1"
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, (list, tuple)):
        return shlex.join(map(as_text, value))
    return str(value)
