"""One cell: a resolved experiment, trained, scored and tracked."""

from __future__ import annotations

import fcntl
import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from gans import fidelity, files
from gans.compute import devices, precision
from gans.config import Experiment, Resolved, ShardedConfig
from gans.data import datasets
from gans.data.images import ImageData
from gans.errors import InputError
from gans.generate.sampling import PURPOSES
from gans.models import build_discriminator
from gans.models.layers import Shape
from gans.pictures.curves import draw_curves
from gans.pictures.film import Track, grids, save_film
from gans.pictures.shards import draw_shards
from gans.registry import LOSSES, MODELS, RULES
from gans.runs.scoring import Scored, Scoring
from gans.runs.tracking import Run, Store, provenance
from gans.training import graphs
from gans.training.loop import CHECKPOINT, GENERATOR, Outcome, train
from gans.training.mdgan import cluster
from gans.training.mdgan.workers import Hire, Where
from gans.training.players import normalises
from gans.training.recorder import History

RUN_FILE = "run.json"
FILM = "training.gif"
LOST = "gans.lost."  # tags: why a worker of MD-GAN is gone, by its number


class InUse(InputError):
    """Another process works on the same cell."""


# told (images seen, metrics) as training goes on
Tell = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Cell:
    """A model on a data set from one seed.

    Attributes:
        model: the model's name in tables; a recipe, or what the matrix calls it.
        experiment: resolved: resolution, extractors and precision are named.
        identity: hash of all that can move its score.
        metric: name of the score that chooses the checkpoint and ranks models, `fd_digits` say.
    """

    model: str
    experiment: Resolved
    identity: str
    metric: str

    @property
    def name(self) -> str:
        return f"{self.model}/{self.experiment.dataset}/{self.experiment.seed}"

    @property
    def slug(self) -> str:
        """A folder's name: readable, and different for different identities."""
        name = "".join(c if c.isalnum() or c in "-." else "-" for c in self.name.replace("/", "_"))
        return f"{name[-80:]}-{self.identity[:8]}"


@cache
def extractor(name: str) -> fidelity.Extractor:
    """The extractor, its weights checked once per process."""
    return fidelity.require(name)


def resolve(model: str, experiment: Experiment, device: torch.device) -> Cell:
    """The cell of an experiment on a device, with everything checked that can be before training starts.

    Raises:
        InputError: as `identify`, and if the networks or the update rule do not fit the data.
    """
    cell = identify(model, experiment, device)
    check(cell.experiment, datasets.load(cell.experiment.dataset, resolution=cell.experiment.resolution))
    return cell


def identify(model: str, experiment: Experiment, device: torch.device) -> Cell:
    """The cell of an experiment on a device, which decides on its precision; whether or not it can be trained.

    Raises:
        InputError: the data set or an extractor's weights cannot be had.
    """
    images = datasets.load(experiment.dataset, resolution=experiment.resolution)
    names = [fidelity.default_extractor(images) if e == "auto" else e for e in experiment.score.extractors]
    extractors = [extractor(name) for name in dict.fromkeys(names)]
    settled = precision.resolve(experiment.precision, device, MODELS[experiment.networks.name].bf16)
    resolved = Resolved.of(experiment, images.resolution, settled, [e.name for e in extractors])
    identity = resolved.identity(images.hash, extractors[0].hash, resolved.code())
    return Cell(model, resolved, identity, extractors[0].prefix)


def check(experiment: Experiment, images: ImageData) -> None:
    """Refuse, before training, an experiment whose parts do not fit each other."""
    RULES[experiment.update.rule].check(experiment, len(images.train), images.train_labels)
    penalised = LOSSES[experiment.loss.name].penalised
    shape = Shape(images.channels, images.resolution)
    if penalised and normalises(build_discriminator(shape, experiment.networks, seed=0)):
        raise InputError(
            f"loss {experiment.loss.name} needs a discriminator without BatchNorm, which couples the gradients "
            f"that it penalises; use dcgan-nobn, for one, in place of {experiment.networks.name}"
        )


def check_workers(cell: Cell, place: Place) -> None:
    """Refuse, before training, workers that cannot have the processes that they are to live in.

    Raises:
        InputError: the update rule has no workers of that kind, or there is no room for them.
    """
    update = cell.experiment.update
    if place.workers == "local":
        return
    if not RULES[update.rule].distributed:
        raise InputError(f"update {update.rule} has no workers for --workers {place.workers}; leave it out")
    assert isinstance(update, ShardedConfig)
    cluster.check(update.workers, devices.resolve(place.device))


class Observer:
    """Passes what training tells on to MLflow and to a listener."""

    def __init__(self, run: Run, tell: Tell) -> None:
        self.run, self.tell = run, tell

    def log(self, images: int, values: Mapping[str, float]) -> None:
        self.run.log(images, values)
        self.tell(images, values)

    def picture(self, path: Path) -> None:
        self.run.artifact(path, "samples")

    def flush(self) -> None:
        self.run.flush()

    def resumed(self, history: History) -> None:
        if self.run.new:  # the store that knew the run is gone: tell the new one what came before
            for name, points in history.items():
                for images, value in points:
                    self.run.log(images, {name: value})


@dataclass(frozen=True)
class Place:
    """Where a cell runs and is tracked.

    Attributes:
        experiment: the MLflow experiment.
        uri: the tracking store.
        device: auto, cpu, cuda or cuda:1.
        threads: on the CPU.
        parent: run id of the invocation, if there is one.
        matrix_file: text of the matrix file, kept with the run.
        graph: replay training steps as a CUDA graph.
        workers: where the workers of an update rule that has some live; results agree to rounding.
    """

    experiment: str
    uri: str
    device: str
    threads: int
    parent: str | None = None
    matrix_file: str | None = None
    graph: bool = False
    workers: Where = "local"


def run_cell(cell: Cell, folder: Path, place: Place, tell: Tell) -> Scored:
    """Train the cell, or go on with it, and score it, under its MLflow run; an exception ends the run as failed.

    Args:
        cell: what to run.
        folder: its checkpoint and pictures; what an interrupted run left there is taken up.
        place: where.
        tell: a listener for progress.

    Raises:
        InUse: another process runs the cell.
        InputError: the device has not the precision, or no graphs; there is no run then.
    """
    device = devices.resolve(place.device)
    precision.check(cell.experiment.precision, device)
    if place.graph:
        graphs.check(device)
    devices.prepare(device, place.threads)
    store = Store(place.uri)
    with locked(folder):
        run = open_run(cell, store, folder, place)
        try:
            run.watch_system()
            images = datasets.load(cell.experiment.dataset, resolution=cell.experiment.resolution)
            if place.matrix_file:
                run.text(place.matrix_file, "matrix.toml")
            run.dataset(images)
            show_shards(run, cell.experiment, images, folder)
            observer = Observer(run, tell)
            scoring = Scoring(cell.experiment, images, folder, device)
            with hiring(run, cell.experiment, place.workers) as hire:
                trained = train(
                    cell.experiment, images, folder, device, scoring.evaluator, observer, place.graph, hire
                )
            outcome = scoring.finish(trained, observer)
            keep(run, folder, trained)
            keep_film(run, cell, folder)
        except KeyboardInterrupt:
            run.interrupt("stopped by the user")
            raise
        except Exception as error:
            run.text(traceback.format_exc(), "traceback.txt")
            keep_files(run, folder)
            run.finish("failed", reason(error))
            raise
        run.finish(outcome.status, outcome.reason)
        return outcome


def show_shards(run: Run, experiment: Experiment, images: ImageData, folder: Path) -> None:
    """Put a picture of the classes that each worker holds into the run."""
    update = experiment.update
    if isinstance(update, ShardedConfig) and draw_shards(update, images, experiment.seed, folder / "shards.png"):
        run.artifact(folder / "shards.png")


@contextmanager
def hiring(run: Run, experiment: Resolved, where: Where) -> Iterator[Hire]:
    """What makes the cell's workers; whoever is lost becomes a tag of the run."""

    def lost(n: int, why: str) -> None:
        run.tag({f"{LOST}{n}": why})

    where = where if RULES[experiment.update.rule].distributed else "local"
    with cluster.hiring(where, experiment, lost) as hire:
        run.tag({"gans.workers": where})
        yield hire


def reason(error: BaseException) -> str:
    """The end of the traceback in one line: exception, message, place."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}{place}"


def keep(run: Run, folder: Path, outcome: Outcome) -> None:
    """Put what training left into the run: networks, checkpoint, curves."""
    keep_files(run, folder)
    curves = folder / "curves.png"
    draw_curves(outcome.history, curves)
    run.artifact(curves)
    run.tag({"gans.chosen_images": str(outcome.chosen)})
    run.log(outcome.images, {"seconds/tracking": run.seconds})


def keep_film(run: Run, cell: Cell, folder: Path) -> None:
    """Put the training as a film into the run, made of the grids that lie in its folder."""
    path = folder / FILM
    drawn = grids({picture.name: picture for picture in (folder / "samples").glob("*.png")})
    if save_film([Track(cell.name, drawn)], cell.experiment.resolution or 0, path):
        run.artifact(path)


def keep_files(run: Run, folder: Path) -> None:
    """Put the generator and the checkpoint into the run, if they are there."""
    for name in (GENERATOR, CHECKPOINT):
        if (folder / name).exists():
            run.artifact(folder / name, "checkpoint")


def open_run(cell: Cell, store: Store, folder: Path, place: Place) -> Run:
    """The run that an interrupted invocation left, or a new one."""
    file = folder / RUN_FILE
    run = store.resume(json.loads(file.read_text())["run"], place.parent) if file.exists() else None
    if run is None:
        run = store.start(place.experiment, cell.name, tags(cell), place.parent)
        run.params({"model": cell.model, **cell.experiment.flat()})
        text = json.dumps({"run": run.id, "cell": cell.name, "identity": cell.identity})
        files.write_text(file, text)
    else:
        run.tag(provenance())  # of the code that goes on
        run.untag(LOST)  # those that the checkpoint knows to be lost are told again
    run.tag(
        {
            "gans.device": devices.describe(devices.resolve(place.device)),
            "gans.threads": str(place.threads),
            "gans.graph": str(place.graph and graphs.fits(RULES[cell.experiment.update.rule])).lower(),
            "gans.status": "running",
        }
    )
    return run


def tags(cell: Cell) -> dict[str, str]:
    """What a run is found by, and a description for whoever reads the UI."""
    e = cell.experiment
    note = (
        f"**{cell.model}** on **{e.dataset}** at {e.resolution}x{e.resolution}, training seed {e.seed}: "
        f"{e.networks.name} networks, {e.update.rule} updates, {e.loss.name} loss, "
        f"{e.kimg:g} kimg in batches of {e.batch}.\n\n"
        f"The x axis (step) is the number of real images the discriminators have seen. `curve/{cell.metric}` is "
        f"the score during training on {e.score.curve_images} images and picks the checkpoint; "
        f"`score/{cell.metric}` is the final score on {e.score.images} images from other latents. Lower is better."
    )
    return {
        "gans.kind": "cell",
        "gans.cell": cell.identity,
        "gans.model": cell.model,
        "gans.dataset": e.dataset,
        "gans.seed": str(e.seed),
        "gans.metric": cell.metric,
        "gans.extractors": " ".join(f"{name}:{extractor(name).hash}" for name in e.score.extractors),
        "gans.reference": f"train split, {len(datasets.load(e.dataset, resolution=e.resolution).train)} images",
        "gans.latent_seeds": " ".join(f"{purpose}:{seed}" for purpose, seed in PURPOSES.items()),
        "mlflow.note.content": note,
    }


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the cell's folder; a second process that wants it gets an `InputError`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"{folder} is in use by another process; wait for it or stop it") from None
        for leftover in folder.glob(".*.[0-9]*"):  # of a process that was killed while writing
            leftover.unlink()
        yield
