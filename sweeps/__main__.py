"""`python -m sweeps MODEL`: what `make sweep` runs."""

from __future__ import annotations

import argparse
import signal
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args

import optuna

from benchmarks.engine import preload
from benchmarks.runner import Machine
from gans.config import Precision
from gans.errors import InputError, Parser, exit_code
from gans.recipes import RECIPES
from gans.runs.tracking import Store
from sweeps.runner import Request, SweepRun


def arguments() -> argparse.ArgumentParser:
    parser = Parser(prog="sweeps", description=__doc__)
    parser.add_argument("model", help=f"a model of the registry: {', '.join(RECIPES)}")
    parser.add_argument("--dataset", default="digits", help="a data set, or folder:PATH")
    parser.add_argument("--trials", type=int, default=30, help="trials in total, finished or pruned")
    parser.add_argument(
        "--jobs", type=int, help="trials at a time; one per CPU core, or one on a GPU, if not given"
    )
    parser.add_argument(
        "--storage", default="sweeps.journal", help="a journal file, or a database: postgresql://..."
    )
    parser.add_argument("--study", help="its name, if not to follow from model, data set, budget and objectives")
    parser.add_argument("--seed", type=int, default=0, help="of the sampler")
    parser.add_argument("--pruner", default="halving", help="halving, median or none")
    parser.add_argument("--objectives", nargs="+", default=["score"], help="score, or score seconds")
    parser.add_argument("--space", type=Path, help="a TOML file in place of sweeps/spaces/MODEL.toml")
    parser.add_argument("--budget", type=float, default=1.0, help="share of the images that a trial trains on")
    parser.add_argument("--precision", choices=get_args(Precision), help="of all trainings; else the matrix's")
    parser.add_argument("--finalists", type=int, default=3, help="best trials that are retrained")
    parser.add_argument("--fresh", type=int, default=5, help="training seeds, used by no trial, of each of them")
    parser.add_argument(
        "--join", action="store_true", help="help with the trials, leave the rest to another process"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for checkpoints")
    return parser


def main() -> int:
    asked = vars(arguments().parse_args())
    asked["objectives"] = tuple(asked["objectives"])
    request = Request(**{field.name: asked[field.name] for field in fields(Request)})
    request.validate()
    if asked["jobs"] is not None and asked["jobs"] < 1:
        raise InputError(f"JOBS={asked['jobs']} must be at least 1")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is a Ctrl-C
    preload("sweeps.trial", "benchmarks.jobs", "sklearn.datasets", "torchvision.utils")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    run = SweepRun(request, Machine(asked["device"], asked["jobs"], asked["runs"]), Store())
    if len(request.objectives) > 1:
        print("two objectives: every trial runs to its end, since Optuna prunes by one objective only")
    return run.run()


if __name__ == "__main__":
    sys.exit(exit_code(main))
