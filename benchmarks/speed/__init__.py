"""Measures training against its arithmetic alone, and against how tutorials write it."""

from pathlib import Path

SHIPPED = Path(__file__).parent / "results"  # pages of this repository: only `make publish` writes there
