"""`gans train | config`: one model on one data set, in this process; the recipes, and their settings."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

from gans import schema
from gans.commands.options import Compile, Device, Graph, check_dataset, flat, option
from gans.commands.progress import duration
from gans.errors import InputError, shown
from gans.files import tracking_uri
from gans.recipes import RECIPES, check, names, recipe
from gans.runs import databases
from gans.schema import Precision, Where

if TYPE_CHECKING:
    from gans.config import Experiment
    from gans.runs.execute import Scored

EXPERIMENT = "train"  # in MLflow, and the folder's name


@flat
@dataclass(frozen=True)
class Train:
    model: Annotated[str, option(f"a recipe (`gans config` lists all): {', '.join(RECIPES)}", check=check)]
    dataset: Annotated[str, option("digits, mnist, ..., folder:PATH", check=check_dataset)] = "digits"
    _: KW_ONLY
    seed: Annotated[
        int, option("training seed: initial weights, latents, order of the data", least=0, most=2**31 - 1)
    ] = 0
    kimg: Annotated[
        float | None, option("budget in thousands of images; default: the recipe's", least=0.001, most=10**7)
    ] = None
    device: Device = "auto"
    precision: Annotated[Precision | None, option("auto: by device; default: the recipe's")] = None
    graph: Graph = None
    compile: Compile = False
    set: Annotated[tuple[str, ...], option("settings that `gans config MODEL` lists", metavar="KEY=VALUE")] = ()
    workers: Annotated[Where, option("MD-GAN's workers: in one process (local) or as Ray actors")] = "local"
    runs: Annotated[Path, option("folder of runs, with checkpoints and pictures")] = Path("runs")

    def experiment(self, settings: Mapping[str, Any]) -> Experiment:
        """The recipe, with what the command line, or Python, lays over it."""
        from gans.config import experiment

        named = {"dataset": self.dataset, "seed": self.seed, "kimg": self.kimg, "precision": self.precision}
        given = {key: value for key, value in named.items() if value is not None}
        return experiment(recipe(self.model).settings, given, *map(assignment, self.set), settings, where="--set")


@dataclass(frozen=True)
class Trained:
    """A training that has ended; its folder has the checkpoint, pictures and the record of its run."""

    folder: Path
    status: str  # `finished` or `diverged`
    reason: str  # why it diverged, or a remark; mostly empty
    scores: dict[str, float]  # by metric; empty if it diverged

    @property
    def generator(self) -> Path:
        return self.folder / schema.GENERATOR


class Failed(Exception):
    """A training ended with an exception, of a part from outside most often; the line on it has been shown."""


def train(options: Train) -> int:
    """Train one cell; returns 0 if it is finished."""
    try:
        return 0 if run(options).status == schema.FINISHED else 1
    except Failed:
        return 1


def run(options: Train, settings: Mapping[str, Any] = MappingProxyType({})) -> Trained:
    """Train, score and track one cell; `settings` are laid over the options."""
    databases.check(tracking_uri())
    from gans.commands.progress import Display, busy
    from gans.compute import devices, precision
    from gans.registry import MODELS
    from gans.runs.cell import resolve
    from gans.runs.events import RunFolder
    from gans.runs.execute import CellRun, Place, check_workers, reason
    from gans.runs.export import exporting
    from gans.runs.run import close_stale
    from gans.runs.store import Store

    experiment, device = options.experiment(settings), devices.resolve(options.device)
    with busy("loading data and extractors"):
        cell = resolve(options.model, experiment, device)
    place = Place(
        EXPERIMENT,
        options.device,
        devices.cores(),
        graph=options.graph,
        compile=options.compile,
        workers=options.workers,
    )
    check_workers(cell, place)
    if precision.unmeasured(experiment.precision, device, MODELS[experiment.networks.name]):
        print(f"{options.model} trains in float32: no lower precision was measured for it on CUDA")
    store, runs = Store(), Path(options.runs) / EXPERIMENT
    folder = runs / cell.slug
    close_stale(runs)
    with exporting(runs, store), Display({cell.name: cell.experiment.budget}) as display:
        display.start(cell.name, cell.experiment.budget)
        try:
            outcome = CellRun(cell, folder, place, partial(display.update, cell.name)).execute()
        except (InputError, OSError):
            raise
        except (Exception, SystemExit) as error:  # its run has ended as failed
            why = f"{reason(error)}; see {folder / schema.KEPT / schema.TRACEBACK}"
            display.end(cell.name, schema.FAILED, why)
            raise Failed(why) from error
        display.end(cell.name, outcome.status, outcome.reason)
    module, outside, _ = cell.experiment.networks.name.partition(":")
    print(ending(cell.metric, outcome, folder, f" --plugin {module}" if outside else ""))
    tracked = RunFolder.of(folder)
    for found in (tracked and store.ask(lambda: store.named(EXPERIMENT, tracked.key))) or ():
        to_register = f"; gans register {shlex.quote(str(folder))}" if outcome.scores else ""
        print(f"run        {found.info.run_id} in {shown(store.uri)}{to_register}")
    return Trained(folder, outcome.status, outcome.reason, outcome.scores)


def ending(metric: str, outcome: Scored, folder: Path, plugin: str = "") -> str:
    """The few numbers that matter, where the rest is, and what to do with it."""
    seconds = ", ".join(f"{part} {duration(spent)}" for part, spent in outcome.seconds.items())
    lines = [f"seconds    {seconds}", f"pictures   {folder / schema.SAMPLES}"]
    if outcome.scores:
        generator, error = folder / schema.GENERATOR, outcome.scores.get(f"{metric}_se", math.nan)
        spread = f" ± {error:.2g} (standard error)" if math.isfinite(error) else ""
        lines += [
            f"{metric:<10} {outcome.scores[metric]:.4g}{spread}, lower is better",
            f"generator  {generator}",
            f"film       {folder / schema.FILM}",
            f"next       gans sample {generator}{plugin}   gans walk {generator}{plugin}   gans ui",
        ]
    return "\n".join(lines)


def assignment(text: str) -> dict[str, Any]:
    """`optimizer.lr_g=1e-4` as a nested table; a value that is not TOML is a string."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"--set takes KEY=VALUE, such as optimizer.lr_g=1e-4, not '{text}'")
    from gans.config import parse_toml

    for written in (value, json.dumps(value)):
        with suppress(ValueError):
            return parse_toml(f"{key} = {written}")
    raise InputError(f"--set {text[:80]}: '{key[:40]}' is not a key; `gans config dcgan` lists them")


def config(
    name: Annotated[
        str, option("gan, dcgan, ..., or package.module:Name; default: list the recipes", name="recipe")
    ] = "",
) -> int:
    if name:
        from gans.config import describe, experiment

        for key, value, text in describe(experiment(recipe(name).settings)):
            print(f"{key:<24} {value!s:<18} {text}")
        return 0
    for name in names():
        print(f"{name:<24} {recipe(name).about}".rstrip())
    print("\ngans config NAME lists the settings of one; gans train NAME DATASET trains it")
    return 0
