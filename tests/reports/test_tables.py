"""Which columns a table of scores has, and what stands above them."""

import pandas as pd

from gans.registry import METRICS
from reports import tables
from reports.results import Board

METRIC = """
from gans.fidelity import Measured, Metric

SHIFT = Metric("shift", "↓", "how far the means are apart", lambda compared: Measured(1.0, 0.5), published="ms")
"""


def headings(*names: str, metric: str = "fd_digits") -> list[str]:
    frame = pd.DataFrame({f"score/{name}": [1.0] for name in names})
    return list(tables.metric_columns(frame, Board(dataset="digits", metric=metric, title="Digits")).values())


def test_columns_follow_the_registry_extractor_by_extractor():
    names = ("recall_digits", "isc", "fid", "kd_digits", "fd_digits", "fd_digits_se", "kd_digits_std")
    assert headings(*names) == ["kd_digits ↓", "recall_digits ↑", "fid ↓", "isc ↑"]
    assert headings(*names, metric="fid") == ["isc ↑", "fd_digits ↓", "kd_digits ↓", "recall_digits ↑"]
    own = "fd_folder_home_me_photos"
    assert headings("kd_folder_home_me_photos", own, "fid", metric=own) == ["kd (own) ↓", "fid ↓"]
    assert tables.arrows("fd_fashion_mnist")["memorisation_fashion_mnist"] == "→ 0.5"


def test_a_metric_from_a_file_is_a_column(tmp_path, monkeypatch):
    """Its heading has the direction once it is registered; before that, it has its tracked name and an error."""
    names = ("fd_digits", "fid", "shift_digits", "shift_digits_se", "ms", "kd_digits")
    assert headings(*names) == ["kd_digits ↓", "fid ↓", "shift_digits"]
    (tmp_path / "tables_test_metric.py").write_text(METRIC)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(METRICS.entries, "shift", "tables_test_metric:SHIFT")
    assert headings(*names) == ["kd_digits ↓", "shift_digits ↓", "fid ↓", "ms ↓"]
