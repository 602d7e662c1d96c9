"""What `make sweep` asks for. Nothing heavy is imported here, so that errors come at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from benchmarks.options import PLACE, Machine
from gans.commands import options
from gans.commands.checks import dataset
from gans.commands.options import Only, Option
from gans.errors import InputError, unknown
from gans.files import file_name, slug
from gans.recipes import RECIPES, known
from gans.registry import label
from gans.schema import Precision

OBJECTIVES = ("score", "seconds")
# the storage may hold a password, which is kept out of the arguments that everybody can read
SECRETS = {"--storage": "GANS_STORAGE"}
PRUNERS = ("halving", "median", "none")


@dataclass(frozen=True)
class Request:
    """The study that is asked for, and what becomes of its winners."""

    model: Annotated[
        str, Option(f"a model of the registry: {', '.join(RECIPES)}", positional=True, example="sagan")
    ]
    dataset: Annotated[str, Option("a data set, or folder:PATH")] = "digits"
    trials: Annotated[int, Option("trials in total, finished or pruned", least=1, most=100_000)] = 30
    storage: Annotated[
        str, Option("a database: sqlite:///FILE or postgresql://...; GANS_STORAGE too", repeated=False)
    ] = "sqlite:///sweeps.db"
    study: Annotated[
        str | None, Option("its name, if not to follow from model, data set, budget and objectives")
    ] = None
    seed: Annotated[int, Option("of the sampler", least=0, most=2**31 - 1)] = 0
    pruner: Annotated[str, Option("halving, median or none")] = "halving"
    objectives: Annotated[tuple[str, ...], Option("score, or score seconds")] = ("score",)
    space: Annotated[Path | None, Option("a TOML file in place of the model's own search space")] = None
    budget: Annotated[float, Option("share of the images that a trial trains on", above=0, most=1_000)] = 1.0
    precision: Annotated[
        Precision | None,
        Option("of all trainings; if not given, the matrix's, which may depend on the device"),
    ] = None
    finalists: Annotated[int, Option("best trials that are retrained", least=1, most=100)] = 3
    fresh: Annotated[
        int, Option("training seeds, used by no trial, of each of them and the default", least=1, most=1_000)
    ] = 5
    join: Annotated[bool, Option("help with the trials, leave the rest to another process", repeated=False)] = (
        False
    )

    def validate(self) -> None:
        """Refuse what cannot be before anything is loaded."""
        if not known(self.model):
            raise unknown("model", self.model, RECIPES)
        dataset(self.dataset)
        options.check(self)
        if self.study is not None:
            file_name(self.study, "study")
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
        parts = [slug(self.model), label(self.dataset)]
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
    machine: Annotated[Machine, Only(PLACE)] = field(default_factory=Machine)

    def validate(self) -> None:
        """Refuse what cannot be before anything is loaded."""
        self.machine.validate()
        self.request.validate()
        options.check(self)
