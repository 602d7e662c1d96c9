"""Pinned classifiers: trained and written, loaded, and registered with torch-fidelity for the same numbers."""

import logging
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch_fidelity import FeatureExtractorBase, register_feature_extractor
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from gans import seeds
from gans.data.images import ImageData, to_float
from gans.errors import InputError
from gans.fidelity.extractors.cards import PHOTOGRAPHS, Card, cards, sha256
from gans.fidelity.extractors.classifiers import FEATURES, RECIPES, accuracy, build, train
from gans.fidelity.extractors.extractor import Extractor
from gans.fidelity.protocol import ISC_SPLITS, KID_SUBSETS, SEED
from gans.files import write_bytes

log = logging.getLogger("gans")

PREFIX, LAYERS = "gans-", ("features", "logits")  # to torch-fidelity


def pin(data: ImageData, name: str, output: Path, command: str) -> Card:
    """Train a classifier on the training images, measure it on the test images, write weights and card.

    Both files go to the directory `output`. The same data, torch version and machine give the same bytes. The card
    names the `command` that makes it again. An InputError if the data have no labels.
    """
    if data.train_labels is None or data.test_labels is None:
        raise InputError(
            f"data set '{data.name}' has no labels; put each class in a folder of its own, or use inception"
        )
    log.warning("training the extractor '%s' on %s", name, data.title)
    model = train(data.train, data.train_labels, classes=len(data.classes))
    weights = output / f"{name}.safetensors"
    write_bytes(weights, save({key: value.contiguous() for key, value in model.state_dict().items()}))
    card = Card(
        name=name,
        data=data.name,
        data_hash=data.hash,
        channels=data.channels,
        resolution=data.resolution,
        classes=len(data.classes),
        features=FEATURES,
        accuracy=round(accuracy(model, data.test, data.test_labels), 6),
        command=command,
        torch=torch.__version__,
        sha256=sha256(weights),
        network=RECIPES[data.channels].network,
        labels=data.classes,
        directory=output,
    )
    card.write()
    return card


class PinnedClassifier(FeatureExtractorBase):
    """A pinned classifier as torch-fidelity's extractor `gans-<name>`: layers of uint8 images as on its card.

    The other keyword arguments that torch-fidelity passes are not used: it has one set of weights.
    Raises `InputError` if the weights are missing or are not those on the card.
    """

    def __init__(self, name: str, features_list: list[str], **_: Any):
        super().__init__(name, features_list)
        self.card = cards()[name.removeprefix(PREFIX)]
        self.card.verify()
        self.classifier = build(self.card.network, self.card.channels, self.card.classes)
        self.classifier.load_state_dict(load_file(self.card.weights))
        self.head = self.classifier.head
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs = dict(zip(LAYERS, self.classifier(to_float(images)), strict=True))
        return tuple(outputs[layer] for layer in self.features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return LAYERS

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits" if metric == "isc" else "features"

    @staticmethod
    def can_be_compiled() -> bool:
        return False


def load(name: str) -> PinnedClassifier:
    """The network of a pinned extractor on the CPU, in eval mode; returns features and logits."""
    # the network is initialised before its weights are read; the caller's random state must not change
    with seeds.forked():
        return PinnedClassifier(PREFIX + name, list(LAYERS))


class Resized(nn.Module):
    """The classifier of small photographs, on uint8 images (n, 1 or 3, height, width) of any size.

    Grey images become three channels; all are resized to 32x32 (bilinear, antialiased, rounded to pixels).
    """

    def __init__(self) -> None:
        super().__init__()
        self.classifier = load(PHOTOGRAPHS)
        self.side = self.classifier.card.resolution

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features (n, 96) and logits (n, 10)."""
        images = images.expand(-1, 3, -1, -1)
        if images.shape[-2:] != (self.side, self.side):
            images = F.interpolate(images.float(), (self.side, self.side), mode="bilinear", antialias=True)
            images = images.round().clamp(0, 255).to(torch.uint8)
        return self.classifier(images)


def register() -> None:
    """Register every pinned extractor with torch-fidelity as `gans-<name>`; idempotent."""
    for name in cards():
        if PREFIX + name not in FEATURE_EXTRACTORS_REGISTRY:
            register_feature_extractor(PREFIX + name, PinnedClassifier)


def settings(extractor: Extractor, n_generated: int, n_reference: int) -> dict[str, Any]:
    """The keyword arguments for which `torch_fidelity.calculate_metrics` returns the scorer's numbers."""
    return {
        "isc_splits": ISC_SPLITS,
        "kid_subsets": KID_SUBSETS,
        "kid_subset_size": extractor.subset_size(n_generated, n_reference),
        "prc_neighborhood": 3,
        "samples_shuffle": True,
        "rng_seed": SEED,
        "save_cpu_ram": True,
        "verbose": False,
    }
