"""Which feature extractors there are, and whether their weights can be had.

Light to import: torch-fidelity is loaded by the first call that needs it.
"""

from __future__ import annotations

import http.client
import logging
import os
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gans.errors import InputError, unknown
from gans.fidelity.extractors.cards import Card, cards, sha256

if TYPE_CHECKING:
    from gans.data.images import ImageData

log = logging.getLogger("gans")

INCEPTION = "inception"
# of the file that torch-fidelity and pytorch-fid publish: the graph of 2015-12-05, converted
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


ERROR = "_se"


def error_of(metric: str) -> str:
    """The name of a metric's standard error: how far it would move if other images were generated."""
    return f"{metric}{ERROR}"


@dataclass(frozen=True)
class MetricNames:
    """What an extractor's scores are called in every table, log and report; `error_of` names their errors."""

    frechet: str
    frechet_infinite: str
    kernel: str
    inception_score: str
    precision: str
    recall: str
    density: str
    coverage: str
    memorisation: str
    class_distance: str  # of pinned classifiers only: Inception does not know the data's classes

    @property
    def kernel_std(self) -> str:
        return f"{self.kernel}_std"

    @property
    def inception_score_std(self) -> str:
        return f"{self.inception_score}_std"

    @property
    def all(self) -> tuple[str, ...]:
        """The names of all metrics, without spreads and errors."""
        return astuple(self)

    @classmethod
    def of_pinned(cls, name: str) -> MetricNames:
        """`fd_<name>`, `kd_<name>`, `is_<name>`, ...: never the published names of the Inception metrics."""
        return cls(*(f"{metric}_{name.replace('-', '_')}" for metric in ("fd", "fdinf", "kd", "is", *SHARES)))


SHARES = ("precision", "recall", "density", "coverage", "memorisation", "class_distance")
# these keep a suffix: published precision and recall use VGG-16, so the bare names would mislead
INCEPTION_METRICS = MetricNames("fid", "fidinf", "kid", "isc", *(f"{name}_inception" for name in SHARES))


@dataclass(frozen=True)
class Extractor:
    """A feature extractor whose weights lie on this machine; made by `require`.

    `registered` is its name in torch-fidelity's registry and `hash` the SHA-256 of the file `weights`.
    `channels` and `resolution` are those of the images it takes; None means that it takes any. `labels` are
    the classes of its logits, where these are the data's.
    `kid_subset_size` is the largest subset in the kernel distance; torch-fidelity's own default is 1000.
    `published` is False for Inception weights from a file that is not the published one.
    """

    name: str
    registered: str
    weights: Path
    hash: str
    metrics: MetricNames
    features_layer: str
    logits_layer: str
    kid_subset_size: int
    channels: int | None = None
    resolution: int | None = None
    labels: tuple[str, ...] = ()
    published: bool = True

    @property
    def prefix(self) -> str:
        """The name of its Frechet distance: `fid` for Inception and for nothing else, else `fd_<name>`."""
        return self.metrics.frechet

    @property
    def layers(self) -> list[str]:
        """The layers that scoring needs."""
        return [self.features_layer, self.logits_layer]


def names() -> list[str]:
    """Every extractor that `require` knows."""
    return [*sorted(cards()), INCEPTION]


def default_extractor(data: ImageData) -> str:
    """The name of the extractor that was trained on this data set, at this size, or else `inception`."""
    same = (data.name, data.channels, data.resolution)
    own = (card.name for card in cards().values() if (card.data, card.channels, card.resolution) == same)
    return next(own, INCEPTION)


def require(name: str, weights: str | Path | None = None) -> Extractor:
    """The extractor `name`, once its weights are known to be here, whole and loadable.

    Inception's weights are taken from `weights`, else from the file in the environment variable
    `GANS_INCEPTION`, else from torch hub's cache, else they are downloaded there (96 MB).
    Raises `InputError` for an unknown name, and for weights that are missing, damaged or unobtainable, so
    that a run fails before it trains.
    """
    if name == INCEPTION:
        return _inception(weights)
    known = cards()
    if name not in known:
        raise unknown("extractor", name, names())
    known[name].verify()
    return _pinned(known[name])


def _pinned(card: Card) -> Extractor:
    return Extractor(
        name=card.name,
        registered=f"gans-{card.name}",
        weights=card.weights,
        hash=card.sha256,
        metrics=MetricNames.of_pinned(card.name),
        features_layer="features",
        logits_layer="logits",
        kid_subset_size=500,
        channels=card.channels,
        resolution=card.resolution,
        labels=card.labels,
    )


def _inception(weights: str | Path | None) -> Extractor:
    path = _inception_path(weights or os.environ.get("GANS_INCEPTION"))
    digest = sha256(path)
    published = digest == INCEPTION_SHA256  # only its scores may be called fid
    extractor = Extractor(
        name=INCEPTION,
        registered="inception-v3-compat",
        weights=path,
        hash=digest,
        metrics=INCEPTION_METRICS if published else MetricNames.of_pinned("unpublished_inception"),
        features_layer="2048",
        logits_layer="logits_unbiased",
        kid_subset_size=1000,
        published=published,
    )
    if not extractor.published:
        _check_inception(extractor)
    return extractor


def _inception_path(given: str | Path | None) -> Path:
    if given:
        return _existing(Path(given).expanduser())
    from torch.hub import get_dir
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    cached = Path(get_dir(), "checkpoints", URL_INCEPTION_V3.rsplit("/", 1)[-1])
    if not cached.is_file():
        _download(URL_INCEPTION_V3, cached)
    return cached


def _existing(path: Path) -> Path:
    if path.is_file():
        return path
    raise InputError(
        f"Inception weights: {path} is not a file; correct GANS_INCEPTION, or unset it to download them"
    )


def _download(url: str, path: Path) -> None:
    import torch.hub

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=INCEPTION_SHA256, progress=False)
    # URLError and time-outs are OSErrors; a wrong hash is a RuntimeError
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise InputError(
            f"Inception weights: cannot download {url} ({error}); fetch it elsewhere and set GANS_INCEPTION "
            "to the file, or choose a data set's own extractor"
        ) from error


def _check_inception(extractor: Extractor) -> None:
    import torch

    from gans.fidelity.extractors.backend import load

    try:
        # torch-fidelity unpickles without restriction, so nothing but tensors may reach it
        torch.load(extractor.weights, map_location="cpu", weights_only=True)
        load(extractor)
    except Exception as error:  # torch documents no list of what a damaged file raises
        raise InputError(
            f"Inception weights: {extractor.weights} is damaged or holds another network "
            f"({_first_line(error)}); delete it to download it again, or correct GANS_INCEPTION"
        ) from error
    log.warning(
        "%s is not the published Inception file: its scores are not called fid, and compare only with each other",
        extractor.weights,
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
