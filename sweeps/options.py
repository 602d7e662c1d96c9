"""What `make sweep` asks for. Nothing heavy is imported here, so that errors come at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from benchmarks.options import Machine, validate_jobs
from gans.commands import options
from gans.commands.options import Only, Option
from gans.errors import InputError, unknown
from gans.files import slug
from gans.recipes import RECIPES, known
from gans.registry import DATASETS
from gans.schema import Precision

OBJECTIVES = ("score", "seconds")
PRUNERS = ("halving", "median", "none")


@dataclass(frozen=True)
class Request:
    """The study that is asked for, and what becomes of its winners."""

    model: Annotated[
        str, Option(f"a model of the registry: {', '.join(RECIPES)}", positional=True, example="sagan")
    ]
    dataset: Annotated[str, Option("a data set, or folder:PATH")] = "digits"
    trials: Annotated[int, Option("trials in total, finished or pruned")] = 30
    storage: Annotated[str, Option("a journal file, or a database: postgresql://...", repeated=False)] = (
        "sweeps.journal"
    )
    study: Annotated[
        str | None, Option("its name, if not to follow from model, data set, budget and objectives")
    ] = None
    seed: Annotated[int, Option("of the sampler")] = 0
    pruner: Annotated[str, Option("halving, median or none")] = "halving"
    objectives: Annotated[tuple[str, ...], Option("score, or score seconds")] = ("score",)
    space: Annotated[Path | None, Option("a TOML file in place of the model's own search space")] = None
    budget: Annotated[float, Option("share of the images that a trial trains on")] = 1.0
    precision: Annotated[
        Precision | None,
        Option("of all trainings; if not given, the matrix's, which may depend on the device"),
    ] = None
    finalists: Annotated[int, Option("best trials that are retrained")] = 3
    fresh: Annotated[int, Option("training seeds, used by no trial, of each of them and the default")] = 5
    join: Annotated[bool, Option("help with the trials, leave the rest to another process", repeated=False)] = (
        False
    )

    def validate(self) -> None:
        """Refuse what cannot be before anything is loaded."""
        if not known(self.model):
            raise unknown("model", self.model, RECIPES)
        if self.dataset not in DATASETS and not self.dataset.startswith("folder:"):
            raise unknown("data set", self.dataset, [*DATASETS, "folder:PATH"])
        for key, value in {"TRIALS": self.trials, "FINALISTS": self.finalists, "FRESH": self.fresh}.items():
            if value < 1:
                raise InputError(f"{key}={value} must be at least 1")
        if self.seed < 0:
            raise InputError(f"SEED={self.seed} must not be negative")
        if not 0 < self.budget < float("inf"):
            raise InputError(f"BUDGET={self.budget:g} must be above 0; 0.1 trains on a tenth of the images")
        if self.pruner not in PRUNERS:
            raise unknown("pruner", self.pruner, PRUNERS)
        for objective in self.objectives:
            if objective not in OBJECTIVES:
                raise unknown("objective", objective, OBJECTIVES)
        if self.objectives not in (OBJECTIVES[:1], OBJECTIVES):
            raise InputError(f"OBJECTIVES={' '.join(self.objectives)}: take 'score', or 'score seconds'")

    @property
    def name(self) -> str:
        """The study's name: sweeps that do not compare have different ones."""
        parts = [slug(self.model), slug(self.dataset)]
        parts += [f"budget{self.budget:g}"] if self.budget != 1 else []
        parts += ["seconds"] if len(self.objectives) > 1 else []
        parts += [self.precision] if self.precision else []
        return self.study or "-".join(parts)

    def command(self) -> str:
        """The `make` command that goes on with this sweep."""
        return options.command("sweep", Search(self))


@dataclass(frozen=True)
class Search:
    """Tune a model, retrain the winners, report."""

    request: Request
    machine: Annotated[Machine, Only(("device", "jobs", "runs", "outputs"))] = field(default_factory=Machine)

    def validate(self) -> None:
        """Refuse what cannot be before anything is loaded."""
        self.request.validate()
        validate_jobs(self.machine)
