"""Matplotlib figures as files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from gans.files import atomically


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all; the same figure gives the same bytes."""
    atomically(path, lambda temporary: figure.savefig(temporary, format="png", metadata={"Software": None}))
