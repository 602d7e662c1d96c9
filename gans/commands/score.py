"""`gans score`: every metric with its error, of images from anywhere or of a trained generator."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from gans.commands.draw import Artist
from gans.commands.options import Device, check_dataset, flat, option
from gans.errors import InputError, printable
from gans.fidelity.protocol import STATISTICS
from gans.files import expand
from gans.registry import FOLDER, folder

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from gans.data.images import ImageData
    from gans.fidelity import Extractor, Metric
    from gans.fidelity.statistics import Statistics

IMAGES = (
    "a folder, .zip or .tar of images, an .npz of uint8, or a generator: .safetensors, folder, run id or zoo:NAME"
)
KEYS = ("images", "arr_0")  # of an .npz, best first; the second is NumPy's own
COUNT = 10_000  # images to draw from a generator
RESOLUTION = 2**-23  # of float32, in which images are scored


def check_reference(name: str) -> None:
    """The name of a data set, or a file of statistics that exists."""
    if not name.endswith(STATISTICS) or name.startswith(FOLDER):
        check_dataset(name)
    elif not expand(name).is_file():
        raise InputError(f"--reference {name} is not a file; gans score --save-reference writes one")


@flat
@dataclass(frozen=True)
class Score:
    images: Annotated[str, option(IMAGES)] = ""
    _: KW_ONLY
    reference: Annotated[
        str,
        option(
            "digits, mnist, ..., folder:PATH, or statistics.npz; default for a generator: its training data",
            metavar="DATASET",
            check=check_reference,
        ),
    ] = ""
    save_reference: Annotated[
        Path | None, option("write the reference's statistics to an .npz; without IMAGES, only that")
    ] = None
    extractor: Annotated[str, option("auto: the data set's own, or inception, or cifar10-resized")] = "auto"
    metric: Annotated[
        tuple[str, ...],
        option("further metrics: authpct, vendi, sliced-wasserstein or package.module:Name", metavar="NAME"),
    ] = ()
    count: Annotated[
        int | None, option(f"images to draw from a generator; default: {COUNT:,}", least=1, most=10**6)
    ] = None
    list: Annotated[bool, option("list the extractors with their data, hashes and commands")] = False
    json: Annotated[bool, option("print JSON in place of a table")] = False
    device: Device = "auto"


def score(options: Score = Score()) -> int:
    if options.list:
        return list_extractors(options.json)
    from gans.compute import devices

    device, report = devices.resolve(options.device), as_json if options.json else as_table
    if options.save_reference:
        save_reference(options, expand(options.save_reference), device)
    if not options.images:
        if options.save_reference:
            return 0
        raise missing("IMAGES")
    path, of_statistics = place(options.images), options.reference.endswith(STATISTICS)
    scored = against if of_statistics and not options.reference.startswith(FOLDER) else compared
    print(report(*scored(path, options, device)))
    return 0


def save_reference(options: Score, path: Path, device: torch.device) -> None:
    """Write the statistics of a data set's training images."""
    from gans import fidelity
    from gans.data import datasets
    from gans.fidelity import statistics
    from gans.fidelity.scorer import Scorer

    statistics.check_new(path)
    if not options.reference or options.reference.endswith(STATISTICS):
        raise InputError("--save-reference needs --reference with the name of a data set")
    data = datasets.load(options.reference)
    name = fidelity.default_extractor(data) if options.extractor == "auto" else options.extractor
    Scorer(data, name, len(data.train), device).save_reference(path)
    print(f"{path}: statistics of {len(data.train):,} training images of {data.title}, features of '{name}'")


Report = tuple["Given", "Extractor", "Mapping[str, Metric]", dict[str, float]]


def compared(path: Path, options: Score, device: torch.device) -> Report:
    """Images of a place, or of the generator there, scored by all metrics against a data set."""
    from gans import fidelity
    from gans.data.images import ImageData
    from gans.fidelity.scorer import Scorer

    given = (drawn if path.suffix == ".safetensors" else read)(path, options, device)
    data = given.reference
    assert isinstance(data, ImageData)
    name = fidelity.default_extractor(data) if options.extractor == "auto" else options.extractor
    scorer = Scorer(data, name, len(given.images), device, further=options.metric)
    return given, scorer.extractor, scorer.class_metrics, scorer.score(given.images, given.labels)


def against(path: Path, options: Score, device: torch.device) -> Report:
    """The images, scored by the metrics that need no more of the real ones than mean and covariance."""
    from gans.compute import devices
    from gans.fidelity import require, statistics
    from gans.fidelity.scorer import score_against
    from gans.generate import load_generator

    real = statistics.read(expand(options.reference), devices.exact(device))
    if options.extractor != "auto" and not real.extractor_hash:
        real = replace(real, extractor=options.extractor)
    if options.metric or options.extractor not in ("auto", real.extractor):
        what = "--metric needs images" if options.metric else f"it was made with '{real.extractor}'"
        raise InputError(f"--reference {options.reference}: {what}; name a data set")
    extractor = require(real.extractor)
    if path.suffix == ".safetensors":
        artist = Artist(str(path), *load_generator(path, device))
        images = artist.draw(artist.prior.fixed(options.count or COUNT, "report"))
    else:
        images, _ = images_of(path, real.title, extractor.resolution)
    metrics, scores = score_against(real, images, device)
    return Given(images, real), extractor, metrics, scores


def missing(what: str) -> InputError:
    return InputError(f"{what} is missing: gans score IMAGES --reference mnist; see gans score --help")


# What is scored


@dataclass(frozen=True)
class Given:
    images: Tensor  # uint8 (n, channels, side, side), of the reference's shape
    reference: ImageData | Statistics
    note: str = ""  # on how the images came to be
    labels: Tensor | None = None  # int64 (n,), the reference's classes that they were drawn for

    @property
    def n(self) -> int:
        """Images of the reference; 0: not stated."""
        return getattr(self.reference, "n", 0) or len(getattr(self.reference, "train", ()))


def place(name: str) -> Path:
    """Where images or a generator are that a command line names."""
    from gans import zoo
    from gans.runs.find import find_generator, is_run
    from gans.schema import EVENTS, GENERATOR

    if is_run(name) or zoo.named(name):
        return find_generator(name)
    path = expand(folder(name)[0])
    if not path.exists():
        raise InputError(f"{path} does not exist; check the path (for the cells of a matrix: gans rescore MATRIX)")
    # a run's folder holds grids of samples, which are no samples
    of_run = any((path / file).is_file() for file in (GENERATOR, EVENTS))
    return find_generator(str(path)) if of_run else path


def read(path: Path, options: Score, device: torch.device) -> Given:
    """The images of a place, and the data set to compare them with; an InputError if they are not alike."""
    if not options.reference:
        raise missing("--reference")
    if path.suffix == ".pt":
        raise InputError(f"{path} is a checkpoint of a training; name the generator.safetensors in its folder")
    if options.count is not None:
        raise InputError(f"--count {options.count} is for generators; every image of {path} is scored")
    from gans.data import datasets

    reference = datasets.load(options.reference)
    images, remarks = images_of(path, reference.name, reference.resolution, reference.sizes)
    expected, found = tuple(reference.train.shape[1:]), tuple(images.shape[1:])
    if found != expected:
        raise InputError(
            f"{path} holds images of shape {found}, '{reference.name}' takes {expected}; convert them"
        )
    return Given(images, reference, remarks)


def drawn(path: Path, options: Score, device: torch.device) -> Given:
    """Images of a generator, from the latents that reports are made with, and what they are compared with."""
    from gans import fidelity
    from gans.data import datasets
    from gans.generate import load_generator

    artist, count = Artist(str(path), *load_generator(path, device)), options.count or COUNT
    channels, side = artist.about["shape"]
    name = options.reference or artist.about.get("experiment", {}).get("dataset")
    if not name:
        raise missing("--reference")
    try:
        reference = datasets.load(name, resolution=side)
    except InputError as error:
        raise InputError(f"{error}; --reference names the data to compare with") from None
    if channels != reference.channels:
        raise InputError(f"{path} draws {channels}-channel images, '{reference.name}' has {reference.channels}")
    extractor = fidelity.default_extractor(reference) if options.extractor == "auto" else options.extractor
    fidelity.check_images(fidelity.require(extractor), reference, count)  # before so many are drawn
    code = artist.prior.fixed(count, "report")
    labels = code.labels if artist.prior.classes == reference.classes else None
    return Given(artist.draw(code), reference, "the latents that reports are made with", labels)


def images_of(
    path: Path, reference: str, side: int | None, padded: Sequence[tuple[int, int]] | None = None
) -> tuple[Tensor, str]:
    """Images of an .npz, a folder or an archive, both splits if there are two, and remarks on them.

    None is resized, since that would be scored: files are of one size, of `side` pixels (None: of any) or smaller.
    The latter are padded as the reference's own were (MNIST: 28 to 32), of the sizes `padded` (None: of any).
    """
    import torch

    from gans.data import datasets
    from gans.data.images import smallest_resolution

    if path.suffix == ".npz":
        return from_array(path), ""
    found = datasets.load(f"{FOLDER}{path}", resolution=side)
    native = max(map(max, found.sizes))
    if side is None and native > found.resolution:  # a folder's default has a limit
        found = datasets.load(f"{FOLDER}{path}", resolution=smallest_resolution(native))
    side = found.resolution
    small = found.sizes if padded is None else padded
    known = {(side, side), *(size for size in small if max(size) <= side)}
    if len(found.sizes) > 1 or not known.issuperset(found.sizes):
        raise InputError(
            f"{path} holds images of {in_words(found.sizes, ' and ')} pixels, '{reference}' takes "
            f"{in_words(sorted(known), ' or ')}, all the same; convert them, or name their data set"
        )
    return torch.cat([found.train, found.test]), "; ".join(found.remarks)


def in_words(sizes: Sequence[tuple[int, int]], between: str) -> str:
    """`8 x 8 and 48 x 64`; of many, the first ones."""
    return between.join(f"{width} x {height}" for width, height in sizes[:4]) + (", ..." if sizes[4:] else "")


def from_array(path: Path) -> Tensor:
    """Images of an .npz, named as in `KEYS`, with the channels first or last; nothing is ever unpickled."""
    import numpy as np
    import torch

    try:
        with np.load(path if path.is_file() else os.devnull, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in KEYS if key in archive}
            names = ", ".join(archive.files) or "nothing"
    except Exception as error:  # numpy documents no list of what a damaged file raises
        raise InputError(f"{path} is damaged, or not an .npz of plain numbers ({error}); write it again") from None
    if not arrays:
        raise InputError(f"{path} holds {names}; name its array of images '{KEYS[0]}' or '{KEYS[1]}'")
    pixels = next(iter(arrays.values()))
    if pixels.dtype != "uint8":
        raise InputError(
            f"{path} holds {pixels.dtype} pixels; store uint8, 0 to 255; other types have no fixed range"
        )
    if pixels.ndim != 4 or not {1, 3} & {pixels.shape[1], pixels.shape[3]}:
        raise InputError(f"{path} holds images of shape {pixels.shape}, not (n, 1 or 3, side, side); convert them")
    return torch.from_numpy(pixels if pixels.shape[1] in (1, 3) else pixels.transpose(0, 3, 1, 2).copy())


# What is printed


def as_json(given: Given, extractor: Extractor, metrics: Mapping[str, Metric], scores: dict[str, float]) -> str:
    from gans.fidelity import SCORING_VERSION

    real = given.reference
    about = {
        "images": len(given.images),
        "reference": real.name,
        "reference_images": given.n,
        "reference_sha256": real.hash,
        "extractor": extractor.name,
        "extractor_sha256": extractor.hash,
        "scoring_version": SCORING_VERSION,
        **({"note": given.note} if given.note else {}),
        # JSON has no nan
        "scores": {name: value if math.isfinite(value) else None for name, value in scores.items()},
    }
    return json.dumps(about, indent=2)


def as_table(given: Given, extractor: Extractor, metrics: Mapping[str, Metric], scores: dict[str, float]) -> str:
    from gans.fidelity.metric import error_of

    real, note = given.reference, f" ({given.note})" if given.note else ""
    reference = f"{given.n:,} training images of" if given.n else "the statistics in"
    head = f"{len(given.images):,} images{note} against {reference} {real.title}"
    rows = [("metric", "value ± error", "best", "meaning")]
    rows += [
        (name, plus_minus(scores[name], scores[error_of(name)]), metric.best, metric.meaning)
        for name, metric in metrics.items()
        if name in scores
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    end = "± is the standard error from drawing images; the reference and the generator stay as they are"
    return "\n".join([f"{head}, features of '{extractor.name}'", "", *lines, "", end])


def plus_minus(value: float, error: float) -> str:
    """`12.3 ± 0.4`, the error to two digits and the value to as many places: no more than float32 resolves."""
    if not (math.isfinite(error) and error > 0):
        return f"{value:.4g} ± {error:.2g}"
    error = max(error, RESOLUTION * max(1, abs(value)))
    places = max(0, 1 - math.floor(math.log10(error)))
    return f"{round(value, places) + 0.0:.{places}f} ± {error:.{places}f}"  # no -0.0


def list_extractors(plain: bool) -> int:
    """Print the cards of all pinned extractors, and what is known of the published ones."""
    from gans.fidelity.extractors.cards import PHOTOGRAPHS, cards
    from gans.fidelity.extractors.dinov2 import DINOV2
    from gans.fidelity.extractors.find import RESIZED
    from gans.fidelity.extractors.published import CLIP, INCEPTION

    known = cards().values()
    for card in known:
        card.verify()
    if plain:
        print(json.dumps([card.model_dump() for card in known], indent=2))
        return 0
    for card in known:
        size = f"{card.channels} x {card.resolution} x {card.resolution}"
        data = f"{card.data}, {size}, {card.classes} classes, sha256 {card.data_hash}"
        head = f"{card.name}: {card.accuracy:.2%} of held-out images right"
        print(described(head, {"data": data, "sha256": card.sha256, "command": card.command}))
    print(f"{RESIZED}: '{PHOTOGRAPHS}' on images of any size, resized; the default without Inception")
    print(described("inception: Inception-V3 of 2015, as every paper uses it", {"sha256": INCEPTION.sha256}))
    print(described("dinov2: ViT-L/14 of 2023", {"sha256": DINOV2.sha256}))
    print(described("clip: ViT-B/32 of 2021", {"sha256": CLIP.sha256}))
    return 0


def described(head: str, facts: Mapping[str, str]) -> str:
    """A line, and below it an indented one for each fact."""
    return "\n".join(map(printable, [head, *(f"  {name:<8}  {text}" for name, text in facts.items())]))
