"""`gans train`: one model on one data set, in this process."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from gans import schema
from gans.commands import options
from gans.commands.options import Option
from gans.errors import InputError
from gans.recipes import RECIPES, recipe

if TYPE_CHECKING:
    from gans.config import Experiment


@dataclass(frozen=True)
class Train:
    """Train one model on one data set, tracked in MLflow."""

    model: Annotated[str, Option(f"a recipe: {', '.join(RECIPES)}", positional=True)]
    dataset: Annotated[str, Option("digits, mnist, ..., folder:PATH", positional=True)] = "digits"
    seed: Annotated[int, Option("training seed: initial weights, latents, order of the data")] = 0
    kimg: Annotated[float | None, Option("budget in thousands of images; if not given, the recipe's")] = None
    device: Annotated[str, Option("auto, cpu, cuda or cuda:1")] = "auto"
    set: Annotated[tuple[str, ...], Option("any key of `gans config`", metavar="KEY=VALUE")] = ()
    workers: Annotated[str, Option("where MD-GAN's workers live: local, or ray")] = "local"
    runs: Annotated[Path, Option("folder for checkpoints and pictures")] = Path("runs")

    def experiment(self) -> Experiment:
        """The experiment: the recipe, with what the command line lays over it."""
        from gans.config import experiment

        budget = {} if self.kimg is None else {"kimg": self.kimg}
        asked = {"dataset": self.dataset, "seed": self.seed, **budget}
        return experiment(recipe(self.model).settings, asked, *map(assignment, self.set), where="--set")


def add(commands: Any) -> None:
    """Add the command to the parser."""
    options.add(commands, "train", Train, run)


def run(asked: Train) -> int:
    """Train one cell; returns 0 if it is finished."""
    from gans.compute import devices
    from gans.runs import living
    from gans.runs.cell import resolve
    from gans.runs.execute import Place, check_workers, run_cell
    from gans.runs.tracking import Store
    from gans.training.mdgan import cluster

    cell = resolve(asked.model, asked.experiment(), devices.resolve(asked.device))
    workers = cluster.checked(asked.workers)
    store = Store()
    place = Place("train", store.uri, asked.device, devices.cores(), workers=workers)
    check_workers(cell, place)
    living.close_dead(store)
    folder = asked.runs / "train" / cell.slug
    with shown(cell.name, cell.experiment.budget) as tell:
        outcome = run_cell(cell, folder, place, tell)
    print(f"{outcome.status}: {cell.name} in {folder} {outcome.reason}")
    for name, value in outcome.scores.items():
        print(f"  {name:<24} {value:.5g}")
    return 0 if outcome.status == "finished" else 1


@contextmanager
def shown(name: str, budget: int) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """A progress bar over `budget` images; gives what to tell it: images seen, and metrics."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[told]}"),
    )
    with Progress(*columns) as progress:
        last: dict[str, str] = {}
        task = progress.add_task(name, total=budget, told="")

        def tell(images: int, values: Mapping[str, float]) -> None:
            told = (schema.LOSSES, schema.CURVE)
            last.update({k: f"{k} {v:.4g}" for k, v in values.items() if k.startswith(told)})
            progress.update(task, completed=min(images, budget), told="  ".join(last.values()))

        yield tell


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
            raise InputError(f"--set {text}: '{key}' is not a key; `gans config` lists them") from None
