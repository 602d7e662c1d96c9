"""How fast training is, beside its own arithmetic and beside how it is usually written."""

from pathlib import Path

SHIPPED = Path(__file__).parent / "results"  # pages of this repository: only `make publish` writes there
