"""CUDA graphs: the arithmetic of a training step recorded once and replayed with one launch.

On request only (`make bench GRAPH=1`), since it has been measured on no GPU yet. What depends on the position in
training (latents, real images, the penalty's mixture) is drawn outside, as in any other run, and copied into the
buffers that the graph reads. Inside are both players' passes, spectral norm's power iteration, BatchNorm's
running statistics and the optimisers; outside, the average of weights, whose decay is a number that changes.
"""

from __future__ import annotations

import torch

from gans.compute import devices
from gans.errors import InputError
from gans.training.players import Statistics
from gans.training.updates import Inputs, TwoPlayer, Update


def require(device: torch.device) -> None:
    """Refuse a device that has no graphs."""
    if device.type != "cuda":
        raise InputError("GRAPH=1 needs a CUDA device; leave it away on a CPU")


def fits(rule: type[Update]) -> bool:
    """Whether the rule's steps are all alike, as a graph needs them; MD-GAN's are not, it swaps discriminators."""
    return issubclass(rule, TwoPlayer)


def graphed(update: Update) -> Update | Graph:
    """The update as a graph, or as it is if no graph fits its rule."""
    return Graph(update) if isinstance(update, TwoPlayer) else update


class Graph:
    """A two-player update whose steps are replayed.

    The first steps run as usual, on the side stream that capture wants; they let cuDNN choose its kernels and
    the optimisers make their moments. Recording executes nothing, so no step is lost or taken twice.
    """

    WARM_UP = 3

    def __init__(self, update: TwoPlayer) -> None:
        self.update = update
        self.stream = torch.cuda.Stream(update.device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.left = self.WARM_UP
        for player in (update.player, update.discriminator):
            player.capture(True)

    def step(self, images: int) -> Statistics:
        """As `Update.step`; the tensors that it returns are overwritten by the next step."""
        prepared = self.update.prepare(images)
        if self.left > 0:
            self.left -= 1
            with devices.RECORDING:
                return self.aside(prepared)
        if self.graph is None:
            with devices.RECORDING:
                self.record(prepared)
        assert self.graph is not None
        for buffers, inputs in zip(self.buffers, prepared, strict=True):
            for buffer, value in zip(buffers, inputs, strict=True):
                buffer.copy_(value)
        self.graph.replay()
        return self.statistics

    def aside(self, prepared: list[Inputs]) -> Statistics:
        """A step on the side stream."""
        current = torch.cuda.current_stream(self.update.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            statistics = self.update.play(prepared)
        current.wait_stream(self.stream)
        return statistics

    def record(self, prepared: list[Inputs]) -> None:
        self.buffers = [Inputs(*(value.clone() for value in inputs)) for inputs in prepared]
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
            self.statistics = self.update.play(self.buffers)
