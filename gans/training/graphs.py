"""CUDA graphs: the arithmetic of a training step recorded once and replayed with one launch.

On request only (`make bench GRAPH=1`), since it has been measured on no GPU yet. What depends on the position in
training (latents, real images, the penalty's mixture) is drawn outside, as in any other run, and copied into the
buffers that the graph reads. Inside are both players' passes, spectral norm's power iteration, BatchNorm's
running statistics and Adam; outside, the average of weights, whose decay is a number that changes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gans.compute import devices
from gans.errors import InputError
from gans.training.updates import Turn, TwoPlayer, Update


def check(device: torch.device) -> None:
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
    Adam make its moments. Recording executes nothing, so no step is lost or taken twice.
    """

    WARM_UP = 3

    def __init__(self, update: TwoPlayer) -> None:
        self.update = update
        self.stream = torch.cuda.Stream(update.device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.left = self.WARM_UP
        for player in (update.player, update.discriminator):
            for group in player.adam.param_groups:
                group["capturable"] = True  # Adam counts its steps on the device

    def step(self, images: int) -> Tensor:
        """As `Update.step`; the tensor that it returns is overwritten by the next step."""
        turns = self.update.draw(images)
        if self.left > 0:
            self.left -= 1
            with devices.RECORDING:
                return self.aside(turns)
        if self.graph is None:
            with devices.RECORDING:
                self.record(turns)
        assert self.graph is not None
        for buffers, turn in zip(self.turns, turns, strict=True):
            for buffer, value in zip(buffers, turn, strict=True):
                buffer.copy_(value)
        self.graph.replay()
        return self.statistics

    def aside(self, turns: list[Turn]) -> Tensor:
        """A step on the side stream."""
        current = torch.cuda.current_stream(self.update.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            statistics = self.update.play(turns)
        current.wait_stream(self.stream)
        return statistics

    def record(self, turns: list[Turn]) -> None:
        self.turns = [Turn(*(value.clone() for value in turn)) for turn in turns]
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
            self.statistics = self.update.play(self.turns)
