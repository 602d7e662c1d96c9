"""Bad input over all commands: exit code 2, one line on stderr, no traceback, nothing written, and soon.

Most rows follow from the declarations of options: every flag of every command with a wrong value and without
one, with a choice that is none. The others are what people get wrong with names, numbers, files and stores.
`pytest -s` shows how long the longest took.
"""

from __future__ import annotations

import io
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import MISSING, dataclass, field
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.options import Bench, Report, Score, Sensitivity
from benchmarks.speed.options import Goals, Speed
from gans.commands import (
    arithmetic,
    config,
    extractor,
    interpolate,
    main,
    options,
    register,
    sample,
    score,
    sync,
    train,
    ui,
    walk,
)
from gans.commands.options import Flag
from gans.commands.zoo import ZooCommand
from reports.compare import Compare
from sweeps.options import Search
from sweeps.page import Pages

HANG = 60  # seconds; a row takes a few hundredths, but for the first one that imports torch
GANS = {
    "train": train.Train,
    "sample": sample.Sample,
    "interpolate": interpolate.Interpolate,
    "arithmetic": arithmetic.Arithmetic,
    "walk": walk.Walk,
    "score": score.Score,
    "zoo": ZooCommand,
    "register": register.Register,
    "extractor": extractor.Extractor,
    "config": config.Config,
    "sync": sync.Sync,
    "ui": ui.Ui,
}
MODULES = {
    "benchmarks": Bench,
    "benchmarks.score": Score,
    "benchmarks.report": Report,
    "benchmarks.speed": Speed,
    "benchmarks.sensitivity": Sensitivity,
    "benchmarks.speed.gpu": Goals,
    "reports.compare": Compare,
    "sweeps": Search,
    "sweeps.page": Pages,
}
# the first words of a command that is right up to what is wrong
POSITIONAL = {
    "gans train": "gan",
    "gans sample": "none.safetensors",
    "gans interpolate": "none.safetensors",
    "gans arithmetic": "none.safetensors --a 1 --b 2 --c 3",
    "gans walk": "none.safetensors",
    "gans extractor": "digits",
    "gans register": "abcd1234",
    "benchmarks.sensitivity": "digits",
    "reports.compare": "a b",
    "sweeps": "gan",
}
WRONG = {int: ("x", "1.5", "nan", ""), float: ("x", "1,5", "")}


def mains() -> dict[str, Callable[[], int]]:
    """The entry points by the program's name."""
    entries = {name: f"{name}.__main__" for name in ("benchmarks", "benchmarks.speed", "sweeps")}
    entries |= {name: name for name in ("benchmarks.score", "benchmarks.report", "benchmarks.speed.gpu")}
    entries |= {name: name for name in ("benchmarks.sensitivity", "reports.compare")}
    entries |= {name: name for name in ("sweeps.page", "gans.commands.make")}
    return {"gans": main.main, **{name: import_module(module).main for name, module in entries.items()}}


@dataclass(frozen=True)
class Row:
    """A command that is wrong, and what the environment says; `says` is in the answer."""

    words: str
    says: str = ""
    environment: dict[str, str] = field(default_factory=dict)


def declared() -> list[Row]:
    """What is wrong with the flags of every command, whatever they mean."""
    commands = {f"gans {name}": declaration for name, declaration in GANS.items()} | MODULES
    return [row for command, declaration in commands.items() for row in flags_of(command, declaration)]


def flags_of(command: str, declaration: type) -> Iterator[Row]:
    right = f"{command} {POSITIONAL.get(command, '')}".strip()
    yield Row(f"{right} --no-such-flag", "--no-such-flag")
    yield Row(f"{right} a b c d e f", "unrecognized")
    if needed := [f.variable for f in options.flags(declaration) if f.option.positional and f.default is MISSING]:
        yield Row(command, ", ".join(needed))
    for flag in options.flags(declaration):
        if flag.option.positional:
            continue
        if flag.kind is bool:
            yield Row(f"{right} {flag.flag}=1", flag.flag)
            continue
        yield Row(f"{right} {flag.flag}", flag.flag)
        for value in wrong(flag):
            yield Row(f"{right} {flag.flag} {shlex.quote(value)}", flag.flag)


def wrong(flag: Flag) -> tuple[str, ...]:
    return ("no-such-choice", "") if flag.choices else WRONG.get(flag.kind, ())


def row(words: str, says: str = "", **environment: str) -> Row:
    return Row(words, says, environment)


DEAD = "http://me:hush@127.0.0.1:9"
NAMES = [
    row("gans", "COMMAND"),
    row("gans nosuch", "nosuch"),
    row("gans train nosuch", "unknown model"),
    row("gans train ''", "unknown model"),
    row("gans train gan nosuch", "unknown data set"),
    row("gans train gan folder:none", "does not exist"),
    row("gans train gan --device nosuch", "unknown device"),
    row("gans train gan --device cuda:x", "unknown device"),
    row("gans train gan --device mps", "unknown device"),
    row("gans train gan --set batch", "KEY=VALUE"),
    row("gans train gan --set =1", "KEY=VALUE"),
    row("gans train gan --set bacth=8", "did you mean 'batch'?"),
    row("gans train gan --set 'a b=1'", "not a key"),
    row("gans train gan --set optimizer=3", "optimizer"),
    row("gans train gan --set networks.widht=3", "width"),
    row("gans train gan --set loss.name=nosuch", "nosuch"),
    row("gans train gan --set score.extractors=nosuch", "extractors"),
    row("gans train gan --workers nosuch", "nosuch"),
    row("gans train gan --workers ray", "ray"),
    row("gans train nosuch.module:Name", "nosuch.module"),
    row("gans config nosuch", "unknown model"),
    row("gans extractor nosuch", "unknown data set"),
    row("gans extractor folder:none", "does not exist"),
    row("gans extractor folder:", "folder"),
    row("gans zoo nosuch", "nosuch"),
    row("gans zoo --index none", "none"),
    row("gans register ''", "no id of an MLflow run"),
    row("gans register nosuch", "no id of an MLflow run"),
    row("gans register abcd1234 --name a/b", "no name of a model"),
    row("gans register abcd1234 --name a:b", "no name of a model"),
    row("gans register abcd1234 --name -", "no name of a model"),
    row("gans sync none", "none"),
    row("gans sync file.txt", "file.txt"),
    row("gans ui --port 0", "at least 1, at most 65535"),
    row("gans ui --port -1", "at least 1, at most 65535"),
    row("gans ui --port 65536", "at most 65535"),
    row("gans score", "IMAGES"),
    row("gans score none --reference digits", "does not exist"),
    row("gans score empty --reference nosuch", "unknown data set"),
    row("gans score empty --reference digits --device nosuch", "unknown device"),
    row("benchmarks nosuch", "unknown matrix"),
    row("benchmarks none.toml", "none.toml"),
    row("benchmarks --models nosuch", "unknown model"),
    row("benchmarks --datasets nosuch", "unknown data set"),
    row("benchmarks --datasets folder:none", "does not exist"),
    row("benchmarks --preset nosuch", "unknown preset"),
    row("benchmarks --device nosuch", "unknown device"),
    row("benchmarks --jobs 0", "JOBS=0"),
    row("benchmarks --jobs -1", "JOBS=-1"),
    row("benchmarks --engine rai", "did you mean 'ray'?"),
    row("benchmarks --engine ray", "RAY_ADDRESS=nowhere is no HOST:PORT", RAY_ADDRESS="nowhere"),
    row("benchmarks --runs s3://bucket/runs", "is no folder"),
    row("benchmarks --budget 0", "BUDGET=0"),
    row("benchmarks --budget -1", "BUDGET=-1"),
    row("benchmarks --budget nan", "BUDGET=nan"),
    row("benchmarks --budget inf", "BUDGET=inf"),
    row("benchmarks.score nosuch", "unknown matrix"),
    row("benchmarks.score --models nosuch", "unknown model"),
    row("benchmarks.score --count 0", "COUNT=0"),
    row("benchmarks.score --device nosuch", "unknown device"),
    row("benchmarks.report nosuch", "no benchmark"),
    row("benchmarks.report none.toml", "no benchmark"),
    row("benchmarks.report --budget nan", "BUDGET=nan"),
    row("benchmarks.speed --rounds 0", "ROUNDS=0"),
    row("benchmarks.speed --threads 0", "THREADS=0"),
    row("benchmarks.speed.gpu --rounds 0", "ROUNDS=0"),
    row("benchmarks.sensitivity nosuch", "nosuch"),
    row("benchmarks.sensitivity digits --count 1", "at least 50"),
    row("reports.compare a", "OTHER"),
    row("reports.compare a b c", "unrecognized"),
    row("benchmarks.speed --count 1", "at least 100"),
    row("benchmarks --workers nosuch", "unknown place for workers"),
    row("sweeps nosuch", "unknown model"),
    row("sweeps gan nosuch", "unrecognized"),
    row("sweeps gan --dataset nosuch", "unknown data set"),
    row("sweeps gan --trials 0", "TRIALS=0"),
    row("sweeps gan --finalists 0", "FINALISTS=0"),
    row("sweeps gan --fresh 0", "FRESH=0"),
    row("sweeps gan --seed -1", "SEED=-1"),
    row("sweeps gan --budget nan", "BUDGET=nan"),
    row("sweeps gan --pruner nosuch", "unknown pruner"),
    row("sweeps gan --objectives nosuch", "unknown objective"),
    row("sweeps gan --objectives seconds score", "OBJECTIVES"),
    row("sweeps gan --device nosuch", "unknown device"),
    row("sweeps gan --jobs 0", "JOBS=0"),
    row("gans.commands.make sweep", "MODEL"),
    row("gans.commands.make bench", "unknown variable", MAKEFLAGS=" -- MODLES=gan"),
    row("gans.commands.make bench", "MODELS", MODELS="'gan"),
]
FILES = [
    row("benchmarks folder.toml", "folder.toml"),
    row("benchmarks empty.toml", "empty.toml"),
    row("benchmarks latin.toml", "latin.toml"),
    row("benchmarks broken.toml", "broken.toml"),
    row("benchmarks key.toml", "sedes"),
    row("benchmarks type.toml", "seeds"),
    row("benchmarks table.toml", "models"),
    row("benchmarks model.toml", "nosuch"),
    row("benchmarks file.txt", "unknown matrix"),
    row("benchmarks.score broken.toml", "broken.toml"),
    row("benchmarks.report broken.toml", "broken.toml"),
    *(
        row(f"gans {command}", "", GANS_DATA="data")
        for words in ("sample {0}", "walk {0}", "interpolate {0}", "arithmetic {0} --a 1 --b 2 --c 3")
        for command in (words.format(name) for name in ("none", "empty", "file.txt", "file.safetensors"))
    ),
    row("gans sample abcd1234", "no tracking store"),
    row("gans register abcd1234", "no tracking store"),
    row("gans register file.safetensors", "no id of an MLflow run"),
    row("gans sample file.safetensors --output samples.jpg", ".jpg"),
    row("gans walk file.safetensors --output walk.txt", ".txt"),
    row("gans interpolate file.safetensors --output a.bmp", ".bmp"),
    row("gans arithmetic file.safetensors --a 1 --b 2 --c 3 --output a.gif", ".gif"),
    row("gans score file.safetensors --reference digits", "file.safetensors"),
    row("gans score file.pt --reference digits", "training state"),
    row("gans score file.npz --reference digits", "file.npz"),
    row("gans score empty --reference digits", "empty"),
    row("gans score broken.zip --reference digits", "broken.zip"),
    row("gans score bare.zip --reference digits", "bare.zip"),
    row("gans score file.txt --reference digits", "file.txt"),
]
STORES = [
    row("benchmarks", "nothing.db is no SQLite database", MLFLOW_TRACKING_URI="sqlite:///nothing.db"),
    row("benchmarks", "folder.toml", MLFLOW_TRACKING_URI="sqlite:///folder.toml"),
    row("benchmarks", "no directory", MLFLOW_TRACKING_URI="sqlite:///file.txt/mlflow.db"),
    row("benchmarks", "Optuna's", MLFLOW_TRACKING_URI="sqlite:///optuna.db"),
    row("benchmarks", "MLflow knows no", MLFLOW_TRACKING_URI="nonsense://x"),
    row("benchmarks", "folders of files", MLFLOW_TRACKING_URI="./mlruns"),
    row("benchmarks", "http://me:***@127.0.0.1:9", MLFLOW_TRACKING_URI=DEAD),
    row("benchmarks", "127.0.0.1", MLFLOW_TRACKING_URI="http://127.0.0.1:port"),
    row("benchmarks --dry-run", "127.0.0.1:9", MLFLOW_TRACKING_URI=DEAD),
    row("benchmarks", "password=***", MLFLOW_TRACKING_URI="postgresql://127.0.0.1:9/x?user=u&password=hush"),
    row("benchmarks.score", "127.0.0.1:9", MLFLOW_TRACKING_URI=DEAD),
    row("benchmarks.report", "127.0.0.1:9", MLFLOW_TRACKING_URI=DEAD),
    row("benchmarks.report", "no such column", MLFLOW_TRACKING_URI="sqlite:///tracking.db"),
    row("gans train gan", "127.0.0.1:9", MLFLOW_TRACKING_URI=DEAD),
    row("gans train gan", "nothing.db", MLFLOW_TRACKING_URI="sqlite:///nothing.db"),
    row("gans register abcd1234", "127.0.0.1:9", MLFLOW_TRACKING_URI=DEAD),
    row("gans ui", "is a server already", MLFLOW_TRACKING_URI=DEAD),
    row("gans ui", "nothing.db", MLFLOW_TRACKING_URI="sqlite:///nothing.db"),
    row("gans ui", "MLflow knows no", MLFLOW_TRACKING_URI="nonsense://x"),
    row("gans ui", "folders of files", MLFLOW_TRACKING_URI="./mlruns"),
    row("gans ui", "Optuna's", MLFLOW_TRACKING_URI="sqlite:///optuna.db"),
    row("sweeps gan", "127.0.0.1:9", MLFLOW_TRACKING_URI=DEAD),
    row("sweeps gan --engine rai", "did you mean 'ray'?"),
    row("sweeps gan --storage tracking.db", "sqlite:///"),
    row("sweeps gan --storage sqlite:///tracking.db", "MLflow's"),
    row("sweeps gan --storage sqlite:///nothing.db", "no SQLite database"),
    row("sweeps gan --storage sqlite:///none/x.db", "no folder none"),
    row("sweeps gan --storage 'postgresql://u:hush@127.0.0.1:9/x'", "u:***@127.0.0.1:9"),
    row("sweeps gan", "u:***@127.0.0.1:9", GANS_STORAGE="postgresql://u:hush@127.0.0.1:9/x"),
]
ROWS = [*declared(), *NAMES, *FILES, *STORES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with files of which none is what it should be."""
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
        "file.pt": "words",
        "file.npz": "words",
        "broken.zip": "words",
        "nothing.db": "words, and more of them than a header has",
    }
    for name, text in texts.items():
        (here / name).write_text(text)
    (here / "latin.toml").write_bytes("description = 'ö'".encode("latin-1"))
    (here / "folder.toml").mkdir()
    (here / "empty").mkdir()
    zipfile.ZipFile(here / "bare.zip", "w").close()
    for name, table in {"optuna.db": "studies", "tracking.db": "experiments"}.items():
        with sqlite3.connect(here / name) as database:
            database.execute(f"CREATE TABLE {table} (id INTEGER)")
        database.close()
    return here


@dataclass(frozen=True)
class Answer:
    code: object
    out: str
    err: str
    seconds: float

    def faults(self, row: Row) -> list[str]:
        """What is not as it should be; nothing if all is."""
        lines = self.err.strip().splitlines()
        found = {
            f"exit code {self.code}": self.code != 2,
            f"{len(lines)} lines": len(lines) != 1 or not lines[0].startswith("error: "),
            "traceback": "Traceback" in self.err + self.out,
            "a password": "hush" in self.err + self.out,
            f"not a word of {row.says}": row.says not in self.err,
            f"output {self.out!r}": bool(self.out),
        }
        return [fault for fault, there in found.items() if there]


@contextmanager
def bounded(seconds: int) -> Iterator[None]:
    """Ends what hangs; an AssertionError, since a TimeoutError is an OSError, which commands answer."""

    def end(number: int, frame: object) -> None:
        raise AssertionError(f"no answer after {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def answer(row: Row, programs: dict[str, Callable[[], int]], monkeypatch: pytest.MonkeyPatch) -> Answer:
    """What a command says, called in this process."""
    program, *words = shlex.split(row.words)
    out, err, start = io.StringIO(), io.StringIO(), time.perf_counter()
    code: object
    with monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err), bounded(HANG):
        patch.setattr(sys, "argv", [program, *words])
        for name in ("MLFLOW_TRACKING_URI", "GANS_STORAGE", "MAKEFLAGS", *MAKE):
            patch.delenv(name, raising=False)
        for name, value in row.environment.items():
            patch.setenv(name, value)
        try:
            code = programs[program]()
        except BaseException as error:
            code = f"{type(error).__name__}: {error}"
    return Answer(code, out.getvalue(), err.getvalue(), time.perf_counter() - start)


MAKE = [flag.variable for declaration in MODULES.values() for flag in options.flags(declaration)]


def test_there_are_enough_rows():
    assert len({row.words + str(row.environment) for row in ROWS}) == len(ROWS) > 300


def test_bad_input_is_one_line_and_leaves_nothing(folder, monkeypatch):
    monkeypatch.chdir(folder)
    before, handler = sorted(folder.rglob("*")), signal.getsignal(signal.SIGTERM)
    programs = mains()
    answers = [(row, answer(row, programs, monkeypatch)) for row in ROWS]
    for row, got in sorted(answers, key=lambda pair: -pair[1].seconds)[:20]:
        print(f"{got.seconds:6.2f} s  {row.words}  {row.environment or ''}")
    print(f"{sum(got.seconds for _, got in answers):6.2f} s  all {len(answers)}")
    wrong = [f"{row.words} {row.environment or ''}: {', '.join(got.faults(row))}: {got.err.strip()[-300:]}"
             for row, got in answers if got.faults(row)]  # fmt: skip
    signal.signal(signal.SIGTERM, handler)
    assert not wrong, "\n".join(["", *wrong])
    assert sorted(folder.rglob("*")) == before


def process(words: str, cwd: Path, **environment: str) -> Answer:
    """What a command says, in a process of its own."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **environment},
        timeout=HANG,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr, time.perf_counter() - start)


LIGHT = [
    "gans train nosuch",
    "gans train gan --workers nosuch",
    "gans.cli ui --port 0",
    "benchmarks --models nosuch",
    "benchmarks --workers nosuch",
    "benchmarks.speed --count x",
    "reports.compare a",
    "sweeps gan --storage sqlite:///none/x",
    "sweeps.page --output",
    "sweeps.publish",
]


@pytest.mark.parametrize("words", LIGHT)
def test_wrong_input_does_not_wait_for_heavy_imports(folder, words):
    timed = process(words, folder, PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.rpartition("|")[2].strip() for line in timed.err.splitlines() if line.startswith("import time")}
    assert timed.code == 2
    assert not {"torch", "mlflow", "optuna", "pandas", "sqlalchemy"} & loaded
