"""What a person reads while a matrix runs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import progress
from benchmarks.engine import Job, Progressed, Result, Started


@pytest.mark.parametrize(
    ("told", "says"),
    [
        # from the start: 250 images in 20 s leave 750, which take 60 s
        ([(0, 0), (20, 250)], ["running   gan   25%    60 s left"]),
        # resumed at 800: 50 images in 20 s leave 150, which take 60 s, whatever came before
        ([(0, 800), (20, 850)], ["running   gan   85%    60 s left"]),
        # no rate yet
        ([(20, 500)], ["running   gan   50%  "]),
        ([(0, 0), (20, 1010)], ["running   gan  100%    0 s left"]),
    ],
)
def test_the_time_left_counts_the_images_of_this_session(told, says, monkeypatch):
    clock, output = [0.0], io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    job = Job("gan", lambda tell: Result("finished"), 1000, Path("log.txt"), 60.0)
    lines = progress.Lines(1, Console(file=output))
    lines.show(Started(job))
    for clock[0], images in told:
        lines.show(Progressed(job, images, {}))
    assert output.getvalue().splitlines()[1:] == says
