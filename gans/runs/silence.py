"""A server that takes calls and does not answer: of all that keep runs in one folder, one process waits for it."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from gans import schema
from gans.files import write_text
from gans.urls import shown

FILE = ".silent"
FRESH = 600.0  # seconds that nobody else waits; couriers try meanwhile, and whoever is answered says so


class Silence:
    """What those who keep runs beside each other, as the cells of a matrix and its invocation, know of a server.

    Args:
        folder: of one of the runs.
        uri: of the store.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        beside = folder.parent
        self.path = (beside.parent if beside.name == schema.INVOCATIONS else beside) / FILE
        self.text = shown(uri)

    @property
    def known(self) -> bool:
        """Whether one of them has waited in vain, and none was answered since."""
        try:
            recent = time.time() - self.path.stat().st_mtime < FRESH
            return recent and self.path.read_text(encoding="utf-8") == self.text
        except OSError:
            return False

    def begin(self) -> None:
        """It was waited for in vain."""
        with suppress(OSError):  # then others wait too
            write_text(self.path, self.text)

    def end(self) -> None:
        """It answers."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
