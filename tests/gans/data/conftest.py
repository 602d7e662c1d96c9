"""What tests of data share: empty folders, and the one line of an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gans.data import datasets
from gans.errors import InputError

SHARED = Path(os.environ.get("GANS_DATA") or Path(__file__).parents[4] / "shared" / "data")


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """An empty data root and user cache for every test."""
    monkeypatch.setenv("GANS_DATA", str(tmp_path / "root"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    return tmp_path / "root"


def refusal(name: str, **options) -> str:
    with pytest.raises(InputError) as caught:
        datasets.load(name, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message
