"""Reports: markdown pages and pictures, made from nothing but the tracking store."""

from pathlib import Path

ROOT = Path("reports/results")  # of all reports, in the working directory


def folder_of(experiment: str, root: Path = ROOT) -> Path:
    """Where the report of an experiment lies: page, pictures and tables."""
    return root / experiment
