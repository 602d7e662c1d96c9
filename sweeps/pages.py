"""The pages of sweeps, made from the tracking store: one per study, and one that ranks all tuned models."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gans import schema
from gans.errors import InputError
from gans.files import file_name, write_text
from reports import contents, report, tables
from reports.numbers import NOTHING, images, number, percent, setting
from reports.results import Results
from reports.studies import DEFAULT, Record, Study, Swept, Trial
from reports.tables import escape
from sweeps import ROOT, plots, winners
from sweeps.space import lines

WINNERS, CANDIDATE, STUDY = "winners", "candidate.toml", "study.json"  # in the folder of a study's page


def write(swept: Swept, root: Path = ROOT) -> Path:
    """Write a study's page, its figures and its winner's settings into `root/<study>/`; returns the page."""
    study, record, found = swept.study, swept.study.record, swept.winners
    folder = root / file_name(record.study, "study", 200)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for kind in plots.KINDS:
        (folder / f"{kind}.png").unlink(missing_ok=True)
        if swept.plots and (source := swept.plots / f"{kind}.png").is_file():
            shutil.copy(source, folder)
            drawn.append(kind)
    contest, picture = None, folder / f"{WINNERS}.png"
    picture.unlink(missing_ok=True)
    if found and study.winner:
        contest = plots.contest(found.cells, record.metric, picture)
        write_text(folder / CANDIDATE, preset(study, study.winner))
    page = report.publish(
        folder,
        "sweeps",
        "sweep.md.j2",
        study=study,
        record=record,
        verdict=verdict(study),
        contest=contest,
        drawn=drawn,
        configuration=configuration(record, study.winner) if study.winner else None,
        comparison=comparison(study, found) if found and study.winner else None,
        protocol=tables.protocol(found) if found else None,
        counts=counts(record),
        top=top(record),
        importances=pd.DataFrame(
            [{"Setting": f"`{key}`", "Share": f"{share:.0%}"} for key, share in record.importances.items()]
        ),
        failures=pd.DataFrame(
            [{"Trial": failure.number, "Reason": escape(failure.reason)} for failure in record.failures]
        ),
        environment=tables.environment(found) if found else None,
        fresh=sorted(set(found.cells["seed"])) if found else [],
        trial_seed=winners.TRIAL_SEED,
    )
    write_text(folder / STUDY, study.model_dump_json(indent=1) + "\n")
    return page


def verdict(study: Study) -> str:
    record, winner = study.record, study.winner
    if winner is None and not record.finished:
        return "**No trial finished**: all were pruned, diverged or failed."
    if winner is None and not record.finalists:
        return "**No trial to compare with the default**: only the default itself finished."
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
    return number(value) if isinstance(value, float) else escape(setting(value))


def comparison(study: Study, found: Results) -> pd.DataFrame:
    """The finalists and the default, best first, then the real images."""
    metric = study.record.metric
    trials: list[Trial | None] = [None, *study.record.finalists]
    trials.sort(key=lambda trial: e.mean if (e := study.estimate(name(trial))).n else math.inf)
    floors = found.floors[found.floors["metric"] == metric]
    real = [
        {
            "Configuration": tables.floor_name(floor["comparison"]),
            f"{metric} ↓": number(floor.get(metric, math.nan)),
        }
        for _, floor in floors.iterrows()
    ]
    return pd.DataFrame([*(compared(study, found.cells, trial) for trial in trials), *real]).fillna("")


def name(trial: Trial | None) -> str:
    return trial.label if trial else DEFAULT


def compared(study: Study, cells: pd.DataFrame, trial: Trial | None) -> dict[str, str]:
    """The row of a finalist, or of the default, in the comparison."""
    estimate, own = study.estimate(name(trial)), cells[cells["model"] == name(trial)]
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
    row = {
        "Finished": record.finished,
        "Stopped by the pruner": record.pruned - record.diverged,
        "Diverged": record.diverged,
        "Failed": len(record.failures),
        "Images seen": percent(record.share),
        "Hours": number(record.hours),
    }
    return pd.DataFrame([row])


def top(record: Record) -> pd.DataFrame:
    """The best trials of the study by the score it saw."""
    rows = [
        {
            "Trial": t.number,
            f"best {record.metric} ↓": number(t.score),
            "Training (s)": number(t.seconds),
            **{f"`{k}`": plain(t.settings[k]) if k in t.settings else NOTHING for k in record.default},
        }
        for t in record.top
    ]
    return pd.DataFrame(rows)


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
    comment = "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines())
    return comment + lines(winner.settings)


# --- all studies


def read(folder: Path) -> Study:
    """The study of a page's folder; an InputError if the folder has none: the ranking would lose it."""
    file = folder / STUDY
    if not file.is_file():
        raise InputError(
            f"{folder.parent / report.PAGE} is unchanged: {folder} has no {STUDY}; "
            "write its page again with the command at its end"
        )
    return Study.model_validate_json(file.read_text(encoding="utf-8"))


def write_ranking(root: Path = ROOT) -> Path | None:
    """Write `root/README.md`, which ranks all tuned models that have a page there; None if none has."""
    found = [read(page.parent) for page in sorted(root.glob(f"*/{report.PAGE}"))]
    if not found:
        return None
    page = report.publish(root, "sweeps", "ranking.md.j2", groups=groups(found), studies=overview(found))
    contents.update(root)
    return page


def groups(found: Sequence[Study]) -> list[dict[str, Any]]:
    """Comparable studies: same data set, metric and budget."""
    together: dict[tuple[str, str, float], list[Study]] = {}
    for study in found:
        if study.winner:
            together.setdefault((study.record.dataset, study.record.metric, study.record.kimg), []).append(study)
    return [
        {
            "dataset": dataset,
            "metric": metric,
            "kimg": kimg,
            "slug": schema.slug(f"{dataset}-{metric}-{kimg:g}"),
            "table": ranking(own, metric),
        }
        for (dataset, metric, kimg), own in sorted(together.items())
    ]


def ranking(found: Sequence[Study], metric: str) -> pd.DataFrame:
    """Defaults and winners of comparable studies, best first."""
    pairs = [(study, trial) for study in found for trial in (None, study.winner)]
    pairs.sort(key=lambda pair: e.mean if (e := pair[0].estimate(name(pair[1]))).n else math.inf)
    rows = [
        {
            "": str(place),
            "Model": escape(study.record.model),
            "Configuration": f"tuned (trial {trial.number})" if trial else "default",
            f"{metric} ↓": str(study.estimate(name(trial))),
            "Seeds": str(study.estimate(name(trial)).n),
            "Against its default": study.difference(trial).verdict if trial else "",
            "Study": f"[{study.record.study}]({study.record.study}/README.md)",
        }
        for place, (study, trial) in enumerate(pairs, 1)
    ]
    return pd.DataFrame(rows)


def overview(found: Sequence[Study]) -> pd.DataFrame:
    rows = [
        {
            "Study": f"[{study.record.study}]({study.record.study}/README.md)",
            "Model": escape(study.record.model),
            "Data set": escape(study.record.dataset),
            "Finished": study.record.finished,
            "Pruned": study.record.pruned,
            "Failed": len(study.record.failures),
            "Images seen": percent(study.record.share),
            "Outcome": verdict(study).replace("**", ""),
        }
        for study in found
    ]
    return pd.DataFrame(rows)
