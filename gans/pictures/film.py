"""Training as a film: the grids that were drawn on the way, one after the other."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from PIL import Image, ImageDraw

from gans.files import write_bytes
from gans.pictures import video
from gans.pictures.grids import enlarged, laid_out, readable, tiles
from gans.pictures.lettering import INK, PAPER, TEXT, fitted, font, pixels

ENDING = "kimg.png"
LIMIT = 1_000_000  # bytes of a film
ACROSS = 5  # trainings in a row, at most
WIDE = 520  # pixels that the images of a row of trainings may take before they are enlarged
LEAST = 250  # and should take
SIDE = 64  # pixels: larger images are made smaller
FRAME, HOLD = 400, 2000  # milliseconds; the last frame stays longer
UNITS = ((10**6, " million", "M"), (1000, " thousand", "k"))  # of images seen, in full and in short
BAR, GAP = 5, 8  # pixels: height of the progress bar, space around things
SHADE = "#c8c8c8"
# tried in turn until the film is small enough: images a side of a grid, and colours
THRIFT = ((8, 64), (8, 32), (6, 32), (5, 32), (4, 32), (4, 16), (3, 16), (2, 16))


T = TypeVar("T")


@dataclass(frozen=True)
class Track(Generic[T]):
    """One training: a title, and its grids, files or images of them, by thousands of images seen."""

    title: str
    grids: Mapping[float, T]

    @property
    def last(self) -> float:
        return max(self.grids)

    def at(self, share: float) -> float:
        """The moment of the grid nearest to this share of the training, in thousands of images."""
        return min(self.grids, key=lambda kimg: abs(kimg - share * self.last))


Images = Sequence[Image.Image]


def grids(pictures: Mapping[str, Path]) -> dict[float, Path]:
    """The grids among the pictures that a training drew, by thousands of images seen."""
    found = {re.fullmatch(rf"([\d.]+){re.escape(ENDING)}", name): path for name, path in pictures.items()}
    return {float(name[1]): path for name, path in found.items() if name}


def save_film(tracks: Sequence[Track[Path]], side: int, path: Path, limit: int = LIMIT) -> bool:
    """Write the film of trainings side by side as a GIF; False, and no file, if there is nothing to show.

    Frames of different trainings are at the same share of their budgets; a caption gives the number of images
    seen. Frames are only those that training drew, of images of `side` pixels a side: nothing is blended. A grid
    that cannot be read is left out. Images of a grid and colours are reduced until the file has at most `limit`
    bytes.
    """
    moving = [track for track in (_read(track, side) for track in tracks) if len(track.grids) > 1]
    if not moving or not all(images for track in moving for images in track.grids.values()):
        return False  # nothing that moves, or grids of another size than they should have
    small = next(iter(moving[0].grids.values()))[0].width
    films = (_film(moving, small, *thrift) for thrift in THRIFT)
    content = next((film for film in films if len(film) <= limit), None)
    if content is None:
        return False
    write_bytes(path, content)
    return True


def _read(track: Track[Path], side: int) -> Track[Images]:
    """The training with the images of its grids."""
    factor = math.ceil(side / SIDE)
    found = {
        kimg: [image.reduce(factor) for image in tiles(grid, side)]
        for kimg, grid in track.grids.items()
        if readable(grid)
    }
    return Track(track.title, found)


def _film(tracks: Sequence[Track[Images]], side: int, most: int, colours: int) -> bytes:
    columns, scale = layout(len(tracks), side, most)
    titles = fitted((track.title for track in tracks), scale * (columns * (side + 1) + 1))
    tracks = [replace(track, title=titles[track.title]) for track in tracks]
    count = max(len(track.grids) for track in tracks)
    shares = [step / (count - 1) for step in range(count)]
    frames = [laid_out([_panel(t, share, columns, scale) for t in tracks], ACROSS, GAP, PAPER) for share in shares]
    return video.gif(frames, [FRAME] * (count - 1) + [HOLD], colours)


def layout(panels: int, side: int, most: int) -> tuple[int, int]:
    """How many images a side of a panel's grid has, at most `most`, and what enlarges them; `side` in pixels."""
    across = min(panels, ACROSS)
    columns = max(1, min(most if panels == 1 else 4, most, WIDE // across // (side + 1)))
    return columns, max(1, round(LEAST / min(across, 2) / (columns * (side + 1) + 1)))


def _panel(track: Track[Images], share: float, columns: int, scale: int) -> Image.Image:
    """Title, grid, progress bar and caption."""
    kimg = track.at(share)
    grid = enlarged(laid_out(track.grids[kimg][: columns**2], columns), scale)
    panel = Image.new(grid.mode, (grid.width, grid.height + 2 * (TEXT + GAP) + BAR + GAP // 2), PAPER)
    panel.paste(grid, (0, TEXT + GAP))
    draw = ImageDraw.Draw(panel)
    draw.fontmode = "1"  # no smoothed edges: they would cost colours and bytes
    draw.text((0, 0), track.title, fill=INK, font=font(track.title))
    top = TEXT + GAP + grid.height + GAP // 2
    draw.rectangle((0, top, grid.width - 1, top + BAR - 1), fill=SHADE)
    reached = round((grid.width - 1) * kimg / track.last)
    if reached:
        draw.rectangle((0, top, reached, top + BAR - 1), fill=INK)
    draw.text((0, top + BAR + GAP // 2), caption(kimg, grid.width), fill=INK, font=font())
    return panel


def caption(kimg: float, most: int) -> str:
    """Images seen, to three digits, in as many words as fit into so many pixels."""
    images = float(f"{1000 * kimg:.3g}")  # a budget ends with a whole batch: 3,000,064 images are 3 million
    unit, word, letter = next((each for each in UNITS if images >= each[0]), (1, "", ""))
    count = f"{images / unit:g}"
    words = (f"{count}{word} images", f"{count}{letter} images", f"{count}{letter}")
    return next((text for text in words if pixels(text) <= most), words[-1])
