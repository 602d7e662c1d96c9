"""CLIP's image encoder, ViT-B/32 (Radford et al. 2021, 2103.00020), by torch-fidelity's `clip-vit-b-32`."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from gans import seeds
from gans.fidelity.extractors.extractor import Extractor
from gans.fidelity.extractors.fetched import Fetched

CLIP = "clip"
THEIRS = "clip-vit-b-32"  # torch-fidelity's name for it, and that of its file in the cache
SHA256 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
WEIGHTS = Fetched(
    "CLIP",
    f"https://openaipublic.azureedge.net/clip/models/{SHA256}/ViT-B-32.pt",
    SHA256,
    "GANS_CLIP",
    "fd_clip",
    f"{THEIRS}-{SHA256}.pt",
)


def clip(weights: str | Path | None = None) -> Extractor:
    """The extractor, once its weights are known to be here, whole and loadable (354 MB).

    They are taken from `weights`, else from the file in `GANS_CLIP`, else from torch hub's cache, else downloaded.

    Raises:
        InputError: they are missing, damaged or unobtainable.
    """
    path = WEIGHTS.file(weights)
    digest, published = WEIGHTS.known(path, Clip)
    return described(digest, path, published)


def described(digest: str = SHA256, path: Path | None = None, published: bool = True) -> Extractor:
    """What it is, whether or not its weights are here."""
    return Extractor(name=CLIP, hash=digest, network=partial(Clip, path), gives=frozenset(), published=published)


class Clip(nn.Module):
    """Features (n, 512) of uint8 images of any size; grey ones become three channels.

    Args:
        weights: the file, a TorchScript archive; None: wherever it is, see `clip`.
    """

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        from torch_fidelity.utils import create_feature_extractor  # seconds to import: only when images are scored

        # the network is drawn before its weights are read; archives of TorchScript are an old format
        with seeds.forked(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self.network = create_feature_extractor(
                THEIRS,
                ["clip"],
                cuda=False,
                feature_extractor_weights_path=str(weights or WEIGHTS.file()),
                verbose=False,
            )

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        """Features of uint8 images (n, 1 or 3, height, width), and no logits."""
        return self.network(images.expand(-1, 3, -1, -1))[0], None
