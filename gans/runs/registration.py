"""A run's generator as a logged model of MLflow, and a version of a model in its registry.

The model is the run's `generator.safetensors` beside the name of what loads it, `gans.generate.served`: nothing is
pickled, and nothing is run of the model's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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
from gans.errors import InputError
from gans.files import load_weights
from gans.generate import served
from gans.runs.databases import trouble
from gans.runs.find import generator_of, run_of, store_of
from gans.runs.publish import named
from gans.runs.tracking import MlflowRun, Store
from gans.urls import shown

LOADER = served.__name__
# what loading takes beside this package, which has to be installed: an index may know another one of its name
PACKAGES = ("mlflow", "numpy", "pandas", "pydantic", "safetensors", "torch")
EXAMPLE = pd.DataFrame({served.SEED: [0], served.COUNT: [4]})


@dataclass(frozen=True)
class Registered:
    """A version of a registered model.

    Attributes:
        version: its number.
        about: the run's name and score, in a line.
        new: False if the run had been registered under this name before.
        latent: length of its generator's latents.
    """

    name: str
    version: str
    about: str
    new: bool
    latent: int

    @property
    def uri(self) -> str:
        """As MLflow names it."""
        return f"models:/{self.name}/{self.version}"


def register(run_id: str, name: str = "") -> Registered:
    """Log the generator that a run kept as a model, and register it; once for each name.

    Args:
        run_id: of a finished cell, or how it begins.
        name: in the registry; empty: the model's and the data set's, `dcgan-digits`.

    Raises:
        InputError: no such run, one not finished or without its generator; a store without a registry, or moved.
    """
    store = store_of(run_id)
    run = run_of(run_id, store)
    path = generator_of(run, store)
    tags = run.data.tags
    if tags.get(schema.STATUS) != schema.FINISHED:
        raise InputError(
            f"run {run.info.run_id[:12]} ({run.info.run_name}) has not finished; name a finished cell"
        )
    usual = named(tags[schema.MODEL], tags[schema.DATASET]).replace(".", "-")  # which a logged model may not have
    name, about = name or usual, described(run)
    _, said = load_weights(path)
    with refused(store):
        before = versions(store, run, name)
        if not before:
            model_id = log(store, run, path, usual, said)
            made = store.client.create_model_version(
                name, f"models:/{model_id}", run.info.run_id, description=about, model_id=model_id
            )
        number = str(before[0] if before else made.version)
    return Registered(name, number, about, not before, said["networks"]["latent"])


def versions(store: Store, run: MlflowRun, name: str) -> list[int]:
    """The versions of a run in a registered model, the latest first; the model is made if there is none."""
    if not store.client.search_registered_models(filter_string=f"name = '{name}'"):
        store.client.create_registered_model(name)
    found = store.client.search_model_versions(f"name = '{name}' and run_id = '{run.info.run_id}'")
    return sorted((int(each.version) for each in found), reverse=True)


def log(store: Store, run: MlflowRun, path: Path, name: str, said: Mapping[str, Any]) -> str:
    """Log a model with its score among the outputs of a run; its id. `said`: what its file says of it."""
    chosen = int(float(run.data.tags.get(schema.CHOSEN, 0)))
    model = store.client.create_logged_model(
        run.info.experiment_id, name, source_run_id=run.info.run_id, params=run.data.params
    )
    Model.log(
        None,
        flavor=mlflow.pyfunc,
        model_id=model.model_id,
        run_id=run.info.run_id,
        step=chosen,  # its metrics are the model's too
        loader_module=LOADER,
        data_path=str(path),
        signature=signature(said["shape"], "classes" in said),
        input_example=EXAMPLE,
        pip_requirements=[f"{package}=={version(package).partition('+')[0]}" for package in PACKAGES],
    )
    return model.model_id


def signature(shape: tuple[int, int], conditional: bool) -> ModelSignature:
    """What the model takes and gives, as `gans.generate.served` says it."""
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.long, served.SEED, required=False),
        ColSpec(DataType.long, served.COUNT, required=False),
        ColSpec(Array(DataType.double), served.LATENT, required=False),
        *([ColSpec(DataType.string, served.LABEL, required=False)] if conditional else []),
    ]
    images = TensorSpec(np.dtype(np.uint8), (-1, *shape, shape[1]), "images")
    return ModelSignature(Schema(columns), Schema([images]))


def described(run: MlflowRun) -> str:
    """`dcgan/digits/0, fd_digits 8.54 ± 0.27 on 1,438 images`."""
    tags, metrics = run.data.tags, run.data.metrics
    metric = schema.score(tags[schema.METRIC])
    if metric not in metrics:
        return str(run.info.run_name)
    error = metrics.get(f"{metric}_se")
    score = f"{metrics[metric]:.4g}" + (f" ± {error:.2g}" if error else "")
    return f"{run.info.run_name}, {tags[schema.METRIC]} {score} on {int(tags[schema.COUNT]):,} images"


@contextmanager
def refused(store: Store) -> Iterator[None]:
    """A store that does not do as it is asked is bad input; most often its server has no registry."""
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        raise InputError(
            f"{shown(store.uri)} does not register models: {trouble(error)}; take a store with a registry, "
            "MLFLOW_TRACKING_URI=sqlite:///mlflow.db for one"
        ) from None
