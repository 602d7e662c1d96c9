"""Real images by position: an endless, reshuffled stream that needs no loader state."""

from __future__ import annotations

import torch
from torch import Tensor

from gans import seeds
from gans.data.images import to_float


class Batches:
    """Batches from uint8 images that live on the training device.

    Position p of the stream is place p mod n of epoch p // n; each epoch's order is a function of the seed
    and the epoch alone, so a batch can be asked for at any position, in any order.

    Args:
        images: uint8 (n, channels, height, width).
        seed: the training seed.
        labels: what else tells this stream from others (a worker's number).
    """

    def __init__(self, images: Tensor, seed: int, *labels: int | str) -> None:
        self.images = images
        self.seed = seed
        self.labels = labels
        self.orders: dict[int, Tensor] = {}

    def at(self, position: int, count: int) -> Tensor:
        """Images `position` to `position + count` of the stream: float32 (count, c, h, w) in [-1, 1]."""
        return to_float(self.images.index_select(0, self.indices(position, count)))

    def indices(self, position: int, count: int) -> Tensor:
        """Where those images stand in the data set: int64 (count,)."""
        n = len(self.images)
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
            order = torch.randperm(len(self.images), generator=rng)
            if self.images.is_cuda:  # from pinned memory, so that the host does not wait for queued steps
                order = order.pin_memory().to(self.images.device, non_blocking=True)
            self.orders = {e: o for e, o in self.orders.items() if e == epoch - 1} | {epoch: order}
        return self.orders[epoch]
