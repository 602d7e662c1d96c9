"""Models, data sets, losses, update rules, extractors, metrics by name.

A name is a key of a registry below, an entry point of an installed package (in a group, `gans.models`, ...), or
`package.module:Name`, once the user named it: on the command line, in a matrix file, or its module by `--plugin`.
A part is imported when it is used, so that the configuration, below all parts, can check their names.
"""

import hashlib
import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from gans.errors import InputError, brief, first_line, unknown
from gans.schema import slug

FOLDER, HUB = "folder:", "hf:"  # data sets that are not in the registry: your own, and those of Hugging Face
MODULE = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
PLUGIN = re.compile(rf"{MODULE}:[A-Za-z_]\w*")
# of the environment, so that all processes of a command have it: modules, and parts, that may be imported
ALLOWED = "GANS_PLUGINS"


def allowed() -> list[str]:
    """The modules, and `package.module:Name`s, from outside that this command may import."""
    return os.environ.get(ALLOWED, "").split()


def allow(*names: str) -> None:
    """Let this process, and those that it starts, import modules or parts that the user named."""
    for name in names:
        if not re.fullmatch(rf"{MODULE}|{PLUGIN.pattern}", name):
            raise InputError(f"'{name}' is not the name of a module; write --plugin package.module")
    os.environ[ALLOWED] = " ".join(dict.fromkeys([*allowed(), *names]))


def allow_named(written: Any) -> None:
    """Allow every `package.module:Name` in what the user wrote: words of a command line, or tables of a file."""
    if isinstance(written, str):
        words = re.split(r"[\s=,\[\]'\"]+", written)  # --set score.extractors=['mine:EXTRACTOR']
        allow(*filter(PLUGIN.fullmatch, words))
    elif isinstance(written, Mapping):
        allow_named([*written.keys(), *written.values()])
    elif isinstance(written, Iterable):
        for part in written:
            allow_named(part)


def folder(dataset: str) -> tuple[str, dict[str, str]]:
    """The path in `folder:PATH,labels=none,splits=hash`, or the name after `hf:`, and the settings."""
    path, *settings = re.split(",(?=labels=|splits=|fit=|images=)", dataset.removeprefix(FOLDER).removeprefix(HUB))
    return path, dict(setting.split("=", 1) for setting in sorted(settings))


def canonical(dataset: str) -> str:
    """A data set's canonical name: `folder:PATH` with the path absolute and links resolved, settings in order."""
    path, settings = folder(dataset)
    if not dataset.startswith((FOLDER, HUB)) or not path:
        return dataset
    try:
        own = f"{HUB}{path}" if dataset.startswith(HUB) else f"{FOLDER}{Path(path).expanduser().resolve()}"
        return ",".join([own, *(f"{key}={value}" for key, value in settings.items())])
    except (OSError, RuntimeError, ValueError):  # a loop of links, or no home directory: loading it reports that
        return dataset


def label(dataset: str) -> str:
    """A data set's name as part of a file's: `folder:~/my cats.zip` is `my-cats-` and a hash of its path."""
    if not dataset.startswith((FOLDER, HUB)):
        return slug(dataset)
    name = canonical(dataset)
    digest = hashlib.sha256(name.removeprefix(FOLDER).encode(errors="surrogateescape")).hexdigest()[:6]
    stem = slug(Path(folder(name)[0]).name.split(".")[0]).encode()[:100].decode(errors="ignore")
    return f"{stem or 'images'}-{digest}"


class NotAllowed(InputError):
    """A part from outside that the user did not name."""


@dataclass(frozen=True, eq=False)
class Registry(Mapping[str, Any]):
    """Parts of one kind by name; as a mapping it holds this repository's own."""

    kind: str  # what error messages call a part
    group: str  # of the entry points that other packages declare
    entries: dict[str, str]  # `package.module:Name` by key
    instance: str = ""  # the class, `package.module:Name`, that a part is an instance of
    subclass: str = ""  # or a subclass; without both it is a function
    optional: Mapping[str, str] = field(default_factory=dict)  # further ones, used only where they are named

    def __getitem__(self, name: str) -> Any:
        """The part of this name, imported; an InputError if there is none or it is something else."""
        found = load(self.kind, self.target(name))
        if name in self.entries:
            return found
        if self.subclass:
            fits = isinstance(found, type) and issubclass(found, load("class", self.subclass))
            wanted = f"a subclass of {self.subclass}"
        elif self.instance:
            fits, wanted = isinstance(found, load("class", self.instance)), f"a {self.instance}"
        else:
            fits, wanted = callable(found), "a function"
        if not fits:
            raise InputError(
                f"{name} is {kind_of(found)}, not {wanted.replace(':', '.')}; name another {self.kind}"
            )
        return found

    @contextmanager
    def calling(self, name: str) -> Iterator[None]:
        """Call a part within; any exception of one from outside, `sys.exit` too, becomes one line."""
        try:
            yield
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            if name in self.entries:
                raise
            raise failed(name, self.target(name), error) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        """Whether the name is that of a part, which need not be importable."""
        return self.find(name) is not None

    def find(self, name: object) -> str | None:
        """`package.module:Name` of a part, allowed or not; None if there is none of this name."""
        if not isinstance(name, str):
            return None
        own = self.entries.get(name) or self.optional.get(name)
        return own or (name if PLUGIN.fullmatch(name) else installed(self.group).get(name))

    def names(self) -> list[str]:
        """All parts by name: this repository's own, then those of installed packages."""
        return list(dict.fromkeys([*self.entries, *sorted(installed(self.group))]))

    def target(self, name: str) -> str:
        """`package.module:Name` of a part; an InputError if there is none, or the user did not allow it."""
        found = self.find(name)
        if found is None:
            raise unknown(self.kind, name, [*self.names(), *self.optional])
        module = found.partition(":")[0]
        if found == name and not {name, module} & set(allowed()):
            raise NotAllowed(
                f"{self.kind} '{name}' is code from outside that this command does not name; if you trust it, "
                f"add --plugin {module} (make: PLUGIN={module}; in the environment: {ALLOWED}={module})"
            )
        return found

    def code(self, name: str) -> str | None:
        """SHA-256 of the file that holds the part; None for this repository's own, which the commit names."""
        if name in self.entries:
            return None
        load(self.kind, self.target(name))
        path = file_of(self.target(name))
        return hashlib.sha256(path.read_bytes()).hexdigest() if path else None


@cache
def installed(group: str) -> dict[str, str]:
    """The entry points of a group: `package.module:Name` by name."""
    return {point.name: point.value for point in entry_points(group=group)}


def load(kind: str, target: str) -> Any:
    """The object `package.module:Name`; an InputError if it cannot be imported."""
    module, _, name = target.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # a script has its own folder there, not the working directory
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        remedy = "; start where it is, or install it" if error.name and module.startswith(error.name) else ""
        raise InputError(f"{kind} '{target}' cannot be imported: {first_line(error)}{remedy}") from error
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise failed(f"{kind} '{target}' cannot be imported", target, error) from error
    if not hasattr(found, name):
        raise InputError(f"{kind} '{target}': {module} has no {name}; correct the name behind the colon")
    return getattr(found, name)


def failed(name: str, target: str, error: BaseException) -> InputError:
    """The error for what a module from outside raised: in one line, with the file and line of that module."""
    package = target.partition(":")[0].partition(".")[0]
    places = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package
    ]
    said = f"sys.exit({error.code!r})" if isinstance(error, SystemExit) else brief(error)
    if isinstance(error, SyntaxError) and error.filename:
        said, places = f"SyntaxError: {error.msg}", [(error.filename, error.lineno or 0)]
    where = f" ({Path(places[-1][0]).name}:{places[-1][1]})" if places else ""
    return InputError(f"{name}: {said}{where}")


def kind_of(value: Any) -> str:
    """The kind of a value, for a message: a function, a class, an int, float32 (2, 16)."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if value is None:
        return "None"
    name = "function" if inspect.isroutine(value) else "class" if isinstance(value, type) else type(value).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


def file_of(target: str) -> Path | None:
    """The file of a module that `load` has imported."""
    file = getattr(sys.modules.get(target.partition(":")[0]), "__file__", None)
    return Path(file) if file else None


MODELS = Registry(
    "model",
    "gans.models",
    {
        "gan": "gans.models.gan:GAN",
        "dcgan": "gans.models.dcgan:DCGAN",
        "dcgan-nobn": "gans.models.dcgan:DCGAN_NOBN",
        "sagan": "gans.models.sagan:SAGAN",
        "sngan": "gans.models.resnet:SNGAN",
        "wgan-gp": "gans.models.resnet:WGAN_GP",
        "r3gan": "gans.models.r3gan:R3GAN",
    },
    instance="gans.models:Model",
)

DATASETS = Registry(
    "data set",
    "gans.datasets",
    {
        "digits": "gans.data.published:DIGITS",
        "mnist": "gans.data.published:MNIST",
        "fashion-mnist": "gans.data.published:FASHION_MNIST",
        "kmnist": "gans.data.published:KMNIST",
        "emnist-balanced": "gans.data.published:EMNIST_BALANCED",
        "emnist-byclass": "gans.data.published:EMNIST_BYCLASS",
        "emnist-bymerge": "gans.data.published:EMNIST_BYMERGE",
        "emnist-digits": "gans.data.published:EMNIST_DIGITS",
        "emnist-letters": "gans.data.published:EMNIST_LETTERS",
        "emnist-mnist": "gans.data.published:EMNIST_MNIST",
        "cifar10": "gans.data.published:CIFAR10",
        "cifar10-jpeg": "gans.data.published:CIFAR10_JPEG",
        "cifar100": "gans.data.published:CIFAR100",
        "svhn": "gans.data.published:SVHN",
        "stl10": "gans.data.published:STL10",
        "stl10-unlabeled": "gans.data.published:STL10_UNLABELED",
        "celeba": "gans.data.published:CELEBA",
    },
)

LOSSES = Registry(
    "loss",
    "gans.losses",
    {
        "non-saturating": "gans.training.two_player:NON_SATURATING",
        "minimax": "gans.training.two_player:MINIMAX",
        "hinge": "gans.training.two_player:HINGE",
        "least-squares": "gans.training.two_player:LEAST_SQUARES",
        "wasserstein-gp": "gans.training.two_player:WASSERSTEIN_GP",
        "relativistic": "gans.training.two_player:RELATIVISTIC",
    },
    instance="gans.training.two_player:Loss",
)

RULES = Registry(
    "update rule",
    "gans.rules",
    {
        "two-player": "gans.training.two_player:TwoPlayer",
        "mdgan": "gans.training.mdgan.server:MDGAN",
        "fl-gan": "gans.training.mdgan.flgan:FLGAN",
    },
    subclass="gans.training.updates:Update",
)

# besides the classifiers that are pinned by cards, which are found in folders
EXTRACTORS = Registry(
    "extractor",
    "gans.extractors",
    {
        "cifar10-resized": "gans.fidelity.extractors.find:resized",
        "clip": "gans.fidelity.extractors.published:CLIP",
        "dinov2": "gans.fidelity.extractors.dinov2:DINOV2",
        "inception": "gans.fidelity.extractors.published:INCEPTION",
    },
)

# in the order of tables; the first one chooses among checkpoints
METRICS = Registry(
    "metric",
    "gans.metrics",
    {
        "frechet": "gans.fidelity.metrics.frechet:FRECHET",
        "frechet-infinite": "gans.fidelity.metrics.frechet:FRECHET_INFINITE",
        "kernel": "gans.fidelity.metrics.kernel:KERNEL",
        "inception-score": "gans.fidelity.metrics.inception_score:INCEPTION_SCORE",
        "precision": "gans.fidelity.metrics.neighbours:PRECISION",
        "recall": "gans.fidelity.metrics.neighbours:RECALL",
        "density": "gans.fidelity.metrics.neighbours:DENSITY",
        "coverage": "gans.fidelity.metrics.neighbours:COVERAGE",
        "memorisation": "gans.fidelity.metrics.neighbours:MEMORISATION",
        "class-distance": "gans.fidelity.metrics.classes:CLASS_DISTANCE",
        "intra-frechet": "gans.fidelity.metrics.classes:INTRA_FRECHET",
        "agreement": "gans.fidelity.metrics.classes:AGREEMENT",
        "classification-accuracy": "gans.fidelity.metrics.classification_accuracy:CLASSIFICATION_ACCURACY",
    },
    instance="gans.fidelity.metric:Metric",
    optional={
        "authpct": "gans.fidelity.metrics.neighbours:AUTHENTICITY",
        "vendi": "gans.fidelity.metrics.vendi:VENDI",
        "sliced-wasserstein": "gans.fidelity.metrics.sliced:SLICED_WASSERSTEIN",
    },
)
