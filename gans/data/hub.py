"""Data sets of the Hugging Face hub, kept as folders of parquet files."""

from __future__ import annotations

import re
from pathlib import Path

from gans.errors import InputError, first_line
from gans.registry import HUB

NAME = re.compile(
    r"(\w[\w.-]*/\w[\w.-]*)(?:/(\w[\w.+-]*))?"
)  # with the configuration, of data sets in several versions


def fetch(given: str, root: Path) -> Path:
    """The folder of `OWNER/NAME` or `OWNER/NAME/CONFIG` below `root`/hf; the library `datasets` writes it once.

    The library takes data sets of any layout, runs no code of theirs, and resumes a download.
    """
    if not (found := NAME.fullmatch(given)):
        raise InputError(
            f"'{HUB}{given}' is no data set of the hub; write {HUB}OWNER/NAME, or {HUB}OWNER/NAME/CONFIG"
        )
    path = root / "hf" / "--".join(filter(None, found.groups()))
    if any(path.rglob("*.parquet")):
        return path
    remedy = f"or put its parquet files into {path}"
    try:
        import datasets
    except ImportError:
        raise InputError(f"{HUB}{given} needs the library `datasets`: pip install 'gans[hub]', {remedy}") from None
    try:
        datasets.load_dataset_builder(*found.groups()).download_and_prepare(str(path), file_format="parquet")
    except Exception as error:  # of the network, the hub, the layout of the data
        raise InputError(
            f"{HUB}{given} cannot be downloaded ({first_line(error)}); check the name and the connection, {remedy}"
        ) from None
    return path
