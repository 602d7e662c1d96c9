"""A viewer of sample grids for `report.html`: by data set, model, training seed and moment of training."""

import base64
import io
import json
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from PIL import Image

from gans.pictures.film import grids
from gans.pictures.grids import laid_out, tiles
from reports.figures import resolution
from reports.numbers import images
from reports.results import Results

LIMIT = 4 * 2**20  # bytes of all its pictures
SIDES = (8, 6, 5, 4, 3, 2)  # images a side of a grid, tried in turn until the pictures are small enough
Cell = tuple[tuple[str, str, str], list[tuple[str, list[Image.Image]]]]  # data set, model and seed; its moments

PAGE = """<h2>Look through the samples</h2>
<div id="viewer"><select></select> <select></select> <select></select>
<input type="range" min="0" aria-label="moment of training"> <output></output>
<p><img alt="samples" style="width: 26rem; image-rendering: pixelated"></p></div>
<p>All images of a model and seed are from the same latents; none was selected.</p>
<script>
const cells = CELLS;
const root = document.getElementById("viewer"), choices = [...root.querySelectorAll("select")];
const slider = root.querySelector("input"), said = root.querySelector("output"), shown = root.querySelector("img");
function fits(depth) {
  return cells.filter(cell => choices.slice(0, depth).every((choice, i) => cell.names[i] === choice.value));
}
function choose(from) {
  for (let depth = from; depth < 3; depth++) {
    const before = choices[depth].value, names = [...new Set(fits(depth).map(cell => cell.names[depth]))];
    choices[depth].replaceChildren(...names.map(name => new Option(name, name)));
    if (names.includes(before)) choices[depth].value = before;
  }
  slider.max = fits(3)[0].moments.length - 1;
  show();
}
function show() { [said.textContent, shown.src] = fits(3)[0].moments[slider.value]; }
choices.forEach((choice, depth) => choice.addEventListener("change", () => choose(depth + 1)));
slider.addEventListener("input", show);
choose(0);
slider.value = slider.max;
show();
</script>
"""


def viewer(results: Results) -> str:
    """HTML of the viewer of all cells with grids; empty without any, or if they would be too large."""
    cells = list(read(results))
    for side in SIDES if cells else ():
        if found := within(LIMIT, cells, side):
            return PAGE.replace("CELLS", json.dumps(found).replace("<", "\\u003c"))  # no name ends the script
    return ""


def within(room: int, cells: Sequence[Cell], side: int) -> list[dict[str, Any]]:
    """Names and pictures of all cells; none if the pictures have more than `room` bytes."""
    found = []
    for names, moments in cells:
        pictures = [(title, encoded(single, side)) for title, single in moments]
        room -= sum(len(picture) for _, picture in pictures)
        if room < 0:
            return []
        found.append({"names": names, "moments": pictures})
    return found


def read(results: Results) -> Iterator[Cell]:
    """The images of each cell's grids, in the order of its training."""
    for board in results.boards:
        cells = results.on(board)
        for _, cell in cells.iterrows():
            pictures = results.pictures(cell["identity"])
            found = [
                (f"after {images(1000 * kimg)} images", path) for kimg, path in sorted(grids(pictures).items())
            ]
            final = [("chosen checkpoint", pictures["final.png"])] if "final.png" in pictures else []
            moments = [(title, tiles(path, resolution(cells))) for title, path in chain(found, final)]
            if moments := [(title, single) for title, single in moments if single]:
                yield (board.title, str(cell["model"]), f"seed {cell['seed']}"), moments


def encoded(single: list[Image.Image], side: int) -> str:
    """The first images as a square grid: the address of a PNG."""
    content = io.BytesIO()
    laid_out(single[: side**2], side).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
