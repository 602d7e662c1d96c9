"""The command line: `gans COMMAND`; a command's module is imported when it is called."""

import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from inspect import BoundArguments
from typing import Any

from cyclopts import App, CycloptsError, Parameter
from cyclopts.exceptions import MissingArgumentError, UnknownCommandError, UnusedCliTokensError

from gans.commands.options import as_text
from gans.errors import InputError, exit_code, masked, unknown
from gans.registry import allow, allow_named

# by name, as parts are: the rooms above this one have commands, too
COMMANDS = {
    "bench": ("benchmarks.commands:bench", "Train, score, track and report a matrix."),
    "rescore": ("benchmarks.commands:rescore", "Add scores to the trained cells of a matrix (`make score`)."),
    "report": ("benchmarks.commands:report", "Write the report of a matrix again from tracked runs."),
    "sweep": ("sweeps.commands:sweep", "Tune a model, retrain the winners, write a report."),
    "sweep-report": ("sweeps.commands:sweep_report", "Write the pages of all sweeps again."),
    "compare": ("benchmarks.commands:compare", "Compare two tracked matrices: scores and settings that differ."),
    "train": ("gans.commands.train:train", "Train one model on one data set, tracked in MLflow."),
    "sample": ("gans.commands.draw:sample", "Draw images from a trained generator."),
    "interpolate": ("gans.commands.draw:interpolate", "Interpolate between latents: a strip, GIF or video."),
    "walk": ("gans.commands.draw:walk", "Draw a plane of latent space as a grid."),
    "arithmetic": ("gans.commands.arithmetic:arithmetic", "Draw a - b + c of the mean latents of classes."),
    "export": ("gans.commands.draw:export", "Write a generator's network alone, as torch.export or ONNX."),
    "score": ("gans.commands.score:score", "Score images, or one generator; for a matrix: rescore."),
    "data": ("gans.commands.data:data", "List the data sets by name, or download one."),
    "zoo": ("gans.commands.zoo:zoo", "List trained generators, draw from one, or add some."),
    "push": ("gans.commands.zoo:push", "Upload the generator of a run to the hub, with a model card."),
    "register": ("gans.commands.store:register", "Register the generator of a run as an MLflow model."),
    "extractor": ("gans.commands.extractor:extractor", "Train a feature extractor on a data set with labels."),
    "config": ("gans.commands.train:config", "List the recipes, or all settings of one."),
    "sync": ("gans.commands.store:sync", "Export runs that the tracking store lacks."),
    "ui": ("gans.commands.ui:ui", "Open the MLflow UI on this machine."),
    "speed": ("benchmarks.speed.commands:speed", "Compare the speed of training with a tutorial's trainer."),
    "gpu": ("benchmarks.speed.commands:gpu", "Measure speed on a GPU and compare it with the goals."),
    "sensitivity": ("benchmarks.commands:sensitivity", "Plot how each metric reacts to damaged images."),
    "publish": ("sweeps.publish:publish", "For maintainers: copy a page or preset to those that ship."),
}


def main() -> int:
    """Run the command of this process's arguments; returns its exit code."""
    return exit_code(lambda: run(sys.argv[1:]))


def run(words: Sequence[str], *configs: Callable[..., None]) -> int:
    """Run the command of some words behind `gans`; `configs` (of `cyclopts.App`) give options values, too."""
    command, bound = parse(words, *configs)
    return command(*bound.args, **bound.kwargs) or 0


def parse(words: Sequence[str], *configs: Callable[..., None]) -> tuple[Callable[..., int | None], BoundArguments]:
    """A command and its options, not yet run; an InputError for what there is not."""
    if any(masked(word) != word for word in words):
        raise InputError(
            "every user of this machine can read the password in this command line; put the address into the "
            "environment: GANS_STORAGE in place of --storage, GANS_ZOO in place of --index"
        )
    gans = app()
    gans.config = configs
    words, modules = plugins(words)
    allow(*modules)
    allow_named(words)
    try:
        command, bound, _ = gans.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise InputError(line(error)) from error
    bound.apply_defaults()
    return command, bound


def plugins(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of a command line without `--plugin MODULE`, and these modules."""
    left, modules, rest = [], [], iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name == "--plugin":
            modules.append(value if equals else next(rest, ""))
        else:
            left.append(word)
    return left, modules


@cache
def app() -> App:
    plain = Parameter(consume_multiple=1, negative_iterable=(), negative_bool=(), show_default=shown)
    gans = App(
        name="gans",
        help="A benchmark for generative adversarial networks: train, score, track, sweep, report.",
        help_epilogue="All commands take --plugin MODULE: files may name parts of this module, whose code runs.",
        version=lambda: version("gans"),
        help_format="plaintext",
        default_parameter=plain,
        result_action="return_value",
    )
    for name, (place, text) in COMMANDS.items():
        gans.command(place, name=name, help=text)
    return gans


def shown(default: Any) -> str | None:
    """A default as help shows it; None for what is off or empty."""
    values = default if isinstance(default, tuple) else (default,)
    return None if default is None or default is False else " ".join(map(as_text, values)) or None


def line(error: CycloptsError) -> str:
    """What is wrong with a command line."""
    if isinstance(error.__cause__, InputError):
        return str(error.__cause__)
    if isinstance(error, UnknownCommandError):
        return str(unknown("command", (error.unused_tokens or [""])[0], COMMANDS))
    if isinstance(error, UnusedCliTokensError) and error.command_chain:
        words = " ".join(error.unused_tokens or ())
        return f"unexpected {words}; gans {error.command_chain[0]} --help lists what it takes"
    if isinstance(error, MissingArgumentError) and error.argument and error.argument.children:
        error.argument = next(child for child in error.argument.children if child.required)  # of a part
    error.verbose = False
    return " ".join(str(error).split())
