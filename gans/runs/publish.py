"""Putting the generators of finished runs into a zoo: their files, and what the index says of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from gans import schema
from gans.config import Experiment, experiment
from gans.errors import InputError
from gans.files import load_weights, slug, write_bytes, write_text
from gans.places import taken
from gans.recipes import name_of, recipe
from gans.runs.find import IN_RUN, run_of
from gans.runs.scores import ScoreKey, records
from gans.runs.tracking import MlflowRun, Store
from gans.zoo import Entry, Zoo
from gans.zoo.index import INDEX

NOT_STATED = "not stated"
# as their authors or archives state them
DATA_LICENCES = {
    "digits": "CC BY 4.0 (UCI, Alpaydin and Kaynak)",
    "mnist": "CC BY-SA 3.0 (LeCun and Cortes)",
    "fashion-mnist": "MIT (Zalando)",
}
HEADER = "# Trained generators; made by `gans zoo --add`. A file is refused if its hash is another.\n"


@dataclass(frozen=True)
class Licences:
    """Of what goes into a zoo; the data's by the data set where it is empty."""

    weights: str = NOT_STATED
    data: str = ""


def publish(run_ids: Sequence[str], folder: Path, licences: Licences, force: bool = False) -> dict[str, Entry]:
    """Copy the generators of runs into a zoo's folder and write its index.

    Args:
        run_ids: of the runs.
        folder: of the zoo.
        licences: of what goes there.
        force: replace generators of the same names.

    Raises:
        InputError: a run is unknown, not finished, or kept no generator; or another one has its name.
    """
    store = Store()
    entries = Zoo(str(folder)).entries() if (folder / INDEX).exists() else {}
    added: dict[str, Entry] = {}
    contents: dict[str, bytes] = {}
    for run_id in run_ids:
        run = run_of(run_id, store)
        path = store.artifact(run, IN_RUN)
        if path is None or run.data.tags.get(schema.STATUS) != schema.FINISHED:
            raise InputError(f"run {run_id} ({run.info.run_name}) is no finished cell that kept its generator")
        name, entry = described(run, path, licences)
        file, contents[name] = folder / entry.file, path.read_bytes()
        if not force and file.exists() and file.read_bytes() != contents[name]:
            raise taken(file)
        added[name] = entry
    for name, entry in added.items():
        write_bytes(folder / entry.file, contents[name])
    tables = [as_toml(name, entry) for name, entry in sorted((entries | added).items())]
    write_text(folder / INDEX, HEADER + "".join(tables))
    return added


def described(run: MlflowRun, path: Path, licences: Licences) -> tuple[str, Entry]:
    """The name of a run's generator, and what is to be said of it."""
    tags, metrics = run.data.tags, run.data.metrics
    _, about = load_weights(path)
    trained = experiment(about["experiment"])
    metric, count = tags[schema.METRIC], int(tags[schema.COUNT])
    record = records(tags)[ScoreKey(trained.score.extractors[0], count)]
    channels, side = about["shape"]
    content = path.read_bytes()
    name = named(tags[schema.MODEL], trained.dataset)
    changed = " with changes" if tags.get(schema.DIRTY) == "true" else ""
    return name, Entry(
        file=f"{name}.safetensors",
        sha256=sha256(content).hexdigest(),
        size=len(content),
        model=tags[schema.MODEL],
        data=trained.dataset,
        channels=channels,
        side=side,
        metric=metric,
        score=metrics[schema.score(metric)],
        error=metrics[schema.score(f"{metric}_se")],
        score_images=count,
        extractor_sha256=record.sha256,
        scoring_version=record.version,
        licence=licences.weights,
        data_licence=licences.data or DATA_LICENCES.get(trained.dataset, NOT_STATED),
        commit=f"{tags[schema.COMMIT]}{changed}",
        command=command(trained),
    )


def named(model: str, dataset: str) -> str:
    """What a generator is called after, as part of a file's name."""
    return slug(f"{model}-{dataset.removeprefix('folder:')}")[-60:].strip("-.")


def command(trained: Experiment) -> str:
    """The `gans train` that trains an experiment again: its recipe, and every setting that differs from it."""
    name = name_of(trained.update.rule, trained.networks.name, trained.networks.conditional)
    usual, own = experiment(recipe(name).settings).flat(), trained.flat()
    settings = {key: value for key, value in own.items() if usual.get(key) != value}
    for key in ("dataset", "seed", "kimg"):  # arguments of their own
        settings.pop(key, None)
    words = ["gans", "train", name, trained.dataset, "--seed", str(trained.seed), "--kimg", f"{trained.kimg:.12g}"]
    return shlex.join([*words, *(["--set", *assignments(settings)] if settings else [])])


def assignments(settings: Mapping[str, Any]) -> list[str]:
    """`optimizer.lr_g=0.001`, as `--set` takes them; strings need no quotes there."""
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]


def as_toml(name: str, entry: Entry) -> str:
    """A table of the index; JSON's strings and numbers are TOML's."""
    fields = entry.model_dump(exclude_defaults=True)
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join([f"\n[{name}]", *lines, ""])
