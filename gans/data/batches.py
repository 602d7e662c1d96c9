"""Real images by position: an endless, reshuffled stream without state."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
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
        self.seed, self.names, self.device = seed, names, images.device  # where indices are
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
            # to a GPU the copy does not wait for queued work
            order = torch.randperm(len(self.part), generator=rng, pin_memory=self.device.type == "cuda")
            order = order.add_(self.part.start).to(self.device, non_blocking=True)
            self.orders = {e: o for e, o in self.orders.items() if e == epoch - 1} | {epoch: order}
        return self.orders[epoch]


class HostBatches(Batches):
    """Batches from images in the host's memory, or in a file: those of the next step are copied to the device.

    A thread gathers them two steps ahead, into pinned memory. The stream is that of `Batches`.

    Args:
        images, seed, labels: as of `Batches`, but the images are on the CPU.
        device: of training.
        count: images of a step.
    """

    AHEAD = 2

    def __init__(self, images: Tensor, seed: int, labels: Tensor | None, device: torch.device, count: int) -> None:
        super().__init__(images, seed, labels=labels)
        self.sources = [images] if labels is None else [images, labels.cpu()]
        windows = [
            torch.zeros((count, *source.shape[1:]), dtype=source.dtype, device=device) for source in self.sources
        ]
        self.windows, self.images = windows, windows[0]  # of the next step
        self.labels = None if labels is None else windows[1]
        self.places = torch.arange(count, device=device)
        self.thread = ThreadPoolExecutor(1, "batches")
        self.ahead: dict[int, Future[list[Tensor]]] = {}

    def indices(self, position: int, count: int) -> Tensor:
        """Places in the windows, which now have the images from `position` on."""
        wanted = range(position, position + (self.AHEAD + 1) * count, count)
        self.ahead = {start: self.ahead.get(start) or self.gathered(start, count) for start in wanted}
        for window, batch in zip(self.windows, self.ahead[position].result(), strict=True):
            window.copy_(batch, non_blocking=True)
        return self.places

    def gathered(self, start: int, count: int) -> Future[list[Tensor]]:
        rows, pinned = super().indices(start, count), self.places.is_cuda
        # allocated here: CUDA forbids it to other threads while a graph is recorded
        batch = [torch.empty(window.shape, dtype=window.dtype, pin_memory=pinned) for window in self.windows]

        def gather() -> list[Tensor]:
            pairs = zip(self.sources, batch, strict=True)
            return [torch.index_select(source, 0, rows, out=out) for source, out in pairs]

        return self.thread.submit(gather)


def batches_on(device: torch.device, images: Tensor, seed: int, labels: Tensor | None, count: int) -> Batches:
    """Batches of `count` images on this device, wherever the images are."""
    if images.device.type == device.type:
        return Batches(images, seed, labels=labels)
    return HostBatches(images, seed, labels, device, count)
