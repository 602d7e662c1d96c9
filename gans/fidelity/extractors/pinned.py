"""Our extractors inside torch-fidelity: the class that it runs, its registration, and the same numbers by it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch_fidelity import FeatureExtractorBase, register_feature_extractor
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from gans import seeds
from gans.data.images import to_float
from gans.errors import InputError
from gans.fidelity.extractors.cards import Card, cards
from gans.fidelity.extractors.classifiers import Classifier, build
from gans.fidelity.extractors.extractor import Extractor
from gans.fidelity.protocol import ISC_SPLITS, KID_SUBSETS, SEED

PREFIX = "gans-"


class PinnedClassifier(FeatureExtractorBase):
    """A pinned classifier as torch-fidelity's extractor `gans-<name>`; layers `features`, `logits`.

    It has one set of weights, so the other keyword arguments that torch-fidelity passes are not used.
    Raises `InputError` if the weights are missing or are not those on the card.
    """

    card: Card
    layers: ClassVar[tuple[str, ...]] = Classifier.LAYERS

    def __init__(self, name: str, features_list: list[str], **_: Any):
        super().__init__(name, features_list)
        self.card = cards()[name.removeprefix(PREFIX)]
        self.card.verify()
        self.classifier = build(self.card.network, self.card.channels, self.card.classes)
        self.classifier.load_state_dict(load_file(self.card.weights))
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The requested layers, each (n, dimensions), of uint8 images (n, channels, side, side).

        Nothing is converted or resized: another type raises `TypeError`, another shape `InputError`.
        """
        self._check(images)
        outputs = dict(zip(self.layers, self.classifier(to_float(images)), strict=True))
        return tuple(outputs[layer] for layer in self.features_list)

    def head(self, features: Tensor) -> Tensor:
        """Logits (n, classes) of features (n, dimensions)."""
        return self.classifier.head(features)

    def _check(self, images: Tensor) -> None:
        if images.dtype != torch.uint8:
            raise TypeError(f"extractor '{self.name}' takes uint8 images, not {images.dtype}")
        expected = (self.card.channels, self.card.resolution, self.card.resolution)
        if images.dim() != 4 or images.shape[1:] != expected:
            raise InputError(
                f"extractor '{self.name}' takes images of shape {expected}, not {tuple(images.shape[1:])}; "
                f"use 'inception' or train one for this data"
            )

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return PinnedClassifier.layers

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits" if metric == "isc" else "features"

    @staticmethod
    def can_be_compiled() -> bool:
        return False


def load(name: str) -> PinnedClassifier:
    """The network of a pinned extractor on the CPU, in eval mode, giving features and logits."""
    # the network is initialised before its weights are read; the caller's random stream must not move
    with seeds.forked():
        return PinnedClassifier(PREFIX + name, list(PinnedClassifier.layers))


def register() -> None:
    """Make every pinned extractor known to torch-fidelity as `gans-<name>`. Calling it again is harmless."""
    for name in cards():
        if PREFIX + name not in FEATURE_EXTRACTORS_REGISTRY:
            register_feature_extractor(PREFIX + name, PinnedClassifier)


def settings(extractor: Extractor, n_generated: int, n_reference: int) -> dict[str, Any]:
    """The keyword arguments with which `torch_fidelity.calculate_metrics` gives the scorer's numbers.

    Precision and recall take `PRC_IMAGES` images or fewer; see `metrics.neighbours.of_equal_sizes`.
    """
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
