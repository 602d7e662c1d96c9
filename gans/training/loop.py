"""The training loop: one for every model, data set and update rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from gans import files
from gans.compute import devices, precision
from gans.config import Resolved
from gans.data.images import ImageData
from gans.generate import sampling
from gans.models.layers import Shape
from gans.pictures import grids
from gans.registry import RULES
from gans.training import graphs
from gans.training.costs import Costs
from gans.training.ema import EMA
from gans.training.mdgan.workers import Hire, LocalTeam
from gans.training.updates import STATISTICS

CHECKPOINT = "checkpoint.pt"  # everything to resume from
GENERATOR = "generator.safetensors"  # the EMA generator with the best score so far
GRID_IMAGES = 64
# a generator whose images differ by less than this many grey levels draws one image only; the small initial
# weights of DCGAN do that too, so it counts once this share of the budget is spent
COLLAPSED = 1.0
COLLAPSE_FROM = 0.5


# (images seen, value) by metric name
History = dict[str, list[tuple[int, float]]]


class Diverged(Exception):
    """Training cannot go on: a loss is not finite, or every latent gives the same image."""


class Evaluator(Protocol):
    """Judges what the generator draws at a point of the score curve; `gans.fidelity.scorer.Scorer` is one."""

    @property
    def metric(self) -> str:
        """The name of the distance: `fd_digits`, say."""

    @property
    def n(self) -> int:
        """How many images it judges."""

    def distance(self, images: Tensor) -> float:
        """Of uint8 images (n, channels, side, side); lower is better."""


class Observer(Protocol):
    """Who is told what happens during training."""

    def log(self, images: int, values: Mapping[str, float]) -> None:
        """Metrics after `images` images."""

    def picture(self, path: Path) -> None:
        """A picture was written."""

    def flush(self) -> None:
        """A checkpoint follows: what was logged so far will not be told again."""

    def resumed(self, history: History) -> None:
        """Training goes on from a checkpoint, before which all this was logged."""


class Silent:
    """An observer that looks away."""

    def log(self, images: int, values: Mapping[str, float]) -> None: ...

    def picture(self, path: Path) -> None: ...

    def flush(self) -> None: ...

    def resumed(self, history: History) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        status: `finished` or `diverged`.
        reason: why it diverged, or what is remarkable about a finished one; mostly empty.
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
        return self.history["seconds/training"][-1][0]

    @property
    def joules(self) -> float:
        """Of the device, over all sessions; 0 where it does not count them."""
        return self.history.get("energy/joules", [(0, 0.0)])[-1][1]


def train(
    experiment: Resolved,
    data: ImageData,
    folder: Path,
    device: torch.device,
    evaluator: Evaluator,
    observer: Observer | None = None,
    graph: bool = False,
    hire: Hire = LocalTeam,
) -> Outcome:
    """Train until the budget is spent; if `folder` holds a checkpoint, from there, exactly as if never stopped.

    Args:
        experiment: what to train.
        data: its data set.
        folder: for the checkpoint, the best generator and the sample grids.
        device: where networks and images live.
        evaluator: judges the averaged generator, and so picks the checkpoint.
        observer: is told metrics and pictures.
        graph: replay steps as a CUDA graph, where there is one (`gans.training.graphs`).
        hire: makes the workers of an update rule that has some.

    Returns:
        The outcome; the generator that was chosen lies in the folder, to be scored. A diverged run keeps its last
        good checkpoint and the best generator so far.

    Raises:
        InputError: the device has not the precision, or no graphs.
        WorkersLost: none is left; the last checkpoint stays, to go on from.
    """
    run = Training(experiment, data, folder, device, evaluator, observer or Silent(), graph, hire)
    try:
        while True:
            if run.images != run.resumed_at:  # a resumed run has done all this here
                if run.due("evaluations"):
                    run.evaluate()
                if run.due("grids"):
                    run.draw()
                if run.due("checkpoints"):
                    run.save()
            if run.images >= experiment.budget:
                return run.outcome("finished", run.update.remark())
            run.step()
            if run.due("logs") or run.due("checkpoints"):
                run.log()
    except (Diverged, FloatingPointError) as stop:  # the latter: the generator draws pixels that are not numbers
        return run.outcome("diverged", reason=str(stop))


class Training:
    """The state of one training and the things that happen to it."""

    def __init__(
        self,
        experiment: Resolved,
        data: ImageData,
        folder: Path,
        device: torch.device,
        evaluator: Evaluator,
        observer: Observer,
        graph: bool = False,
        hire: Hire = LocalTeam,
    ) -> None:
        precision.require(experiment.precision, device)
        if graph:
            graphs.check(device)
        self.costs = Costs(device)
        self.clock = self.costs.clock
        self.experiment, self.data, self.folder, self.observer = experiment, data, folder, observer
        self.device, self.evaluator = device, evaluator
        self.shape = Shape(data.channels, data.resolution)
        self.update = RULES[experiment.update.rule].build(experiment, self.shape, data, device, hire)
        self.ema = EMA(self.update.generator, experiment.ema.halflife_kimg)
        self.images = self.previous = 0
        self.resumed_at = -1
        self.best, self.chosen = math.inf, 0
        self.best_weights: dict[str, Tensor] = {}
        self.statistics = torch.zeros(len(STATISTICS), device=device)
        self.steps_since_log = self.images_since_log = 0
        self.logged_training = 0.0
        self.history: History = {}
        if (folder / CHECKPOINT).exists():
            self.resume()
        else:
            self.tell(self.sizes())
        # last: loading a state replaces what a graph points to
        self.steps = graphs.graphed(self.update) if graph else self.update

    def sizes(self) -> dict[str, float]:
        """Trainable parameters of the generator, and of all discriminators together."""
        return {
            "parameters/generator": self.update.player.size,
            "parameters/discriminator": self.update.discriminator_size(),
        }

    # --- one step

    def step(self) -> None:
        with self.clock.of("training"), precision.products(self.experiment.precision, self.device):
            trained = self.update.trained
            statistics = self.steps.step(self.images)
            self.previous, self.images = self.images, self.images + self.update.images_per_step
            # the average begins with the first trained generator; until then, at 0 images, it is a copy
            self.ema.update(self.images if trained else 0, self.update.images_per_step)
            self.statistics += statistics
            self.steps_since_log += 1
            self.images_since_log += self.update.images_per_step

    def due(self, what: str) -> bool:
        """Whether the last step crossed one of the evenly spaced moments of `what`; before the first, yes."""
        if self.images == 0:
            return what in ("evaluations", "grids") or (what == "checkpoints" and self.update.fragile)
        count = getattr(self.experiment.schedule, what)
        budget = self.experiment.budget
        return min(self.images, budget) * count // budget > self.previous * count // budget

    # --- once in a while

    def tell(self, values: Mapping[str, float]) -> None:
        """Log metrics at this moment."""
        for name, value in values.items():
            self.history.setdefault(name, []).append((self.images, value))
        self.observer.log(self.images, values)

    def log(self) -> None:
        """Report the mean statistics since the last report; reading them waits for the device."""
        with self.clock.of("training"):
            means = (self.statistics / self.steps_since_log).tolist()
        for name, value in zip(STATISTICS, means, strict=True):
            if not math.isfinite(value):
                raise Diverged(f"{name} is {value} at {self.images / 1000:.1f} kimg")
        training = self.costs.seconds["training"]
        loss_d, loss_g, d_real, d_fake = means
        self.tell(
            {
                "loss/discriminator": loss_d,
                "loss/generator": loss_g,
                "D/real": d_real,
                "D/fake": d_fake,
                "speed/images_per_second": self.images_since_log / max(training - self.logged_training, 1e-9),
                **self.costs.metrics(),
                **self.update.metrics(),
            },
        )
        self.statistics.zero_()
        self.steps_since_log = self.images_since_log = 0
        self.logged_training = training

    def evaluate(self) -> None:
        """A point of the score curve; the best one of a trained generator keeps it."""
        self.settle()
        with self.clock.of("evaluation"):
            self.check_weights()
            z = sampling.latents(self.evaluator.n, self.experiment.networks.latent, "choose")
            images = sampling.generate(self.ema.generator, z)
            self.check_images(images)
            distance = self.evaluator.distance(images)
        self.tell({f"curve/{self.evaluator.metric}": distance})
        if not math.isfinite(distance):
            raise Diverged(f"the score is {distance} at {self.images / 1000:.1f} kimg")
        # an extractor may like grey noise better than a first attempt at an image: no untrained result
        if self.images > 0 and self.update.trained and distance < self.best:
            self.best, self.chosen = distance, self.images
            self.best_weights = {name: part.clone() for name, part in self.ema.state().items()}
            self.save_best()

    def settle(self) -> None:
        """Wait for queued steps, so that they are booked as training and not as what comes next."""
        with self.clock.of("training"):
            devices.wait(self.device)

    def check_weights(self) -> None:
        average = all(bool(part.isfinite().all()) for part in self.ema.averaged)
        if not (average and self.update.finite()):
            raise Diverged(f"weights are not finite at {self.images / 1000:.1f} kimg")

    def save_best(self) -> None:
        files.save_weights(self.folder / GENERATOR, self.best_weights, self.about())

    def check_images(self, images: Tensor) -> None:
        late = self.images >= COLLAPSE_FROM * self.experiment.budget
        if late and self.update.trained and images.float().std(dim=0).mean() < COLLAPSED:
            raise Diverged(f"the generator draws one image for all latents at {self.images / 1000:.1f} kimg")

    def draw(self) -> None:
        """A grid from the same latents at every moment."""
        z = sampling.latents(GRID_IMAGES, self.experiment.networks.latent, "grid")
        path = self.folder / "samples" / f"{self.images / 1000:010.3f}kimg.png"
        grids.save_picture(grids.picture(sampling.generate(self.ema.generator, z)), path)
        self.observer.picture(path)

    def save(self) -> None:
        """A checkpoint, of a finite state only."""
        self.settle()
        self.check_weights()
        self.observer.flush()
        self.clock.switch("overhead")
        state = {
            "images": self.images,
            "update": self.update.state(),
            "ema": self.ema.state(),
            "best": self.best,
            "best_weights": self.best_weights,
            "chosen": self.chosen,
            "seconds": self.costs.seconds,
            "joules": self.costs.joules,
            "threads": torch.get_num_threads(),
            "history": self.history,
        }
        files.save(self.folder / CHECKPOINT, state)

    def resume(self) -> None:
        state = files.load(self.folder / CHECKPOINT, self.device)
        self.update.load(state["update"])
        self.ema.load(state["ema"])
        self.images = self.previous = self.resumed_at = state["images"]
        self.best, self.chosen, self.best_weights = state["best"], state["chosen"], state["best_weights"]
        if self.best_weights:
            self.save_best()  # the file may hold a later best, of steps that are taken again now
        self.costs.carry(state["seconds"], state["joules"])
        # another number of threads adds numbers up in another order
        torch.set_num_threads(state["threads"])
        self.logged_training = self.clock.seconds["training"]
        self.history = state["history"]
        self.observer.resumed(self.history)

    # --- the end

    def outcome(self, status: str, reason: str = "") -> Outcome:
        self.tell(self.costs.metrics())
        self.observer.flush()
        return Outcome(status, reason, self.chosen, self.costs.seconds, self.history)

    def about(self) -> dict[str, Any]:
        """What the generator's file says of itself."""
        return {
            "shape": list(self.shape),
            "networks": self.experiment.networks.model_dump(),
            "experiment": self.experiment.model_dump(mode="json"),
            "data": self.data.title,
            "images": self.chosen,
        }
