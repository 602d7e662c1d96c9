"""Parts from outside that are no parts end in one line, before anything is trained or written."""

import numpy as np
import pytest

from gans.data import datasets
from gans.training import plugins

TEMPLATE = """
import sys
from dataclasses import replace

import torch
from torch import nn

from gans.data.images import Source, Split, fit_all
from gans.fidelity import Extractor, Measured, Metric
from gans.models import Model
from gans.models.gan import GAN
from gans.training.two_player import Loss
from gans.training.updates import Update


class Gives(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.weight, self.make = nn.Parameter(torch.zeros(1)), make

    def forward(self, x):
        return self.make(x)


def draws(make):
    return replace(GAN, generator=lambda shape, config: Gives(make))


def judges(make):
    return replace(GAN, discriminator=lambda shape, config: Gives(make))


def source(labels=None, shape=(1, 16, 16), dtype=torch.uint8, classes=5, count=120):
    split = Split(torch.zeros(count, *shape, dtype=dtype), labels)
    return Source("Mine", split, split, tuple("abcdefgh"[:classes]), fit_all)


def exits(*_):
    sys.exit(3)


def extractor(make, **more):
    return Extractor("mine", "0" * 64, lambda: Gives(make), **more)


"""
IMAGES = "torch.zeros(len(x), 1, 16, 16)"
# what stands in the file, the words of a command, what it says; the file's name is `mine`, its part `PART`
MODELS = [
    ("PART = print", "mine:PART is a function, not a gans.models.Model"),
    (
        "PART = Model(dict, print, print)",
        "config of a Model is a class, not a subclass of NetworkConfig (mine.py:",
    ),
    ("PART = replace(GAN, recipe=[1])", "recipe of a Model is a list, not a table (mine.py:"),
    ("PART = replace(GAN, conditional='yes')", "conditional of a Model is 'yes', not"),
    ("PART = draws(lambda x: None)", "mine:PART: its generator gives None, not float32 (2, 1, 16, 16)"),
    (f"PART = draws(lambda x: {IMAGES}.to(torch.int8))", "its generator gives int8 (2, 1, 16, 16), not float32"),
    (f"PART = draws(lambda x: {IMAGES} / 0)", "its generator gives numbers that are not finite, not float32"),
    (f"PART = draws(lambda x: {IMAGES} + 2)", "its generator's pixels reach 2, not 1; end it with Tanh"),
    ("PART = draws(lambda x: 1 / 0)", "mine:PART: ZeroDivisionError: division by zero (mine.py:"),
    ("PART = draws(exits)", "mine:PART: sys.exit(3) (mine.py:"),
    ("PART = judges(lambda x: x)", "its discriminator gives float32 (2, 1, 16, 16), not float32 (2,)"),
    ("sys.exit('no')", "cannot be imported: sys.exit('no') (mine.py:"),
    ("raise RuntimeError('x\\ny')", "cannot be imported: RuntimeError: x (mine.py:"),
    ("def f(:", "cannot be imported: SyntaxError: invalid syntax (mine.py:"),
    ("", "mine has no PART; correct the name behind the colon"),
]
DATASETS = [
    ("PART = 3", "mine:PART is an int, not a function"),
    ("PART = lambda root: None", "mine:PART gives None, not a gans.data.images.Source"),
    ("PART = lambda root: source(shape=(2, 16, 16))", "images of uint8 (120, 2, 16, 16)"),
    ("PART = lambda root: source(dtype=torch.float32)", "has training images of float32"),
    ("PART = lambda root: source(torch.arange(120) % 6 + 7)", "mine:PART has labels 7 .. 12 for 5 classes"),
    ("PART = lambda root: source(torch.arange(7))", "labels of int64 (7,), not int64 (120,)"),
    ("PART = lambda root: source(count=0)", "has training images of uint8 (0, 1, 16, 16)"),
]
LOSSES = [
    ("from json import dumps as PART", "mine:PART is a function, not a gans.training.two_player.Loss"),
    ("PART = Loss(lambda r, f: r, lambda f: f.mean())", "mine:PART: d_loss gives float32 (2,), not float32 ()"),
    ("PART = Loss(lambda r: r, lambda f: f.mean())", "mine:PART: TypeError: <lambda>() takes 1"),
]
RULES = [
    ("PART = print", "mine:PART is a function, not a subclass of gans.training.updates.Update"),
    (
        "class PART(Update):\n    @classmethod\n    def check(cls, *given): raise KeyError('x')",
        "mine:PART: KeyError: 'x' (mine.py:",
    ),
]
EXTRACTORS = [
    ("PART = 3", "mine:PART is an int, not a function"),
    ("PART = lambda: None", "mine:PART gives None, not a gans.fidelity.Extractor"),
    ("PART = lambda: extractor(lambda x: (x[:, 0, 0], 0))", "features are uint8 (2, 32), not float32 (2, ...)"),
]
METRICS = [
    ("PART = Metric('m', 'v', '', lambda it: 3)", "mine:PART gives an int, not a gans.fidelity.Measured"),
    ("PART = Metric('m', 'v', '', lambda it: 1 / 0)", "mine:PART: ZeroDivisionError: division by zero (mine.py:"),
]
TRAIN = ("train", "gan", "--device", "cpu", "--set", "kimg=0.1", "score.extractors=['digits']", "score.images=120")
WORDS = {
    "model": ("train", "mine:PART", "digits", *TRAIN[2:]),
    "data set": ("train", "gan", "mine:PART", *TRAIN[2:]),
    "loss": (*TRAIN, "loss.name=mine:PART"),
    "rule": (*TRAIN, "update.rule=mine:PART"),
    "extractor": ("score", "images.npz", "--device", "cpu", "--reference", "digits", "--extractor", "mine:PART"),
    "metric": ("score", "images.npz", "--device", "cpu", "--reference", "digits", "--metric", "mine:PART"),
}
ALL = (MODELS, DATASETS, LOSSES, RULES, EXTRACTORS, METRICS)
CASES = [
    pytest.param(kind, *case, id=f"{kind}: {case[0][:60]}")
    for kind, cases in zip(WORDS, ALL, strict=True)
    for case in cases
]


@pytest.mark.parametrize(("kind", "text", "says"), CASES)
def test_a_part_that_is_none_is_one_line(kind, text, says, gans, tmp_path, one_thread):
    plugins.check_networks.cache_clear()
    plugins.check_loss.cache_clear()
    if kind in ("extractor", "metric"):
        np.savez(tmp_path / "images.npz", images=datasets.load("digits").train[:120].numpy())
    (tmp_path / "mine.py").write_text(TEMPLATE + text)
    code, _, said = gans(*WORDS[kind])
    assert code == 2, said
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1
    assert says in said
    assert not (tmp_path / "mlflow.db").exists()
    assert not (tmp_path / "runs").exists()


def test_a_part_that_exits_in_training_fails_its_run_in_one_line(gans, tmp_path, one_thread):
    text = "PART = draws(lambda x: torch.zeros(2, 1, 16, 16) if len(x) == 2 else exits())"
    (tmp_path / "mine.py").write_text(TEMPLATE + text)
    code, _, said = gans(*WORDS["model"])
    assert (code, said) == (1, "")
    (traceback,) = (tmp_path / "runs").rglob("traceback.txt")
    assert "sys.exit(3)" in traceback.read_text()


def test_config_of_what_is_no_model_is_one_line(gans):
    says = "error: os:system is a function, not a gans.models.Model; name another model\n"
    assert gans("config", "os:system") == (2, "", says)
