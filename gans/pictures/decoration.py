"""Pictures whose failure must not fail a cell."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gans.errors import brief

log = logging.getLogger("gans")


@contextmanager
def decorating(path: Path) -> Iterator[None]:
    """A block that draws and keeps a picture: an error ends it, with a line in the log that names the file."""
    try:
        yield
    except Exception as error:  # of drawing libraries, fonts, a full disk: no reason to lose a trained cell
        log.warning("the picture %s is left out: %s", path, brief(error))
