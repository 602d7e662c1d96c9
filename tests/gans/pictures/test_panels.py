"""Pictures of nearest neighbours and of classes: what is drawn where."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from PIL import Image

from gans.pictures import panels
from gans.pictures.figures import save_figure
from gans.pictures.lettering import font, has


@pytest.fixture
def figures(monkeypatch) -> list:
    """The figures that are saved."""
    drawn: list = []
    monkeypatch.setattr(panels, "save_figure", lambda *saved: (drawn.append(saved[0]), save_figure(*saved)))
    return drawn


def flat(levels: list, channels: int = 1) -> torch.Tensor:
    """Images of one level each, grey or red, 6 x 6, in the shape of `levels`."""
    images = torch.zeros(*np.shape(levels), channels, 6, 6, dtype=torch.uint8)
    images[..., 0, :, :] = torch.tensor(levels)[..., None, None]
    return images


@pytest.mark.parametrize("channels", [1, 3])
def test_every_neighbour_stands_below_its_image_in_its_colours(figures, channels: int, tmp_path: Path) -> None:
    generated, nearest = [10, 50, 90], [[20, 30], [60, 70], [100, 110]]
    path = tmp_path / "new" / "neighbours.png"
    panels.draw_neighbours(flat(generated, channels), flat(nearest, channels), "digits", path)
    pixels = np.asarray(Image.open(path).convert("RGB"))
    side, left, top, gap = 50, 115, 50, 8
    assert pixels.shape == (round(top + 3 * side + gap + 4), left + 3 * side + 4, 3)
    columns = [left + side * column + side // 2 for column in range(3)]
    rows = [top + side // 2, top + gap + side + side // 2, top + gap + 2 * side + side // 2]
    levels = np.array([generated, *np.transpose(nearest)])[..., None]
    expected = levels * ([1, 1, 1] if channels == 1 else [1, 0, 0])
    # a grey level may fall either way in the colour map
    assert np.abs(pixels[np.ix_(rows, columns)] - expected).max() <= 1
    title, *names = (text.get_text() for text in figures[0].texts)
    assert "in the digits features" in title and names == ["generated", "nearest", "rank 2"]


@pytest.mark.parametrize(("labels", "ticks"), [(("a", "b", "c"), ["a", "b", "c"]), ((), ["0", "1", "2"])])
def test_classes_are_pairs_of_bars(figures, labels, ticks, tmp_path: Path) -> None:
    shares = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]], dtype=torch.float64)
    panels.draw_classes(shares, labels, tmp_path / "x.png")
    (axes,) = figures[0].axes
    assert [bar.get_height() for bar in axes.patches] == [*shares[0].tolist(), *shares[1].tolist()]
    assert [text.get_text() for text in axes.get_xticklabels()] == ticks
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["generated", "training images"]
    assert axes.get_title().endswith("total variation distance 0.500")


def test_the_scale_of_classes_is_the_datas_and_what_is_beyond_is_cut_and_written(figures, tmp_path: Path) -> None:
    real = torch.full((10,), 0.1, dtype=torch.float64)
    alike, collapsed = real.clone(), torch.tensor([0.75, 0.25, *[0.0] * 8], dtype=torch.float64)
    for generated in (alike, collapsed):
        panels.draw_classes(torch.stack([generated, real]), (), tmp_path / "x.png")
    good, bad = (figure.axes[0] for figure in figures)
    assert good.get_ylim() == bad.get_ylim() == pytest.approx((0, 0.465))
    assert [bar.get_height() for bar in bad.patches[:2]] == pytest.approx([0.3, 0.25])
    assert [text.get_text() for text in bad.texts] == ["0.75 ↑"]
    assert not good.texts


def test_classes_take_a_font_that_has_their_letters_or_numbers(figures, tmp_path: Path, caplog, recwarn) -> None:
    fonts = Path(matplotlib.get_data_path(), "fonts/ttf")
    own, other = (FT2Font(fonts / name).get_charmap() for name in ("DejaVuSans.ttf", "STIXGeneral.ttf"))
    foreign = chr(max(set(other) - set(own)))
    shares = torch.tensor([[0.5, 0.5], [0.25, 0.75]], dtype=torch.float64)
    for names, shown in (((foreign, "b"), (foreign, "b")), (("\U000f0000", "b"), ("0", "1"))):  # private to nobody
        for _ in range(2):
            panels.draw_classes(shares, names, tmp_path / "x.png")
        panels.draw_each_class(flat([[1, 2], [3, 4]]), (0, 1), names, tmp_path / "y.png")
        ticks = figures[-2].axes[0].get_xticklabels()
        assert tuple(text.get_text() for text in ticks) == shown
        assert tuple(text.get_text() for text in figures[-1].texts[1:]) == shown
        assert all(has(findfont(text.get_fontproperties()), text.get_text()) for text in ticks)
    (said,) = caplog.messages
    assert said.startswith(
        "no font on this machine has all letters of the classes (\\U000f0000, b): pictures number"
    )
    assert not recwarn
    assert has(font(foreign).path, foreign)  # also what Pillow writes
