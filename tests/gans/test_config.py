import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gans import config
from gans.commands.train import ending
from gans.config import (
    MDGANConfig,
    NetworkConfig,
    Resolved,
    describe,
    experiment,
    merge,
    read_toml,
)
from gans.errors import InputError
from gans.recipes import names as recipes
from gans.recipes import recipe
from gans.registry import MODELS, allow
from gans.runs.execute import Scored


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"netwroks": {}}, "unknown key 'netwroks'; did you mean 'networks'?"),
        ({"networks": {"widht": 1}}, "unknown key 'widht' in table [networks]; did you mean 'width'?"),
        ({"update": {"rule": "mdgan", "worker": 2}}, "'worker' in table [update]; did you mean 'workers'?"),
        ({"update": {"rule": "fl-gan", "average_epoch": 3}}, "did you mean 'average_epochs'?"),
        ({"update": {"workers": 3}}, "unknown key 'workers'"),  # of another rule
        ({"networks": {"name": "dcgna"}}, "unknown model 'dcgna'; did you mean 'dcgan'?"),
        ({"loss": {"name": "hing"}}, "unknown loss 'hing'; did you mean 'hinge'?"),
        ({"update": {"rule": "md-gan"}}, "unknown update rule 'md-gan'; did you mean 'mdgan'?"),
        ({"resolution": 20}, "resolution = 20 is not valid: input should be a multiple of 8"),
        ({"resolution": 2**17}, "resolution = 131072 is not valid: input should be less than or equal to 4096"),
        ({"optimizer": {"beta1": 1.0}}, "optimizer.beta1 = 1.0"),
        ({"update": {"rule": "mdgan", "workers": 2, "batches": 3}}, "batches = 3 exceeds workers = 2"),
        ({"update": {"rule": "mdgan", "shards": "skewed"}}, "update.shards = 'skewed'"),
        ({"update": {"rule": "fl-gan", "average_epochs": math.inf}}, "update.average_epochs = inf"),
        ({"score": {"extractors": []}}, "score.extractors"),
        ({"schedule": {"logs": 1e3}}, "schedule.logs = 1000.0 is not valid"),
        (
            {"schedule": {"logs": 99_999_999}},
            "schedule.logs = 99999999 is not valid: input should be less than or equal to 100000",
        ),
    ],
)
def test_what_is_wrong_is_one_line_with_file_and_key(table: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        experiment(table, where="m.toml")
    assert str(caught.value).startswith("m.toml: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


NUMBERS = {
    key: type(value)
    for rule in ("two-player", "mdgan", "fl-gan")
    for key, value in experiment({"update": {"rule": rule}}).flat().items()
    if type(value) in (int, float)
} | {"resolution": int}


@pytest.mark.parametrize("value", [True, "1e3", "5", -1, 10**30, math.nan, [], {}], ids=repr)
@pytest.mark.parametrize("key", NUMBERS)
def test_what_is_no_number_or_beyond_all_limits_is_refused(key: str, value: Any) -> None:
    rules = {"update.average_epochs": "fl-gan", "update.d_steps": "two-player"}
    rule = rules.get(key, "mdgan")
    table = merge({"update": {"rule": rule}}, nested(key, value))
    if key == "update.swap_epochs" and value == 10**30:
        return  # never, as inf, is a number of epochs as well
    with pytest.raises(InputError) as caught:
        experiment(table, where="m.toml")
    message = str(caught.value)
    assert key in message and "m.toml" in message and "\n" not in message and len(message) < 300


def test_another_update_rule_takes_nothing_over_from_the_one_before() -> None:
    mdgan = {"update": {"rule": "mdgan", "workers": 10, "swap_epochs": 2.0}}
    assert merge(mdgan, {"update": {"workers": 3}})["update"] == mdgan["update"] | {"workers": 3}
    assert merge(mdgan, {"update": {"rule": "two-player"}})["update"] == {"rule": "two-player"}
    assert experiment({"update": {"d_steps": 5}}, mdgan).update.d_steps == 1
    # naming the default rule keeps the parameters given before
    assert experiment({"update": {"d_steps": 2}}, {"update": {"rule": "two-player"}}).update.d_steps == 2


@pytest.mark.parametrize("name", recipes())
def test_every_setting_carries_its_help(name: str) -> None:
    assert all(text for _, _, text in describe(experiment(recipe(name).settings)))


# all settings, and whether they decide the weights or which checkpoint is kept
CHANGED: dict[str, Any] = {
    "seed": 1,
    "kimg": 100.5,
    "batch": 65,
    "precision": "bf16",
    "networks.name": "gan",
    "networks.latent": 129,
    "networks.conditional": True,
    "labels": "uniform",
    "loss.auxiliary": 0.5,
    "networks.width": 65,
    "update.rule": "two-player",
    "update.workers": 6,
    "update.batches": 2,
    "update.d_steps": 2,
    "update.swap_epochs": math.inf,
    "update.shards": "classes",
    "update.alpha": 0.5,
    "update.crashes": True,
    "update.same_start": True,
    "loss.name": "hinge",
    "loss.penalty": 1.0,
    "penalties.r1": 1.0,
    "penalties.r2": 1.0,
    "penalties.gp": 1.0,
    "augment": "color",
    "data_share": 0.5,
    "anneal.shape": "cosine",
    "anneal.lr": 0.5,
    "anneal.beta2": 0.5,
    "anneal.penalty": 0.5,
    "optimizer.lr_g": 1e-4,
    "optimizer.lr_d": 1e-4,
    "optimizer.beta1": 0.0,
    "optimizer.beta2": 0.9,
    "optimizer.name": "sgd",
    "optimizer.momentum": 0.5,
    "optimizer.alpha": 0.9,
    "ema.halflife_kimg": 0.0,
    "score.curve_images": 1_000,
    "schedule.evaluations": 5,
}
ALIKE: dict[str, Any] = {
    "dataset": "mnist",  # known by its hash
    "resolution": 64,
    "score.extractors": ["inception", "digits"],  # the first one by its hash
    "score.images": 50_000,
    "schedule.grids": 5,
    "schedule.checkpoints": 5,
    "schedule.logs": 50,
}


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def resolved(*tables: Mapping[str, Any]) -> Resolved:
    made = experiment(*tables)
    precision = "float32" if made.precision == "auto" else made.precision
    return Resolved.of(made, made.resolution or 16, precision, made.score.extractors)


def test_identity_changes_with_what_decides_the_weights_the_hashes_and_the_protocol(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = {"update": {"rule": "mdgan"}}
    start = resolved(base)
    assert CHANGED.keys() | ALIKE.keys() == set(start.flat()), "a new field: say here how to change it"
    seen = {start.identity("data", "chooser")}
    for key, value in CHANGED.items():
        seen.add(resolved(base, nested(key, value)).identity("data", "chooser"))
    seen.add(start.identity("other data", "chooser"))
    seen.add(start.identity("data", "other"))
    seen.add(start.identity("data", "chooser", {"mine:MODEL": "a"}))
    seen.add(start.identity("data", "chooser", {"mine:MODEL": "b"}))
    monkeypatch.setattr(config, "PROTOCOL_VERSION", config.PROTOCOL_VERSION + 1)
    seen.add(start.identity("data", "chooser"))
    assert len(seen) == 1 + len(CHANGED) + 5


@pytest.mark.parametrize("key", ALIKE)
def test_identity_does_not_change_with_what_moves_no_weight(key: str) -> None:
    changed = resolved(nested(key, ALIKE[key]))
    assert changed != resolved()
    assert changed.identity("data", "chooser") == resolved().identity("data", "chooser")


def test_a_field_that_is_added_with_a_default_leaves_identities_as_they_were() -> None:
    class Longer(Resolved):
        later: int = 3
        """A setting of a later version."""

    fields = dict(resolved({"batch": 32}))
    assert Longer(**fields).identity("data", "chooser") == Resolved(**fields).identity("data", "chooser")
    assert Longer(**fields, later=4).identity("data", "chooser") != Resolved(**fields).identity("data", "chooser")


# what cells were trained under since protocol 2: a change of one of these makes every user train again
PINNED = {
    "gan": "3c3a7acbb71b9235",
    "dcgan": "112f2763baf06b9c",
    "dcgan-nobn": "893c512df782944a",
    "sagan": "8b5495c31203bda4",
    "sngan": "dfaf91db3dbd4d4e",
    "wgan-gp": "985bd0d9ea89e76d",
    "r3gan": "00f10ad873f579d8",
    "mdgan": "cb7c50268e2154f9",
    "fl-gan": "48b091d0703ddca6",
}


@pytest.mark.parametrize("name", PINNED)
def test_identities_are_these(name: str) -> None:
    assert resolved(recipe(name).settings).identity("data", "chooser") == PINNED[name]


def test_a_model_takes_over_what_it_has_from_the_one_before() -> None:
    class Small(NetworkConfig):
        depth: int = 2

    allow("small")
    sys.modules["small"] = cast("Any", SimpleNamespace(MODEL=replace(MODELS["dcgan"], config=Small)))
    try:
        made = experiment(recipe("dcgan").settings, {"networks": {"name": "small:MODEL", "depth": 3}})
    finally:
        del sys.modules["small"]
    assert made.networks == Small(name="small:MODEL", latent=100, depth=3)


def test_recipes_are_the_papers() -> None:
    dcgan = experiment(recipe("dcgan").settings)  # Radford et al. 2015, section 4
    assert (dcgan.batch, dcgan.networks.latent, dcgan.networks.width) == (128, 100, 128)
    adam = dcgan.optimizer
    assert (adam.lr_g, adam.lr_d, adam.beta1, adam.beta2) == (2e-4, 2e-4, 0.5, 0.999)
    sagan = experiment(recipe("sagan").settings)  # Zhang et al. 2018, section 5
    adam = sagan.optimizer
    assert (adam.lr_g, adam.lr_d, adam.beta1, adam.beta2) == (1e-4, 4e-4, 0.0, 0.9)
    assert sagan.loss.name == "hinge"
    mdgan = experiment(recipe("mdgan").settings)  # Hardy et al. 2019, section V
    assert mdgan.batch == 10
    assert mdgan.update == MDGANConfig(rule="mdgan", workers=10, batches=1, d_steps=1, swap_epochs=1.0)
    gan = experiment(recipe("gan").settings).networks
    assert (gan.latent, gan.width) == (100, 512)


@pytest.mark.parametrize(
    ("kimg", "images"), [(1, 1000), (0.001, 1), (0.0015, 2), (2.5, 2500), (12.8 * 0.1, 1280), (1.2800001, 1281)]
)
def test_budget_is_in_images_rounded_up(kimg: float, images: int) -> None:
    assert experiment({"kimg": kimg}).budget == images


def test_toml_files(tmp_path) -> None:
    file = tmp_path / "m.toml"
    with pytest.raises(InputError, match=r"no file .*m\.toml"):
        read_toml(file)
    file.write_text("batch = 32\n[networks]\nwidth = 8\n")
    assert experiment(read_toml(file)).networks.width == 8
    file.write_text("batch = \n")
    with pytest.raises(InputError, match=r"cannot read .*m\.toml"):
        read_toml(file)
    for text in (b"\xff\xfe", b"a = " + 5000 * b"9", b"a = " + 1000 * b"[" + 1000 * b"]", b"a." * 1000 + b"a = 1"):
        file.write_bytes(text)
        with pytest.raises(InputError, match=r"cannot read .*m\.toml"):
            read_toml(file)
    file.write_bytes(b"#" * 2**21)
    for path in (file, Path("/dev/zero"), tmp_path):
        with pytest.raises(InputError, match=r"(more than 1,048,576 bytes|not a regular file); name another"):
            read_toml(path)


def test_the_end_of_a_training_names_an_error_where_the_metric_has_one() -> None:
    scores = {"fd": 12.5, "fd_se": 0.25, "own": 1.5}
    text = {m: ending(m, Scored("finished", "", scores, {}), Path("runs")) for m in ("fd", "own")}
    assert "fd         12.5 ± 0.25 (standard error), lower is better" in text["fd"]
    assert "own        1.5, lower is better" in text["own"]
