"""The state of a training: its networks, and the number of images seen."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from gans import schema
from gans.compute import precision
from gans.compute.graphs import CUDAGraphRecorder, StepRunner, wanted
from gans.config import Resolved
from gans.data.images import ImageData
from gans.errors import InputError
from gans.models import shape_of
from gans.models.inputs import Prior
from gans.registry import RULES
from gans.training.ema import EMA
from gans.training.recorder import Diverged, Means
from gans.training.updates import Context, Statistics, Update, WorkerFactory


def is_large(images: Tensor, device: torch.device) -> bool:
    """Whether images would take more than a quarter of a GPU's memory."""
    return device.type == "cuda" and images.nbytes > torch.cuda.get_device_properties(device).total_memory / 4


class Training:
    """The update rule, the average of its generator, and the images that they have seen.

    Arguments and errors are those of `gans.training.loop.train`.

    Attributes:
        prior: the distribution of the generator's inputs.
        update: the rule with its networks.
        ema: the averaged generator, which is scored.
        images: real images that all discriminators together have seen.
        previous: the same before the last step; -1 before the first step, when everything is due.
        means: of the steps' statistics since the last log.
        runner: computes the steps.
    """

    def __init__(
        self,
        experiment: Resolved,
        data: ImageData,
        device: torch.device,
        graph: bool | None = None,
        worker_factory: WorkerFactory | None = None,
        compile: bool = False,
    ) -> None:
        self.runner = StepRunner(CUDAGraphRecorder(device) if wanted(graph, device) else None)
        self.experiment, self.data, self.device = experiment, data, device
        self.shape = shape_of(data, experiment.networks)
        self.prior = Prior.of(experiment, data)
        part = data.part(experiment.data_share)
        rule: type[Update] = RULES[experiment.update.rule]
        images = part.images if rule.images_on_host and is_large(part.images, device) else part.images.to(device)
        context = Context(images, part.labels, worker_factory, device)
        self.update = rule(experiment, self.shape, context)
        self.ema = EMA(self.update.generator.network, experiment.ema.halflife_kimg)
        if compile:  # once the average is copied from the generator
            for trainable in self.update.trainables:
                trainable.compile()
        self.means = Means()
        self.images, self.previous = 0, -1

    def step(self) -> Statistics:
        """One step of the rule and of the average; its statistics, on the device."""
        self.prepare()
        statistics = self.runner.run(self)
        self.update.finish()
        images = self.update.images_per_step
        self.means.count(statistics, images)
        self.previous, self.images = self.images, self.images + images
        return statistics

    def prepare(self) -> None:
        """Write the inputs of the next step into buffers."""
        trained = self.update.trained
        self.update.schedule(self.images)
        self.update.prepare(self.images)
        images = self.update.images_per_step
        # the average begins with the first trained generator; until then, at 0 images, it is a copy
        self.ema.prepare(self.images + images if trained else 0, images)

    # --- what is recorded

    def compute(self) -> Statistics:
        statistics = self.update.compute()
        self.ema.update()
        self.means.add(statistics)
        return statistics

    @property
    def kind(self) -> Hashable:
        kind = self.update.kind
        return None if kind is None else (kind, self.update.generator.betas)

    @property
    def rngs(self) -> Sequence[torch.Generator]:
        return self.update.rngs

    def computing(self) -> AbstractContextManager[None]:
        """With the matrix products of the precision; cells of another precision on the same GPU wait meanwhile."""
        return precision.products(self.experiment.precision, self.device)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """With optimisers that count their steps on the device; outside a recording torch would warn."""
        trainables = self.update.trainables
        for trainable in trainables:
            trainable.count_on_device(True)
        try:
            yield
        finally:
            for trainable in trainables:
                trainable.count_on_device(False)

    # --- progress

    def due(self, what: str) -> bool:
        """Whether the last step crossed one of the evenly spaced moments of `what`, a field of the schedule.

        Before the first step all are due, except a checkpoint that a restart would reproduce.
        """
        if self.images == 0 and what == "checkpoints" and not self.update.fragile:
            return False
        count, budget = getattr(self.experiment.schedule, what), self.experiment.budget
        return min(self.images, budget) * count // budget > self.previous * count // budget

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""
        return self.images >= self.experiment.budget

    @property
    def kimg(self) -> str:
        """The images seen, for a message."""
        return f"{self.images / 1000:.1f} kimg"

    def ensure_finite(self) -> None:
        """Check all weights; waits for the device.

        Raises:
            Diverged: one is not a finite number.
        """
        average = all(bool(part.isfinite().all()) for part in self.ema.averaged)
        if not (average and self.update.finite()):
            raise Diverged(f"weights are not finite at {self.kimg}")

    def sizes(self) -> dict[str, float]:
        """Trainable parameters of the generator, and of all discriminators together."""
        return {schema.SIZE_G: self.update.generator.size, schema.SIZE_D: self.update.discriminator_size()}

    def about(self) -> dict[str, Any]:
        """The generator's description in its file."""
        return {
            "shape": [self.shape.channels, self.shape.side],
            "networks": self.experiment.networks.model_dump(),
            **self.prior.about(),
            "experiment": self.experiment.model_dump(mode="json"),
            "data": self.data.title,
        }

    def state(self) -> dict[str, Any]:
        """Everything to resume from."""
        return {
            "of": self.origin,
            "images": self.images,
            "update": self.update.state(),
            "ema": self.ema.state(),
            "threads": torch.get_num_threads(),
        }

    @property
    def origin(self) -> str:
        """Hash of the settings and data that a state belongs to.

        The budget is left out unless a schedule depends on it: a longer training has the same states.
        """
        moves = self.experiment.anneal.moves
        settings = self.experiment if moves else self.experiment.model_copy(update={"kimg": 0.0})
        return settings.identity(self.data.hash, "", self.experiment.code())

    def load(self, state: dict[str, Any]) -> None:
        """Resume from a state.

        Raises:
            InputError: it belongs to another training.
        """
        if state.get("of", self.origin) != self.origin:  # earlier versions did not save it
            raise InputError("it has other settings or data")
        self.update.load(state["update"])
        self.ema.load(state["ema"])
        self.images = self.previous = state["images"]
        # another number of threads sums in another order
        torch.set_num_threads(state["threads"])
        self.runner.forget()  # loading a state replaces what a recording points to
