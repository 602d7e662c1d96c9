"""The experiment: everything that decides what is trained and how it is scored.

All parts are frozen and validated; an unknown or wrong key is refused with the nearest valid name. Every
field carries its help text, printed by `gans config`.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gans.errors import InputError, unknown

# Raised by any change that can move a score by more than rounding does (threads, memory layout and device move it
# by no more); a report never mixes two of them.
PROTOCOL_VERSION = 1

Count = Annotated[int, Field(ge=1)]
Precision = Literal["auto", "float32", "tf32", "bf16"]
Rate = Annotated[float, Field(gt=0, lt=10, allow_inf_nan=False)]


class Config(BaseModel):
    """Base of all parts: immutable, and no key passes unread."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkConfig(Config):
    name: str = Field("dcgan", description="which networks: a key of gans.models.MODELS")
    latent: Count = Field(128, description="length of the latent vector z")
    width: Count = Field(
        64, description="hidden units (gan), or channels of the widest feature maps (the other models)"
    )

    @field_validator("name")
    @classmethod
    def known(cls, name: str) -> str:
        from gans.models import MODELS

        if name not in MODELS:
            raise unknown("network", name, MODELS)
        return name


class TwoPlayerConfig(Config):
    rule: Literal["two-player"] = Field("two-player", description="one generator, one discriminator")
    d_steps: Count = Field(1, description="discriminator steps, each on fresh images, per generator step")


class ShardedConfig(Config):
    """What the rules that deal the data out to workers have in common."""

    workers: Count = Field(5, description="N: workers, each with a shard of the data")
    shards: Literal["iid", "dirichlet", "classes"] = Field(
        "iid",
        description="iid, or skewed by class: dirichlet (update.alpha), or classes: as few per worker as can be",
    )
    alpha: float = Field(
        1.0, gt=0, le=1e6, description="dirichlet only: a worker's mix of classes is Dir(alpha p); small is skewed"
    )
    d_steps: Count = Field(1, description="L: discriminator steps per iteration")


class MDGANConfig(ShardedConfig):
    rule: Literal["mdgan"] = Field(description="one generator, N discriminators on N shards (1811.03850)")
    batches: Count = Field(1, description="k: distinct generated batches per iteration, at most N")
    swap_epochs: float = Field(
        1.0, gt=0, description="E: epochs over a shard between two swaps of discriminators; inf for none"
    )
    crashes: bool = Field(
        False, description="simulate: one worker crashes every I/N iterations, the last as the budget ends"
    )

    @model_validator(mode="after")
    def batches_fit(self) -> Self:
        if self.batches > self.workers:
            raise InputError(f"batches = {self.batches} exceeds workers = {self.workers}; k is at most N")
        return self


class FLGANConfig(ShardedConfig):
    rule: Literal["fl-gan"] = Field(description="N whole GANs on N shards, averaged in rounds (1811.03850)")
    average_epochs: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="E: epochs over a shard between two rounds of averaging"
    )


UpdateConfig = Annotated[TwoPlayerConfig | MDGANConfig | FLGANConfig, Field(discriminator="rule")]


class LossConfig(Config):
    name: str = Field("non-saturating", description="a key of gans.training.losses.LOSSES")
    penalty: float = Field(
        10.0, ge=0, allow_inf_nan=False, description="weight of the gradient penalty; wasserstein-gp only"
    )

    @field_validator("name")
    @classmethod
    def known(cls, name: str) -> str:
        from gans.training.losses import LOSSES

        if name not in LOSSES:
            raise unknown("loss", name, LOSSES)
        return name


class OptimizerConfig(Config):
    lr_g: Rate = Field(2e-4, description="Adam's learning rate for the generator")
    lr_d: Rate = Field(2e-4, description="Adam's learning rate for the discriminator")
    beta1: float = Field(0.5, ge=0, lt=1, description="Adam's beta1, both networks")
    beta2: float = Field(0.999, ge=0, lt=1, description="Adam's beta2, both networks")


class EMAConfig(Config):
    halflife_kimg: float = Field(
        10.0,
        ge=0,
        description="half-life of the generator's weight average, in kimg; 0 scores the raw weights",
    )


class ScoreConfig(Config):
    extractors: tuple[str, ...] = Field(
        ("auto",),
        min_length=1,
        description="feature extractors, the first picks the checkpoint; auto: the data set's own, else inception",
    )
    images: Annotated[int, Field(ge=100)] = Field(10_000, description="generated images behind a final score")
    curve_images: Annotated[int, Field(ge=100)] = Field(
        2_000, description="generated images behind each point of the score curve"
    )


class ScheduleConfig(Config):
    """How often things happen, as counts over the whole run, so that a smaller budget keeps its shape."""

    evaluations: Count = Field(10, description="points of the score curve after the first, at 0 images")
    grids: Count = Field(10, description="sample grids from fixed latents after the first")
    checkpoints: Count = Field(10, description="checkpoints; an interrupted run loses at most one interval")
    logs: Count = Field(100, description="points of the loss curves")


class Experiment(Config):
    """One training: a model on a data set from one seed, under a budget."""

    dataset: str = Field("digits", description="a key of gans.data.datasets.DATASETS, or folder:PATH")
    resolution: int | None = Field(None, description="image side, a power of two >= 16; none: the data set's")
    seed: int = Field(0, ge=0, lt=2**31, description="training seed: initial weights, latents, order of the data")
    kimg: float = Field(
        100.0,
        gt=0,
        le=1e9,
        description="budget: thousands of real images shown to the discriminators, all workers together",
    )
    batch: Annotated[int, Field(ge=2)] = Field(64, description="images per batch; per worker in MD-GAN")
    precision: Precision = Field(
        "auto",
        description="of the networks in training: float32; tf32 (CUDA); bf16, where the device has it; "
        "auto: bf16 where that was measured to be faster at equal scores, else float32",
    )
    networks: NetworkConfig = NetworkConfig()
    update: UpdateConfig = TwoPlayerConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    ema: EMAConfig = EMAConfig()
    score: ScoreConfig = ScoreConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    @field_validator("resolution")
    @classmethod
    def power_of_two(cls, side: int | None) -> int | None:
        if side is not None and (side < 16 or side & (side - 1)):
            raise InputError(f"resolution = {side} is not a power of two from 16 up; use 16, 32, 64, ...")
        return side

    @property
    def budget(self) -> int:
        """Images the discriminators see before training ends."""
        # 12.8 * 0.1 * 1000 is a hair above 1280: what binary fractions add is no image
        return max(1, math.ceil(round(self.kimg * 1000, 6)))

    def flat(self) -> dict[str, Any]:
        """Dotted keys to plain values: `optimizer.lr_g` -> 0.0002."""
        return dict(flatten(self.model_dump(mode="json")))

    def identity(self, data_hash: str, scorers: tuple[str, ...]) -> str:
        """Hash of everything that can move the score of this cell (16 hex digits).

        Args:
            data_hash: content hash of the data set.
            scorers: identities of the scorers, in the order of `score.extractors`.
        """
        parts = {
            "experiment": self.model_dump(mode="json"),
            "data": data_hash,
            "scorers": scorers,
            "protocol": PROTOCOL_VERSION,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested tables with their dotted keys."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def describe(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Dotted key, value and help text of every setting."""
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from describe(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, field.description or ""


def merge(*tables: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables laid over each other; the later ones win key by key."""
    merged: dict[str, Any] = {}
    for table in tables:
        for key, value in table.items():
            old = merged.get(key)
            if not (isinstance(old, Mapping) and isinstance(value, Mapping)):
                merged[key] = value
            # another update rule has other parameters: those of the rule before it do not carry over
            elif key == "update" and value.get("rule", rule := old.get("rule", "two-player")) != rule:
                merged[key] = dict(value)
            else:
                merged[key] = merge(old, value)
    return merged


def experiment(*tables: Mapping[str, Any], where: str = "the experiment") -> Experiment:
    """The validated experiment that the merged tables describe.

    Args:
        tables: partial experiments; the later ones win.
        where: the file or command line that error messages name.

    Raises:
        InputError: naming the key, `where`, and the nearest valid key or the accepted values.
    """
    merged = merge(*tables)
    update = merged.get("update")
    if isinstance(update, Mapping) and "rule" not in update:
        merged["update"] = {"rule": "two-player", **update}
    try:
        return Experiment.model_validate(merged)
    except ValidationError as error:
        raise explain(error, Experiment, where) from None


def explain(error: ValidationError, model: type[BaseModel], where: str) -> InputError:
    """Pydantic's first complaint in one line, with the nearest valid key for a typo."""
    first: Any = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"] if str(part) not in RULES]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        parent = ".".join(path[:-1])
        known = valid_keys(model, first["loc"][:-1])
        return unknown("key", path[-1], known, f" in {where}" + (f", table [{parent}]" if parent else ""))
    if first["type"] == "missing":
        return InputError(f"{where}: '{key}' is missing")
    message = str(first["msg"]).removeprefix("Value error, ")
    context: Any = first.get("ctx")
    if context and isinstance(context.get("error"), InputError):
        return InputError(f"{where}: {message}")
    return InputError(f"{where}: {key} = {first['input']!r} is not valid: {message[0].lower()}{message[1:]}")


RULES = ("two-player", "mdgan", "fl-gan")


def valid_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The fields of the part of `model` that `path` leads to."""
    for step in path:
        if step in RULES:
            continue
        field = model.model_fields[str(step)].annotation
        options = [option for option in (get_args(field) or (field,)) if hasattr(option, "model_fields")]
        rule = next((part for part in path if part in RULES), None)
        model = next(
            (o for o in options if rule and o.model_fields["rule"].annotation == Literal[rule]), options[0]
        )
    return list(model.model_fields)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; a missing or broken file is an `InputError` that names it."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no file {path}; check the name") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
