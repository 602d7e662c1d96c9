"""`gans train`: one model on one data set, in this process."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from gans import schema
from gans.commands import options
from gans.commands.checks import dataset, device, workers
from gans.commands.options import Option
from gans.commands.progress import duration
from gans.errors import InputError, unknown
from gans.recipes import RECIPES, known, recipe
from gans.runs import databases
from gans.schema import Precision
from gans.urls import tracking_uri

if TYPE_CHECKING:
    from gans.config import Experiment
    from gans.runs.scoring import Scored

EXPERIMENT = "train"  # in MLflow, and the folder's name


@dataclass(frozen=True)
class Train:
    """Train one model on one data set, tracked in MLflow."""

    model: Annotated[str, Option(f"a recipe: {', '.join(RECIPES)}", positional=True)]
    dataset: Annotated[str, Option("digits, mnist, ..., folder:PATH", positional=True)] = "digits"
    seed: Annotated[
        int, Option("training seed: initial weights, latents, order of the data", least=0, most=2**31 - 1)
    ] = 0
    kimg: Annotated[
        float | None, Option("budget in thousands of images; if not given, the recipe's", above=0, most=10**7)
    ] = None
    device: Annotated[str, Option("auto, cpu, cuda or cuda:1")] = "auto"
    precision: Annotated[Precision | None, Option("auto: by device; if not given, the recipe's")] = None
    graph: Annotated[bool | None, Option("record training steps as CUDA graphs; if not given, on CUDA")] = None
    compile: Annotated[bool, Option("compile both networks within the recorded step (CUDA)")] = False
    set: Annotated[tuple[str, ...], Option("any key of `gans config MODEL`", metavar="KEY=VALUE")] = ()
    workers: Annotated[str, Option("where MD-GAN's workers live: local, or ray")] = "local"
    runs: Annotated[Path, Option("folder for checkpoints and pictures")] = Path("runs")

    def validate(self) -> None:
        """Refuse what cannot be before anything is loaded."""
        from gans.config import Experiment

        if not known(self.model):
            raise unknown("model", self.model, RECIPES)
        dataset(self.dataset)
        device(self.device)
        workers(self.workers)
        for key in (key for text in self.set for key in assignment(text)):
            if key not in Experiment.model_fields:
                raise unknown("key", key, Experiment.model_fields, " in --set")

    def experiment(self) -> Experiment:
        """The experiment: the recipe, with what the command line lays over it."""
        from gans.config import experiment

        given = {"kimg": self.kimg, "precision": self.precision}
        asked = {"dataset": self.dataset, "seed": self.seed}
        asked |= {key: value for key, value in given.items() if value is not None}
        return experiment(recipe(self.model).settings, asked, *map(assignment, self.set), where="--set")


def add(commands: Any) -> None:
    """Add the command to the parser."""
    options.add(commands, "train", Train, run)


def run(asked: Train) -> int:
    """Train one cell; returns 0 if it is finished."""
    asked.validate()
    databases.check_tracking(tracking_uri())
    from gans.commands.progress import busy, screen
    from gans.compute import devices, precision
    from gans.registry import MODELS
    from gans.runs import living
    from gans.runs.cell import resolve
    from gans.runs.execute import Place, check_workers, run_cell
    from gans.runs.sync import left_behind
    from gans.runs.tracking import Store

    experiment, device = asked.experiment(), devices.resolve(asked.device)
    with busy("reading data, looking for extractors"):
        cell = resolve(asked.model, experiment, device)
    place = Place(
        EXPERIMENT,
        tracking_uri(),
        asked.device,
        devices.cores(),
        graph=asked.graph,
        compile=asked.compile,
        workers=workers(asked.workers),
    )
    check_workers(cell, place)
    if precision.unmeasured(experiment.precision, device, MODELS[experiment.networks.name]):
        print(f"{asked.model} trains in float32, as no lower precision was measured on CUDA")
    living.close_dead(Store(place.uri))  # the store is whole before anything writes to it
    folder = asked.runs / EXPERIMENT / cell.slug
    with screen({cell.name: cell.experiment.budget}) as shown:
        shown.start(cell.name, cell.experiment.budget)
        outcome = run_cell(cell, folder, place, partial(shown.tell, cell.name))
        shown.end(cell.name, outcome.status, outcome.reason)
    print(ending(cell.metric, outcome, folder))
    for line in left_behind(folder):
        print(line)
    return 0 if outcome.status == schema.FINISHED else 1


def ending(metric: str, outcome: Scored, folder: Path) -> str:
    """The few numbers that matter, where the rest is, and what to do with it."""
    seconds = ", ".join(f"{part} {duration(spent)}" for part, spent in outcome.seconds.items())
    if not outcome.scores:
        return f"{seconds}\npictures   {folder / schema.SAMPLES}"
    generator = folder / schema.GENERATOR
    return "\n".join(
        [
            f"{metric:<10} {score_text(outcome.scores, metric)}, lower is better",
            f"seconds    {seconds}",
            f"generator  {generator}",
            f"pictures   {folder / schema.SAMPLES}, {folder / schema.FILM}",
            f"next       gans sample {generator}   gans walk {generator}   gans ui",
        ]
    )


def score_text(scores: Mapping[str, float], metric: str) -> str:
    """A score with its standard error, if it has one."""
    error = scores.get(f"{metric}_se")
    return f"{scores[metric]:.4g}" + (f" ± {error:.2g} (standard error)" if error is not None else "")


def assignment(text: str) -> dict[str, Any]:
    """`optimizer.lr_g=1e-4` as a nested table; a value that is not TOML is a string."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"--set takes KEY=VALUE, optimizer.lr_g=1e-4 for one, not '{text}'")
    try:
        return tomllib.loads(f"{key} = {value}")
    except tomllib.TOMLDecodeError:
        try:
            return tomllib.loads(f"{key} = {json.dumps(value)}")
        except tomllib.TOMLDecodeError:
            raise InputError(f"--set {text}: '{key}' is not a key; `gans config dcgan` lists them") from None
