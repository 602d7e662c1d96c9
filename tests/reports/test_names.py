"""Names from elsewhere are text in every output, whatever markup they look like."""

import csv
import html
import logging
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from gans.pictures.figures import save_figure
from reports import report, standing, tables
from reports.html import standalone
from reports.results import load
from reports.sheet import visible
from tests.reports import test_report

NASTY = r"<b>a</b> | $x^2$ $y$ & \q{_} [b16][/b] :smile: `c` *d* &lt; _e_ %#~ ![x](y.png)"
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two models and a data set of that name; a cell failed with it as the reason."""
    folder = tmp_path_factory.mktemp("names")
    for seed in range(2):
        for model, score in ((NASTY, 11.0), ("gan", 31.0)):
            run = test_report.start(folder, model, seed)
            test_report.train(run, score + seed, seed)
            test_report.finish(run, score + seed, folder, seed)
    test_report.start(folder, NASTY, 2).finish("failed", f"{SCRIPT} {NASTY}")
    planned = [test_report.cell(model, seed) for model in (NASTY, "gan") for seed in range(3)]
    floors = [{**test_report.plan()["floors"][0], "title": NASTY}]
    command = f"make bench MODELS='{NASTY}'"
    more = {"description": SCRIPT, "matrix": NASTY, "command": command, "report": command, "score": command}
    test_report.invoke(folder, test_report.plan(cells=planned, floors=floors, **more))
    results = load(test_report.read(folder), test_report.MATRIX)
    recorded: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = recorded.append  # type: ignore[method-assign]
    logging.getLogger("gans").addHandler(handler)
    made = report.render(results, folder / "report")
    logging.getLogger("gans").removeHandler(handler)
    assert recorded == []  # no picture is left out
    console = Console(markup=False, emoji=False, width=300, record=True, file=(folder / "terminal").open("w"))
    console.print(standing.leaderboard(results, results.boards[0]))
    (folder / "terminal.txt").write_text(console.export_text())
    return made


def test_markdown_and_html_show_the_name(page):
    text = standalone(page)
    tags = "h1 h2 h3 p table thead tbody tr th td img code pre em strong details summary ul li a nav"
    assert set(re.findall(r"<(\w+)", text.partition("<body>")[2])) <= set(tags.split())
    assert SCRIPT not in text
    shown = html.unescape(re.sub(r"<[^>]*>", "", text))
    # the heading, the sentence, tables, spans of code and blocks of code
    assert shown.count(NASTY) >= 10
    assert f"GAN benchmark: {NASTY}\n" in shown
    assert f"make bench MODELS='{NASTY}'\n" in shown
    assert {place for place in re.findall(r'src="([^"]{,40})', text) if not place.startswith("data:")} == set()
    assert visible(tables.escape(NASTY)) == NASTY


def test_a_terminal_shows_the_name(page):
    shown = (page.parents[1] / "terminal.txt").read_text()
    assert shown.count(NASTY) == 2  # the title and the row


def test_csv_and_latex_hold_the_name(page, tmp_path):
    with (page.parent / "tables/cells.csv").open(encoding="utf-8", newline="") as file:
        assert NASTY in {row["model"] for row in csv.DictReader(file)}
    latex = (page.parent / "tables/scores-digits.tex").read_text()
    assert r"\textbackslash{}q\{\_\} [b16][/b] :smile: `c` *d* \&lt; \_e\_ \%\#\textasciitilde{}" in latex
    assert r"$<$b$>$a$<$/b$>$ $|$ \$x\textasciicircum{}2\$ \$y\$ \&" in latex
    if shutil.which("pdflatex"):
        body = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{latex}\end{{document}}"
        (tmp_path / "page.tex").write_text(body)
        subprocess.run(["pdflatex", "-halt-on-error", "page.tex"], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize("name", [NASTY, "$", "$$", r"$\frac{$", r"\$5", "$a$"])
def test_pictures_show_the_name(name: str, tmp_path: Path) -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.set(title=name, xscale="log", xlim=(1, 1000), ylabel=name)
    axes.set_yticks([0, 1], [name, "other"])
    axes.plot([1, 100], [0, 1], label=name)
    axes.legend()
    save_figure(figure, tmp_path / "figure.png")
    texts: list[Any] = [axes.title, axes.yaxis.label, *axes.get_yticklabels()[:1], *axes.get_legend().get_texts()]
    for text in texts:
        assert text.get_text() == name
        assert not text.get_parse_math()
    assert all(label.get_parse_math() for label in axes.get_xticklabels() if "mathdefault" in label.get_text())
