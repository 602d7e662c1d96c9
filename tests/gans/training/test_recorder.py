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
    """Of tensors that the next step overwrites, as a CUDA graph returns them; sums stay where they are."""
    observer, means, buffer = recorder(), Means(), torch.zeros(())
    record = Recorder(CPU, observer)
    for number in (1.0, 2.0, 6.0):
        step(means, {"a": buffer.fill_(number), **(scalars(b=10.0) if number == 1 else {})})
    place = means.sums["a"].data_ptr()
    assert means.images == 24
    record.log(24, means, {"workers/alive": 3.0})
    assert [observer.of(name) for name in ("a", "b", "workers/alive")] == [[(24, 3.0)], [(24, 10.0)], [(24, 3.0)]]
    # the next mean begins anew, without names that no step has any more
    step(means, {"a": buffer.fill_(4.0)})
    assert means.images == 8
    assert means.sums["a"].data_ptr() == place
    record.log(32, means, {})
    assert record.history["a"] == [(24, 3.0), (32, 4.0)]
    assert record.history["b"] == [(24, 10.0)]


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
