"""The jobs of a matrix, as functions that a worker process can run."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.job import Report, Result
from gans import schema, seeds
from gans.compute import devices
from gans.data import datasets
from gans.fidelity import SCORING_VERSION
from gans.fidelity.scorer import Scorer
from gans.files import cache, cache_read, cache_write
from gans.pictures import grids
from gans.runs.cell import Cell, extractor
from gans.runs.events import state_of
from gans.runs.execute import CellRun, Place, add_scores, phase
from gans.runs.locks import locked
from gans.runs.run import Run
from gans.runs.scores import ScoreKey


@dataclass(frozen=True)
class Floor:
    """The noise floor of a data set under an extractor: real images scored as if generated.

    With `classes`, the names of the data's, as if a generator drew each of them.
    """

    dataset: str
    resolution: int
    extractor: str
    images: int
    identity: str
    metric: str
    title: str
    classes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of its run, which floors by other extractors and numbers of images share."""
        return f"real/{self.dataset}"


def cell_job(report: Report, folder: Path, cell: Cell, place: Place) -> Result:
    """Train and score a cell, unless another invocation has done so since this one was planned."""
    outcome = CellRun(cell, folder, place, report).execute()
    return Result(outcome.status, outcome.reason)


def score_job(report: Report, folder: Path, cell: Cell, place: Place, wanted: Sequence[ScoreKey]) -> Result:
    """Add scores to a cell that is trained."""
    report(0, phase(schema.SCORING_PHASE))
    found = add_scores(cell, folder, place, wanted)
    said = (f"{extractor(k.extractor).prefix} {value:.4g} on {k.count:,} images" for k, value in found.items())
    return Result(schema.FINISHED, ", ".join(said))


def floor_job(report: Report, folder: Path, floor: Floor, place: Place) -> Result:
    """Score real images against real images, unless another invocation has done so since this one was planned."""
    with locked(folder):
        last = state_of(folder)
        if not last or last.ended < place.since or last.result != schema.FINISHED:
            measure(report, folder, floor, place)
    return Result(schema.FINISHED)


def floor_rows(real: Scorer, floor: Floor) -> dict[str, dict[str, float]]:
    """The scores of a floor: measured once for each data set, extractor and number of images, then looked up."""
    names = sorted(real.class_metrics if floor.classes else real.metrics)
    # the last two move the last digits
    key = f"{floor.identity} {SCORING_VERSION} {names} {real.device.type} {torch.__version__}"
    path = cache("floors") / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    if found := cache_read([path], "the noise floor is measured again"):
        return dict(found[1]["rows"])
    rows = real.noise_floor(labelled=bool(floor.classes))
    cache_write([path], {}, {"rows": rows})
    return rows


def measure(report: Report, folder: Path, floor: Floor, place: Place) -> None:
    """Measure a floor, under the run of its folder or a new one."""
    device = devices.resolve(place.device)
    devices.prepare(device, place.threads)
    report(0, phase(schema.DATA_PHASE))
    images = datasets.load(floor.dataset, resolution=floor.resolution)
    report(0, phase(schema.SCORING_PHASE))
    real = Scorer(images, floor.extractor, floor.images, device)
    rows = floor_rows(real, floor)
    tags = {
        schema.KIND: schema.FLOOR,
        schema.IDENTITY: floor.identity,
        schema.DATASET: floor.dataset,
        schema.TITLE: floor.title,
        schema.METRIC: floor.metric,
        schema.COUNT: str(floor.images),
        schema.SCORING: str(SCORING_VERSION),
        schema.EXTRACTOR: floor.extractor,
        schema.EXTRACTOR_HASH: real.extractor.hash,
        schema.NOTE: f"Real images of **{floor.title}** scored against real images: the noise floor, "
        "which no model can be expected to beat. `half/`: one half of the training images against the other. "
        "`test/`: the test images against the training images.",
    }
    run = Run.begin(folder, place.experiment, floor.name, tags, place.parent)
    for comparison, row in rows.items():
        run.log(0, {f"{schema.FLOORS[comparison]}/{name}": value for name, value in row.items()})
    run.dataset(images)
    some = torch.randperm(len(images.train), generator=seeds.generator(0, "real images"))[:64]
    run.draw(schema.REAL, lambda path: grids.save_picture(grids.picture(images.train[some]), path))
    run.finish(schema.FINISHED)
