"""Matrix files: TOML -> cells.

A cell's experiment is a merge of tables, in which later ones override earlier ones: the defaults of
`gans.config`, the model's recipe, and the file's `[defaults]`, `[datasets.NAME]` and `[models.NAME]`.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from benchmarks.options import Selection
from gans import files, recipes
from gans.commands.options import check_dataset, check_workers
from gans.config import Experiment, Seed, Settings, experiment, read_toml, validated
from gans.errors import InputError, unknown
from gans.files import file_name
from gans.registry import allow_named, canonical, label
from gans.schema import Where, slug

if TYPE_CHECKING:
    import torch

    from gans.runs.cell import Cell, Find


MATRICES = Path(__file__).parent / "matrices"
# presets that ship; what `make sweep` finds goes to the user's outputs, under the same name (`preset_name`)
PRESETS = Path(__file__).parents[1] / "sweeps" / "presets"
NAMES = ("recipe", "preset", "workers")  # keys of a model's table that are not settings of its experiment


class MatrixFile(Settings):
    description: str = Field("", description="one paragraph for the report")
    conclusion: str = Field(
        "", description="what the figures of the report show, written after the run, in markdown"
    )
    first_picture: Literal["leaders", "curves"] = Field("leaders", description="the report's first picture")
    workers: Where = Field("local", description="where MD-GAN's workers run; a model's workers = ... overrides it")
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, strict=False, description="training seeds")
    time_limit_minutes: float = Field(600.0, gt=0, le=525_600, description="time limit of a cell")
    defaults: dict[str, Any] = Field({}, description="a partial experiment for all cells")
    datasets: dict[str, dict[str, Any]] = Field(description="data sets, each with a partial experiment")
    models: dict[str, dict[str, Any]] = Field(
        description="models, each with a partial experiment; recipe = names a recipe of another name, "
        "preset = lays the settings over it that a sweep found for that name on the data set, "
        "workers = says where its workers run"
    )


@dataclass(frozen=True)
class Matrix:
    """A matrix file.

    Attributes:
        name: of the file, without .toml.
        path: of the file.
        text: what it holds.
        file: the same, parsed.
        preset: whose models are added to its own.
        outputs: folder of what is made here, in whose presets those of its models are looked for first.
    """

    name: str
    path: Path
    text: str
    file: MatrixFile
    preset: Literal["tuned"] | None = None
    outputs: Path = field(default_factory=files.outputs)

    @property
    def given(self) -> str:
        """Its name in a command, or its path if it is not in benchmarks/matrices."""
        return self.name if self.path.absolute().parent == MATRICES.absolute() else str(self.path)

    def experiment_name(
        self, budget: float, datasets: Sequence[str] | None = None, precision: str | None = None
    ) -> str:
        """The MLflow experiment and the report's folder: the matrix, apart for other data, budget, precision."""
        name = self.name
        if datasets and set(map(canonical, datasets)) != set(map(canonical, self.file.datasets)):
            name += "-" + "-".join(dict.fromkeys(map(label, datasets)))
        if precision and self.precisions(datasets) != {precision}:
            name += f"-{precision}"
        return file_name(name if budget == 1 else f"{name}-budget{budget:g}", "experiment", 200)

    def table(self, dataset: str) -> dict[str, Any]:
        """What the file says of a data set, however a folder is spelled here and there."""
        found = {canonical(name): table for name, table in self.file.datasets.items()}
        return found.get(canonical(dataset), {})

    def precisions(self, datasets: Sequence[str] | None = None) -> set[str]:
        """What the file's models train in on these data sets, or on all that the file has."""
        tables = [self.table(dataset) for dataset in datasets or self.file.datasets]
        return {
            ChainMap(model, table, self.file.defaults).get("precision", "auto")
            for model in self.file.models.values()
            for table in tables
        }

    def where(self, model: str, wanted: str | None = None) -> Where:
        """Where the workers of a model's cells run: as wanted, else as the file says."""
        return check_workers(wanted or self.file.models[model].get("workers", self.file.workers))

    def preset_of(self, model: str, dataset: str, budget: float) -> Path | None:
        """The file of a model's preset; None if the model takes none, or was not tuned on this data set."""
        name = self.file.models[model].get("preset")
        return preset_file(name, dataset, budget, self.outputs) if name else None

    def presets(self, selection: Selection) -> list[str]:
        """Which file each selected model's preset is, a line for each."""
        datasets = dict.fromkeys(selection.datasets or self.file.datasets)
        models = dict.fromkeys(selection.models or self.file.models)
        found = ((m, d, self.preset_of(m, d, selection.budget)) for d in datasets for m in models)
        return [f"{model} on {dataset}: {shown(path)}" for model, dataset, path in found if path]

    def check_names(self, selection: Selection) -> None:
        """Raise `InputError` for an unknown model or data set, with the file that names it."""
        for model in selection.models or ():
            if model not in self.file.models:
                raise unknown("model", model, self.file.models, f" in {self.path}")
        for dataset in selection.datasets or self.file.datasets:
            try:
                check_dataset(dataset)
            except InputError as error:
                raise InputError(f"{self.path}: {error}" if dataset in self.file.datasets else error) from None


def read_matrix(
    name: str,
    preset: Literal["tuned"] | None = None,
    outputs: Path | None = None,
    selection: Selection | None = None,
) -> Matrix:
    """The matrix of this name in `benchmarks/matrices`, or at this path, with what is wanted of it checked.

    Presets are looked for in `outputs` before those that ship. An InputError names a missing file, an unknown
    model, data set or preset, or a wrong key with the nearest valid one.
    """
    matrix, selection = replace(_read(name), outputs=outputs or files.outputs()), selection or Selection()
    if preset:
        matrix = with_presets(matrix, preset, selection)
    matrix.check_names(selection)
    for model, table in matrix.file.models.items():  # last, since modules of models are imported
        recipe(model, table, str(matrix.path))
        check_workers(table.get("workers", "local"), f" in {matrix.path} (their number is update.workers)")
    return matrix


def _read(name: str) -> Matrix:
    """The matrix as its file has it; its models are not looked for."""
    path = file_of(name)
    if not name.endswith(".toml") and not path.exists():
        raise unknown("matrix", name, (file.stem for file in MATRICES.glob("*.toml")))
    tables = read_toml(path)
    allow_named(tables)  # the user's own file, as the command line is
    where = str(shown(path))
    file = validated(MatrixFile, tables, where)
    for model in file.models:
        file_name(model, f"{where}: model")
    return Matrix(file_name(path.stem, "matrix"), Path(where), path.read_text(encoding="utf-8"), file)


def file_of(name: str) -> Path:
    return Path(name) if name.endswith(".toml") else MATRICES / f"{name}.toml"


def experiment_of(name: str, selection: Selection) -> str:
    """The MLflow experiment that a selection of a matrix is tracked in.

    Without a file it is the name itself: a matrix that was tracked may have lost its file.
    """
    path = file_of(name)
    matrix = _read(name) if path.exists() else Matrix(path.stem, path, "", MatrixFile(datasets={}, models={}))
    return matrix.experiment_name(selection.budget, selection.datasets, selection.precision)


def with_presets(matrix: Matrix, preset: Literal["tuned"], selection: Selection) -> Matrix:
    """The matrix with `MODEL-tuned` for every model that is tuned on a selected data set.

    An InputError without any.
    """
    datasets = selection.datasets or list(matrix.file.datasets)
    tuned = {
        f"{model}-{preset}": {"recipe": model, **table, "preset": model}
        for model, table in matrix.file.models.items()
        if any(preset_file(model, dataset, selection.budget, matrix.outputs) for dataset in datasets)
    }
    if not tuned:
        folders = f"{matrix.outputs / files.PRESETS} or {shown(PRESETS)}"
        budget = "" if selection.budget == 1 else f" --budget {selection.budget:g}"
        raise InputError(
            f"no preset in {folders} for a model of {matrix.path} on {', '.join(datasets)}; "
            f"run `gans sweep MODEL{budget}` first"
        )
    file = matrix.file.model_copy(update={"models": {**matrix.file.models, **tuned}})
    return replace(matrix, file=file, preset=preset)


def preset_name(model: str, dataset: str, budget: float = 1.0) -> str:
    """The file that a sweep writes a recipe's preset to, and that PRESET=tuned reads it from."""
    part = "" if budget == 1 else f"-budget{budget:g}"
    return f"{slug(model)}-{label(dataset)}{part}.toml"


def preset_file(model: str, dataset: str, budget: float, outputs: Path) -> Path | None:
    """A recipe's preset: of this budget, else of the whole one; in `outputs`, else among those that ship."""
    names = dict.fromkeys((preset_name(model, dataset, budget), preset_name(model, dataset)))
    paths = (folder / name for name in names for folder in (outputs / files.PRESETS, PRESETS))
    return next((path for path in paths if path.exists()), None)


def shown(path: Path) -> Path:
    """A path as seen from the working directory, if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def recipe(model: str, table: dict[str, Any], where: str) -> dict[str, Any]:
    name = table.get("recipe", model)
    if not recipes.known(name):
        hint = "" if "recipe" in table else f" for model '{model}' (a model of another name needs recipe = ...)"
        raise unknown("recipe", name, recipes.RECIPES, f" in {where}{hint}")
    return dict(recipes.recipe(name).settings)


def cells(matrix: Matrix, selection: Selection, device: torch.device, find: Find | None = None) -> list[Cell]:
    """The selected cells, with their identities on the device that is to train them; `find` gives extractors by
    name.

    An InputError for an unknown name or key, a value out of range, data or weights that cannot be had.
    """
    from gans.runs.cell import extractor, identify_seeds

    matrix.check_names(selection)
    models = dict.fromkeys(selection.models or matrix.file.models)
    seeds = list(dict.fromkeys(selection.seeds or matrix.file.seeds))
    found: list[Cell] = []
    for dataset in dict.fromkeys(map(canonical, selection.datasets or matrix.file.datasets)):
        for model in models:
            tuned = "preset" in matrix.file.models[model]
            if tuned and not matrix.preset_of(model, dataset, selection.budget):
                continue  # it was not tuned on these data
            made = _experiment(matrix, model, dataset, selection)
            found += identify_seeds(model, made, seeds, device, find or extractor)
    return found


def kinds(cells: Iterable[Cell]) -> dict[str, Cell]:
    """One cell of each kind, by `model/dataset`: those of a kind differ in their training seeds alone."""
    return {kind_of(cell.name): cell for cell in cells}


def kind_of(name: str) -> str:
    """`model/dataset` of a cell's name, which ends in its seed."""
    return name.rpartition("/")[0]


def _experiment(matrix: Matrix, model: str, dataset: str, selection: Selection) -> Experiment:
    """Of a model's cells on a data set, from the default seed."""
    table = {key: value for key, value in matrix.file.models[model].items() if key not in NAMES}
    preset = matrix.preset_of(model, dataset, selection.budget)
    resolved = experiment(
        recipe(model, matrix.file.models[model], str(matrix.path)),
        matrix.file.defaults,
        matrix.table(dataset),
        table,
        read_toml(preset) if preset else {},
        {"dataset": dataset},
        {"precision": selection.precision} if selection.precision else {},
        where=f"{matrix.path} (model {model})",
    )
    return resolved.scaled(selection.budget)
