"""Steps that are recorded once and replayed: on a CUDA device a graph, so one launch in place of hundreds.

A step is prepared and then played. Preparing puts whatever depends on the position in training into buffers and
random generators that stay where they are; playing is device arithmetic alone. A CPU plays by calling. On CUDA the
first steps of a kind are called too, which lets libraries make what they keep and the optimisers their moments;
then one is recorded. Recording executes nothing, so no step is lost or taken twice.
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


class Step(Protocol[Result]):
    """What is played again and again."""

    @property
    def kind(self) -> Hashable:
        """Prepared steps of one kind do the same operations on the same memory; None: not to be recorded."""

    @property
    def rngs(self) -> Sequence[torch.Generator]:
        """What playing draws from."""

    def playing(self) -> AbstractContextManager[None]:
        """Entered while a step is called or recorded; a replay does what was recorded whatever is set by then."""

    def recording(self) -> AbstractContextManager[None]:
        """Entered within that while a step is recorded."""

    def play(self) -> Result:
        """The arithmetic of the step that was prepared, by these rules:

        - what it reads lies where it lay in the last step of its kind, or was made in this one;
        - which operations it does, on which shapes and numbers, depends on its kind alone;
        - it waits for no device, and makes no tensor elsewhere.
        """


class Playback(Protocol):
    """Who plays steps."""

    def play(self, step: Step[T]) -> T:
        """Play the step that was prepared; the next one overwrites the tensors that are returned."""

    def forget(self) -> None:
        """What steps read has moved: a state was loaded."""


class Direct:
    """Plays by calling."""

    def play(self, step: Step[T]) -> T:
        with step.playing():
            return step.play()

    def forget(self) -> None: ...


class Recording(NamedTuple, Generic[T]):
    """A step on tape.

    Attributes:
        result: what playing returns, written anew by every replay.
        replay: does it all again.
    """

    result: T
    replay: Callable[[], None]


class Tape(Protocol):
    """What a device adds: the boundary that tests replace."""

    def aside(self, play: Callable[[], T]) -> T:
        """Call, where recordings take place."""

    def record(self, play: Callable[[], T], rngs: Sequence[torch.Generator]) -> Recording[T]:
        """Write down what `play` does, without doing it; a replay draws anew from the generators."""


class Recorded:
    """Plays by replaying; steps of another kind than the last are recorded anew.

    Args:
        tape: of the device.
    """

    WARM_UP = 3

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.forget()

    def forget(self) -> None:
        self.begin(None)

    def begin(self, kind: Hashable) -> None:
        """Warm up for steps of a kind, and let go of the memory of others."""
        self.kind, self.left = kind, self.WARM_UP
        self.recording: Recording[Any] | None = None

    def play(self, step: Step[T]) -> T:
        if step.kind is None:
            return self.call(step)
        if step.kind != self.kind:
            self.begin(step.kind)
        if self.left > 0:
            self.left -= 1
            return self.call(step)
        if self.recording is None:
            with step.playing(), step.recording():
                self.recording = self.tape.record(step.play, step.rngs)
        self.recording.replay()
        return self.recording.result

    def call(self, step: Step[T]) -> T:
        with step.playing():
            return self.tape.aside(step.play)


class Graphs:
    """The tape of a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)

    def aside(self, play: Callable[[], T]) -> T:
        with devices.RECORDING:
            current = torch.cuda.current_stream(self.device)
            self.stream.wait_stream(current)
            with torch.cuda.stream(self.stream):
                result = play()
            current.wait_stream(self.stream)
            return result

    def record(self, play: Callable[[], T], rngs: Sequence[torch.Generator]) -> Recording[T]:
        graph = torch.cuda.CUDAGraph()
        for rng in rngs:  # else a replay would draw what was drawn before; registered, it is seeded from outside
            graph.register_generator_state(rng)
        # errors of this thread's calls only: another thread may be at work on the same card
        recording = torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local")
        with devices.RECORDING, recording:
            result = play()
        return Recording(result, graph.replay)


def wanted(asked: bool | None, device: torch.device) -> bool:
    """Whether steps are recorded: on CUDA, unless it was asked not to.

    Raises:
        InputError: it was asked for on a device that has no graphs.
    """
    if asked and device.type != "cuda":
        raise InputError("GRAPH=1 needs a CUDA device; leave it away on a CPU")
    return device.type == "cuda" if asked is None else asked


def playback(record: bool, device: torch.device) -> Playback:
    """Who plays the steps of a training on this device."""
    return Recorded(Graphs(device)) if record else Direct()


class Lanes:
    """Pieces of work that know nothing of each other, side by side: on CUDA each on a stream of its own.

    Args:
        device: what computes.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.streams: list[torch.cuda.Stream] = []

    def run(self, pieces: Sequence[Callable[[], T]]) -> list[T]:
        """What the pieces return, in their order; on a CPU called in turn."""
        if self.device.type != "cuda":
            return [piece() for piece in pieces]
        self.streams += [torch.cuda.Stream(self.device) for _ in pieces[len(self.streams) :]]
        main, found = torch.cuda.current_stream(self.device), []
        # a recording holds to these waits: so the streams become part of it, and end in it
        for stream, piece in zip(self.streams, pieces, strict=False):
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                found.append(piece())
        for stream in self.streams[: len(pieces)]:
            main.wait_stream(stream)
        return found
