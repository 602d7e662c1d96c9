"""Inception-V3 of 2015, as every paper uses it: where its weights lie, whether they are the published ones."""

from __future__ import annotations

import http.client
import logging
import os
import urllib.request
from functools import cache, partial
from pathlib import Path

import torch
import torch.hub
from torch import Tensor, nn

from gans import seeds
from gans.errors import InputError, first_line
from gans.fidelity.extractors.cards import INCEPTION_SHA256, sha256
from gans.fidelity.extractors.extractor import Extractor
from gans.fidelity.metric import INCEPTION
from gans.files import expand

log = logging.getLogger("gans")

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
    digest = sha256(path)
    published = digest == INCEPTION_SHA256  # only its scores may be called fid
    if not published:
        _check(path)
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


def file(given: str | Path | None = None) -> Path:
    """The file of weights, downloaded if there is none; see `inception`."""
    if given := given or os.environ.get("GANS_INCEPTION"):
        return _existing(expand(given))
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    cached = _cached()
    if not cached.is_file():
        _download(URL_INCEPTION_V3, cached)
    return cached


def at_hand() -> bool:
    """Whether the weights are on this machine, or could be downloaded to it just now.

    Raises:
        InputError: GANS_INCEPTION names no file.
    """
    if os.environ.get("GANS_INCEPTION"):
        file()
        return True
    return in_reach() and _downloaded(_cached())


def in_reach() -> bool:
    """Whether the weights are on this machine, or their server answers: nothing is fetched."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    return bool(os.environ.get("GANS_INCEPTION")) or _cached().is_file() or _answers(URL_INCEPTION_V3)


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


def _cached() -> Path:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    return Path(torch.hub.get_dir(), "checkpoints", URL_INCEPTION_V3.rsplit("/", 1)[-1])


def _existing(path: Path) -> Path:
    if path.is_file():
        return path
    raise InputError(
        f"Inception weights: {path} is not a file; correct GANS_INCEPTION, or unset it to download them"
    )


def _download(url: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=INCEPTION_SHA256, progress=False)
    # URLError and time-outs are OSErrors; a wrong hash is a RuntimeError
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise InputError(
            f"Inception weights: cannot download {url} ({error}); fetch it elsewhere and set GANS_INCEPTION "
            "to the file, or choose a data set's own extractor"
        ) from error


def _check(weights: Path) -> None:
    try:
        # torch-fidelity unpickles without restriction, so nothing but tensors may reach it
        torch.load(weights, map_location="cpu", weights_only=True)
        Inception(weights)
    except Exception as error:  # torch documents no list of what a damaged file raises
        raise InputError(
            f"Inception weights: {weights} is damaged or holds another network "
            f"({first_line(error)}); delete it to download it again, or correct GANS_INCEPTION"
        ) from error
    log.warning(
        "%s is not the published Inception file: its scores are not called fid, and compare only with each other",
        weights,
    )
