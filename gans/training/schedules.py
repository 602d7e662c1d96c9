"""Schedules: settings that follow the share of the budget that is spent (`anneal`)."""

from __future__ import annotations

import math

from gans.config import AnnealConfig

# Adam takes beta2 as a number, not from the device: a recorded step is recorded anew when it changes
BETA2_STEPS = 20


def position(shape: str, progress: float) -> float:
    """How far a setting has come, from 0 to 1.

    Args:
        shape: `linear` (SNGAN, WGAN-GP), or `cosine`: (1 - cos(pi t)) / 2 (R3GAN).
        progress: t, the share of the budget that is spent, from 0 to 1.
    """
    return (1 - math.cos(math.pi * progress)) / 2 if shape == "cosine" else progress


def factor(config: AnnealConfig, last: float, progress: float) -> float:
    """What a setting is multiplied by, from 1 to `last` in the end."""
    return 1 + position(config.shape, progress) * (last - 1)


def beta2(config: AnnealConfig, first: float, progress: float) -> float:
    """Adam's beta2 that starts at `first`; it moves in `BETA2_STEPS` equal steps."""
    moved = round(position(config.shape, progress) * BETA2_STEPS) / BETA2_STEPS
    return first + (1 - first) * (1 - config.beta2) * moved
