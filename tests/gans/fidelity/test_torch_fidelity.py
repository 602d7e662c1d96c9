"""The same images on disk, through torch-fidelity's own command in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.speed.scoring import EXTRACTOR, pictures, write
from gans.data.images import ImageData
from gans.fidelity.protocol import ISC_SPLITS
from gans.fidelity.scorer import Scorer

N = 48
# torch-fidelity's command with our extractors registered
COMMAND = (
    "from gans.fidelity.extractors.pinned import register; register(); "
    "from torch_fidelity.fidelity import main; main()"
)


def command_line(folder: Path) -> dict[str, float]:
    flags = ["--cpu", "--json", "--silent", "--save-cpu-ram", "--no-cache"]
    flags += ["--fid", "--kid", "--isc", "--prc", "--kid-subset-size", str(N), "--isc-splits", str(ISC_SPLITS)]
    inputs = ["--input1", str(folder / "fake"), "--input2", str(folder / "real")]
    words = [sys.executable, "-c", COMMAND, *inputs, "--feature-extractor", f"gans-{EXTRACTOR}", *flags]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow  # a process of its own
@pytest.mark.usefixtures("one_thread")
def test_scores_equal_the_command_on_png_files(tmp_path, monkeypatch):
    monkeypatch.setenv("GANS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    fake, real = pictures(N) // 2, pictures(N, seed=1)
    write(tmp_path / "fake", fake)
    write(tmp_path / "real", real)
    data = ImageData("pictures", "Pictures", real, real, None, None, (), hash="pictures")
    scores = Scorer(data, EXTRACTOR, N, torch.device("cpu")).score(fake)
    found = command_line(tmp_path)
    for ours, theirs in {
        "fd": "frechet_inception_distance",
        "kd": "kernel_inception_distance_mean",
        "is": "inception_score_mean",
        "precision": "precision",
        "recall": "recall",
    }.items():
        assert scores[f"{ours}_{EXTRACTOR}"] == pytest.approx(found[theirs], rel=1e-6, abs=1e-12), ours
    assert scores[f"fd_{EXTRACTOR}"] > 1
