"""What a person reads while cells run, and how long it says that they will take."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gans import schema
from gans.commands.progress import Cost, Display, Forecast, duration

TRAINING = {schema.PHASE + schema.TRAINING_PHASE: 1.0}
SCORING = {schema.PHASE + schema.SCORING_PHASE: 1.0}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def display(clock, waiting, known=None, console=None):
    return Display(Forecast(waiting, known), console=console or Console(file=io.StringIO()), clock=clock)


@pytest.mark.parametrize(
    ("reports", "says"),
    [
        # from the start: 250 images in 20 s leave 750, which take 60 s
        ([(0, 0), (20, 250)], ["running   gan   25%  60 s left"]),
        # resumed at 800: 50 images in 20 s leave 150, which take 60 s, whatever came before
        ([(0, 800), (20, 850)], ["running   gan   85%  60 s left"]),
        # no rate yet
        ([(20, 500)], ["running   gan   50%"]),
        ([(0, 0), (20, 1010)], ["running   gan  100%  0 s left"]),
    ],
)
def test_the_time_left_counts_the_images_of_this_session(reports, says, clock):
    output = io.StringIO()
    lines = display(clock, {"gan": 1000}, console=Console(file=output))
    lines.start("gan", 1000)
    lines.update("gan", 0, TRAINING)
    for clock.now, images in reports:
        lines.update("gan", images, {})
    assert output.getvalue().splitlines()[1:] == says


@pytest.mark.parametrize(
    ("seconds", "says"), [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (89 * 60, "89 min"), (5430, "1 h 30 min")]
)
def test_durations_are_said_as_people_say_them(seconds, says):
    assert duration(seconds) == says


def test_a_cell_that_is_scored_says_so_and_for_how_long(clock):
    output = io.StringIO()
    lines = display(clock, {"gan/digits/0": 100}, console=Console(file=output))
    lines.start("gan/digits/0", 100)
    lines.update("gan/digits/0", 0, TRAINING)
    lines.update("gan/digits/0", 100, {})
    clock.now = 5
    lines.update("gan/digits/0", 0, SCORING)
    clock.now = 20
    lines.update("gan/digits/0", 0, {schema.PHASE + schema.PICTURES_PHASE: 1.0})
    assert output.getvalue().splitlines()[-1] == "running   gan/digits/0  pictures"
    clock.now = 25
    lines.end("gan/digits/0", "finished", "")
    assert output.getvalue().splitlines()[-1] == "finished  gan/digits/0  25 s  (1/1 cells)"


def test_what_has_ended_tells_what_its_like_will_take(clock):
    """Two seeds of a model: 10 s of training and 4 s of other phases, so 14 s for the second."""
    seen = display(clock, {"gan/digits/0": 100, "gan/digits/1": 100})
    seen.start("gan/digits/0", 100)
    assert seen.left() == ""  # nothing is known, and nothing is invented
    clock.now = 1
    seen.update("gan/digits/0", 0, TRAINING)
    seen.update("gan/digits/0", 0, {})
    clock.now = 6
    seen.update("gan/digits/0", 50, {})
    assert seen.left() == "about 15 s left"  # 5 s of its own, 10 s of the other: other phases are not known yet
    clock.now = 11
    seen.update("gan/digits/0", 100, {})
    seen.update("gan/digits/0", 0, SCORING)
    clock.now = 14
    seen.end("gan/digits/0", "finished", "")
    assert seen.forecast.known == {"gan/digits": Cost(0.1, 4.0)}
    assert seen.left() == "about 14 s left"
    seen.start("gan/digits/1", 100)
    clock.now = 16
    assert seen.left() == "about 12 s left"  # two of the four seconds of other phases are over
    assert (seen.done, seen.total) == (1, 2)


def test_cells_side_by_side_share_the_time_but_the_last_takes_its_own(clock):
    known = {"gan/digits": Cost(0.1, 0.0), "sagan/digits": Cost(1.0, 0.0)}
    names = {**{f"gan/digits/{n}": 100 for n in range(4)}, "sagan/digits/0": 100}
    seen = display(clock, names, known)
    assert seen.left() == "about 2 min left"  # 140 s one after the other
    seen.start("sagan/digits/0", 100)
    seen.start("gan/digits/0", 100)
    # 140 s by two at a time would be 70 s; the largest alone takes 100
    assert seen.left() == "about 2 min left"
    assert seen.forecast.left(list(seen.running.values()), 0.0) == pytest.approx(100.0)


def test_a_model_of_which_nothing_is_known_counts_as_the_others(clock):
    seen = display(clock, {"gan/digits/0": 100, "new/digits/0": 300}, {"gan/digits": Cost(0.1, 2.0)})
    assert seen.forecast.left([], 0.0) == pytest.approx(12.0 + 32.0)


def test_floors_are_no_cells(clock):
    output = io.StringIO()
    lines = display(clock, {"gan/digits/0": 100}, console=Console(file=output))
    lines.start("real/digits", 0)
    clock.now = 3
    lines.end("real/digits", "finished", "", counts=False)
    assert output.getvalue().splitlines()[-1] == "finished  real/digits  3 s"


@pytest.mark.parametrize("width", [80, 140])
def test_bars_show_phases_while_nothing_is_reported(clock, width):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    bars = display(clock, {"gan/digits/0": 4000, "gan/digits/1": 4000}, console=console)
    bars.start("gan/digits/0", 4000)
    bars.update("gan/digits/0", 0, TRAINING)
    bars.update("gan/digits/0", 4000, {"curve/fd_digits": 7.25})
    bars.update("gan/digits/0", 0, SCORING)
    clock.now = 42
    console.print(bars.progress.get_renderable())
    everything, cell = console.file.getvalue().splitlines()  # one line each
    assert "0/2 cells" in everything and "estimating" in everything
    assert "4/4 kimg" in cell and "scoring 42 s" in cell and "fd_digits 7.25" in cell
