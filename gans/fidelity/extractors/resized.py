"""The shipped classifier of small photographs on images of any size: less than Inception, but always there."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gans.fidelity.extractors.cards import cards
from gans.fidelity.extractors.extractor import Extractor

if TYPE_CHECKING:
    from gans.fidelity.extractors.pinned import PinnedClassifier

RESIZED = "cifar10-resized"
CARD = "cifar10"
VERSION = 1  # of how images are resized; part of the hash


def resized() -> Extractor:
    """The extractor `cifar10-resized`.

    Raises:
        InputError: the classifier's weights are missing or damaged.
    """
    card = cards()[CARD]
    card.verify()
    digest = hashlib.sha256(f"{card.sha256} {RESIZED} {VERSION}".encode()).hexdigest()
    return Extractor(name=RESIZED, hash=digest, network=Resized, kid_subset_size=500)


class Resized(nn.Module):
    """Features (n, 96) and logits (n, 10) of uint8 images (n, 1 or 3, height, width).

    Grey images become three channels; all are resized to 32x32 (bilinear, antialiased, rounded to pixels).
    """

    classifier: PinnedClassifier

    def __init__(self) -> None:
        super().__init__()
        from gans.fidelity.extractors.pinned import load  # seconds to import: only when images are scored

        self.classifier = load(CARD)
        self.side = self.classifier.card.resolution

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        images = images.expand(-1, 3, -1, -1)
        if images.shape[-2:] != (self.side, self.side):
            images = F.interpolate(images.float(), (self.side, self.side), mode="bilinear", antialias=True)
            images = images.round().clamp(0, 255).to(torch.uint8)
        return self.classifier(images)
