"""Real images by position: an endless, reshuffled stream without state."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gans import seeds
from gans.data.images import to_float


class Batch(NamedTuple):
    """Input images of a discriminator."""

    images: Tensor  # float (n, c, h, w) in [-1, 1]
    labels: Tensor | None = None  # their classes, int64 (n,); None: networks are not conditional

    def detach(self) -> Batch:
        return self._replace(images=self.images.detach())

    def watched(self) -> Batch:
        """The same, detached, requiring gradients."""
        return self._replace(images=self.images.detach().requires_grad_())


class Batches:
    """Batches from uint8 images on the training device.

    Position p is place p mod n of epoch p // n, whose order is a function of the seed and the epoch alone: a batch
    can be read at any position.

    Args:
        images: uint8 (n, channels, height, width).
        seed: the training seed.
        names: further labels of this stream (a worker's number).
        labels: the images' classes, int64 (n,), on the same device; None: batches have none.
        part: the images that the stream is made of; None: all of them.
    """

    def __init__(
        self, images: Tensor, seed: int, *names: int | str, labels: Tensor | None = None, part: range | None = None
    ) -> None:
        self.images, self.labels = images, labels
        self.seed, self.names = seed, names
        self.part = range(len(images)) if part is None else part
        self.orders: dict[int, Tensor] = {}

    def of(self, indices: Tensor) -> Batch:
        """The images at these indices, float32 (n, c, h, w) in [-1, 1], and their labels."""
        labels = None if self.labels is None else self.labels.index_select(0, indices)
        return Batch(to_float(self.images.index_select(0, indices)), labels)

    def indices(self, position: int, count: int) -> Tensor:
        """Indices of images `position` to `position + count` of the stream: int64 (count,)."""
        parts: list[Tensor] = []
        while (left := count - sum(map(len, parts))) > 0:
            epoch, start = divmod(position + count - left, len(self.part))
            parts.append(self.order(epoch)[start : start + left])
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def order(self, epoch: int) -> Tensor:
        if epoch not in self.orders:
            rng = seeds.generator(self.seed, "order", *self.names, epoch)
            # drawn on the CPU, so that every device sees the same order; only the current epochs are kept
            device = self.images.device  # to a GPU the copy does not wait for queued work
            order = torch.randperm(len(self.part), generator=rng, pin_memory=device.type == "cuda")
            order = order.add_(self.part.start).to(device, non_blocking=True)
            self.orders = {e: o for e, o in self.orders.items() if e == epoch - 1} | {epoch: order}
        return self.orders[epoch]
