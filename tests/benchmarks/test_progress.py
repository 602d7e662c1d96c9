"""What of an engine's events a person reads, and what the store says of costs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from benchmarks.job import Ended, Job, Progressed, Result, Started, Waiting
from benchmarks.progress import costs, show
from gans.commands.progress import Cost


class Heard:
    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def __getattr__(self, name: str):
        return lambda *told: self.calls.append((name, *told))


def test_events_are_passed_on():
    job = Job("gan/digits/0", lambda tell: Result("finished"), Path("log.txt"), 1000, 60.0)
    floor = Job("real/digits", lambda tell: Result("finished"), Path("log.txt"), 0, 60.0, counts=False)
    heard = Heard()
    for event in (
        Started(job),
        Progressed(job, 5, {"x": 1.0}),
        Waiting(job, "process 7", 250),
        Ended(job, Result("failed", "why")),
    ):
        show(heard, event)
    show(heard, Ended(floor, Result("finished")))
    assert heard.calls == [
        ("start", "gan/digits/0", 1000),
        ("update", "gan/digits/0", 5, {"x": 1.0}),
        ("wait", "gan/digits/0", "process 7 does it, 25%"),
        ("end", "gan/digits/0", "failed", "why", True),
        ("end", "real/digits", "finished", "", False),
    ]


def test_finished_cells_tell_what_their_like_costs():
    def run(name, status, kimg, **seconds):
        metrics = {f"seconds/{part}": value for part, value in seconds.items()}
        data = SimpleNamespace(params={"kimg": kimg}, tags={"gans.status": status}, metrics=metrics)
        return SimpleNamespace(info=SimpleNamespace(run_name=name), data=data)

    runs = [
        run("gan/digits/0", "finished", "2", training=9.0, evaluation=1.0, overhead=1.0),
        run("gan/digits/1", "finished", "2", training=20.0, evaluation=3.0, overhead=0.5),
        run("sagan/digits/0", "failed", "2", training=7.0),
        run("real/digits", "finished", "0"),
    ]
    assert costs(runs) == {"gan/digits": Cost(0.01, 3.5)}
