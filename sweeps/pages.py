"""The pages of sweeps, made from the tracking store: one per study, and one that ranks all tuned models."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gans import schema
from gans.errors import InputError
from gans.files import file_name, slug, write_text
from gans.runs.store import Source
from reports import report, studies, tables
from reports.html import standalone
from reports.numbers import NOTHING, images, number, setting
from reports.sheet import Sheet
from reports.studies import DEFAULT, Record, Study, Swept, Trial
from reports.tables import escape
from sweeps import ROOT, plots, winners
from sweeps.toml import comment, lines

WINNERS, CANDIDATE, STUDY = "winners", "candidate.toml", "study.json"  # in the folder of a study's page


def write(store: Source, swept: Swept, root: Path = ROOT) -> Path:
    """Write a study's page, its figures and its winner's settings into `root/<study>/`; returns the page."""
    study = swept.study.model_copy(update={"matrix": studies.matrix_score(store, swept)})
    record, folder = study.record, root / file_name(study.record.study, "study", 200)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*plots.KINDS, WINNERS):
        (folder / f"{name}.png").unlink(missing_ok=True)
    sources = {kind: swept.plots / f"{kind}.png" for kind in plots.KINDS} if swept.plots else {}
    drawn = [kind for kind, source in sources.items() if source.is_file()]
    for kind in drawn:
        shutil.copy(sources[kind], folder)
    contest = None
    if swept.winners is not None and study.winner:
        contest = plots.contest(swept.winners.cells, record.metric, folder / f"{WINNERS}.png")
    values = {"study": study, "record": record, "contest": contest, "drawn": drawn}
    publish(folder, "sweep.md.j2", **values, **contents(study, swept))
    if study.winner:
        write_text(folder / CANDIDATE, preset(study, study.winner))
    write_text(folder / STUDY, study.model_dump_json(indent=1) + "\n")
    return folder / report.PAGE


def publish(folder: Path, template: str, **values: Any) -> None:
    """Write a page, its tables, and the page as one HTML file."""
    sheet = Sheet()
    write_text(folder / report.PAGE, render(template, sheet, **values))
    sheet.write(folder)
    write_text(folder / report.WHOLE, standalone(folder / report.PAGE))


def render(template: str, sheet: Sheet, **values: Any) -> str:
    environment = report.environment("sweeps")
    environment.globals |= {"table": sheet.table, "images": lambda kimg: images(1000 * kimg)}
    return re.sub(r"\n{3,}", "\n\n", environment.get_template(template).render(**values))


def contents(study: Study, swept: Swept) -> dict[str, Any]:
    """The sentences and tables of a study's page."""
    record, winner, found = study.record, study.winner, swept.winners
    return {
        "verdict": verdict(study),
        "configuration": configuration(record, winner) if winner else None,
        "comparison": comparison(study, swept) if winner else None,
        "protocol": tables.protocol(found) if found else None,
        "counts": counts(record),
        "top": top(record),
        "importances": importances(record),
        "failures": failures(record),
        "environment": tables.environment(found) if found else None,
        "seconds": len(record.objectives) > 1,
        "fresh": sorted(set(found.cells["seed"])) if found else [],
        "trial_seed": winners.TRIAL_SEED,
    }


def verdict(study: Study) -> str:
    """The outcome in a sentence or two."""
    record, winner = study.record, study.winner
    if winner is None and not record.finished:
        return "**No trial finished**: all were pruned, diverged or failed."
    if winner is None and not record.finalists:
        return "**No trial to compare with the default**: the default itself is all that finished."
    if winner is None:
        return "**The winners have no score from fresh seeds yet.**"
    tuned, default = study.estimate(winner.label), study.estimate(DEFAULT)
    return (
        f"**Trial {winner.number} {study.difference(winner).verdict}**: {record.metric} {tuned} "
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


def comparison(study: Study, swept: Swept) -> pd.DataFrame:
    """The finalists and the default, best first, then the real images."""
    record = study.record
    trials: list[Trial | None] = [None, *record.finalists]
    estimates = {name(trial): study.estimate(name(trial)) for trial in trials}
    trials.sort(key=lambda trial: e.mean if (e := estimates[name(trial)]).n else math.inf)
    assert swept.winners is not None
    floors = swept.winners.floors
    real = [
        {
            "Configuration": tables.floor_name(floor["comparison"]),
            f"{record.metric} ↓": number(floor.get(record.metric, math.nan)),
        }
        for _, floor in floors[floors["metric"] == record.metric].iterrows()
    ]
    return pd.DataFrame([*(compared(study, swept, trial) for trial in trials), *real]).fillna("")


def name(trial: Trial | None) -> str:
    return trial.label if trial else DEFAULT


def compared(study: Study, swept: Swept, trial: Trial | None) -> dict[str, str]:
    """The row of a finalist, or of the default, in the comparison."""
    assert swept.winners is not None
    cells, estimate = swept.winners.cells, study.estimate(name(trial))
    own = cells[cells["model"] == name(trial)]
    difference = study.difference(trial) if trial else None
    return {
        "Configuration": f"**{name(trial)}**" if trial and trial == study.winner else name(trial),
        f"{study.record.metric} ↓": str(estimate),
        "Seeds": tables.seeds(estimate.n, len(own)),
        "Over default": str(difference) if difference else NOTHING,
        "p": number(difference.p, 2) if difference else NOTHING,
        "Training (s)": number(own.loc[own["counted"], schema.TRAINING].mean()),
        "In the search": number(trial.score) if trial else NOTHING,
    }


def counts(record: Record) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "Finished": record.finished,
                "Stopped by the pruner": record.pruned - record.diverged,
                "Diverged": record.diverged,
                "Failed": len(record.failures),
                "Images seen": seen(record),
                "Hours": number(record.hours),
            }
        ]
    )


def seen(record: Record) -> str:
    return f"{record.share:.0%}" if math.isfinite(record.share) else NOTHING


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


def importances(record: Record) -> pd.DataFrame | None:
    rows = [{"Setting": f"`{key}`", "Share": f"{share:.0%}"} for key, share in record.importances.items()]
    return pd.DataFrame(rows) if rows else None


def failures(record: Record) -> pd.DataFrame | None:
    rows = [{"Trial": failure.number, "Reason": escape(failure.reason)} for failure in record.failures]
    return pd.DataFrame(rows) if rows else None


def preset(study: Study, winner: Trial) -> str:
    """The winner's settings as TOML, with their origin as a comment."""
    record, difference = study.record, study.difference(winner)
    header = (
        f"{record.model} on {record.dataset}, tuned: written by `{record.command}`.\n"
        f"study {record.study}, trial {winner.number} of {record.finished + record.pruned} "
        f"({record.finished} finished, {record.pruned} pruned), {images(1000 * record.kimg)} images per trial\n"
        f"{record.metric} in the search: {number(winner.score)} (best point of the curve, one seed)\n"
        f"{record.metric} from fresh training seeds: {study.estimate(winner.label)} (tuned), "
        f"{study.estimate(DEFAULT)} (default); p = {number(difference.p, 2)}\n"
        f"it {difference.verdict}"
    )
    return comment(header) + lines(winner.settings)


# --- all studies


def read(folder: Path) -> Study:
    """The study of a page's folder.

    Raises:
        InputError: the folder has none: the ranking would lose it.
    """
    file = folder / STUDY
    if not file.is_file():
        raise InputError(
            f"{folder.parent / report.PAGE} stays as it is: {folder} has no {STUDY}; "
            "write its page again, by the command at its end"
        )
    return Study.model_validate_json(file.read_text(encoding="utf-8"))


def write_ranking(root: Path = ROOT) -> Path | None:
    """Write `root/README.md`, which ranks all tuned models that have a page there; None if none has.

    Raises:
        InputError: a page's folder has no study to rank.
    """
    found = [read(page.parent) for page in sorted(root.glob(f"*/{report.PAGE}"))]
    if not found:
        return None
    publish(root, "ranking.md.j2", groups=groups(found), studies=overview(found), matrices=matrices(found))
    return root / report.PAGE


def matrices(found: Sequence[Study]) -> pd.DataFrame:
    """What matrices have for the same models; empty if none was run."""
    rows = [
        {
            "Model": escape(study.record.model),
            "Matrix": f"[{study.record.dataset}](../{study.record.dataset}/README.md)",
            "Its default there": study.matrix,
        }
        for study in found
        if study.matrix
    ]
    return pd.DataFrame(rows)


def groups(found: Sequence[Study]) -> list[dict[str, Any]]:
    """Studies that compare with each other: same data set, metric and budget."""
    keys = sorted({key(study) for study in found if study.winner})
    return [
        {
            "dataset": dataset,
            "metric": metric,
            "kimg": kimg,
            "slug": slug(f"{dataset}-{metric}-{kimg:g}"),
            "table": ranking([study for study in found if key(study) == (dataset, metric, kimg)], metric),
        }
        for dataset, metric, kimg in keys
    ]


def key(study: Study) -> tuple[str, str, float]:
    return study.record.dataset, study.record.metric, study.record.kimg


def ranking(found: Sequence[Study], metric: str) -> pd.DataFrame:
    """Defaults and winners of studies that compare, best first."""
    rows = []
    for study in found:
        link = f"[{study.record.study}]({study.record.study}/README.md)"
        for trial in [None, study.winner] if study.winner else []:
            estimate = study.estimate(name(trial))
            kind = f"tuned (trial {trial.number})" if trial else "default"
            better = study.difference(trial).verdict if trial else ""
            row = (escape(study.record.model), kind, str(estimate), str(estimate.n), better, link)
            rows.append((estimate.mean if math.isfinite(estimate.mean) else math.inf, *row))
    rows.sort(key=lambda row: row[0])
    columns = ["", "Model", "Configuration", f"{metric} ↓", "Seeds", "Against its default", "Study"]
    return pd.DataFrame([(str(place), *row[1:]) for place, row in enumerate(rows, 1)], columns=columns)


def overview(found: Sequence[Study]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "Study": f"[{study.record.study}]({study.record.study}/README.md)",
                "Model": study.record.model,
                "Data set": escape(study.record.dataset),
                "Finished": study.record.finished,
                "Pruned": study.record.pruned,
                "Failed": len(study.record.failures),
                "Images seen": seen(study.record),
                "Outcome": verdict(study).replace("**", ""),
            }
            for study in found
        ]
    )
