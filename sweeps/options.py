"""Options of `gans sweep`. Slow imports are avoided here, so that errors come at once."""

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from benchmarks.options import Trainer
from gans import recipes
from gans.commands.options import ONCE, check_dataset, command_line, flat, option
from gans.errors import InputError
from gans.files import file_name
from gans.registry import allow_named, label
from gans.schema import Precision, slug

OBJECTIVES = ("score", "seconds")


def study_name(name: str) -> None:
    """Refuse a name that cannot be a folder's."""
    file_name(name, "study")


@flat
@dataclass(frozen=True)
class Request:
    """The study, and the retraining of its winners."""

    model: Annotated[str, option(f"a model of the registry: {', '.join(recipes.RECIPES)}", check=recipes.check)]
    dataset: Annotated[str, option("a data set, or folder:PATH", check=check_dataset)] = "digits"
    _: KW_ONLY
    trials: Annotated[int, option("trials in total, finished or pruned", least=1, most=100_000)] = 30
    storage: Annotated[
        str, option("sqlite:///FILE or postgresql://...; also set by GANS_STORAGE", env_var="GANS_STORAGE"), ONCE
    ] = "sqlite:///sweeps.db"
    study: Annotated[
        str | None,
        option("name of the study; default: from model, data set, budget and objectives", check=study_name),
    ] = None
    seed: Annotated[int, option("random seed of the sampler", least=0, most=2**31 - 1)] = 0
    pruner: Annotated[Literal["halving", "median", "none"], option("stops bad trials early")] = "halving"
    objectives: Annotated[tuple[Literal["score", "seconds"], ...], option("score, or score seconds")] = ("score",)
    space: Annotated[Path | None, option("TOML file of a search space, in place of the model's")] = None
    budget: Annotated[float, option("share of the images to train a trial on", least=1e-6, most=1_000)] = 1.0
    precision: Annotated[
        Precision | None,
        option("precision of all trainings; default: the matrix's, which may depend on the device"),
    ] = None
    finalists: Annotated[int, option("number of best trials to retrain", least=1, most=100)] = 3
    fresh: Annotated[
        int, option("new training seeds for each of these trials and for the default", least=1, most=1_000)
    ] = 5
    join: Annotated[bool, option("only run trials; another process retrains and reports"), ONCE] = False

    def validate(self) -> None:
        """Refuse objectives without the score, or in another order; allow what the file of the space names."""
        if self.space:
            from gans.config import read_toml

            allow_named(read_toml(self.space))  # before processes start, which may import it then
        if self.objectives not in (OBJECTIVES[:1], OBJECTIVES):
            raise InputError(f"--objectives {' '.join(self.objectives)}: take 'score' or 'score seconds'")

    @property
    def name(self) -> str:
        """The study's name: sweeps that are not comparable have different ones."""
        parts = [slug(self.model), label(self.dataset)]
        parts += [f"budget{self.budget:g}"] if self.budget != 1 else []
        parts += ["seconds"] if len(self.objectives) > 1 else []
        parts += [self.precision] if self.precision else []
        return self.study or "-".join(parts)

    def command(self) -> str:
        return command_line("gans sweep", Search(self))


@flat
@dataclass(frozen=True)
class Search:
    request: Request
    _: KW_ONLY
    machine: Trainer = field(default_factory=Trainer)
