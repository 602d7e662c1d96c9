"""`gans config`: the recipes, and the settings of one."""

from __future__ import annotations

import pytest

from gans.commands import main
from gans.recipes import names as recipes
from gans.recipes import recipe


@pytest.fixture
def lines_of(monkeypatch, capsys):
    def run(*words: str) -> list[str]:
        monkeypatch.setattr("sys.argv", ["gans", "config", *words])
        assert main.main() == 0
        return capsys.readouterr().out.splitlines()

    return run


def test_without_a_name_it_lists_the_recipes_with_a_line_on_each(lines_of):
    *lines, empty, _ = lines_of()
    assert [line.split()[0] for line in lines] == list(recipes())
    for name, line in zip(recipes(), lines, strict=True):
        about = recipe(name).about
        assert about
        assert line.split(maxsplit=1)[1] == about
        assert len(line) < 120
    assert not empty


def test_with_a_name_it_lists_the_settings(lines_of):
    lines = {line.split()[0]: line for line in lines_of("mdgan")}
    assert lines["update.workers"].split()[1] == "10"
    assert "optimizer.lr_g" in lines
