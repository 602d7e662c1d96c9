"""The update rules by name: a rule is one class and one line here (and its parameters in `gans.config`)."""

from __future__ import annotations

from gans.training.mdgan.flgan import FLGAN
from gans.training.mdgan.server import MDGAN
from gans.training.updates import TwoPlayer, Update

UPDATES: dict[str, type[Update]] = {"two-player": TwoPlayer, "mdgan": MDGAN, "fl-gan": FLGAN}
