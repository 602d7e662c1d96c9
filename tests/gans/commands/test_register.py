"""`gans register`: the generator of a run, out of MLflow's registry, draws what `gans sample` draws."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from gans import schema, zoo
from gans.files import load_weights
from gans.generate import generate, latents
from gans.generate.served import Served, _load_pyfunc
from gans.models import build_generator
from gans.models.inputs import Prior
from gans.models.layers import Shape
from gans.pictures.grids import tiles
from gans.runs.publish import signature
from gans.runs.store import Store
from tests.conftest import networks
from tests.recorded import Recorded, recorded

GENERATOR = zoo.find("zoo:gan-digits")
SIDE, LENGTH = 16, load_weights(GENERATOR)[1]["networks"]["latent"]
TAGS = {
    schema.KIND: schema.CELL,
    schema.MODEL: "gan",
    schema.DATASET: "digits",
    schema.METRIC: "fd_digits",
    schema.COUNT: "1438",
    schema.CHOSEN: "40",
}


@pytest.fixture(autouse=True)
def tracking(gans, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


def cell(store: Store, status: str = schema.FINISHED, keep: bool = True) -> Recorded:
    """A cell's run that holds a generator."""
    run = recorded(store, "digits", "gan/digits/0", TAGS)
    run.log(40, {"score/fd_digits": 12.345, "score/fd_digits_se": 0.25})
    if keep:
        run.artifact(Path(shutil.copyfile(GENERATOR, schema.GENERATOR)), schema.NETWORKS)
    else:
        run.text("diverged", schema.LOG)
    run.finish(status)
    return run


def test_a_registered_generator_draws_what_sample_draws(gans):
    import mlflow

    store = Store()
    run = cell(store)
    run_id = run.id
    before = store.client.get_run(run_id)
    code, out, err = gans("register", run_id[:8])
    assert (code, err) == (0, "")
    assert out.startswith("gan-digits version 1: gan/digits/0, fd_digits 12.35 ± 0.25 on 1,438 images\n")
    after = store.client.get_run(run_id)
    assert (after.info.status, after.info.end_time) == (before.info.status, before.info.end_time)
    assert after.data.metrics == before.data.metrics

    (uri,) = set(re.findall(r"models:/[\w.-]+/\d+", out))
    model = mlflow.pyfunc.load_model(uri)
    images = model.predict([{"seed": 3, "count": 5}, {"seed": 3, "count": 1}])
    assert (images.shape, images.dtype) == ((6, 1, SIDE, SIDE), np.uint8)
    assert np.array_equal(images[5], images[0])
    gans("sample", run_id, "--seed", 3, "--count", 5, "--device", "cpu", "--output", "s.png")
    drawn = np.stack([np.asarray(tile) for tile in tiles(Path("s.png"), SIDE, columns=3)[:5]])
    assert np.array_equal(images[:5, 0], drawn)
    z = latents.draw(5, LENGTH, seed=3)
    assert np.array_equal(model.predict([{"latent": row} for row in z.tolist()]), images[:5])
    with pytest.raises(MlflowException, match="seed"):
        model.predict([{"seed": 1.5}])

    assert model.metadata.signature.outputs.inputs[0].shape == (-1, 1, SIDE, SIDE)
    assert model.input_example.to_dict("records") == [{"seed": 0, "count": 4}]
    logged = store.client.get_logged_model(after.outputs.model_outputs[0].model_id)
    assert (logged.name, logged.source_run_id) == ("gan-digits", run_id)
    assert {metric.key: metric.value for metric in logged.metrics}["score/fd_digits"] == 12.345

    again = gans("register", run.path)[1]
    assert again.startswith("gan-digits version 1: ") and ", as before" in again.splitlines()[0]
    assert gans("register", cell(store).path, "--name", "gan-digits")[1].startswith("gan-digits version 2: ")


def test_what_cannot_be_registered_is_said_in_a_line(gans, tmp_path, monkeypatch):
    store = Store()
    for run_id, says in {
        cell(store, keep=False).id: "has no checkpoint/generator",
        cell(store, status=schema.FAILED).path: "has not finished",
        "abcd1234": "no run 'abcd1234' in ",
    }.items():
        code, out, err = gans("register", run_id)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert says in err
    whole = cell(store).id
    with monkeypatch.context() as patch:

        def unavailable(*_: object, **__: object) -> None:
            raise MlflowException("Model registry functionality is unavailable")

        patch.setattr(MlflowClient, "search_registered_models", unavailable)
        code, _, err = gans("register", whole)
        assert code == 2 and "does not register models: Model registry functionality is unavailable; take" in err
    assert not store.client.search_registered_models()

    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("mlflow.db", "mlartifacts"):
        (tmp_path / name).rename(moved / name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{moved}/mlflow.db")
    code, _, err = gans("register", whole)
    assert code == 2 and "in place of a store that has moved fill a new one" in err
    assert not list(tmp_path.rglob("models"))


@pytest.fixture(scope="module")
def served() -> Served:
    return _load_pyfunc(str(GENERATOR))


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"count": [1]}, "'seed'"),
        ({"seed": [0], "latent": [[0.0] * LENGTH]}, "either"),
        ({"latent": [[0.0] * (LENGTH + 1)]}, f"has {LENGTH} numbers"),
        ({"seed": [-1]}, "'seed' must be"),
        ({"seed": [10**18]}, "'seed' must be"),
        ({"seed": [0], "count": [0]}, "'count' must be"),
        ({"seed": [0], "count": [10**7]}, "'count' must be"),
    ],
)
def test_requests_that_make_no_sense(served, columns, says):
    import pandas as pd

    with pytest.raises(ValueError, match=says):
        served.predict(pd.DataFrame(columns))


def test_a_conditional_generator_draws_classes_by_name():
    import pandas as pd

    prior = Prior(4, ("cat", "dog"), (0.5, 0.5))
    config = networks(name="gan", latent=4, width=8, conditional=True)
    generator = build_generator(Shape(1, 16, 2), config, seed=0).eval()
    model = Served(generator, {"shape": [1, 16], "networks": config.model_dump(), **prior.about()})
    found = model.predict(pd.DataFrame({"seed": [3, 3], "count": [2, 1], "label": ["dog", "cat"]}))
    z = latents.draw(2, 4, seed=3)
    assert np.array_equal(found[:2], generate(generator, prior.of_class(z, "dog")).numpy())
    assert np.array_equal(found[2:], generate(generator, prior.of_class(z[:1], 0)).numpy())
    assert not np.array_equal(found[0], found[2])
    named = model.predict(pd.DataFrame({"latent": z.tolist(), "label": ["dog", "dog"]}))
    assert np.array_equal(named, found[:2])
    with pytest.raises(ValueError, match="bird"):
        model.predict(pd.DataFrame({"seed": [0], "label": ["bird"]}))
    for conditional in (True, False):
        columns = [column.name for column in signature((1, 16), conditional).inputs.inputs]
        assert ("label" in columns) == conditional
