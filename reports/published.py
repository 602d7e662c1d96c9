"""Published figures, `published.toml`: validated, and as tables that state the differences from ours."""

from functools import cache
from pathlib import Path

import pandas as pd
from pydantic import Field

from gans import schema
from gans.config import Settings, read_toml
from reports.numbers import NOTHING, count
from reports.results import FLOORS, Board, Results
from reports.statistics import Estimate
from reports.tables import by_model, escape

FILE = Path(__file__).with_name("published.toml")
CONDITIONAL = {True: "class-conditional", False: "unconditional", None: "conditional or not: not known"}
# data sets that hold the images of another one, and how they differ from it
VARIANTS = {"cifar10-jpeg": ("cifar10", "its images are not JPEG-compressed")}


class Source(Settings):
    """Who published figures."""

    title: str = Field(description="its name for a reader")
    url: str = Field("", description="where they are")

    def __str__(self) -> str:
        return f"[{escape(self.title)}]({self.url})" if self.url else escape(self.title)


class Score(Settings):
    """A published score and its protocol; None is what was not published."""

    dataset: str = Field(description="a key of gans.data.DATASETS")
    model: str = Field(description="its name in the source")
    source: str = Field(description="a key of the sources")
    value: float = Field(gt=0, allow_inf_nan=False, description="the figure")
    metric: str = Field("fid", description="its name by our protocol: fid is Inception-V3 only; empty: unknown")
    generated: int | None = Field(None, gt=0, description="number of generated images")
    reference: int | None = Field(None, gt=0, description="number of real images")
    split: str | None = Field(None, description="their split")
    conditional: bool | None = Field(None, description="whether the networks take the class as an input")
    note: str = Field("", description="further remarks for readers")


class Published(Settings):
    sources: dict[str, Source] = Field(description="who published")
    scores: tuple[Score, ...] = Field((), strict=False, description="scores")


@cache
def read() -> Published:
    return Published.model_validate(read_toml(FILE))


def differences(theirs: Score, ours: Score) -> list[str]:
    """Why a published score is not comparable with one under our protocol, as text."""
    found = []
    if not theirs.metric:
        found.append("extractor: not known")
    elif theirs.metric != ours.metric:
        found.append(f"another extractor ({theirs.metric}, ours is {ours.metric})")
    counts = {"generated": (theirs.generated, ours.generated), "reference": (theirs.reference, ours.reference)}
    found += [f"{what} images: {_known(count)}" for what, (count, own) in counts.items() if count != own]
    if theirs.split != ours.split:
        found.append(f"reference split: {theirs.split or 'not known'}")
    if theirs.conditional != ours.conditional:
        found.append(CONDITIONAL[theirs.conditional])
    return found


def _known(number_of: int | None) -> str:
    return "not known" if number_of is None else count(number_of)


def our_metric(results: Results, board: Board) -> str:
    """The metric to compare by: `fid`, as others publish, where a board's cells have it."""
    finished = results.finished(board)
    published = schema.score("fid")
    return "fid" if published in finished and finished[published].notna().all() else board.metric


def ours(results: Results, board: Board) -> list[tuple[Score, Estimate]]:
    """The mean score of each model of a board, best first, with the protocol that it was measured by."""
    cells, floors = results.on(board), results.floors_on(board)
    metric = our_metric(results, board)
    generated = pd.to_numeric(cells["score.images"]).dropna() if "score.images" in cells else pd.Series()
    reference = floors.loc[floors["comparison"] == FLOORS["test"], "n_reference"]
    found = []
    for model, own in by_model(results, board):
        estimate = Estimate.of(own[f"{schema.SCORE}{metric}"])
        score = Score.model_construct(
            dataset=board.dataset,
            model=model,
            source="this page",
            value=estimate.mean,
            metric=metric,
            generated=_first(generated),
            reference=_first(reference),
            split="train",
            conditional=bool(own.get("networks.conditional", pd.Series(dtype=str)).eq("True").any()),
        )
        found.append((score, estimate))
    return found


def _first(values: pd.Series) -> int | None:
    return int(values.iloc[0]) if len(values) else None


def scores(results: Results, board: Board) -> pd.DataFrame:
    """Our scores, then the published ones on the same images, each with its protocol; empty if there are none."""
    dataset, variant = VARIANTS.get(board.dataset, (board.dataset, ""))
    theirs = [score for score in read().scores if score.dataset == dataset]
    own = ours(results, board)
    if not (theirs and own):
        return pd.DataFrame()
    kinds = {score.conditional: score for score, _ in own}
    typical = kinds[False] if False in kinds else kinds[True]
    rows = [_row(score, score.source, str(estimate), "") for score, estimate in own]
    for score in theirs:
        apart = [*differences(score, kinds.get(score.conditional, typical)), *([variant] if variant else [])]
        words = f"no: {'; '.join(apart)}" if apart else "same protocol"
        words += f" ({score.note})" if score.note else ""
        rows.append(_row(score, str(read().sources[score.source]), f"{score.value:g}", words))
    return pd.DataFrame(rows)


def _row(score: Score, source: str, value: str, apart: str) -> dict[str, str]:
    return {
        "Model": escape(score.model),
        "Source": source,
        "Metric": score.metric or "not known",
        "Value ↓": value,
        "Generated images": _known(score.generated),
        "Reference images": f"{_known(score.reference)}{f', {score.split}' if score.split else ''}",
        "Class-conditional": {True: "yes", False: "no", None: "not known"}[score.conditional],
        "Compares with ours": apart or NOTHING,
    }
