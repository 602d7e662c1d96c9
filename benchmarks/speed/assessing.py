"""How fast images are scored.

Beside torch-fidelity on PNG files and a plain loop, by turns. All give the Fréchet distance of the same images in
the features of the shipped `cifar10` extractor, with the reference's features at hand. torch-fidelity reads files
as colour only, so the grey extractors cannot be compared.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
import torch_fidelity
from PIL import Image
from scipy.linalg import sqrtm
from torch import Tensor

from benchmarks.speed.options import LEAST
from benchmarks.speed.page import Scored
from benchmarks.speed.rounds import Contender, Ratio, Times, here, interleave
from gans.data.images import ImageData, to_float
from gans.fidelity import require
from gans.fidelity.extractors import pinned
from gans.fidelity.extractors.pinned import settings
from gans.fidelity.scorer import Scorer

EXTRACTOR = "cifar10"
OURS = "ours: in memory"
# torch-fidelity's command, once it knows our extractors
COMMAND = (
    "from gans.fidelity.extractors.pinned import register; register(); "
    "from torch_fidelity.fidelity import main; main()"
)
REFERENCE = "gans-speed-reference"


def rows(device: torch.device, count: int = 2_000, rounds: int = 3) -> list[Scored]:
    """Time all ways to score `count` images of 32 x 32 by turns; ours comes first."""
    with TemporaryDirectory() as folder:
        timed = interleave(contenders(pictures(count), device, Path(folder)), rounds, seconds=0, lead_in=0)
    return [_row(name, times, timed[OURS], count) for name, times in timed.items()]


def _row(name: str, times: Times, ours: Times, count: int) -> Scored:
    return Scored(name, count / times.median, Ratio.of(times.wall, ours.wall))


def pictures(count: int, seed: int = 0) -> Tensor:
    """uint8 images (count, 3, 32, 32), as smooth as photographs: PNG would not compress noise."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (F.interpolate(coarse, size=32, mode="bilinear") * 255).round().to(torch.uint8)


def contenders(images: Tensor, device: torch.device, folder: Path) -> dict[str, Contender]:
    """What is timed; a step scores all images once. PNG files and references lie in `folder`."""
    real = pictures(len(images), seed=1)
    data = ImageData("pictures", "Pictures", real, real[:LEAST], None, None, (), hash=f"pictures {len(real)}")
    scorer = Scorer(data, EXTRACTOR, len(images), device)
    write(folder / "real", real)
    once = {
        OURS: lambda: scorer.distance(images),
        "plain float32 loop": plain(images, real, device),
        "torch-fidelity on PNG files": on_files(images, device, folder),
        "its command line": command_line(images, device, folder),
    }
    return {name: here(_repeat(score), device) for name, score in once.items()}


def _repeat(score: Callable[[], object]) -> Callable[[int], object]:
    def steps(count: int) -> None:
        for _ in range(count):
            score()

    return steps


def plain(images: Tensor, real: Tensor, device: torch.device) -> Callable[[], float]:
    """As one would write it: float images, batch by batch, then NumPy and SciPy."""
    network = pinned.load(EXTRACTOR).to(device).classifier

    def gaussian(pixels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            parts = [network(to_float(part.to(device)))[0].cpu().numpy() for part in pixels.split(64)]
        features = np.concatenate(parts)
        return features.mean(0), np.cov(features, rowvar=False)

    reference = gaussian(real)

    def distance() -> float:
        mean, covariance = gaussian(images)
        root = np.real(sqrtm(covariance @ reference[1]))
        return float(((mean - reference[0]) ** 2).sum() + np.trace(covariance + reference[1] - 2 * root))

    return distance


def write(folder: Path, images: Tensor) -> None:
    """One PNG per image."""
    folder.mkdir(exist_ok=True)
    for index, pixels in enumerate(images.permute(0, 2, 3, 1).numpy()):
        Image.fromarray(pixels).save(folder / f"{index:06}.png")


def on_files(images: Tensor, device: torch.device, folder: Path) -> Callable[[], float]:
    """Write PNG files and let torch-fidelity read them, in this process: no start-up is counted."""
    pinned.register()
    options = settings(require(EXTRACTOR), len(images), len(images)) | {"save_cpu_ram": False}

    def distance() -> float:
        write(folder / "fake", images)
        found = torch_fidelity.calculate_metrics(
            input1=str(folder / "fake"),
            input2=str(folder / "real"),
            input2_cache_name=REFERENCE,
            cache_root=str(folder / "cache"),
            feature_extractor=f"gans-{EXTRACTOR}",
            cuda=device.type == "cuda",
            fid=True,
            **options,
        )
        return found["frechet_inception_distance"]

    return distance


def command_line(images: Tensor, device: torch.device, folder: Path) -> Callable[[], str]:
    """Write PNG files and run torch-fidelity's command on them, as people do between trainings."""
    flags = ["--fid", "--feature-extractor", f"gans-{EXTRACTOR}", "--json", "--silent"]
    flags += ["--input2-cache-name", REFERENCE, "--cache-root", str(folder / "cache")]
    flags += ["--gpu", str(device.index or 0)] if device.type == "cuda" else ["--cpu"]
    inputs = ["--input1", str(folder / "fake"), "--input2", str(folder / "real")]

    def run() -> str:
        write(folder / "fake", images)
        command = [sys.executable, "-c", COMMAND, *inputs, *flags]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    return run
