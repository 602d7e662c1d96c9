"""The command line: `gans train | sample | interpolate | arithmetic | walk | score | config | ui`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gans.commands import score, walks
from gans.errors import InputError, Parser, exit_code


def main() -> int:
    """Entry point of the `gans` command."""

    def run() -> int:
        asked = parser().parse_args()
        return asked.run(asked)

    return exit_code(run)


def parser() -> Parser:
    top = Parser(prog="gans", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train one model on one data set, tracked in MLflow")
    train.add_argument("model", help="a recipe: gan, dcgan, dcgan-nobn, sagan, mdgan, fl-gan")
    train.add_argument("dataset", nargs="?", default="digits", help="digits, mnist, ..., folder:PATH")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--kimg", type=float, help="budget in thousands of images")
    train.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    train.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="any key of `gans config`")
    train.add_argument("--workers", default="local", help="where MD-GAN's workers live: local, or ray")
    train.add_argument("--runs", type=Path, default=Path("runs"), help="folder for checkpoints and pictures")
    train.set_defaults(run=run_train)

    walks.add(commands)

    score.add(commands)

    config = commands.add_parser("config", help="list every setting of an experiment, with a recipe's values")
    config.add_argument("recipe", nargs="?", default="dcgan")
    config.set_defaults(run=run_config)

    ui = commands.add_parser("ui", help="open the MLflow UI on this machine")
    ui.add_argument("--port", type=int, default=5000)
    ui.set_defaults(run=run_ui)
    return top


def run_train(asked: argparse.Namespace) -> int:
    """Train one cell in this process."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from gans.compute import devices
    from gans.config import experiment
    from gans.runs.cell import resolve
    from gans.runs.execute import Place, check_workers, run_cell
    from gans.runs.tracking import Store
    from gans.training.mdgan import cluster

    tables = [recipe(asked.model), {"dataset": asked.dataset, "seed": asked.seed}]
    tables += [{"kimg": asked.kimg}] if asked.kimg is not None else []
    tables += [assignment(text) for text in asked.set]
    device = devices.resolve(asked.device)
    cell = resolve(asked.model, experiment(*tables, where="--set"), device)
    place = Place("train", Store().uri, asked.device, devices.cores(), workers=cluster.checked(asked.workers))
    check_workers(cell, place)
    budget = cell.experiment.budget
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[told]}"),
    )
    with Progress(*columns) as progress:
        shown: dict[str, str] = {}
        task = progress.add_task(cell.name, total=budget, told="")

        def tell(images: int, values: Mapping[str, float]) -> None:
            shown.update({k: f"{k} {v:.4g}" for k, v in values.items() if k.startswith(("loss/", "curve/"))})
            progress.update(task, completed=min(images, budget), told="  ".join(shown.values()))

        folder = asked.runs / "train" / cell.slug
        outcome = run_cell(cell, folder, place, tell)
    print(f"{outcome.status}: {cell.name} in {folder} {outcome.reason}")
    show(outcome.scores)
    return 0 if outcome.status == "finished" else 1


def run_config(asked: argparse.Namespace) -> int:
    """Print settings, their values under a recipe, and what they mean."""
    from gans.config import describe, experiment

    for key, value, text in describe(experiment(recipe(asked.recipe))):
        print(f"{key:<24} {value!s:<18} {text}")
    return 0


def run_ui(asked: argparse.Namespace) -> int:
    """Run MLflow's server on localhost over the store that training writes to."""
    from gans.runs.tracking import Store, shown

    store = Store()
    if store.uri.startswith(("http://", "https://")):
        raise InputError(f"MLFLOW_TRACKING_URI is a server already; open {shown(store.uri)} in a browser")
    print(f"MLflow UI of {shown(store.uri)}: http://127.0.0.1:{asked.port} (Ctrl-C ends it)")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri, "--host", "127.0.0.1"]
    return subprocess.run([*command, "--port", str(asked.port)], check=False).returncode


def recipe(name: str) -> dict[str, Any]:
    from gans import recipes

    return dict(recipes.recipe(name).settings)


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


def show(scores: Mapping[str, float]) -> None:
    for name, value in scores.items():
        print(f"  {name:<24} {value:.5g}")
