"""Inception-V3 of 2015, as every paper uses it: where its weights lie, whether they are the published ones."""

from __future__ import annotations

import http.client
import os
import urllib.request
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from gans import seeds
from gans.errors import InputError
from gans.fidelity.extractors.cards import INCEPTION_SHA256
from gans.fidelity.extractors.extractor import Extractor
from gans.fidelity.extractors.fetched import Fetched
from gans.fidelity.metric import INCEPTION

VARIABLE = "GANS_INCEPTION"
PATIENCE = 5.0  # seconds for the first answer of a server
LAYERS = ("2048", "logits_unbiased")  # features, logits


def inception(weights: str | Path | None = None) -> Extractor:
    """Inception, once its weights are known to be here, whole and loadable.

    They are taken from `weights`, else from the file in the environment variable `GANS_INCEPTION`, else from torch
    hub's cache, else they are downloaded there (96 MB).

    Raises:
        InputError: they are missing, damaged or unobtainable.
    """
    path = file(weights)
    digest, published = weights_file().known(path, _load)
    return Extractor(name=INCEPTION, hash=digest, network=partial(Inception, path), published=published)


class Inception(nn.Module):
    """torch-fidelity's network, giving two layers of uint8 images of any size; grey ones become three channels.

    Args:
        weights: the file.
        layers: those of features and of logits.
    """

    def __init__(self, weights: Path, layers: tuple[str, str] = LAYERS):
        super().__init__()
        from torch_fidelity.utils import create_feature_extractor  # seconds to import: only when images are scored

        # the network is initialised before its weights are read; the caller's random stream must not move
        with seeds.forked():
            self.network = create_feature_extractor(
                "inception-v3-compat",
                list(layers),
                cuda=False,
                feature_extractor_weights_path=str(weights),
                verbose=False,
            )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, 2048) and logits (n, 1008) of uint8 images (n, 1 or 3, height, width)."""
        return self.network(images.expand(-1, 3, -1, -1))


def weights_file() -> Fetched:
    """What is known of the published file."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    return Fetched("Inception", URL_INCEPTION_V3, INCEPTION_SHA256, VARIABLE, "fid")


def file(given: str | Path | None = None) -> Path:
    """The file of weights, downloaded if there is none; see `inception`."""
    return weights_file().file(given)


def at_hand() -> bool:
    """Whether the weights are on this machine, or could be downloaded to it just now.

    Raises:
        InputError: GANS_INCEPTION names no file.
    """
    if os.environ.get(VARIABLE):
        file()
        return True
    return in_reach() and _downloaded(weights_file().cached)


def in_reach() -> bool:
    """Whether the weights are on this machine, or their server answers: nothing is fetched."""
    published = weights_file()
    return bool(os.environ.get(VARIABLE)) or published.cached.is_file() or _answers(published.url)


@cache
def _answers(url: str) -> bool:
    """Whether a server does, within seconds; a process asks once."""
    try:
        urllib.request.urlopen(url, timeout=PATIENCE).close()
    except (OSError, http.client.HTTPException):
        return False
    return True


@cache
def _downloaded(path: Path) -> bool:
    """Whether the weights are there, or could be downloaded; a process tries once."""
    try:
        return file() == path
    except InputError:
        return False


def _load(weights: Path) -> None:
    # torch-fidelity unpickles without restriction, so nothing but tensors may reach it
    torch.load(weights, map_location="cpu", weights_only=True)
    Inception(weights)
