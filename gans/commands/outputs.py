"""The option that names the folder of all that is made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from gans.commands.options import Option
from gans.places import VARIABLE

Outputs = Annotated[
    Path,
    Option(
        f"folder of what is made here: reports, presets, samples, speed; {VARIABLE} names it too",
        metavar="DIR",
        repeated=False,
    ),
]
