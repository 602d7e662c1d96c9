"""The curves of a run: what is drawn against what."""

from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from gans.pictures import curves

HISTORY = {
    "seconds/training": [(1000, 10.0), (3000, 20.0)],
    "loss/discriminator": [(1000, 1.5), (3000, 1.25)],
    "loss/generator": [(1000, 0.75), (3000, 0.5)],
    "D/real": [(1000, 0.5), (3000, 0.75)],
    "D/fake": [(1000, 0.5), (3000, 0.25)],
    "curve/fd_digits": [(0, 90.0), (2000, 30.0), (3000, 20.0)],
}


def test_curves_over_images_and_over_seconds(monkeypatch, tmp_path: Path):
    figures: list[Figure] = []
    monkeypatch.setattr(curves, "save_figure", lambda figure, path: figures.append(figure))
    curves.draw_curves(HISTORY, tmp_path)
    losses, beliefs, score, timed_losses, _, timed_score = (
        {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
        for axes in figures[0].axes
    )
    assert losses == {"discriminator": ([1, 3], [1.5, 1.25]), "generator": ([1, 3], [0.75, 0.5])}
    assert beliefs == {"D(x)": ([1, 3], [0.5, 0.75]), "D(G(z))": ([1, 3], [0.5, 0.25])}
    assert score == {"fd_digits": ([0, 2, 3], [90, 30, 20])}
    assert timed_losses["generator"] == ([10, 20], [0.75, 0.5])
    # 2000 images are half-way between the clock's points at 1000 and 3000
    assert timed_score == {"fd_digits": ([0, 15, 20], [90, 30, 20])}
    labels = [axes.get_xlabel() for axes in figures[0].axes]
    assert labels == ["real images seen (thousands)"] * 3 + ["seconds of training, evaluations not counted"] * 3


def test_without_a_clock_there_is_one_row_and_bytes_repeat(tmp_path: Path):
    history = {name: own for name, own in HISTORY.items() if name != curves.CLOCK}
    for name in ("a.png", "b.png"):
        curves.draw_curves(history, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (1200, 350)
