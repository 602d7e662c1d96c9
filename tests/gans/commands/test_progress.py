"""What a person reads while cells run, and how long it says that they will take."""

import io

import pytest
from rich.console import Console

from gans import schema
from gans.commands.progress import Display

TRAINING, SCORING, PICTURES = (
    {schema.PHASE + phase: 1.0} for phase in (schema.TRAINING_PHASE, schema.SCORING_PHASE, schema.PICTURES_PHASE)
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def lines(display: Display) -> list[str]:
    return display.console.file.getvalue().splitlines()


@pytest.fixture
def display(clock):
    """A display of two seeds of a model, without a terminal."""
    waiting = {"gan/digits/0": 1000, "gan/digits/1": 1000}
    return Display(waiting, console=Console(file=io.StringIO()), clock=clock)


@pytest.mark.parametrize(
    ("reports", "says"),
    [
        # from the start: 250 images in 20 s leave 1750 of two cells, which take 140 s
        ([(0, 0), (20, 250)], " 25%  (0/2 cells, about 2 min left)"),
        # resumed at 800: 50 images in 20 s leave 1150, which take 460 s, whatever came before
        ([(0, 800), (20, 850)], " 85%  (0/2 cells, about 8 min left)"),
        # no rate yet
        ([(20, 500)], " 50%  (0/2 cells)"),
        ([(0, 0), (20, 1010)], "100%  (0/2 cells, about 20 s left)"),
        # taken up again from an earlier checkpoint
        ([(0, 0), (10, 800), (20, 400)], " 40%  (0/2 cells, about 80 s left)"),
    ],
)
def test_the_time_left_counts_the_images_of_this_session(reports, says, display, clock):
    display.start("gan/digits/0", 1000)
    display.update("gan/digits/0", 0, TRAINING)
    for clock.now, images in reports:
        display.update("gan/digits/0", images, {})
    assert lines(display)[-1] == f"running   gan/digits/0  {says}"


def test_lines_name_the_phase_and_the_time_left_of_all(display, clock):
    """It saw 1000 of 2000 images in 25 s, with phases that see none; floors do not count as cells."""
    display.start("noise floor of digits", 0)
    clock.now = 3
    display.end("noise floor of digits", "finished", "", counts=False)
    assert lines(display)[-1] == "finished  noise floor of digits  3 s"
    display.start("gan/digits/0", 1000)
    display.update("gan/digits/0", 0, TRAINING)
    display.update("gan/digits/0", 0, {})
    assert display.text() == "0/2 cells"  # nothing is known, and nothing is invented
    display.update("gan/digits/0", 1000, {"curve/fd_digits": 7.25})
    clock.now = 5
    display.update("gan/digits/0", 0, SCORING)
    clock.now = 20
    display.update("gan/digits/0", 0, PICTURES)
    assert lines(display)[-1] == "running   gan/digits/0  pictures  fd_digits 7.25  (0/2 cells, about 20 s left)"
    clock.now = 25
    display.update("gan/digits/0", 1000, {"score/fd_digits": 7.5})
    display.end("gan/digits/0", "finished", "")
    assert lines(display)[-1] == "finished  gan/digits/0  22 s  fd_digits 7.5  (1/2 cells, about 25 s left)"


def test_what_a_cell_that_failed_did_not_see_is_not_left(display, clock):
    display.start("gan/digits/0", 1000)
    for clock.now, images in ((0, 0), (10, 500)):
        display.update("gan/digits/0", images, {})
    display.end("gan/digits/0", "diverged", "nan")
    assert lines(display)[-1] == "diverged  gan/digits/0  10 s  nan  (1/2 cells, about 20 s left)"


@pytest.mark.parametrize("width", [80, 140])
def test_bars_show_phases_while_nothing_is_reported(clock, width):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    bars = Display({"gan/digits/0": 4000, "gan/digits/1": 4000}, console=console, clock=clock)
    bars.start("gan/digits/0", 4000)
    bars.update("gan/digits/0", 0, TRAINING)
    bars.update("gan/digits/0", 4000, {"curve/fd_digits": 7.25})
    bars.update("gan/digits/0", 0, SCORING)
    clock.now = 42
    console.print(bars.progress.get_renderable())
    everything, cell = lines(bars)  # one line each
    assert "0:00:42 0/2 cells" in everything
    assert "0:00:42 scoring  fd_digits 7.25" in cell
