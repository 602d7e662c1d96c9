"""Reports: markdown pages and pictures, made from tracked runs only."""

from pathlib import Path

from gans import files
from gans.files import file_name

ROOT = files.outputs() / files.REPORTS  # of all reports that are made here
SHIPPED = Path(__file__).parent / "results"  # those of this repository: only `make publish` writes there
PAGE, WHOLE = "README.md", "report.html"  # of a report: with pictures as files, and all in one file
INDEX = "index.html"  # of all reports of a folder


def folder_of(experiment: str, root: Path = ROOT) -> Path:
    """The folder of an experiment's report: page, pictures and tables."""
    return root / file_name(experiment, "experiment", 200)
