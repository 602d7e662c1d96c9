"""Real images by position: an endless, reshuffled stream that needs no loader state."""

from __future__ import annotations

import torch
from torch import Tensor

from gans import seeds
from gans.compute import devices
from gans.data.images import to_float


class Batches:
    """Batches from uint8 images that live on the training device.

    Position p of the stream is place p mod n of epoch p // n; each epoch's order is a function of the seed
    and the epoch alone, so a batch can be asked for at any position, in any order.

    Args:
        images: uint8 (n, channels, height, width).
        seed: the training seed.
        labels: what else tells this stream from others (a worker's number).
        part: the images that the stream is made of; None: all of them.
    """

    def __init__(self, images: Tensor, seed: int, *labels: int | str, part: range | None = None) -> None:
        self.images = images
        self.seed = seed
        self.labels = labels
        self.part = range(len(images)) if part is None else part
        self.orders: dict[int, Tensor] = {}

    def at(self, position: int, count: int) -> Tensor:
        """Images `position` to `position + count` of the stream: float32 (count, c, h, w) in [-1, 1]."""
        return self.of(self.indices(position, count))

    def of(self, indices: Tensor) -> Tensor:
        """The images at these indices: float32 (count, c, h, w) in [-1, 1]."""
        return to_float(self.images.index_select(0, indices))

    def indices(self, position: int, count: int) -> Tensor:
        """Where those images stand in the data set: int64 (count,)."""
        n = len(self.part)
        parts = []
        while count > 0:
            epoch, start = divmod(position, n)
            part = self.order(epoch)[start : start + count]
            parts.append(part)
            position += len(part)
            count -= len(part)
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def order(self, epoch: int) -> Tensor:
        if epoch not in self.orders:
            rng = seeds.generator(self.seed, "order", *self.labels, epoch)
            # drawn on the CPU, so that every device sees the same order; only the current epochs are kept
            order = self.part.start + torch.randperm(len(self.part), generator=rng)
            order = devices.sent(order, self.images.device)
            self.orders = {e: o for e, o in self.orders.items() if e == epoch - 1} | {epoch: order}
        return self.orders[epoch]
