"""What many tests share: tiny data, tiny experiments, and a scorer that costs nothing."""

from __future__ import annotations

import copy
import hashlib
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import is_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
import torch
from sqlalchemy import event
from sqlalchemy.engine import Engine
from threadpoolctl import threadpool_limits
from torch import Tensor

from gans import registry
from gans.commands import main
from gans.config import NetworkConfig, Resolved, experiment
from gans.data.images import ImageData
from gans.files import save_weights
from gans.models import build_generator
from gans.models.layers import Shape
from gans.runs.execute import Scoring
from gans.training.loop import train
from gans.training.recorder import Observer
from gans.training.two_player import Discriminator
from gans.training.updates import Statistics, Trainable, Update

# who started the tests, in the background say, may have had Ctrl-C ignored, and processes of the tests inherit it
signal.signal(signal.SIGINT, signal.default_int_handler)

Found = TypeVar("Found")
CPU = torch.device("cpu")
GREY = Shape(1, 16)
TINY: dict[str, Any] = {
    "dataset": "blobs",
    "resolution": 16,
    "batch": 8,
    "kimg": 0.096,
    "precision": "float32",
    "networks": {"latent": 8, "width": 4},
    "ema": {"halflife_kimg": 0.05},
    "score": {"extractors": ["stub"], "images": 100, "curve_images": 100},
    "schedule": {"evaluations": 3, "grids": 2, "checkpoints": 4, "logs": 6},
}


@event.listens_for(Engine, "connect")
def without_waiting_for_the_disk(connection: Any, record: Any) -> None:
    """Databases of tests need not survive a power cut, and waiting for the disk takes most of their time."""
    with suppress(sqlite3.Error):  # a file that is no database, as the test then finds out
        connection.execute("PRAGMA synchronous = OFF")


def parsed(words: Sequence[str], *configs: Callable[..., None]) -> Any:
    """The options that the words of a command line give, behind `gans`; by name if no dataclass holds them."""
    bound = main.parse(words, *configs)[1]
    found = next(iter(bound.arguments.values()))
    return found if is_dataclass(found) else SimpleNamespace(**bound.arguments)


def until(look: Callable[[], Found], over: Callable[[], Any] = lambda: None, seconds: float = 300.0) -> Found:
    """What `look` finds, as soon as it finds something, however slow the machine is.

    Args:
        look: returns something false while there is nothing.
        over: returns None while something may still come, as `poll` of a process does; else the error shows it.
        seconds: after which the test fails.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not there after {seconds:g} s"
        ended = over()
        assert ended is None or look(), f"it will not come any more: {ended}"
        time.sleep(0.02)
    return found


def networks(name: str = "dcgan", **fields: Any) -> NetworkConfig:
    """The hyperparameters of a model."""
    return experiment({"networks": {"name": name, **fields}}).networks


def untrained(path: Path, config: NetworkConfig, shape: Shape = GREY, **about: Any) -> Path:
    """A file with an untrained generator, and its description."""
    known = {"shape": [shape.channels, shape.side], "networks": config.model_dump()}
    save_weights(path, build_generator(shape, config, seed=0).state_dict(), known | about)
    return path


@pytest.fixture
def tiny() -> Callable[..., Resolved]:
    """Makes the smallest sensible experiment, with tables laid over it."""

    def make(*tables: Mapping[str, Any], **fields: Any) -> Resolved:
        # last, so that a recipe's own widths do not win
        made = experiment(TINY, *tables, {"networks": TINY["networks"]}, fields)
        assert made.resolution
        assert made.precision != "auto"
        return Resolved.of(made, made.resolution, made.precision, made.score.extractors)

    return make


@pytest.fixture(scope="session")
def blobs() -> Callable[..., ImageData]:
    """Makes a synthetic data set: bright squares at random places on noise; labelled in turn if it has classes."""

    def make(n: int = 60, channels: int = 1, side: int = 16, seed: int = 0, classes: int = 0) -> ImageData:
        rng = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 60, (n, channels, side, side), generator=rng, dtype=torch.uint8)
        places = torch.randint(0, side // 2, (n, 2), generator=rng).tolist()
        for image, (top, left) in zip(images, places, strict=True):
            image[:, top : top + side // 2, left : left + side // 2] += 180
        digest = hashlib.sha256(images.numpy().tobytes()).hexdigest()
        labels = torch.arange(n).remainder(classes) if classes else None
        some = None if labels is None else labels[:10]
        names = tuple(f"class {c}" for c in range(classes))
        return ImageData("blobs", "Blobs", images, images[:10], labels, some, names, digest)

    return make


@pytest.fixture(scope="session", autouse=True)
def making_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], None]]:
    """MLflow takes seconds to make an empty store: one is made, those of the tests begin as copies of it.

    Processes that tests start make theirs themselves. Gives what makes one from nothing.
    """
    from gans.runs import databases
    from gans.runs import store as stores

    make, template = stores._create, tmp_path_factory.mktemp("template") / "mlflow.db"

    def copied(uri: str) -> None:
        path = databases.sqlite_file(uri)
        if path is None or path.exists() or list(path.parent.glob(f".{path.name}.new*")):
            return make(uri)
        if not template.exists():
            make(f"sqlite:///{template}")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(template, path)
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "_create", copied)
        yield make


@pytest.fixture(autouse=True)
def nothing_from_outside(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Forgets, after each test, which parts from outside were allowed and imported."""
    monkeypatch.setenv(registry.ALLOWED, "")
    path, modules, base = list(sys.path), set(sys.modules), str(tmp_path_factory.getbasetemp())
    yield
    sys.path[:] = path
    for name in sys.modules.keys() - modules:
        if str(getattr(sys.modules[name], "__dict__", {}).get("__file__")).startswith(base):
            del sys.modules[name]


@pytest.fixture
def gans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in an empty folder, where its tracking store is: exit code, stdout, stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setenv(registry.ALLOWED, "")  # a command of its own
        monkeypatch.setattr("sys.argv", ["gans", *map(str, words)])
        return main.main(), *capsys.readouterr()

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return run


class StubScorer:
    """Scores by the distance between mean images: deterministic, instant, and lower is better."""

    def __init__(self, data: ImageData, extractor: str, n: int, device: torch.device) -> None:
        self.extractor = SimpleNamespace(name=extractor, labels=(), hash="0" * 64)
        self.metric = f"fd_{extractor}"
        self.mean = data.train.float().mean(dim=0)
        self.n = n

    def at(self, n: int) -> StubScorer:
        other = copy.copy(self)
        other.n = n
        return other

    def distance(self, images: Tensor) -> float:
        assert images.dtype == torch.uint8
        assert len(images) == self.n
        return float((images.float().mean(dim=0) - self.mean).square().mean())

    def score(self, images: Tensor) -> dict[str, float]:
        return {self.metric: self.distance(images), "spread": float(images.float().std())}

    def assess(self, images: Tensor, labels: Tensor | None = None) -> SimpleNamespace:
        return SimpleNamespace(scores=self.score(images), classes=None)

    def nearest(self, images: Tensor, count: int) -> Tensor:
        return torch.arange(count).expand(len(images), -1)


@pytest.fixture
def stub_scorer(monkeypatch: pytest.MonkeyPatch) -> type[StubScorer]:
    monkeypatch.setattr("gans.runs.execute.Scorer", StubScorer)
    # after a few steps a small DCGAN still draws one image for all latents
    monkeypatch.setattr("gans.training.evaluation.COLLAPSED", 0.0)
    return StubScorer


def train_and_score(
    made: Resolved,
    data: ImageData,
    folder: Path,
    device: torch.device = CPU,
    observer: Observer | None = None,
) -> SimpleNamespace:
    """Train and score as a cell does; returns the attributes of both results."""
    scoring = Scoring(made, data, folder, device)
    trained = train(made, data, folder, device, scoring.evaluator, observer)
    scored = scoring.finish(trained, observer or Observer())
    return SimpleNamespace(**vars(trained) | vars(scored))


STATISTICS = ("loss/discriminator", "loss/generator", "D/real", "D/fake")


def values(statistics: Statistics) -> Tensor:
    """The statistics of all our update rules, in the order of `STATISTICS`: (4,)."""
    assert set(statistics) == set(STATISTICS)
    return torch.stack([statistics[name] for name in STATISTICS])


def discriminators(update: Update) -> list[Discriminator]:
    """The discriminators of this process, in the order of their workers."""
    return [trainable for trainable in update.trainables if isinstance(trainable, Discriminator)]


def seeded(update: Update, purpose: str, images: int, *labels: int) -> torch.Generator:
    """A generator that draws the same numbers as the rule's own at this position."""
    rng = torch.Generator(update.device)
    update.seed(rng, purpose, images, *labels)
    return rng


def latents(update: Update, images: int, *labels: int) -> Tensor:
    """The latents that the rule draws at this position."""
    return update.generator_input(seeded(update, "latents", images, *labels)).z


def to_double(*trainables: Trainable) -> None:
    """Convert networks and their inputs to float64."""
    for trainable in trainables:
        network = trainable.network.double()
        trainable.forward = lambda x, *labels, network=network: network(x.double(), *labels)


@contextmanager
def single_thread() -> Iterator[None]:
    """torch and BLAS on one thread: small products are slower on several, and last digits may depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


@pytest.fixture
def one_thread() -> Iterator[None]:
    with single_thread():
        yield


class Recorder:
    """An observer that keeps all reports, and raises when `stop` says so."""

    def __init__(self, stop: Callable[[str, int], bool] = lambda event, count: False) -> None:
        self.values: list[tuple[int, str, float]] = []
        self.pictures: list[Path] = []
        self.flushes = 0
        self.logs = 0
        self.stop = stop
        self.history: Mapping[str, list[tuple[int, float]]] = {}

    def log(self, images: int, values: Mapping[str, float]) -> None:
        self.logs += 1
        if self.stop("log", self.logs):
            raise KeyboardInterrupt
        self.values += [(images, name, value) for name, value in values.items()]

    def picture(self, path: Path) -> None:
        assert path.exists()
        self.pictures.append(path)

    def flush(self) -> None:
        self.flushes += 1
        if self.stop("flush", self.flushes):
            raise KeyboardInterrupt

    def resumed(self, history: Mapping[str, list[tuple[int, float]]]) -> None:
        self.history = history

    def of(self, name: str) -> list[tuple[int, float]]:
        return [(images, value) for images, other, value in self.values if other == name]


@pytest.fixture
def recorder() -> type[Recorder]:
    return Recorder
