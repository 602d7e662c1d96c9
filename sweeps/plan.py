"""The plan of a sweep from a request."""

import torch

from benchmarks.matrix import MATRICES, Matrix, cells, read_matrix
from benchmarks.options import MATRIX, Bench, Selection
from benchmarks.plan import check_cell
from gans.commands.options import command_line
from gans.config import experiment
from gans.recipes import recipe
from gans.runs.cell import Cell, identify
from sweeps import winners
from sweeps.options import Request
from sweeps.space import read_space
from sweeps.study import Sweep

LIMIT_MINUTES = 600.0  # of a trial where no matrix gives one
ALLOWANCE = 2.0  # a trial may be larger than the default, for which the matrix's limit is meant


def plan(request: Request, device: torch.device) -> Sweep:
    """The sweep of a request on a device; an InputError for what would keep its trials from training."""
    default, seconds = default_cell(request, device)
    check_cell(default, device)
    return Sweep(
        study=request.name,
        storage=request.storage,
        default=default,
        space=read_space(request.model, default.experiment, request.space),
        trials=request.trials,
        seed=request.seed,
        pruner="none" if len(request.objectives) > 1 else request.pruner,
        objectives=request.objectives,
        seconds=seconds,
    )


def default_cell(request: Request, device: torch.device) -> tuple[Cell, float]:
    """What `make bench` trains for this model, with another training seed, and a trial's time limit in seconds.

    The matrix of the data set's name defines both, if there is one that has the model; else the recipe.
    """
    model, dataset, seed = request.model, request.dataset, winners.TRIAL_SEED
    matrix = own_matrix(request)
    if matrix:
        selection = Selection([model], [dataset], [seed], request.budget, request.precision)
        (cell,) = cells(matrix, selection, device)
        return cell, 60 * matrix.file.time_limit_minutes * ALLOWANCE
    settings = {"dataset": dataset, "seed": seed, "precision": request.precision or "auto"}
    base = experiment(recipe(model).settings, settings, where="the recipe")
    return identify(model, base.scaled(request.budget), device), 60 * LIMIT_MINUTES


def own_matrix(request: Request) -> Matrix | None:
    """The matrix of the data set's name, if it trains the model."""
    if not (MATRICES / f"{request.dataset}.toml").exists():
        return None
    matrix = read_matrix(request.dataset)
    return matrix if request.model in matrix.file.models else None


def tuned_bench(request: Request) -> str:
    """The command that trains the default and the preset on the data set's matrix, else on its data."""
    matrix = own_matrix(request)
    selection = Selection(
        models=[request.model, f"{request.model}-tuned"],
        datasets=None if matrix else [request.dataset],
        budget=request.budget,
        precision=request.precision,
    )
    bench = Bench(matrix.name if matrix else MATRIX, selection=selection, preset="tuned")
    return command_line("gans bench", bench)
