"""A trained generator as MLflow loads and serves it, where this package is installed.

`gans register` names this module in the model that it logs; `mlflow.pyfunc.load_model` then calls `_load_pyfunc`.
Neither mlflow nor anything that trains is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from gans.compute import devices
from gans.data.images import check_memory
from gans.errors import InputError
from gans.generate import latents, load_generator
from gans.models.inputs import GeneratorInput, Prior, generate

if TYPE_CHECKING:
    import pandas as pd

SEED, COUNT, LATENT, LABEL = "seed", "count", "latent", "label"  # the columns of a request


class Served:
    """Answers requests, which are tables, by a generator in eval mode and the description in its file."""

    def __init__(self, generator: nn.Module, about: dict[str, Any]) -> None:
        self.generator = generator
        self.prior = Prior.from_about(about)
        self.shape: tuple[int, int] = tuple(about["shape"])

    def predict(self, request: pd.DataFrame) -> np.ndarray:
        """uint8 images (n, channels, side, side), in the order of the rows.

        Args:
            request: rows of `seed` and `count` (1 if there is no such column), each the first images of
                `gans sample --seed SEED`; or rows of one `latent` each. Either may have the name of a class as
                `label` where the generator is conditional, as with `--class`; without, all are of the first.
                An InputError for other columns, numbers out of range, or more images than memory holds.
        """
        if (SEED in request) == (LATENT in request):
            raise InputError(f"give either '{SEED}', with '{COUNT}' if needed, or '{LATENT}'")
        rows = self.given(request) if LATENT in request else self.drawn(request)
        labels = map(str, request[LABEL]) if LABEL in request else [None] * len(rows)
        codes = [self.prior.of_class(z, label) for z, label in zip(rows, labels, strict=True)]
        return generate(self.generator, GeneratorInput.joined(codes)).numpy()

    def given(self, request: pd.DataFrame) -> list[Tensor]:
        """The latents that a request holds: (1, length) for each row."""
        lengths, length = {len(latent) for latent in request[LATENT]}, self.prior.latent
        if lengths != {length}:
            raise InputError(f"a '{LATENT}' of this generator has {length} numbers, these {sorted(lengths)}")
        return list(torch.from_numpy(np.stack(request[LATENT].to_list()).astype(np.float32)).split(1))

    def drawn(self, request: pd.DataFrame) -> list[Tensor]:
        """The latents of a request's seeds: (count, length) for each row."""
        seeds = [int(seed) for seed in request[SEED]]
        counts = [int(count) for count in request[COUNT]] if COUNT in request else [1] * len(seeds)
        if not all(0 <= seed <= latents.LARGEST_SEED for seed in seeds):
            raise InputError(f"'{SEED}' must be at least 0, at most {latents.LARGEST_SEED}")
        if not all(1 <= count <= latents.MOST for count in counts):
            raise InputError(f"'{COUNT}' must be at least 1, at most {latents.MOST}")
        channels, side = self.shape
        check_memory("the request", (sum(counts), channels, side, side), "ask for fewer images")
        return [latents.draw(n, self.prior.latent, seed) for n, seed in zip(counts, seeds, strict=True)]


def _load_pyfunc(path: str) -> Served:
    """What MLflow calls with the file that was logged."""
    return Served(*load_generator(path, devices.resolve("auto")))
