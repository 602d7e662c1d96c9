"""The score curve of a training, and which of its generators is kept."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from torch import Tensor

from gans import files
from gans.fidelity.scorer import Scorer
from gans.models.inputs import generate
from gans.training.recorder import Diverged
from gans.training.state import Training

log = logging.getLogger("gans")

# a generator whose images differ by less than this many grey levels draws one image only; the small initial
# weights of DCGAN do that too, so it counts once this share of the budget is spent, in so many steps
COLLAPSED = 1.0
COLLAPSE_FROM, COLLAPSE_STEPS = 0.5, 100


class Curve:
    """The distances of the averaged generator during a training; the file `path` holds the best one.

    Attributes:
        evaluator: gives the distance of images, the lower the better (`distance`), and how many it takes (`n`).
        best: the lowest distance so far of a trained generator.
        chosen: images that it had seen.
        weights: its weights, by name; none before the first one.
    """

    def __init__(self, evaluator: Scorer, training: Training, path: Path) -> None:
        self.evaluator, self.training, self.path = evaluator, training, path
        self.best, self.chosen = math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def evaluate(self) -> float:
        """The current distance, on latents that final scores do not use.

        Raises:
            Diverged: weights are not finite, or the generator has collapsed.
        """
        self.training.ensure_finite()
        given = self.training.prior.fixed(self.evaluator.n, "choose")
        images = generate(self.training.ema.generator, given)
        self.ensure_variety(images)
        return self.evaluator.distance(images)

    def keep(self, distance: float) -> None:
        """Keep the generator if it is trained and its distance is the best so far.

        Raises:
            Diverged: the distance is not finite.
        """
        now = self.training
        if not math.isfinite(distance):
            raise Diverged(f"the score is {distance} at {now.kimg}")
        # an untrained generator is never chosen: grey noise may score better than early images
        if now.images > 0 and now.update.trained and distance < self.best:
            self.best, self.chosen = distance, now.images
            self.weights = {name: part.clone() for name, part in now.ema.state().items()}
            self.save()

    def ensure_variety(self, images: Tensor) -> None:
        """Detect collapse late in training: the same image for all latents."""
        now = self.training
        late = now.images >= COLLAPSE_FROM * now.experiment.budget
        if late and now.update.trained and images.float().std(dim=0).mean() < COLLAPSED:
            if now.images < COLLAPSE_STEPS * now.experiment.batch:
                log.warning("one image for all latents at %s: too early to say that training diverged", now.kimg)
                return
            raise Diverged(f"the generator has collapsed to one image at {now.kimg}")

    def save(self) -> None:
        files.save_weights(self.path, self.weights, self.training.about() | {"images": self.chosen})

    def state(self) -> dict[str, Any]:
        """Everything to resume from."""
        return {"best": self.best, "best_weights": self.weights, "chosen": self.chosen}

    def load(self, state: dict[str, Any]) -> None:
        self.best, self.chosen, self.weights = state["best"], state["chosen"], state["best_weights"]
        if self.weights:
            self.save()  # the file may hold a later best, of steps that are repeated now
