"""The update rules by name: a rule is one class and one line here (and its parameters in `gans.config`)."""

from __future__ import annotations

from gans.flgan import FLGAN
from gans.mdgan import MDGAN
from gans.updates import TwoPlayer, Update

UPDATES: dict[str, type[Update]] = {"two-player": TwoPlayer, "mdgan": MDGAN, "fl-gan": FLGAN}
