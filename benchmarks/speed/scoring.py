"""How fast images are scored: ours in memory and torch-fidelity on PNG files, by turns.

Both give the Fréchet distance of the same images in the features of the shipped `cifar10` extractor, with the
reference's features at hand. torch-fidelity reads files as colour only, so grey extractors cannot be compared.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
import torch.nn.functional as F
import torch_fidelity
from PIL import Image
from torch import Tensor

from benchmarks.speed.steps import interleave, ratio, turn
from gans.data.images import ImageData
from gans.fidelity import require
from gans.fidelity.extractors import pinned
from gans.fidelity.scorer import Scorer

EXTRACTOR = "cifar10"
ROUNDS = 3


def timed(device: torch.device, count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table of both ways to score `count` images, and the seconds of their turns."""
    images, real = pictures(count), pictures(count, seed=1)
    data = ImageData("pictures", "Pictures", real, real[:100], None, None, (), hash=f"pictures {count}")
    scorer = Scorer(data, EXTRACTOR, count, device)
    with TemporaryDirectory() as folder:
        ways: dict[str, Callable[[], object]] = {
            "ours: in memory": lambda: scorer.distance(images),
            "torch-fidelity on PNG files": on_files(images, real, device, Path(folder)),
        }
        turns = {name: partial(turn, score, device, lead_in=0) for name, score in ways.items()}
        seconds = interleave(turns, ROUNDS, seconds=0)
    ours = seconds["ours: in memory"]
    rows = [(name, f"{count / own.median():,.0f}", ratio(own, ours)) for name, own in seconds.items()]
    table = pd.DataFrame(rows, columns=["Way", "images/s", "time, ours = 1"])
    return table, seconds


def pictures(count: int, seed: int = 0) -> Tensor:
    """uint8 images (count, 3, 32, 32), as smooth as photographs: PNG would not compress noise."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (F.interpolate(coarse, size=32, mode="bilinear") * 255).round().to(torch.uint8)


def write(folder: Path, images: Tensor) -> None:
    """One PNG per image."""
    folder.mkdir(exist_ok=True)
    for index, pixels in enumerate(images.permute(0, 2, 3, 1).numpy()):
        Image.fromarray(pixels).save(folder / f"{index:06}.png")


def on_files(images: Tensor, real: Tensor, device: torch.device, folder: Path) -> Callable[[], float]:
    """Write PNG files and let torch-fidelity read them."""
    pinned.register()
    write(folder / "real", real)
    settings = pinned.settings(require(EXTRACTOR), len(images), len(images)) | {"save_cpu_ram": False}

    def distance() -> float:
        write(folder / "fake", images)
        found = torch_fidelity.calculate_metrics(
            input1=str(folder / "fake"),
            input2=str(folder / "real"),
            input2_cache_name="gans-speed-reference",
            cache_root=str(folder / "cache"),
            feature_extractor=f"gans-{EXTRACTOR}",
            cuda=device.type == "cuda",
            fid=True,
            **settings,
        )
        return found["frechet_inception_distance"]

    return distance
