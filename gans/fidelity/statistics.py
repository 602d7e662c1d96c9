"""Reference statistics in a file: all that a Frechet distance needs of real images, without the images.

The file is an .npz with `mu` and `sigma`, as pytorch-fid and clean-fid write and read; ours also says of what.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gans.errors import InputError, first_line
from gans.fidelity.comparison import Features
from gans.fidelity.extractors.extractor import Extractor
from gans.fidelity.gaussian import Gaussian
from gans.fidelity.metric import INCEPTION
from gans.fidelity.protocol import STATISTICS
from gans.files import write_bytes


@dataclass(frozen=True, eq=False)
class Statistics:
    """The Gaussian of n real images' features; for a Frechet distance, it is what `Features` of them are."""

    mean: Tensor  # (dimensions,)
    covariance: Tensor  # float64 (dimensions, dimensions)
    n: int  # 0: not stated, as in other programs' files
    extractor: str
    extractor_hash: str  # empty: not stated
    title: str  # of the data set
    hash: str  # of its images; empty: not stated
    name: str  # the file

    @cached_property
    def gaussian(self) -> Gaussian:
        return Gaussian(self.mean.double(), self.covariance)

    @property
    def rough_mean(self) -> Tensor:
        return self.mean

    @property
    def statistics(self) -> dict[str, Any]:
        return {"mu": self.mean.numpy(), "sigma": self.covariance.numpy()}

    def check(self, extractor: Extractor) -> None:
        """Refuse features of another extractor."""
        if self.extractor_hash not in ("", extractor.hash):
            raise InputError(
                f"{self.name} was made with other weights of '{extractor.name}'; make it again, or name the images"
            )


def write(path: Path, features: Features, extractor: Extractor, title: str, data_hash: str) -> None:
    """Write the statistics of real images' features; `check_new` refuses an existing file before."""
    content = io.BytesIO()
    np.savez(
        content,
        mu=features.rough_mean.cpu().numpy(),
        sigma=features.gaussian.covariance.cpu().numpy(),
        n=len(features),
        extractor=extractor.name,
        extractor_sha256=extractor.hash,
        data=title,
        data_sha256=data_hash,
    )
    write_bytes(path, content.getvalue())


def check_new(path: Path) -> None:
    """Refuse a file that is there, or one that other programs would not take for an .npz."""
    if path.suffix != STATISTICS or path.exists():
        why = "exists" if path.exists() else f"does not end in {STATISTICS}"
        raise InputError(f"--save-reference {path} {why}; name another file")


def read(path: Path, device: torch.device) -> Statistics:
    """Read such a file, of other programs too, whose extractor is Inception; nothing is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {key: archive[key] for key in archive.files}
        mean, covariance = torch.from_numpy(found["mu"]), torch.from_numpy(found["sigma"]).double()
        if not mean.is_floating_point() or covariance.shape != 2 * mean.shape or not covariance.isfinite().all():
            raise ValueError(f"mu {tuple(mean.shape)} and sigma {tuple(covariance.shape)} do not fit")
    except Exception as error:  # numpy documents no list of what a damaged file raises
        wanted = "an .npz with mu and sigma, as gans score --save-reference writes"
        raise InputError(f"{path} is damaged, or not {wanted} ({first_line(error)}); write it again") from None

    def field(key: str, otherwise: Any, kind: Callable[[Any], Any] = str) -> Any:
        return kind(found[key]) if key in found else otherwise

    return Statistics(
        mean.to(device),
        covariance.to(device),
        field("n", 0, int),
        field("extractor", INCEPTION),
        field("extractor_sha256", ""),
        field("data", path.name),
        field("data_sha256", ""),
        str(path),
    )
