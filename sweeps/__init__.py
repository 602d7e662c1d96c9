"""Hyperparameter sweeps: search spaces, Optuna studies, honest winners, their presets and pages."""
