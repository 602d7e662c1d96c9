"""`gans config`: the recipes, and the settings of one."""

from gans.recipes import names, recipe


def test_without_a_name_it_lists_the_recipes_with_a_line_on_each(gans):
    *lines, empty, _ = gans("config")[1].splitlines()
    assert [tuple(line.split(maxsplit=1)) for line in lines] == [(name, recipe(name).about) for name in names()]
    assert max(map(len, lines)) < 120
    assert not empty


def test_with_a_name_it_lists_the_settings(gans):
    lines = {line.split()[0]: line for line in gans("config", "mdgan")[1].splitlines()}
    assert lines["update.workers"].split()[1] == "10"
    assert "optimizer.lr_g" in lines
