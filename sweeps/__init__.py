"""Hyperparameter sweeps: search spaces, Optuna studies, winners on fresh seeds, presets and pages."""

import reports

ROOT = reports.ROOT / "sweeps"  # of the pages of all studies that are made here
