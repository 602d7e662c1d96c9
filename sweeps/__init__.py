"""Hyperparameter sweeps: search spaces, Optuna studies, honest winners, their presets and pages."""

import reports

ROOT = reports.ROOT / "sweeps"  # of the pages of all studies that are made here
