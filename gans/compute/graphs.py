"""Steps that are recorded once as a CUDA graph and replayed: one launch in place of hundreds.

A step is prepared and then computed. Preparing writes all that depends on the position in training into buffers
and random generators that stay in place; computing is device arithmetic only. A CPU calls every step.
On CUDA the first steps of a kind are called too, so that libraries allocate what they keep and optimisers their
moments; then one is recorded. Recording executes nothing, so no step is lost or taken twice.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch

from gans.compute import devices
from gans.errors import InputError

T = TypeVar("T")
Result = TypeVar("Result", covariant=True)
WARM_UP = 3  # steps of a kind that are called before one is recorded


class Step(Protocol[Result]):
    """A step that is computed again and again."""

    @property
    def kind(self) -> Hashable:
        """Prepared steps of one kind do the same operations on the same memory; None: never recorded."""

    @property
    def rngs(self) -> Sequence[torch.Generator]:
        """The random generators that `compute` draws from."""

    def computing(self) -> AbstractContextManager[None]:
        """Entered while a step is called or recorded; a replay repeats what was recorded."""

    def recording(self) -> AbstractContextManager[None]:
        """Entered within that while a step is recorded."""

    def compute(self) -> Result:
        """The arithmetic of the step that was prepared, by these rules:

        - every tensor that it reads was made in this step, or has the address that it had in the last one;
        - its operations, their shapes and their numbers depend on its kind alone;
        - it waits for no device, and makes no tensor on another one.
        """


class Graph(NamedTuple, Generic[T]):
    """A recorded step: what it returns, which every replay overwrites."""

    result: T
    replay: Callable[[], None]


class StepRunner:
    """Computes prepared steps: by replaying a recording, or by calling where nothing records.

    A step of another kind than the last one is recorded again.
    """

    def __init__(self, recorder: CUDAGraphRecorder | None = None) -> None:
        self.recorder = recorder
        self.forget()

    def forget(self) -> None:
        """Drop the recording: what steps read has moved, since a state was loaded."""
        self.begin(None)

    def begin(self, kind: Hashable) -> None:
        """Start the warm-up for steps of a kind, and free the memory of others."""
        self.kind, self.calls_left = kind, WARM_UP
        self.graph: Graph[Any] | None = None

    def run(self, step: Step[T]) -> T:
        """Compute the step that was prepared; the next one overwrites the tensors that are returned."""
        if self.recorder is None or step.kind is None:
            return self.call(step)
        if step.kind != self.kind:
            self.begin(step.kind)
        if self.calls_left > 0:
            self.calls_left -= 1
            return self.call(step)
        if self.graph is None:
            with step.computing(), step.recording():
                self.graph = self.recorder.record(step.compute, step.rngs)
        self.graph.replay()
        return self.graph.result

    def call(self, step: Step[T]) -> T:
        with step.computing():
            return self.recorder.warm_up(step.compute) if self.recorder else step.compute()


class CUDAGraphRecorder:
    """Records CUDA graphs on one device: the code specific to it, which tests replace."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)

    def warm_up(self, compute: Callable[[], T]) -> T:
        """Call `compute` on the stream of recordings."""
        with devices.RECORDING:
            current = torch.cuda.current_stream(self.device)
            self.stream.wait_stream(current)
            with torch.cuda.stream(self.stream):
                result = compute()
            current.wait_stream(self.stream)
            return result

    def record(self, compute: Callable[[], T], rngs: Sequence[torch.Generator]) -> Graph[T]:
        """Record `compute` without executing it; a replay draws new numbers from the generators."""
        graph = torch.cuda.CUDAGraph()
        for rng in rngs:  # else a replay would draw the same numbers again; registered, it is seeded from outside
            graph.register_generator_state(rng)
        # errors of this thread's calls only: another thread may use the same GPU
        capture = torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local")
        with devices.RECORDING, capture:
            result = compute()
        return Graph(result, graph.replay)


def wanted(setting: bool | None, device: torch.device) -> bool:
    """Whether steps are recorded: on CUDA, unless the setting is false.

    Raises:
        InputError: the setting is true and the device has no graphs.
    """
    if setting and device.type != "cuda":
        raise InputError("GRAPH=1 needs a CUDA device; omit it on a CPU")
    return device.type == "cuda" if setting is None else setting


class ParallelStreams:
    """Runs independent functions at the same time: on CUDA each on its own stream."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.streams: list[torch.cuda.Stream] = []

    def run(self, functions: Sequence[Callable[[], T]]) -> list[T]:
        """Their results in order; on a CPU they are called in turn."""
        if self.device.type != "cuda":
            return [function() for function in functions]
        self.streams += [torch.cuda.Stream(self.device) for _ in functions[len(self.streams) :]]
        main, results = torch.cuda.current_stream(self.device), []
        # a recording includes these waits, and so the work on the streams
        for stream, function in zip(self.streams, functions, strict=False):
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                results.append(function())
        for stream in self.streams[: len(functions)]:
            main.wait_stream(stream)
        return results
