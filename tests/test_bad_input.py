"""Bad input over all commands: exit code 2, one line on stderr, no traceback, nothing written, and soon.

Many rows follow from the declarations of options: every flag of every command without a value, or with a choice
that is none; wrong numbers are in `gans/commands/test_options.py`. The others are what people get wrong with
names, files and stores.
"""

import io
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
from numpy.lib.format import write_array_header_1_0

from gans.commands import main, make
from tests.gans.commands.test_options import NEEDED

HANG = 60  # seconds; a row takes a few hundredths, but for the first one that imports torch


class Row(NamedTuple):
    """A wrong command with its environment; its answer contains `says`."""

    words: str
    says: str = ""
    environment: Mapping[str, str] = {}


def declared() -> list[Row]:
    """Wrong values for the options of every command, made from their declarations."""
    return [row for command in main.COMMANDS if command != "chaos" for row in options_of(command)]


def options_of(command: str) -> Iterator[Row]:
    right = f"gans {command} {NEEDED.get(command, '')}".strip()
    yield Row(f"{right} --no-such-flag", "--no-such-flag")
    yield Row(f"{right} a b c d e f", "f")
    if command in NEEDED:
        yield Row(f"gans {command}", "requires an argument")
    for argument in main.app()[command].assemble_argument_collection():
        if not (argument.parse and argument.show) or argument.field_info.is_positional:
            continue
        if argument.resolved_hint is bool:
            yield Row(f"{right} {argument.name}=maybe", argument.name)
            continue
        yield Row(f"{right} {argument.name}", argument.name)
        if argument.get_choices():
            yield Row(f"{right} {argument.name} no-such-choice", argument.name)


def row(words: str, says: str = "", **environment: str) -> Row:
    return Row(words, says, environment)


DEAD = "http://me:hush@127.0.0.1:9"
NAMES = [
    row("gans nosuch", "nosuch"),
    row("gans train ''", "unknown model"),
    row("gans train gan nosuch", "unknown data set"),
    row("gans train gan folder:none", "does not exist"),
    row("gans train gan folder:caf\udce9", "is not UTF-8; rename the folder"),
    row("gans train gan --device mps", "'mps' is not on this machine"),
    row("gans train gan --set batch", "KEY=VALUE"),
    row("gans train gan --set bacth=8", "did you mean 'batch'?"),
    row("gans train gan --set 'a b=1'", "not a key"),
    row("gans train gan --set optimizer=3", "optimizer"),
    row("gans train gan --set networks.widht=3", "width"),
    row("gans train gan --set loss.name=nosuch", "nosuch"),
    row("gans train gan --set score.extractors=nosuch", "extractors"),
    row("gans train gan --workers ray", "ray"),
    row("gans train nosuch.module:Name", "nosuch.module"),
    row("gans config nosuch", "unknown model"),
    row("gans extractor nosuch", "unknown data set"),
    row("gans extractor folder:", "folder"),
    row("gans data get nosuch", "unknown data set"),
    row("gans data mnist", 'Choose from: "get"'),
    row("gans zoo nosuch", "nosuch"),
    row("gans zoo --index none", "none"),
    row("gans sample zoo:gan-digits --output /dev/full.png", "/dev/full.png"),
    row("gans register ''", "is not a run; name a run's folder"),
    row("gans register abcd1234 --name a/b", "not a valid model name"),
    row("gans sync none", "none"),
    row("gans score", "IMAGES"),
    row("gans bench nosuch", "unknown matrix"),
    row("gans bench none.toml", "none.toml"),
    row("gans bench --models nosuch", "unknown model"),
    row("gans bench --engine ray", "RAY_ADDRESS=nowhere is not the HOST:PORT", RAY_ADDRESS="nowhere"),
    row("gans bench --runs s3://bucket/runs", "is not a folder"),
    row("gans report nosuch", "no benchmark"),
    row("gans report none.toml", "no benchmark"),
    row("gans sweep nosuch", "unknown model"),
    row("gans sweep gan --objectives seconds score", "--objectives"),
    row("make sweep", "--model"),
    row("make bench", "unknown variable", MAKEFLAGS=" -- MODLES=gan"),
    row("make bench", "MODELS", MODELS="'gan"),
]
FILES = [
    row("gans bench empty.toml", "empty.toml"),
    row("gans bench pipe.toml", "pipe.toml: it is not a regular file"),
    row("gans bench --preset pipe.toml", "pipe.toml"),
    row("gans train gan --set kimg=" + 5000 * "9", "not valid"),
    row("gans train gan --set kimg=" + 1000 * "[" + 1000 * "]", "not valid"),
    row("gans train gan --set " + 1000 * "a." + "a=1", "not a key"),
    row("gans score pipe.npz --reference digits", "pipe.npz is damaged, or not an .npz"),
    row("gans score huge.npz --reference digits", "huge.npz is damaged, or not an .npz"),
    row("gans bench broken.toml", "broken.toml"),
    row("gans bench key.toml", "sedes"),
    row("gans bench type.toml", "seeds"),
    row("gans bench table.toml", "models"),
    row("gans bench model.toml", "nosuch"),
    row("gans bench file.txt", "unknown matrix"),
    *(
        row(f"gans {command}", "", GANS_DATA="data")
        for words in ("sample {0}", "walk {0}", "interpolate {0}", "arithmetic {0} --a 1 --b 2 --c 3")
        for command in (words.format(name) for name in ("none", "empty", "file.txt", "file.safetensors"))
    ),
    row("gans register abcd1234", "no tracking store"),
    row("gans sample file.safetensors --output samples.jpg", ".jpg"),
    row("gans score empty --reference digits", "empty"),
    row("gans score bare.zip --reference digits", "bare.zip"),
    row("gans score file.txt --reference digits", "file.txt"),
]
STORES = [
    row("gans bench", "nothing.db: file is not a database", MLFLOW_TRACKING_URI="sqlite:///nothing.db"),
    row("gans bench", "folder.toml", MLFLOW_TRACKING_URI="sqlite:///folder.toml"),
    row("gans bench", "no file can be created in", MLFLOW_TRACKING_URI="sqlite:///file.txt/mlflow.db"),
    row(
        "gans bench", "another program's database, with tables studies", MLFLOW_TRACKING_URI="sqlite:///optuna.db"
    ),
    row("gans bench", "MLflow writes to a database or a server", MLFLOW_TRACKING_URI="nonsense://x"),
    row("gans bench", "no longer to folders of files", MLFLOW_TRACKING_URI="./mlruns"),
    row("gans bench", "http://me:***@127.0.0.1:9", MLFLOW_TRACKING_URI=DEAD),
    row("gans bench", "127.0.0.1", MLFLOW_TRACKING_URI="http://127.0.0.1:port"),
    row("gans bench", "password=***", MLFLOW_TRACKING_URI="postgresql://127.0.0.1:9/x?user=u&password=hush"),
    row("gans rescore", "127.0.0.1:9", MLFLOW_TRACKING_URI=DEAD),
    row("gans report", "127.0.0.1:9", MLFLOW_TRACKING_URI=DEAD),
    row("gans report", "no such column", MLFLOW_TRACKING_URI="sqlite:///tracking.db"),
    row("gans train gan", "127.0.0.1:9", MLFLOW_TRACKING_URI=DEAD),
    row("gans register abcd1234", "127.0.0.1:9", MLFLOW_TRACKING_URI=DEAD),
    row("gans ui", "is a server already", MLFLOW_TRACKING_URI=DEAD),
    row("gans sweep gan", "127.0.0.1:9", MLFLOW_TRACKING_URI=DEAD),
    row("gans sweep gan --storage tracking.db", "sqlite:///"),
    row("gans sweep gan --storage sqlite:///tracking.db", "another program's database"),
    row("gans sweep gan --storage sqlite:///nothing.db", "file is not a database"),
    row("gans sweep gan --storage 'postgresql://u:hush@127.0.0.1:9/x'", "GANS_STORAGE in place of --storage"),
    row("gans sweep gan", "u:***@127.0.0.1:9", GANS_STORAGE="postgresql://u:hush@127.0.0.1:9/x"),
]
ROWS = [*declared(), *NAMES, *FILES, *STORES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory whose files are all wrong."""
    here = tmp_path_factory.mktemp("bad")
    texts = {
        "empty.toml": "",
        "broken.toml": "seeds = [",
        "key.toml": "sedes = [0]\n[datasets.digits]\n[models.gan]\n",
        "type.toml": "seeds = 'x'\n[datasets.digits]\n[models.gan]\n",
        "table.toml": "models = 3\n[datasets.digits]\n",
        "model.toml": "[datasets.digits]\n[models.nosuch]\n",
        "file.txt": "words",
        "file.safetensors": "words",
        "broken.zip": "words",
        "nothing.db": "words, and more of them than a header has",
    }
    for name, text in texts.items():
        (here / name).write_text(text)
    for name in ("folder.toml", "caf\udce9"):
        (here / name).mkdir()
    for name in ("pipe.toml", "pipe.npz"):
        os.mkfifo(here / name)
    header = io.BytesIO()
    write_array_header_1_0(header, {"shape": (23 * 2**40,), "fortran_order": False, "descr": "|u1"})
    with zipfile.ZipFile(here / "huge.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())
    (here / "empty").mkdir()
    zipfile.ZipFile(here / "bare.zip", "w").close()
    for name, table in {"optuna.db": "studies", "tracking.db": "experiments"}.items():
        with sqlite3.connect(here / name) as database:
            database.execute(f"CREATE TABLE {table} (id INTEGER)")
        database.close()
    return here


@contextmanager
def bounded(seconds: int) -> Iterator[None]:
    """Ends what hangs with an AssertionError, since commands handle a TimeoutError as an OSError."""

    def end(number: int, frame: object) -> None:
        raise AssertionError(f"no answer after {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def faults(row: Row, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The differences of a command's answer from what it should be, called in this process.

    None if it is right.
    """
    program, *words = shlex.split(row.words)
    out, err = io.StringIO(), io.StringIO()
    code: object
    with monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err), bounded(HANG):
        patch.setattr(sys, "argv", [program, *words])
        for name in ("MLFLOW_TRACKING_URI", "GANS_STORAGE", "MAKEFLAGS", *MAKE):
            patch.delenv(name, raising=False)
        for name, value in row.environment.items():
            patch.setenv(name, value)
        try:
            code = {"gans": main, "make": make}[program].main()
        except BaseException as error:
            code = f"{type(error).__name__}: {error}"
    printed, said = out.getvalue(), err.getvalue().strip()
    found = {
        f"exit code {code}": code != 2,
        f"{len(said.splitlines())} lines": len(said.splitlines()) != 1 or not said.startswith("error: "),
        "traceback": "Traceback" in said + printed,
        "a password": "hush" in said + printed,
        f"not a word of {row.says}": row.says not in said,
        f"output {printed!r}": bool(printed),
    }
    return [f"{row.words} {row.environment}: {fault}: {said[-300:]}" for fault, there in found.items() if there]


MAKE = {make.variable(argument) for target in make.TARGETS for argument in make.arguments(target)}


def test_bad_input_is_one_line_and_leaves_nothing(folder, monkeypatch):
    monkeypatch.chdir(folder)
    before, handler = sorted(folder.rglob("*")), signal.getsignal(signal.SIGTERM)
    wrong = [fault for row in ROWS for fault in faults(row, monkeypatch)]
    signal.signal(signal.SIGTERM, handler)
    assert not wrong, "\n".join(["", *wrong])
    assert sorted(folder.rglob("*")) == before


def test_help_and_wrong_input_do_not_wait_for_heavy_imports(folder):
    """All commands run in one process, so it sees the imports of each."""
    lines = [
        "train nosuch",
        "train gan --workers nosuch",
        "ui --port 0",
        "bench --models nosuch",
        "sensitivity nosuch",
        "speed --rounds x",
        "compare a",
        "sweep gan --storage sqlite:////dev/null/x",
        "publish",
        "smaple",
    ]
    heavy = {"torch", "mlflow", "optuna", "pandas", "sqlalchemy", "matplotlib", "scipy", "sklearn"}
    code = f"""
import sys
from gans.commands import main
main.run([])
assert "pydantic" not in sys.modules
for name in main.COMMANDS:
    main.app()[name]
for line in {lines}:
    sys.argv = ["gans", *line.split()]
    assert main.main() == 2
found = {heavy} & set(sys.modules)
assert not found, found
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "MLFLOW_TRACKING_URI": ""}
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, timeout=HANG, check=True)
