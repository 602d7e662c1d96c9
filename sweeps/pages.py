"""The pages of sweeps, made from nothing but what was tracked: one per study, and one that ranks swept models."""

from __future__ import annotations

import logging
import math
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from pydantic import BaseModel, ValidationError

from gans import schema
from gans.errors import InputError, first_line
from gans.files import Damaged, slug, write_text
from gans.runs.reader import Source
from gans.runs.telling import Telling
from gans.urls import shown
from reports import report, results, tables, tuned
from reports.difference import Difference
from reports.estimate import Estimate
from reports.html import standalone
from reports.numbers import NOTHING, images, number, setting
from reports.results import Results
from reports.sheet import Sheet
from reports.tables import escape
from sweeps import ROOT, plots, winners
from sweeps.progress import Tally
from sweeps.study import Sweep, origin
from sweeps.winners import DEFAULT

log = logging.getLogger("gans")

PREFIX = "sweep-"
WINNERS, CANDIDATE, MEMORY = "winners", "candidate.toml", "study.json"  # beside a study's page
TOP = 10  # trials in the table of the best


class Trial(BaseModel):
    """A trial that finished: its values, and what it set."""

    number: int
    score: float
    seconds: float
    settings: dict[str, Any]


class Failure(BaseModel):
    """A trial without a score: why."""

    number: int
    reason: str


class Record(BaseModel):
    """What the pages say of a study, beside the scores of the winners; kept with the sweep's run as JSON."""

    study: str
    model: str
    dataset: str
    metric: str
    budget: float
    kimg: float
    objectives: list[str]
    pruner: str
    seed: int
    asked: int
    command: str
    finished: int
    pruned: int
    diverged: int
    failures: list[Failure]
    share: float  # of the images that would have been seen without pruning
    hours: float  # of all trials, side by side or not
    default: dict[str, Any]
    finalists: list[Trial]
    top: list[Trial]
    importances: dict[str, float]
    plots: dict[str, str]
    space: str


@dataclass(frozen=True)
class Swept:
    """A study as the store knows it.

    Attributes:
        record: of the study.
        winners: of the retraining; None before it.
        plots: the folder of its pictures; None without any.
        matrix: of the matrix of the data set's name; None if it was not run.
    """

    record: Record
    winners: Results | None
    plots: Path | None
    matrix: Results | None = None

    def scores(self, contestant: str) -> pd.Series:
        """One per finished fresh seed."""
        cells = self.cells(contestant)
        return cells.loc[cells["counted"], "score"] if len(cells) else pd.Series(dtype=float)

    def cells(self, contestant: str) -> pd.DataFrame:
        if self.winners is None:
            return pd.DataFrame()
        return self.winners.cells[self.winners.cells["model"] == contestant]

    def estimate(self, contestant: str) -> Estimate:
        return Estimate.of(self.scores(contestant))

    def difference(self, contestant: str) -> Difference:
        return Difference.of(self.scores(contestant), self.scores(DEFAULT), max(1, len(self.record.finalists)))

    @property
    def winner(self) -> Trial | None:
        """The finalist with the lowest mean score from fresh seeds."""
        scored = {t.number: self.estimate(label(t)) for t in self.record.finalists}
        found = [t for t in self.record.finalists if scored[t.number].n]
        return min(found, key=lambda t: scored[t.number].mean, default=None)

    @property
    def beside(self) -> str:
        """What the matrix of the data set's name says of the model's default; empty if it was not run."""
        return tuned.beside(self.matrix, self.record.model, self.record.dataset, self.cells(DEFAULT))

    @property
    def proven(self) -> bool:
        """Whether the winner beats the default beyond chance, on fresh seeds."""
        if self.winner is None:
            return False
        name = label(self.winner)
        return self.difference(name).beyond and self.estimate(name).mean < self.estimate(DEFAULT).mean


def label(trial: Trial) -> str:
    return tuned.contestant(trial.number)


# --- what is kept of a study


def record(study: Study, sweep: Sweep, request: Any, finalists: Sequence[FrozenTrial]) -> Record:
    """The record of a study that has its trials."""
    trials = [t for t in study.get_trials(deepcopy=False) if not t.user_attrs.get("surplus")]
    pruned = [t for t in trials if t.state == TrialState.PRUNED]
    finished = [t for t in trials if t.state == TrialState.COMPLETE]
    best = sorted(finished, key=lambda t: t.values)
    return Record(
        study=sweep.study,
        model=sweep.default.model,
        dataset=sweep.base.dataset,
        metric=sweep.default.metric,
        budget=request.budget,
        kimg=sweep.base.kimg,
        objectives=list(sweep.objectives),
        pruner=sweep.pruner,
        seed=sweep.seed,
        asked=sweep.trials,
        command=request.command(),
        finished=len(finished),
        pruned=len(pruned),
        diverged=sum(bool(t.user_attrs.get("diverged")) for t in pruned),
        failures=[Failure(number=t.number, reason=why(t)) for t in trials if t.state == TrialState.FAIL],
        share=share([*finished, *pruned], sweep.base.budget),
        hours=sum((t.duration.total_seconds() for t in trials if t.duration), 0.0) / 3600,
        default={key: sweep.space.defaults[key] for key in sweep.space.parameters},
        finalists=[row(trial, sweep) for trial in finalists],
        top=[row(trial, sweep) for trial in best[:TOP]],
        importances=importances(study),
        plots={},
        space=sweep.space.text(),
    )


def row(trial: FrozenTrial, sweep: Sweep) -> Trial:
    return Trial(
        number=origin(trial),
        score=trial.values[0],
        seconds=trial.user_attrs.get("seconds", math.nan),
        settings=sweep.space.settings(trial.params),
    )


def why(trial: FrozenTrial) -> str:
    return trial.user_attrs.get("reason") or "its worker died or ran out of time"


def share(trials: Sequence[FrozenTrial], budget: int) -> float:
    """Images that these trials saw, as a share of what they would have seen if none had been pruned."""
    seen = [budget if t.state == TrialState.COMPLETE else t.last_step or 0 for t in trials]
    return sum(seen) / (budget * len(seen)) if seen else math.nan


def importances(study: Study) -> dict[str, float]:
    """Each parameter's share in the variation of the score, by Optuna's default method."""
    if not plots.enough(study):
        return {}
    return optuna.importance.get_param_importances(study, target=plots.score)


def keep(run: Telling, record: Record, study: Study, sweep: Sweep) -> None:
    """Put what the pages need into the sweep's run."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = plots.draw_all(study, sweep, Path(folder))
        run.artifacts(Path(folder), schema.SWEEP_PLOTS)
    run.text(record.model_copy(update={"plots": drawn}).model_dump_json(indent=1), schema.SWEEP_RECORD)


def summary(study: Study, sweep: Sweep) -> str:
    """How the search ended, in words."""
    tally = Tally.of(study)
    if tally.finished:
        return f"{tally.counted} trials: {tally}"
    pruned = study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
    diverged = sum(bool(trial.user_attrs.get("diverged")) for trial in pruned)
    return (
        f"no trial finished: of {tally.counted}, the pruner stopped {tally.pruned - diverged} and {diverged} "
        f"diverged; narrow the learning rates (SPACE=FILE), raise TRIALS, or take PRUNER=none"
    )


# --- from the store


def load(store: Source, experiment: str) -> Swept:
    """A study by its MLflow experiment.

    Raises:
        InputError: the store knows no sweep of this name that has come to its end.
    """
    for run in reversed(store.runs(experiment)):
        path = store.artifact(run, schema.SWEEP_RECORD) if run.data.tags.get(schema.KIND) == schema.SWEEP else None
        if path:
            kept, drawn = read_record(path), store.artifact(run, schema.SWEEP_PLOTS)
            return Swept(kept, tracked(store, experiment), drawn, tracked(store, kept.dataset))
    raise InputError(f"no finished sweep '{experiment}' in {shown(store.uri)}; run `make sweep` first")


def read_record(path: Path) -> Record:
    """What a sweep found, as its run keeps it.

    Raises:
        Damaged: the file is not as it was written.
    """
    try:
        return Record.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise Damaged(f"cannot read {path}: {first_line(error)}; run the same `make sweep` again") from None


def tracked(store: Source, experiment: str) -> Results | None:
    """The results of an experiment; None if it has none that count."""
    try:
        return results.load(store, experiment)
    except InputError:
        return None


def load_all(store: Source) -> list[Swept]:
    """All studies of the store that came to an end, by name."""
    studies = []
    for name in store.experiments(PREFIX):
        try:
            studies.append(load(store, name))
        except Damaged as error:
            log.warning("%s", error)
        except InputError:
            continue  # its trials are not done
    return studies


# --- pages


def write(swept: Swept, root: Path = ROOT) -> Path:
    """Write a study's page, its pictures and its winner's settings into `root/<study>/`; returns the page."""
    folder = root / swept.record.study
    folder.mkdir(parents=True, exist_ok=True)
    for kind in (*plots.KINDS, WINNERS):
        (folder / f"{kind}.png").unlink(missing_ok=True)
    for name in swept.record.plots.values():
        if swept.plots and (swept.plots / name).is_file():
            shutil.copyfile(swept.plots / name, folder / name)
    contest = None
    if swept.winners is not None and swept.winner:
        contest = plots.contest(swept.winners.cells, swept.record.metric, folder / f"{WINNERS}.png")
    publish(folder, "sweep.md.j2", **contents(swept, contest))
    if settings := preset(swept):
        write_text(folder / CANDIDATE, settings)
    remember(swept, folder)
    return folder / report.PAGE


def publish(folder: Path, template: str, **values: Any) -> None:
    """Write a page, its tables beside it, and all in one file."""
    sheet = Sheet()
    write_text(folder / report.PAGE, render(template, sheet, **values))
    sheet.write(folder)
    write_text(folder / report.WHOLE, standalone(folder / report.PAGE))


def contents(swept: Swept, contest: str | None) -> dict[str, Any]:
    """What a study's page says."""
    record = swept.record
    return {
        "record": record,
        "winner": swept.winner,
        "verdict": verdict(swept),
        "configuration": configuration(record, swept.winner) if swept.winner else None,
        "comparison": comparison(swept) if swept.winner else None,
        "protocol": tables.protocol(swept.winners) if swept.winners else None,
        "contest": contest,
        "counts": counts(record),
        "top": top(record),
        "importances": ranked(record.importances),
        "failures": failures(record),
        "environment": tables.environment(swept.winners) if swept.winners else None,
        "matrix": swept.beside,
        "seconds": len(record.objectives) > 1,
        "fresh": sorted(set(swept.winners.cells["seed"])) if swept.winners else [],
        "trial_seed": winners.TRIAL_SEED,
    }


def render(template: str, sheet: Sheet, **values: Any) -> str:
    loader = PackageLoader("sweeps")
    environment = Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.globals |= {"table": sheet.table, "images": lambda kimg: images(1000 * kimg)}
    return re.sub(r"\n{3,}", "\n\n", environment.get_template(template).render(**values))


def verdict(swept: Swept) -> str:
    """The outcome in a sentence or two."""
    record, winner = swept.record, swept.winner
    if winner is None and record.finished and not record.finalists:
        return "**No trial beat the default to the finals**: what finished is the default itself."
    if winner is None:
        none = "**No trial finished**: all were pruned, diverged or failed." if not record.finished else ""
        return none or "**The winners have no score from fresh seeds yet.**"
    tuned, default = swept.estimate(label(winner)), swept.estimate(DEFAULT)
    return (
        f"**Trial {winner.number} {swept.difference(label(winner)).verdict}**: {record.metric} {tuned} "
        f"(n = {tuned.n}) against {default} (n = {default.n}), from training seeds "
        "that no trial used; lower is better."
    )


def configuration(record: Record, winner: Trial) -> pd.DataFrame:
    """The searched settings, as the default and as the winner has them; what differs is bold."""
    rows = []
    for key, default in record.default.items():
        tuned = winner.settings.get(key, default)
        text = plain(tuned) if tuned == default else f"**{plain(tuned)}**"
        rows.append({"Setting": f"`{key}`", "Default": plain(default), f"Trial {winner.number}": text})
    return pd.DataFrame(rows)


def plain(value: Any) -> str:
    """A setting as people write it."""
    return number(value) if isinstance(value, float) else escape(setting(value))


def comparison(swept: Swept) -> pd.DataFrame:
    """The finalists beside the default, best first, and the real images below."""
    record = swept.record
    names = [DEFAULT, *map(label, record.finalists)]
    names.sort(key=lambda name: swept.estimate(name).mean if swept.estimate(name).n else math.inf)
    rows = [contestant(swept, name) for name in names]
    frame = pd.DataFrame(rows)
    assert swept.winners is not None
    floors = swept.winners.floors
    metric = f"{record.metric} ↓"
    real = [
        {
            "Configuration": tables.floor_name(floor["comparison"]),
            metric: number(floor.get(record.metric, math.nan)),
        }
        for _, floor in floors[floors["metric"] == record.metric].iterrows()
    ]
    return pd.concat([frame, pd.DataFrame(real)]).fillna("")


def contestant(swept: Swept, name: str) -> dict[str, str]:
    """A configuration's row of the comparison."""
    cells, estimate = swept.cells(name), swept.estimate(name)
    done = cells[cells["counted"]]
    trial = next((t for t in swept.record.finalists if label(t) == name), None)
    line = {
        "Configuration": f"**{name}**" if trial and trial == swept.winner else name,
        f"{swept.record.metric} ↓": str(estimate),
        "Seeds": tables.seeds(estimate.n, len(cells)),
        "Over default": NOTHING,
        "p": NOTHING,
        "Training (s)": number(done[schema.TRAINING].mean()),
        "In the search": number(trial.score) if trial else NOTHING,
    }
    if trial:
        apart = swept.difference(name)
        line |= {"Over default": str(apart), "p": number(apart.p, 2)}
    return line


def counts(record: Record) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "Finished": record.finished,
                "Stopped by the pruner": record.pruned - record.diverged,
                "Diverged": record.diverged,
                "Failed": len(record.failures),
                "Images seen": f"{record.share:.0%}" if math.isfinite(record.share) else NOTHING,
                "Hours": number(record.hours),
            }
        ]
    )


def top(record: Record) -> pd.DataFrame | None:
    """The best trials of the study by the score it saw."""
    if not record.top:
        return None
    keys = list(record.default)
    rows = [
        {
            "Trial": t.number,
            f"best {record.metric} ↓": number(t.score),
            "Training (s)": number(t.seconds),
            **{f"`{key}`": plain(t.settings[key]) if key in t.settings else NOTHING for key in keys},
        }
        for t in record.top
    ]
    return pd.DataFrame(rows)


def ranked(importances: dict[str, float]) -> pd.DataFrame | None:
    rows = [{"Setting": f"`{key}`", "Share": f"{value:.0%}"} for key, value in importances.items()]
    return pd.DataFrame(rows) if rows else None


def failures(record: Record) -> pd.DataFrame | None:
    rows = [{"Trial": failure.number, "Reason": escape(failure.reason)} for failure in record.failures]
    return pd.DataFrame(rows) if rows else None


def preset(swept: Swept) -> str | None:
    """The winner's settings as TOML, with where they come from; None without a winner."""
    record, winner = swept.record, swept.winner
    if winner is None:
        return None
    name = label(winner)
    apart = swept.difference(name)
    header = (
        f"{record.model} on {record.dataset}, tuned: written by `{record.command}`.\n"
        f"study {record.study}, trial {winner.number} of {record.finished + record.pruned} "
        f"({record.finished} finished, {record.pruned} pruned), {images(1000 * record.kimg)} images per trial\n"
        f"{record.metric} in the search: {number(winner.score)} (best point of the curve, one seed)\n"
        f"{record.metric} from fresh training seeds: {swept.estimate(name)} (tuned), "
        f"{swept.estimate(DEFAULT)} (default); p = {number(apart.p, 2)}\n"
        f"it {apart.verdict}"
    )
    return winners.preset(winner.settings, header)


# --- all studies


class Memory(BaseModel):
    """What a page's folder keeps of its study, so that the ranking outlives the store."""

    record: Record
    scores: dict[str, list[float]]  # by contestant, one per fresh seed
    beside: str = ""


@dataclass(frozen=True)
class Remembered(Swept):
    """A study as its page's folder knows it."""

    memory: Memory = field(kw_only=True)

    @classmethod
    def of(cls, memory: Memory) -> Remembered:
        return cls(memory.record, None, None, memory=memory)

    def scores(self, contestant: str) -> pd.Series:
        return pd.Series(self.memory.scores.get(contestant, ()), dtype=float)

    @property
    def beside(self) -> str:
        return self.memory.beside


def remember(swept: Swept, folder: Path) -> None:
    """Keep beside a study's page what the ranking says of it."""
    names = [DEFAULT, *map(label, swept.record.finalists)]
    scores = {name: swept.scores(name).tolist() for name in names}
    memory = Memory(record=swept.record, scores=scores, beside=swept.beside)
    write_text(folder / MEMORY, memory.model_dump_json(indent=1) + "\n")


def remembered(folder: Path) -> Remembered:
    """The study whose page lies in a folder.

    Raises:
        InputError: nothing is kept there.
    """
    file = folder / MEMORY
    if not file.is_file():
        raise InputError(
            f"{folder.parent / report.PAGE} stays as it is: {folder} has no {MEMORY} to rank it by; "
            "make its page again, by the command at its end"
        )
    return Remembered.of(Memory.model_validate_json(file.read_text(encoding="utf-8")))


def write_ranking(root: Path = ROOT, studies: Sequence[Swept] = ()) -> Path | None:
    """Write `root/README.md`, which ranks all swept models that have a page there; None if none has.

    Args:
        root: the folder of all studies' pages.
        studies: some of these as the store knows them; the others are taken as their folders have them.

    Raises:
        InputError: a page has neither: the ranking would lose it.
    """
    known = {swept.record.study: swept for swept in studies}
    folders = [page.parent for page in sorted(root.glob(f"*/{report.PAGE}"))]
    if not folders:
        return None
    studies = [known.get(folder.name) or remembered(folder) for folder in folders]
    publish(root, "ranking.md.j2", groups=groups(studies), studies=overview(studies), matrices=matrices(studies))
    return root / report.PAGE


def matrices(studies: Sequence[Swept]) -> pd.DataFrame:
    """What matrices say of the same models; empty if none was run."""
    rows = [
        {
            "Model": escape(swept.record.model),
            "Matrix": f"[{swept.record.dataset}](../{swept.record.dataset}/README.md)",
            "Its default there": told,
        }
        for swept in studies
        if (told := swept.beside)
    ]
    return pd.DataFrame(rows)


def groups(studies: Sequence[Swept]) -> list[dict[str, Any]]:
    """Studies that compare with each other: same data set, metric and budget."""
    keys = sorted({(s.record.dataset, s.record.metric, s.record.kimg) for s in studies if s.winner})
    return [
        {
            "dataset": dataset,
            "metric": metric,
            "kimg": kimg,
            "slug": slug(f"{dataset}-{metric}-{kimg:g}"),
            "table": ranking(studies, (dataset, metric, kimg)),
        }
        for dataset, metric, kimg in keys
    ]


def ranking(studies: Sequence[Swept], key: tuple[str, str, float]) -> pd.DataFrame:
    """Defaults and winners of all models, best first."""
    rows = []
    for swept in studies:
        record, winner = swept.record, swept.winner
        if winner is None or (record.dataset, record.metric, record.kimg) != key:
            continue
        link = f"[{record.study}]({record.study}/README.md)"
        for name, kind in ((DEFAULT, "default"), (label(winner), f"tuned (trial {winner.number})")):
            estimate = swept.estimate(name)
            better = "" if name == DEFAULT else swept.difference(name).verdict
            rows.append((estimate.mean, escape(record.model), kind, str(estimate), str(estimate.n), better, link))
    rows.sort(key=lambda line: line[0] if math.isfinite(line[0]) else math.inf)
    columns = ["", "Model", "Configuration", f"{key[1]} ↓", "Seeds", "Against its default", "Study"]
    return pd.DataFrame([(str(place), *line[1:]) for place, line in enumerate(rows, 1)], columns=columns)


def overview(studies: Sequence[Swept]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "Study": f"[{s.record.study}]({s.record.study}/README.md)",
                "Model": s.record.model,
                "Data set": escape(s.record.dataset),
                "Finished": s.record.finished,
                "Pruned": s.record.pruned,
                "Failed": len(s.record.failures),
                "Images seen": f"{s.record.share:.0%}" if math.isfinite(s.record.share) else NOTHING,
                "Outcome": verdict(s).replace("**", ""),
            }
            for s in studies
        ]
    )
