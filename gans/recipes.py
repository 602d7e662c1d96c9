"""Recipes: named settings that override the defaults of `gans.config`, with search spaces for sweeps.

A model's recipe is in its file; here are those of update rules, and common search spaces (see `sweeps.space`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gans.errors import InputError, unknown
from gans.registry import MODELS

UNPENALISED = ("non-saturating", "hinge", "least-squares")
# with BatchNorm in the discriminator there is no wasserstein-gp: it couples the gradients that are penalised
PENALISED = (*UNPENALISED, "wasserstein-gp")
TWO_PLAYER = {"d_steps": [1, 2, 5]}


@dataclass(frozen=True)
class Recipe:
    """Settings of an experiment, its search space, and a description in one line."""

    settings: Mapping[str, Any]
    space: Mapping[str, Any]
    about: str = ""


def search_space(
    losses: Sequence[str] = UNPENALISED, update: Mapping[str, Any] = TWO_PLAYER, lowest_rate: float = 5e-5
) -> dict[str, Any]:
    """The search space of most models: batch, Adam, width, update rule, loss, average of weights.

    With a loss that is penalised among `losses`, the penalty's weight is searched as well.
    """
    rate = {"low": lowest_rate, "high": 1e-2, "log": True}
    penalty = {"low": 1, "high": 30, "log": True, "when": {"loss": {"name": "wasserstein-gp"}}}
    return {
        "batch": {"choices": [0.5, 1, 2], "relative": True},  # of one worker
        "optimizer": {"lr_g": rate, "lr_d": rate, "beta1": [0.0, 0.5, 0.9], "beta2": [0.9, 0.99, 0.999]},
        "networks": {"width": {"choices": [0.5, 1, 2], "relative": True}},
        "update": dict(update),
        "loss": {"name": list(losses), **({"penalty": penalty} if "wasserstein-gp" in losses else {})},
        "ema": {"halflife_kimg": {"low": 0.1, "high": 5, "log": True, "relative": True}},
    }


# Hardy et al. 2019, section V: b = 10, N = 10, E = 1, k = 1
HARDY = {"networks": {"name": "dcgan", "latent": 100, "width": 128}, "batch": 10}
WORKERS = {"choices": [0.5, 1, 2], "relative": True}
RULE_RECIPES = {
    "mdgan": Recipe(
        {**HARDY, "update": {"rule": "mdgan", "workers": 10, "batches": 1, "d_steps": 1, "swap_epochs": 1.0}},
        search_space(
            update={
                "workers": WORKERS,  # N
                "batches": {"low": 1, "high": 8, "at_most": "update.workers"},  # k <= N
                "d_steps": [1, 2],  # L
                "swap_epochs": {"low": 0.1, "high": 10, "log": True, "relative": True},  # E
            }
        ),
        about="one generator, N discriminators on N shards that swap places (Hardy et al. 2019)",
    ),
    # the same paper's baseline: whole GANs, averaged every epoch
    "fl-gan": Recipe(
        {**HARDY, "update": {"rule": "fl-gan", "workers": 10, "d_steps": 1, "average_epochs": 1.0}},
        search_space(
            update={
                "workers": WORKERS,
                "d_steps": [1, 2],
                # E; no more than the default, for which a round fits into the budget
                "average_epochs": {"low": 0.05, "high": 1, "log": True, "relative": True},
            }
        ),
        about="N whole GANs on N shards, averaged in rounds (the baseline of the same paper)",
    ),
}
RECIPES = (*MODELS, *RULE_RECIPES)  # each with a `c` before it: with class-conditional networks, if the model can
# how networks are conditional: values of `gans.models.Model.conditional`
WAYS = {
    "auxiliary": "an auxiliary classifier (Odena et al. 2017)",
    "projection": "a projection in the discriminator (Miyato & Koyama 2018)",
}
# of the class term, for networks with a classifier
AUXILIARY = {"low": 0.1, "high": 10, "log": True, "relative": True}


def names() -> list[str]:
    """All recipes, those of installed packages too; the models are imported."""
    models = {name: recipe(name).settings["networks"]["name"] for name in RECIPES}
    conditional = [f"c{name}" for name, model in models.items() if MODELS[model].conditional]
    return [*MODELS.names(), *RULE_RECIPES, *conditional]


def known(name: object) -> bool:
    """Whether there may be a recipe of this name; a model from outside is its own recipe."""
    return isinstance(name, str) and (name in RECIPES or name in MODELS or bool(_plain(name)))


def check(name: object) -> None:
    if not known(name):
        raise unknown("model", name, RECIPES)


def _plain(name: str) -> str:
    """`dcgan` of `cdcgan`; empty for the name of no conditional recipe."""
    return name[1:] if name not in MODELS and name[:1] == "c" and name[1:] in RECIPES else ""


def name_of(rule: str, model: str, conditional: bool) -> str:
    """The recipe of an experiment's update rule and networks."""
    name = rule if rule in RULE_RECIPES else model
    return f"c{name}" if conditional and name in RECIPES else name


def recipe(name: str) -> Recipe:
    """The recipe of this name: a model's or an update rule's, or one of these with classes."""
    if plain := _plain(name):
        return conditional(plain)
    if name in RULE_RECIPES:
        return RULE_RECIPES[name]
    check(name)
    model = MODELS[name]
    networks = {**model.recipe.get("networks", {}), "name": name}
    space = model.space or search_space()
    if not model.space and "width" not in model.config.model_fields:
        del space["networks"]
    return Recipe({**model.recipe, "networks": networks}, space, model.about)


def conditional(name: str) -> Recipe:
    """The recipe of this name with class-conditional networks; an InputError if the model has no such form."""
    plain = recipe(name)
    networks = {**plain.settings["networks"], "conditional": True}
    way, space = MODELS[networks["name"]].conditional, dict(plain.space)
    if way is None:
        raise InputError(f"unknown model 'c{name}': {networks['name']} has no conditional form; take '{name}'")
    if way == "auxiliary":
        space["loss"] = {**space["loss"], "auxiliary": AUXILIARY}
    return Recipe({**plain.settings, "networks": networks}, space, f"{name} with classes: {WAYS[way]}")
