"""Statistics of any names are averaged over the steps that have them; what a rule inherits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from gans.models.layers import Shape
from gans.training.recorder import Diverged, Means, Recorder
from gans.training.trainables import Learner
from gans.training.updates import Context, Statistics, Update

CPU = torch.device("cpu")


def scalars(**numbers: float) -> Statistics:
    return {name: torch.tensor(number) for name, number in numbers.items()}


def step(means: Means, statistics: Statistics) -> None:
    """A step of 8 images."""
    means.add(statistics)
    means.count(statistics, 8)


def test_means_are_over_the_steps_that_have_a_name(recorder) -> None:
    observer, means = recorder(), Means()
    record = Recorder(CPU, observer)
    step(means, scalars(a=1.0, b=10.0))
    step(means, scalars(a=2.0))
    step(means, scalars(c=5.0, a=6.0))
    assert means.images == 24
    record.log(24, means, {"workers/alive": 3.0})
    assert [observer.of(name) for name in "abc"] == [[(24, 3.0)], [(24, 10.0)], [(24, 5.0)]]
    assert observer.of("workers/alive") == [(24, 3.0)]
    # the next mean begins anew, without names that no step has any more
    step(means, scalars(a=4.0))
    assert means.images == 8
    record.log(32, means, {})
    assert record.history["a"] == [(24, 3.0), (32, 4.0)]
    assert record.history["b"] == [(24, 10.0)]


def test_tensors_that_the_next_step_overwrites_are_added_before() -> None:
    """As a CUDA graph returns them; and sums stay where they are, as it adds to them."""
    means, buffer = Means(), {"a": torch.zeros(())}
    for number in (1.0, 2.0, 6.0):
        buffer["a"].fill_(number)
        step(means, buffer)
    buffer["a"].fill_(100.0)
    assert means.read() == {"a": 3.0}
    place = means.sums["a"].data_ptr()
    means.forget()
    step(means, buffer)
    assert means.read() == {"a": 100.0}
    assert means.sums["a"].data_ptr() == place


def test_a_mean_that_is_no_number_is_named_and_not_logged(recorder) -> None:
    observer = recorder()
    record, means = Recorder(CPU, observer), Means()
    step(means, scalars(a=1.0, odd=float("nan")))
    with pytest.raises(Diverged, match=r"odd is nan at 0.1 kimg"):
        record.log(100, means, {})
    assert observer.values == []


def test_where_the_host_is_ahead_a_log_comes_with_the_next_or_on_request(recorder) -> None:
    observer, means = recorder(), Means()
    record = Recorder(CPU, observer)
    record.ahead = True
    step(means, scalars(a=1.0))
    record.log(8, means, {"more": 1.0})
    assert observer.values == []
    step(means, scalars(a=2.0))  # means of the next log: those of the last are already on their way
    record.log(16, means, {})
    assert observer.of("a") == [(8, 1.0)]
    assert observer.of("more") == [(8, 1.0)]
    record.report(16, {"score": 5.0})  # it comes behind the pending log
    assert [value for value in observer.values if value[1] in ("a", "score")][-2:] == [
        (16, "a", 2.0),
        (16, "score", 5.0),
    ]
    assert observer.of("a") == [(8, 1.0), (16, 2.0)]
    record.settle()
    assert observer.of("a") == [(8, 1.0), (16, 2.0)]
    step(means, scalars(a=float("nan")))
    record.log(24, means, {})
    with pytest.raises(Diverged, match=r"a is nan at 0.0 kimg"):
        record.settle()
    record.settle()  # once


class RemoteDiscriminator:
    """A discriminator on another machine."""

    size = 7
    trainables = ()

    def __init__(self) -> None:
        self.weight = 1.0

    def finite(self) -> bool:
        return self.weight == self.weight

    def state(self) -> dict[str, Any]:
        return {"weight": self.weight}

    def load(self, state: dict[str, Any]) -> None:
        self.weight = state["weight"]


class Remote(Update):
    """A rule whose discriminators are in other processes."""

    images_per_step = 8

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.discriminators = [RemoteDiscriminator(), RemoteDiscriminator()]

    def prepare(self, images: int) -> None:
        self.images = images

    def compute(self) -> dict[str, Tensor]:
        return scalars(mine=float(self.images))

    def opponents(self) -> Mapping[str, Learner]:
        return {f"remote {n}": opponent for n, opponent in enumerate(self.discriminators)}


def test_what_a_rule_inherits_is_right_if_its_discriminators_are_remote(tiny, blobs) -> None:
    one, other = (Remote(tiny({}), Shape(1, 16), Context(blobs().train)) for _ in range(2))
    assert one.step(16) == {"mine": 16.0}
    assert one.trainables == [one.generator]
    assert one.discriminator_size() == 14
    assert one.finite()
    one.discriminators[1].weight = 5.0
    other.load(one.state())
    assert [opponent.weight for opponent in other.discriminators] == [1.0, 5.0]
    one.discriminators[1].weight = float("nan")
    assert not one.finite()
