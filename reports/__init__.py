"""Reports: markdown pages and pictures, made from nothing but the tracking store."""

from pathlib import Path

ROOT = Path("reports/results")  # of all reports, in the working directory
