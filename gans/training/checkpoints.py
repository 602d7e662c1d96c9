"""Checkpoints of a training: the last one, and the previous one in case the last is damaged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from gans import files, schema
from gans.errors import InputError, brief

log = logging.getLogger("gans")


class Checkpoints:
    """The checkpoints in a cell's folder.

    Attributes:
        remarks: one line for each damaged checkpoint, with the consequence.
    """

    def __init__(self, folder: Path) -> None:
        self.last, self.before = folder / schema.CHECKPOINT, folder / schema.PREVIOUS
        self.remarks: list[str] = []

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a state and keep the previous one."""
        files.save(self.last, state, self.before)

    def resume(self, device: torch.device, *loads: Callable[[dict[str, Any]], None]) -> dict[str, Any] | None:
        """Hand the newest undamaged state to what loads parts of it, and return it; None if there is none.

        Raises:
            InputError: it belongs to another training.
        """
        found = self.newest(device)
        if found is None:
            return None
        path, state = found
        try:
            for load in loads:
                load(state)
        except torch.OutOfMemoryError:
            raise
        except (InputError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            why = str(error) if isinstance(error, InputError) else brief(error)
            raise InputError(
                f"{path} is no checkpoint of this cell ({why}); move it away to start the cell again"
            ) from None
        return state

    def newest(self, device: torch.device) -> tuple[Path, dict[str, Any]] | None:
        """The newest undamaged state and its file; damaged ones are renamed, with a warning."""
        for path in filter(Path.exists, (self.last, self.before)):
            try:
                return path, files.load(path, device)
            except files.Damaged as error:
                self.put_aside(path, error)
        return None

    def put_aside(self, path: Path, error: files.Damaged) -> None:
        aside = path.with_name(f"damaged-{path.name}")
        path.replace(aside)
        last = path == self.last and self.before.exists()
        then = "the previous checkpoint is used" if last else "the cell starts again"
        self.remarks.append(f"{error}; {then}, the file is kept as {aside.name}")
        log.warning("%s", self.remarks[-1])

    def settle(self) -> None:
        """Delete the spare checkpoint: the training has ended."""
        self.before.unlink(missing_ok=True)
