"""Extractors with published weights, of torch hub's cache or a file that a variable names: Inception and CLIP."""

import http.client
import logging
import os
import urllib.request
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
import torch.hub
from torch import Tensor, nn

from gans import seeds
from gans.errors import InputError, first_line
from gans.fidelity.extractors.cards import sha256
from gans.fidelity.extractors.extractor import MEBIBYTE, Extractor
from gans.fidelity.metric import Need
from gans.files import expand

log = logging.getLogger("gans")

PATIENCE = 5.0  # seconds for the first answer of a server


@dataclass(frozen=True)
class Published:
    """A network with published weights.

    Attributes:
        name: of the extractor.
        title: of the network, for people.
        url: where the file of weights is published.
        sha256: of the published file.
        load: returns the network of a file, in eval mode; raises for another network's file.
        file: its name in torch hub's cache; that of the address if empty.
        gives, image_bytes: as `Extractor`'s.
    """

    name: str
    title: str
    url: str
    sha256: str
    load: Callable[[Path], nn.Module]
    file: str = ""
    gives: frozenset[Need] = frozenset()
    image_bytes: int = 32 * MEBIBYTE

    @property
    def variable(self) -> str:
        """The environment variable that may name a file."""
        return f"GANS_{self.name.upper()}"

    def __call__(self) -> Extractor:
        """The extractor; an InputError if its weights are missing, damaged or unavailable."""
        path = self.weights()
        digest = sha256(path)
        if digest != self.sha256:
            self._check(path)
        return self._extractor(digest, partial(self.load, path))

    def described(self) -> Extractor:
        """The published extractor; its weights need not be here."""
        return self._extractor(self.sha256, lambda: self.load(self.weights()))

    def _extractor(self, digest: str, network: Callable[[], nn.Module]) -> Extractor:
        return Extractor(
            name=self.name,
            hash=digest,
            network=network,
            gives=self.gives,
            published=digest == self.sha256,
            image_bytes=self.image_bytes,
        )

    @property
    def cached(self) -> Path:
        return Path(torch.hub.get_dir(), "checkpoints", self.file or self.url.rsplit("/", 1)[-1])

    def weights(self) -> Path:
        """The file of weights: what the variable names, else torch hub's, downloaded if need be."""
        if given := os.environ.get(self.variable):
            path = expand(given)
            if path.is_file():
                return path
            remedy = f"correct {self.variable}, or unset it to download them"
            raise InputError(f"{self.title} weights: {path} is not a file; {remedy}")
        if not self.cached.is_file():
            self._download()
        return self.cached

    def in_reach(self) -> bool:
        """Whether the weights are on this machine, or their server answers: nothing is downloaded."""
        return bool(os.environ.get(self.variable)) or self.cached.is_file() or _answers(self.url)

    def _download(self) -> None:
        try:
            self.cached.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(self.url, str(self.cached), hash_prefix=self.sha256, progress=False)
        # URLError and time-outs are OSErrors; a wrong hash is a RuntimeError
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            raise InputError(
                f"{self.title} weights: cannot download {self.url} ({error}); download it elsewhere and set "
                f"{self.variable} to the file, or choose a data set's own extractor"
            ) from error

    def _check(self, path: Path) -> None:
        try:
            self.load(path)
        except Exception as error:  # torch documents no list of what a damaged file raises
            raise InputError(
                f"{self.title} weights: {path} is damaged or holds another network ({first_line(error)}); "
                f"delete it to download it again, or correct {self.variable}"
            ) from error
        log.warning(
            "%s is not the published %s file: its scores are not called %s and compare only with each other",
            path,
            self.title,
            self.described().prefix,
        )


@cache
def _answers(url: str) -> bool:
    """Whether a server answers within seconds; a process tries once."""
    try:
        urllib.request.urlopen(url, timeout=PATIENCE).close()
    except (OSError, http.client.HTTPException):
        return False
    return True


class TorchFidelity(nn.Module):
    """A network of torch-fidelity by its name there: features and, if there are two `layers`, logits."""

    def __init__(self, weights: Path, name: str, *layers: str) -> None:
        super().__init__()
        from torch_fidelity.utils import create_feature_extractor  # seconds to import: only when images are scored

        # the network is initialised before its weights are read: the caller's random state must not change;
        # archives of TorchScript are an old format
        with seeds.forked(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self.network = create_feature_extractor(
                name, list(layers), cuda=False, feature_extractor_weights_path=str(weights), verbose=False
            )

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features, and logits or None, of uint8 images (n, 1 or 3, height, width)."""
        features, *logits = self.network(images.expand(-1, 3, -1, -1))
        return features, logits[0] if logits else None


def inception_v3(weights: Path, layers: tuple[str, str] = ("2048", "logits_unbiased")) -> nn.Module:
    """The Inception-V3 of 2015, with features (n, 2048) and logits (n, 1008)."""
    # torch-fidelity unpickles without restriction: only a file of tensors may reach it
    torch.load(weights, map_location="cpu", weights_only=True)
    return TorchFidelity(weights, "inception-v3-compat", *layers)


INCEPTION = Published(
    name="inception",
    title="Inception",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    load=inception_v3,
    gives=frozenset({"logits"}),
)


def clip_vit(weights: Path) -> nn.Module:
    """CLIP's ViT-B/32 (Radford et al. 2021, 2103.00020), with features (n, 512)."""
    return TorchFidelity(weights, CLIP_VIT, "clip")


CLIP_VIT = "clip-vit-b-32"  # torch-fidelity's name for it, and that of its file in the cache
CLIP_SHA256 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
CLIP = Published(
    name="clip",
    title="CLIP",
    url=f"https://openaipublic.azureedge.net/clip/models/{CLIP_SHA256}/ViT-B-32.pt",
    sha256=CLIP_SHA256,
    load=clip_vit,
    file=f"{CLIP_VIT}-{CLIP_SHA256}.pt",
)
