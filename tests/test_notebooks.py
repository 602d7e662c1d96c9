"""The notebooks run from top to bottom, and are kept without what they printed."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gans.generate import generate
from gans.runs.store import Store, Tracked

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


def code_cells(path: Path) -> list[str]:
    read = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in read["cells"] if cell["cell_type"] == "code"]


def run(cells: list[str], name: str) -> dict[str, Any]:
    """Run all cells in one namespace, as a kernel does; `shown` are the pictures at their ends."""
    namespace: dict[str, Any] = {"__name__": name, "shown": []}
    for number, cell in enumerate(cells):
        *before, last = cell.rstrip().rsplit("\n", 1)
        if last.startswith("picture("):
            last = f"shown.append({last})"
        exec(compile("\n".join([*before, last]), f"{name}, cell {number}", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_kept_without_outputs(path):
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read["nbformat"] == 4
    for cell in read["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    for number, cell in enumerate(code_cells(path)):
        compile(cell, f"cell {number}", "exec")


@pytest.mark.slow
def test_five_gans_from_training_to_arithmetic(tmp_path, monkeypatch, one_thread):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "set by the notebook")
    (path,) = [path for path in NOTEBOOKS if path.stem == "five-gans"]
    made = run(code_cells(path), path.name)
    assert set(made["outcomes"]) == {"gan", "dcgan", "dcgan-nobn", "sagan", "mdgan"}
    assert {cell.model for cell in made["trained"]} == set(made["outcomes"])
    scores = made["scores"]["fd_digits"]
    assert scores.idxmin() == "real digits"
    assert len(made["shown"]) == 5
    assert all(isinstance(one, Image.Image) and len(set(one.getdata())) > 50 for one in made["shown"])
    # the zoo's generator draws what its latents name
    classify = made["classifier"]
    for name, digit in {"eight": 8, "one": 1, "three": 3}.items():
        _, logits = classify(generate(made["generator"], made[name]))
        assert logits.argmax(dim=1).tolist() == [digit] * 3
    assert {run.name for run in Tracked(Store()).runs("five-gans")} == {cell.name for cell in made["trained"]}
    assert made["single"].scores["fd_digits"] > 0 and made["single"].generator.is_file()
    assert [file.name for file in tmp_path.iterdir() if file.name not in ("five-gans", "data")] == []
