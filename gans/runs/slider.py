"""Pictures with a step, as MLflow's UI shows them behind a slider: artifacts, named as it reads them."""

from __future__ import annotations

import shutil
import time
import uuid
from pathlib import Path

from PIL import Image

FOLDER = "images"  # among the artifacts
LOGGED = "mlflow.loggedImages"  # a tag that tells the UI to look there
SMALL = 256  # pixels, of the side of what the UI shows before it is clicked


def stepped(picture: Path, folder: Path, key: str, step: int) -> list[Path]:
    """The two files of a picture, whole and small, in this folder; drawn again, it takes its former place.

    Args:
        picture: to be copied.
        folder: for the files.
        key: which of the pictures of a step it is; letters, digits, `_`, `-`, `.` and spaces.
        step: images seen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = sorted(folder.glob(f"{key}+step+{step}+*.png"))
    stem = known[0].stem if known else f"{key}+step+{step}+timestamp+{int(time.time() * 1000)}+{uuid.uuid4()}"
    whole, small = folder / f"{stem}.png", folder / f"{stem}+compressed.webp"
    shutil.copyfile(picture, whole)
    with Image.open(picture) as image:
        image.thumbnail((SMALL, SMALL))
        image.save(small, lossless=True)
    return [whole, small]
