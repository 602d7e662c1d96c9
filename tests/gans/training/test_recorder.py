"""Statistics of any names are averaged over the steps that have them; what a rule inherits."""

from __future__ import annotations

import pytest
import torch

from gans.training.recorder import Diverged, Means, Recorder
from gans.training.updates import Statistics

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
    record.settle()  # once


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
    values = [value for value in observer.values if value[1] in ("a", "score")]
    assert values == [(8, "a", 1.0), (16, "a", 2.0), (16, "score", 5.0)]
