"""What a cell's folder says of its run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from gans.errors import first_line
from gans.schema import RUN_FILE

log = logging.getLogger("gans")


class _Belongs(BaseModel):
    run: Annotated[str, Field(pattern=r"^\w+$")]


def run_of(folder: Path) -> str | None:
    """The MLflow run that a folder belongs to; None if it has none yet, or cannot say it, which is logged."""
    file = folder / RUN_FILE
    try:
        return _Belongs.model_validate_json(file.read_bytes()).run
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s is damaged (%s); it does not say its run any more", file, first_line(error))
        return None
