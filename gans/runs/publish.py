"""Generators of finished runs, put into a zoo or registered as models of MLflow.

A logged model is the run's `generator.safetensors` with the name of what loads it, `gans.generate.served`:
nothing is pickled, and nothing is run of the model's own.
"""

import io
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import Array
from sqlalchemy.exc import SQLAlchemyError

from gans import schema
from gans.config import Experiment, experiment
from gans.errors import InputError, first_line, shown
from gans.fidelity.metric import error_of, whole
from gans.files import DEFAULT_URI, load_weights
from gans.generate import generate, latents, load_generator, served
from gans.models.inputs import Prior
from gans.pictures.grids import picture
from gans.recipes import name_of, recipe
from gans.registry import DATASETS
from gans.runs.find import in_store
from gans.runs.scores import ScoreKey, records
from gans.runs.store import MlflowRun, Store
from gans.schema import slug
from gans.zoo import Entry, Zoo, hub
from gans.zoo.index import INDEX

# what loading takes besides this package, which has to be installed: an index may have another one of its name
PACKAGES = ("mlflow", "numpy", "pandas", "pydantic", "safetensors", "torch")


def finished(run_id: str) -> tuple[Store, MlflowRun, Path]:
    """As `in_store`, of a cell that has finished."""
    store, run, path = in_store(run_id)
    if run.data.tags.get(schema.STATUS) != schema.FINISHED:
        raise InputError(f"run {run_id} ({run.info.run_name}) has not finished; name a finished cell")
    return store, run, path


def publish(
    run_ids: Sequence[str], folder: Path, licence: str, data_licence: str = "", force: bool = False
) -> dict[str, Entry]:
    """Copy the generators of runs into a zoo's folder and write its index; `force`: over those of the same names.

    An InputError if a run is unknown, not finished, or kept no generator; or another generator has its name.
    """
    added: dict[str, Entry] = {}
    contents: dict[str, bytes] = {}
    for run_id in run_ids:
        _, run, path = finished(run_id)
        name, entry = described(run, path, licence, data_licence)
        added[name], contents[entry.file] = entry, path.read_bytes()
    Zoo(str(folder)).add(added, contents, force)
    return added


def prepare(
    run_id: str, repository: str, folder: Path, licence: str, data_licence: str = "", force: bool = False
) -> list[str]:
    """Write what a repository of the hub has of a run; returns the names of these files.

    They are the index of a zoo, the generator, a model card and a picture of samples.
    """
    _, run, path = finished(run_id)
    name, entry = described(run, path, licence, data_licence)
    network, about = load_generator(path)
    samples = io.BytesIO()
    picture(generate(network, Prior.from_about(about).sample(64, 0, latents.PURPOSE))).save(samples, "PNG")
    values = {key.removeprefix(schema.SCORE): value for key, value in run.data.metrics.items()}
    scores = {
        key: (value, values[error_of(key)])
        for key, value in sorted(values.items())
        if error_of(key) in values and key == whole(key)
    }
    reference, protocol = run.data.tags.get(schema.REFERENCE), run.data.tags.get(schema.PROTOCOL)
    how = (
        f"On {entry.score_images:,} images of latents that chose nothing, against {entry.data} ({reference}). "
        f"Protocol {protocol}, scoring {entry.scoring_version}; extractor's SHA-256 {entry.extractor_sha256}."
    )
    text = hub.card(repository, name, entry, scores, how)
    contents = {entry.file: path.read_bytes(), hub.CARD: text.encode(), hub.SAMPLES: samples.getvalue()}
    Zoo(str(folder)).add({name: entry}, contents, force)
    return [INDEX, *contents]


def described(run: MlflowRun, path: Path, licence: str, data_licence: str) -> tuple[str, Entry]:
    """The name of a run's generator, and its entry in the index."""
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
        licence=licence,
        data_licence=data_licence or licence_of(trained.dataset),
        commit=f"{tags[schema.COMMIT]}{changed}",
        command=command(trained),
    )


def licence_of(dataset: str) -> str:
    """The licence of a data set of `gans.data.published`; of others it is not known."""
    return getattr(DATASETS[dataset], "licence", "not stated") if dataset in DATASETS.entries else "not stated"


def named(model: str, dataset: str) -> str:
    """What a generator is called after, as part of a file's name."""
    return slug(f"{model}-{dataset.removeprefix('folder:')}")[-60:].strip("-.")


def command(trained: Experiment) -> str:
    """The `gans train` that trains an experiment again: its recipe, and every setting that differs from it."""
    name = name_of(trained.update.rule, trained.networks.name, trained.networks.conditional)
    usual = experiment(recipe(name).settings).flat()
    words = ["gans", "train", name, trained.dataset, "--seed", str(trained.seed), "--kimg", f"{trained.kimg:.12g}"]
    settings = [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in trained.flat().items()
        if usual.get(key) != value and key not in ("dataset", "seed", "kimg")
    ]
    return shlex.join([*words, *(["--set", *settings] if settings else [])])


# --- the registry of models


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    name: str
    version: str
    about: str  # the run's name and score, in a line
    new: bool  # False: the run had been registered under this name before
    latent: int  # length of its generator's latents


def register(run_id: str, name: str = "") -> Registered:
    """Log the generator that a run kept as a model, and register it; once for each name.

    `run_id` is a finished cell's, or how it begins; without a `name`, the model's and the data set's are taken. An
    InputError for no such run, one not finished or without its generator, a store without a registry, or moved.
    """
    store, run, path = finished(run_id)
    tags = run.data.tags
    usual = named(tags[schema.MODEL], tags[schema.DATASET]).replace(".", "-")  # which a logged model may not have
    name, about = name or usual, summary(run)
    _, header = load_weights(path)
    try:
        if not store.client.search_registered_models(filter_string=f"name = '{name}'"):
            store.client.create_registered_model(name)
        found = store.client.search_model_versions(f"name = '{name}' and run_id = '{run.info.run_id}'")
        number = max((int(each.version) for each in found), default=0)
        if not found:
            model_id = log_model(store, run, path, usual, header)
            made = store.client.create_model_version(
                name, f"models:/{model_id}", run.info.run_id, description=about, model_id=model_id
            )
            number = int(made.version)
    except (MlflowException, SQLAlchemyError) as error:  # most often its server has no registry
        raise InputError(
            f"{shown(store.uri)} does not register models: {first_line(error)}; take a store with a registry, "
            f"MLFLOW_TRACKING_URI={DEFAULT_URI} for one"
        ) from None
    return Registered(name, str(number), about, not found, header["networks"]["latent"])


def log_model(store: Store, run: MlflowRun, path: Path, name: str, header: Mapping[str, Any]) -> str:
    """Log a model with its score among the outputs of a run; its id. `header`: of its file."""
    model = store.client.create_logged_model(
        run.info.experiment_id, name, source_run_id=run.info.run_id, params=run.data.params
    )
    Model.log(
        None,
        flavor=mlflow.pyfunc,
        model_id=model.model_id,
        run_id=run.info.run_id,
        step=int(float(run.data.tags.get(schema.CHOSEN, 0))),  # its metrics are the model's too
        loader_module=served.__name__,
        data_path=str(path),
        signature=signature(header["shape"], "classes" in header),
        input_example=pd.DataFrame({served.SEED: [0], served.COUNT: [4]}),
        pip_requirements=[f"{package}=={version(package).partition('+')[0]}" for package in PACKAGES],
    )
    return model.model_id


def signature(shape: tuple[int, int], conditional: bool) -> ModelSignature:
    """Inputs and outputs of the model, see `gans.generate.served`."""
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.long, served.SEED, required=False),
        ColSpec(DataType.long, served.COUNT, required=False),
        ColSpec(Array(DataType.double), served.LATENT, required=False),
        *([ColSpec(DataType.string, served.LABEL, required=False)] if conditional else []),
    ]
    images = TensorSpec(np.dtype(np.uint8), (-1, *shape, shape[1]), "images")
    return ModelSignature(Schema(columns), Schema([images]))


def summary(run: MlflowRun) -> str:
    """`dcgan/digits/0, fd_digits 8.54 ± 0.27 on 1,438 images`."""
    tags, metrics = run.data.tags, run.data.metrics
    metric = tags[schema.METRIC]
    score, error = (metrics[schema.score(name)] for name in (metric, f"{metric}_se"))
    return f"{run.info.run_name}, {metric} {score:.4g} ± {error:.2g} on {int(tags[schema.COUNT]):,} images"
