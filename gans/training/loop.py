"""The training loop: one for every model, data set and update rule."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from gans import schema
from gans.compute import devices
from gans.config import Resolved
from gans.data.images import ImageData
from gans.fidelity.scorer import Scorer
from gans.models.inputs import generate
from gans.pictures import grids
from gans.pictures.grids import decorating
from gans.training.checkpoints import Checkpoints
from gans.training.evaluation import Curve
from gans.training.recorder import Diverged, History, Observer, Recorder
from gans.training.state import Training
from gans.training.updates import WorkerFactory

GRID_IMAGES = 64


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        status: `finished` or `diverged`.
        reason: why it diverged, or a remark on a finished one; mostly empty.
        chosen: images seen by the chosen checkpoint.
        seconds: wall seconds by part, over all sessions of the run: training, evaluation, overhead.
        history: everything that was logged, over all sessions.
    """

    status: str
    reason: str
    chosen: int
    seconds: dict[str, float]
    history: History

    @property
    def images(self) -> int:
        """Images seen in the end."""
        return self.history[schema.TRAINING][-1][0]

    @property
    def joules(self) -> float:
        """Of the device, over all sessions; 0 where it does not count them."""
        return self.history.get(schema.JOULES, [(0, 0.0)])[-1][1]


def train(
    experiment: Resolved,
    data: ImageData,
    folder: Path,
    device: torch.device,
    evaluator: Scorer,
    observer: Observer | None = None,
    graph: bool | None = None,
    worker_factory: WorkerFactory | None = None,
    compile: bool = False,
) -> Outcome:
    """Train until the budget is spent; a checkpoint in `folder` is resumed, with the result of no interruption.

    Args:
        experiment: what to train.
        data: its data set.
        folder: for the checkpoint, the best generator and the sample grids.
        device: of networks and images.
        evaluator: scores the averaged generator, and so chooses the checkpoint.
        observer: gets metrics and pictures.
        graph: record steps and replay them (`gans.compute.graphs`); None: where the device has graphs.
        worker_factory: makes the workers of a rule with workers; None: they are in this process.
        compile: call the networks in this process through compiled code (`gans.compute.compiled`).

    Returns:
        The outcome; the folder has the chosen generator. A diverged run keeps its last good checkpoint and the
        best generator so far.

    Raises:
        InputError: the device has no graphs, or these networks cannot be conditional on these data.
        WorkersLost: none is left; training can resume from the last checkpoint.
    """
    recorder = Recorder(device, observer)
    training = Training(experiment, data, device, graph, worker_factory, compile)
    curve = Curve(evaluator, training, folder / schema.GENERATOR)
    session = Session(training, curve, recorder, folder, Checkpoints(folder))
    session.begin()
    try:
        while True:
            if training.due("evaluations"):
                session.evaluate()
            if training.due("grids"):
                session.draw()
            if training.due("checkpoints"):
                session.save()
            if training.over:
                remarks = (*session.checkpoints.remarks, training.update.remark())
                return session.end(schema.FINISHED, "; ".join(filter(None, remarks)))
            session.step()
            if training.due("logs") or training.due("checkpoints"):
                session.log()
    except (Diverged, FloatingPointError) as stop:  # FloatingPointError: generated pixels are not numbers
        return session.end(schema.DIVERGED, str(stop))


@dataclass(frozen=True)
class Session:
    """A training with its score curve, recorder and files."""

    training: Training
    curve: Curve
    recorder: Recorder
    folder: Path
    checkpoints: Checkpoints

    def begin(self) -> None:
        """Resume from the folder's checkpoint, if there is one."""
        training = self.training
        state = self.checkpoints.resume(training.device, training.load, self.curve.load)
        if state:
            self.recorder.load(state)
        else:
            self.recorder.report(training.images, training.sizes())

    def evaluate(self) -> None:
        """Add a point to the score curve."""
        self.wait()
        with self.recorder.costs.of("evaluation"):
            distance = self.curve.evaluate()
        name = schema.curve(self.curve.evaluator.metric)
        self.recorder.report(self.training.images, {name: distance, **self.recorder.costs.usage()})
        self.curve.keep(distance)

    def draw(self) -> None:
        """Draw a grid, always from the same latents."""
        self.wait()
        training = self.training
        given = training.prior.fixed(GRID_IMAGES, "grid")
        path = self.folder / schema.SAMPLES / f"{training.images / 1000:010.3f}kimg.png"
        images = generate(training.ema.generator, given)
        with decorating(path):
            grids.save_picture(grids.picture(images), path)
            self.recorder.observer.picture(path)

    def save(self) -> None:
        """Save a checkpoint of a finite state."""
        self.wait()
        self.training.ensure_finite()
        self.recorder.observer.flush()
        self.checkpoints.save(self.training.state() | self.curve.state() | self.recorder.state())

    def wait(self) -> None:
        """Wait for queued steps, so that their time counts as training."""
        with self.recorder.costs.of("training"):
            devices.wait(self.training.device)
        self.recorder.settle()

    def step(self) -> None:
        with self.recorder.costs.of("training"):
            self.training.step()

    def log(self) -> None:
        self.recorder.log(self.training.images, self.training.means, self.training.update.metrics())

    def end(self, status: str, reason: str) -> Outcome:
        recorder = self.recorder
        recorder.report(self.training.images, recorder.costs.metrics())
        recorder.observer.flush()
        return Outcome(status, reason, self.curve.chosen, recorder.costs.seconds, recorder.history)
