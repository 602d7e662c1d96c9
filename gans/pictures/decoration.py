"""What decorates never fails what counts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gans.errors import brief

log = logging.getLogger("gans")


@contextmanager
def decorating(path: Path) -> Iterator[None]:
    """Draw and keep a picture inside; an error only ends the block, with a line in the log that names the file."""
    try:
        yield
    except Exception as error:  # of drawing libraries, fonts, a full disk: none of it is worth a trained cell
        log.warning("the picture %s is left out: %s", path, brief(error))
