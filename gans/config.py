"""The experiment: everything that decides what is trained and how it is scored; `gans config MODEL` prints it."""

import hashlib
import json
import math
import reprlib
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)

from gans.errors import InputError, printable, unknown
from gans.registry import LOSSES, MODELS, RULES, canonical
from gans.schema import Precision, Settled

PROTOCOL_VERSION = 2  # raised by any change that can move a score by more than rounding does
# beginnings of settings that move no weight and choose no checkpoint; data are known by their hash
NO_IDENTITY = (
    *("dataset", "resolution", "score.extractors", "score.images"),
    *("schedule.grids", "schedule.checkpoints", "schedule.logs"),
)

AUGMENTATIONS = ("color", "translation", "cutout", "flip")  # what `gans.training.augment` does by these names

LEAST_KIMG, MOST_KIMG = 0.001, 1e7  # one image, ten thousand million images
LARGEST = 2**20  # bytes of a file that a person writes
DEEPEST = 10  # tables and lists in each other
Count = Annotated[int, Field(ge=1, le=65_536)]
Often = Annotated[int, Field(ge=1, le=100_000)]  # times in a run
Images = Annotated[int, Field(ge=100, le=1_000_000)]  # generated for a score
Seed = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
Side = Annotated[int, Field(ge=16, le=4096, multiple_of=8)]
Rate = Annotated[float, Field(gt=0, lt=10)]
Weight = Annotated[float, Field(ge=0, le=1e6)]


class Settings(BaseModel):
    """Base of user settings: unknown keys are refused; `true` and text are not numbers, 1e3 is not an int."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Part = TypeVar("Part", bound=Settings)


class NetworkConfig(Settings):
    """Hyperparameters of all models; a model's file adds its own in a subclass."""

    name: str = Field("dcgan", description="which networks: a key of gans.registry.MODELS, or package.module:Name")
    latent: Count = Field(128, description="length of the latent vector z")
    conditional: bool = Field(False, description="draw and judge images by class, where data and model have them")


def network_config(table: Mapping[str, Any]) -> type[NetworkConfig]:
    """The hyperparameters of the model that a table names."""
    return MODELS[table.get("name", NetworkConfig.model_fields["name"].default)].config


class UpdateConfig(Settings):
    """Settings of all update rules: the name."""

    rule: str = Field("two-player", description="a key of gans.registry.RULES, or package.module:Name")


class TwoPlayerConfig(UpdateConfig):
    """One generator, one discriminator."""

    d_steps: Count = Field(1, description="discriminator steps, each on fresh images, per generator step")


class ShardedConfig(UpdateConfig):
    """Settings of rules that distribute the data to workers."""

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
    """One generator, N discriminators on N shards (1811.03850)."""

    batches: Count = Field(1, description="k: distinct generated batches per iteration, at most N")
    swap_epochs: float = Field(
        1.0, ge=1e-6, description="E: epochs over a shard between two swaps of discriminators; inf for none"
    )
    same_start: bool = Field(False, description="all discriminators start from equal weights")
    crashes: bool = Field(
        False, description="simulate: one worker crashes every I/N iterations, the last as the budget ends"
    )

    @model_validator(mode="after")
    def batches_fit(self) -> Self:
        if self.batches > self.workers:
            raise InputError(f"batches = {self.batches} exceeds workers = {self.workers}; k is at most N")
        return self


class FLGANConfig(ShardedConfig):
    """N whole GANs on N shards, averaged in rounds (1811.03850)."""

    average_epochs: float = Field(
        1.0, ge=1e-6, le=1e6, description="E: epochs over a shard between two rounds of averaging"
    )


# by rule; that of a rule from outside is its class's attribute `config`
UPDATES: dict[str, type[UpdateConfig]] = {
    "two-player": TwoPlayerConfig,
    "mdgan": MDGANConfig,
    "fl-gan": FLGANConfig,
}


def update_config(table: Mapping[str, Any]) -> type[UpdateConfig]:
    """The parameters of the update rule that a table names."""
    rule = table.get("rule", "two-player")
    if isinstance(rule, str) and rule in UPDATES:
        return UPDATES[rule]
    return getattr(RULES[rule], "config", UpdateConfig)


def _part(key: str, kind: Callable[[Mapping[str, Any]], type[Settings]]) -> BeforeValidator:
    """Validate a table as the part that it names."""
    return BeforeValidator(
        lambda value: validated(kind(value), value, prefix=key) if isinstance(value, Mapping) else value
    )


class LossConfig(Settings):
    name: str = Field("non-saturating", description="a key of gans.registry.LOSSES, or package.module:Name")
    penalty: Weight = Field(10.0, description="weight of the gradient penalty; wasserstein-gp only")
    auxiliary: Weight = Field(
        1.0, description="weight of both players' class cross-entropy; conditional networks with a classifier only"
    )

    @field_validator("name")
    @classmethod
    def known(cls, name: str) -> str:
        if name not in LOSSES:
            raise unknown("loss", name, LOSSES)
        return name


class PenaltiesConfig(Settings):
    """Gradient penalties on the discriminator, with any loss; it must have no BatchNorm then."""

    r1: Weight = Field(0.0, description="gamma of gamma/2 E |grad D|^2 on real images (Mescheder et al. 2018)")
    r2: Weight = Field(0.0, description="gamma of gamma/2 E |grad D|^2 on generated images")
    gp: Weight = Field(
        0.0, description="weight of WGAN-GP's E (|grad D| - 1)^2 between them; above 0 it replaces loss.penalty"
    )


class OptimizerConfig(Settings):
    """Which optimiser, with one set of settings for both networks but for the learning rate."""

    name: Literal["adam", "sgd", "rmsprop"] = Field("adam", description="of both networks: adam, sgd or rmsprop")
    lr_g: Rate = Field(2e-4, description="learning rate for the generator")
    lr_d: Rate = Field(2e-4, description="learning rate for the discriminator")
    beta1: float = Field(0.5, ge=0, lt=1, description="adam only: decay of the mean gradient")
    beta2: float = Field(0.999, ge=0, lt=1, description="adam only: decay of the mean squared gradient")
    momentum: float = Field(0.0, ge=0, lt=1, description="sgd only: share of the last step that is taken again")
    alpha: float = Field(0.99, ge=0, lt=1, description="rmsprop only: decay of the mean squared gradient")


class AnnealConfig(Settings):
    """Final factors of scheduled settings; 1, the default, means constant."""

    shape: Literal["linear", "cosine"] = Field("linear", description="of the way there: linear or cosine")
    lr: float = Field(1.0, ge=0, le=100, description="what both learning rates are multiplied by in the end")
    beta2: float = Field(1.0, ge=1e-6, le=1, description="adam only: what 1 - beta2 is multiplied by in the end")
    penalty: float = Field(1.0, ge=0, le=100, description="what gradient penalties are multiplied by in the end")

    @property
    def moves(self) -> bool:
        """Whether anything is scheduled: then the whole training depends on the budget."""
        return (self.lr, self.beta2, self.penalty) != (1, 1, 1)


class EMAConfig(Settings):
    halflife_kimg: float = Field(
        10.0,
        ge=0,
        le=MOST_KIMG,
        description="half-life of the average of weights, in kimg; 0 scores the raw weights",
    )


class ScoreConfig(Settings):
    extractors: tuple[str, ...] = Field(
        ("auto",),
        min_length=1,
        strict=False,  # a list, too
        description="feature extractors, the first picks the checkpoint; auto: the data set's own, else inception",
    )
    images: Images = Field(10_000, description="generated images behind a final score")
    curve_images: Images = Field(2_000, description="generated images behind each point of the score curve")


class ScheduleConfig(Settings):
    """Frequencies as counts over the whole run, so that they scale with the budget."""

    evaluations: Often = Field(10, description="points of the score curve after the first, at 0 images")
    grids: Often = Field(10, description="sample grids from fixed latents after the first")
    checkpoints: Often = Field(10, description="checkpoints; an interrupted run loses at most one interval")
    logs: Often = Field(100, description="points of the loss curves")


class Experiment(Settings):
    """One training: a model on a data set with a seed and a budget."""

    dataset: str = Field("digits", description="digits, mnist, ...; package.module:Name; or folder:PATH")
    resolution: Side | None = Field(
        None, description="image side, a multiple of 8 from 16 to 4096; none: the data set's"
    )
    data_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the training images that are trained on, of each class alike, the same for every "
        "seed; scores compare with all of them",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="training seed: initial weights, latents, order of the data")
    kimg: float = Field(
        100.0,
        ge=LEAST_KIMG,
        le=MOST_KIMG,
        description="budget: thousands of real images shown to the discriminators, all workers together",
    )
    batch: Annotated[int, Field(ge=2, le=65_536)] = Field(64, description="images per batch; per worker in MD-GAN")
    precision: Precision = Field(
        "auto",
        description="of the networks in training: float32; tf32 (CUDA); bf16, where the device has it; "
        "auto: bf16 where that was measured to be faster at equal scores, else float32",
    )
    networks: Annotated[SerializeAsAny[NetworkConfig], _part("networks", network_config)] = Field(
        default_factory=lambda: network_config({})()
    )
    update: Annotated[SerializeAsAny[UpdateConfig], _part("update", update_config)] = TwoPlayerConfig()
    labels: Literal["data", "uniform"] = Field(
        "data",
        description="conditional networks only: classes are drawn by their shares of the training images (data), "
        "or evenly (uniform), in training and for scores",
    )
    loss: LossConfig = LossConfig()
    penalties: PenaltiesConfig = PenaltiesConfig()
    augment: str = Field(
        "",
        description="what images pass through before the discriminator sees them (Zhao et al. 2020): some of "
        "color,translation,cutout,flip, in this order; empty: as they are",
    )
    optimizer: OptimizerConfig = OptimizerConfig()
    anneal: AnnealConfig = AnnealConfig()
    ema: EMAConfig = EMAConfig()
    score: ScoreConfig = ScoreConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    @field_validator("dataset")
    @classmethod
    def one_name(cls, dataset: str) -> str:
        """All spellings of a folder become one name, so that its results are in one place."""
        name = canonical(dataset)
        if name.encode(errors="replace").decode() != name:  # runs and reports are UTF-8
            raise InputError(f"the path of {printable(name)} is not UTF-8; rename the folder")
        return name

    @field_validator("augment")
    @classmethod
    def known_augmentations(cls, augment: str) -> str:
        """Comma-separated names without spaces, so that one choice is one text."""
        names = [name.strip() for name in augment.split(",")] if augment.strip() else []
        for name in names:
            if name not in AUGMENTATIONS:
                raise unknown("augmentation", name, AUGMENTATIONS)
        if len(set(names)) < len(names):
            raise InputError(f"augment = '{augment}' names one twice; name each once")
        return ",".join(names)

    def scaled(self, share: float) -> Self:
        """The same on a share of its budget."""
        return validated(type(self), dict(self) | {"kimg": self.kimg * share}, f"BUDGET={share:g}")

    @property
    def budget(self) -> int:
        """Images the discriminators see before training ends."""
        # 12.8 * 0.1 * 1000 is slightly above 1280 because of binary fractions
        return max(1, math.ceil(round(self.kimg * 1000, 6)))

    def progress(self, images: int) -> float:
        """Share of the budget that is spent when so many images were seen, at most 1."""
        return min(images / self.budget, 1.0)

    def flat(self) -> dict[str, Any]:
        """Dotted keys to plain values: `optimizer.lr_g` -> 0.0002."""
        return dict(flatten(self.model_dump(mode="json")))


class Resolved(Experiment):
    """An experiment on a data set and a device: nothing in it is `auto` or missing."""

    resolution: Side
    precision: Settled

    @classmethod
    def of(cls, experiment: Experiment, resolution: int, precision: Settled, extractors: Sequence[str]) -> Self:
        """The experiment with the data set's resolution, the device's precision, and extractors by name."""
        score = experiment.score.model_copy(update={"extractors": tuple(extractors)})
        return cls(**dict(experiment) | {"resolution": resolution, "precision": precision, "score": score})

    def identity(self, data_hash: str, chooser: str, code: Mapping[str, str] = MappingProxyType({})) -> str:
        """Hash of all that decides the weights and the chosen checkpoint (16 hex digits).

        Only settings that differ from their defaults count, so that new settings do not change
        identities. A changed default is a change of `PROTOCOL_VERSION`.

        The data set counts by its hash, and so do the extractor that picks the checkpoint and the files (`code`)
        of parts from outside.
        """
        changed = self.model_dump(mode="json", exclude_defaults=True)
        parts = {
            "settings": {key: value for key, value in flatten(changed) if not key.startswith(NO_IDENTITY)},
            "data": data_hash,
            "chooser": chooser,
            "protocol": PROTOCOL_VERSION,
            **({"code": dict(code)} if code else {}),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def code(self) -> dict[str, str]:
        """Hashes of the files of models, rules and losses from outside this repository, by their names."""
        named = ((MODELS, self.networks.name), (RULES, self.update.rule), (LOSSES, self.loss.name))
        return {name: digest for registry, name in named if (digest := registry.code(name))}


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
    """Merge nested tables; later ones override earlier ones key by key."""
    merged: dict[str, Any] = {}
    for table in tables:
        for key, value in table.items():
            old = merged.get(key)
            if not (isinstance(old, Mapping) and isinstance(value, Mapping)):
                merged[key] = value
            # another update rule has other parameters: drop those of the previous rule
            elif key == "update" and value.get("rule", rule := old.get("rule", "two-player")) != rule:
                merged[key] = dict(value)
            elif key == "networks" and value.get("name", name := old.get("name")) != name:
                # another model has other hyperparameters: drop those that it lacks
                fields = network_config(value).model_fields
                merged[key] = {**{k: v for k, v in old.items() if k in fields}, **value}
            else:
                merged[key] = merge(old, value)
    return merged


def experiment(*tables: Mapping[str, Any], where: str = "the experiment") -> Experiment:
    """The experiment of partial ones, later ones override earlier ones; an InputError says `where` and what."""
    try:
        merged = merge(*tables)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return validated(Experiment, merged, where)


def validated(model: type[Part], table: Mapping[str, Any], where: str = "", prefix: str = "") -> Part:
    """A table as a part of the configuration; its first error is an `InputError` with the key below `prefix`."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        message = explain(error, model, prefix)
        raise InputError(f"{where}: {message}" if where else message) from None


def explain(error: ValidationError, model: type[BaseModel], prefix: str) -> str:
    """Pydantic's first complaint in one line, with the nearest valid key for a typo."""
    first: Any = error.errors(include_url=False)[0]
    path = [*([prefix] if prefix else []), *map(str, first["loc"])]
    key, message = ".".join(path), str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        part = cast("Any", model)
        for step in first["loc"][:-1]:
            part = part.model_fields[step].annotation
        table = f" in table [{'.'.join(path[:-1])}]" if path[:-1] else ""
        return str(unknown("key", path[-1], part.model_fields, table))
    if first["type"] == "missing":
        return f"'{key}' is missing"
    if isinstance(first.get("ctx", {}).get("error"), InputError):
        return message
    return f"{key} = {reprlib.repr(first['input'])} is not valid: {message[0].lower()}{message[1:]}"


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a file that a person writes, a regular one of at most `LARGEST` bytes; else an InputError."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is not a regular file; name another")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes; name another")
        return parse_toml(content.decode())
    except FileNotFoundError:
        raise InputError(f"no file {path}; check the name") from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from None


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a text; a ValueError if it is no TOML, or nests tables and lists more than `DEEPEST` deep."""
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        tables = None
    if tables is None or _deep(tables, DEEPEST):
        raise ValueError(f"more than {DEEPEST} nested tables or lists")
    return tables


def _deep(value: Any, most: int) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return most == 0 or any(_deep(part, most - 1) for part in parts)
