"""A file from somebody else imports nothing: its parts are registered ones, or the user named them."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.matrix import Selection, cells, read_matrix
from gans import registry
from gans.config import experiment, validated
from gans.errors import InputError
from gans.files import save
from gans.zoo import Entry
from reports import folder_of
from sweeps.options import study_name
from tests.conftest import untrained

# what any module could do when it is imported; the parts in it are fine
PAYLOAD = """
from pathlib import Path

from gans.data.published import DIGITS
from gans.models.gan import GAN as MODEL

Path("ran").touch()


def data(root):
    Path("ran").touch()
    return DIGITS(root)
"""
LINE = (
    "is code from outside that this command does not name; if you trust it, add --plugin payload "
    "(make: PLUGIN=payload; in the environment: GANS_PLUGINS=payload)"
)


@pytest.fixture
def place(tmp_path: Path, gans) -> Path:
    """The working directory of commands, with a module that leaves a mark when it is imported."""
    (tmp_path / "payload.py").write_text(PAYLOAD)
    return tmp_path


def weights(path: Path, changes: Mapping[str, Any]) -> str:
    """A generator's file with a description that names a part."""
    made = experiment({"networks": {"name": "gan", "latent": 8}, "score": {"extractors": ["digits"]}})
    said: dict[str, Any] = made.model_dump(mode="json")
    for key, value in changes.items():
        said[key] = {**said[key], **value} if isinstance(value, dict) else value
    return str(untrained(path, made.networks, networks=said["networks"], experiment=said, data="Digits", images=0))


MODEL = {"networks": {"name": "payload:MODEL"}}


@pytest.mark.parametrize("command", ["sample", "walk", "interpolate", "arithmetic", "score"])
def test_weights_that_name_a_model_from_outside_are_refused_in_one_line(command, place, gans):
    file = weights(place / "generator.safetensors", MODEL)
    words = {"arithmetic": ["--a", "1:0", "--b", "1:1", "--c", "1:2"]}.get(command, [])
    code, _, said = gans(command, file, *words)
    assert (code, said) == (2, f"error: {file}: model 'payload:MODEL' {LINE}\n")
    assert not (place / "ran").exists()


def test_the_user_allows_a_part_by_its_name_or_its_module(place, gans):
    file = weights(place / "generator.safetensors", MODEL)
    for number, flag in enumerate(("payload", "payload:MODEL")):
        code, _, said = gans("sample", file, "--plugin", flag, "--output", f"{number}.png", "--count", "4")
        assert (code, said) == (0, "")
    assert (place / "ran").exists()
    assert gans("sample", file, "--plugin", "payloads")[0] == 2
    says = "error: 'a; b' is not the name of a module; write --plugin package.module\n"
    assert gans("sample", file, "--plugin", "a; b") == (2, "", says)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"dataset": "payload:data"}, 2),
        ({"score": {"extractors": ["payload:data"]}}, 0),
        ({"loss": {"name": "payload:MODEL"}}, 0),
        ({"update": {"rule": "payload:data"}}, 0),
    ],
)
def test_a_generators_experiment_calls_nothing_when_it_is_scored(changes, code, place, gans):
    file = weights(place / "generator.safetensors", changes)
    found, _, said = gans("score", file, "--count", "200", "--device", "cpu")
    assert not (place / "ran").exists()
    assert found == code
    assert code == 0 or (LINE in said and "data set 'payload:data'" in said and len(said.splitlines()) == 1)


@pytest.mark.parametrize("kind", ["recipe", "networks", "loss", "update", "dataset"])
def test_a_preset_names_registered_parts_only_and_a_matrix_any(kind, place, capsys):
    part = "payload:data" if kind == "dataset" else "payload:MODEL"
    table = {"networks": "networks.name", "loss": "loss.name", "update": "update.rule"}.get(kind, kind)
    matrix = "seeds = [0]\n[datasets.digits]\n[models.gan]\n"
    (place / "own.toml").write_text(matrix)
    preset = place / "outputs/presets/gan-digits.toml"
    preset.parent.mkdir(parents=True)
    preset.write_text(f'{table} = "{part}"\n')
    if kind not in ("recipe", "dataset"):  # keys that a preset has not; what the matrix says of data wins
        with pytest.raises(InputError, match="code from outside"):
            [cell.images for cell in cells(read_matrix("own.toml", "tuned"), Selection(), torch.device("cpu"))]
    assert not (place / "ran").exists()
    (place / "own.toml").write_text(
        f'{matrix}recipe = "payload:MODEL"\n[defaults.score]\nextractors = ["digits"]\n'
    )
    (cell,) = cells(read_matrix("own.toml"), Selection(), torch.device("cpu"))
    assert cell.experiment.networks.name == "payload:MODEL"


def test_what_the_user_writes_allows_the_parts_in_it():
    registry.allow_named(["a:b 'c:d'", "--set=score.extractors=['e.f:g', 'h:i']", "/x/j:k", "sqlite:///l"])
    registry.allow_named({"models": {"m:n": {"recipe": "o:p"}}, "seeds": [0], "list": ["q:r"]})
    assert registry.allowed() == ["a:b", "c:d", "e.f:g", "h:i", "m:n", "o:p", "q:r"]


def test_processes_of_a_command_may_import_what_it_may(place):
    (place / "light.py").write_text("def data(root): ...\n")
    command = [sys.executable, "-c", "from gans.registry import DATASETS; DATASETS['light:data']"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
    registry.allow("light")
    assert subprocess.run(command, check=False).returncode == 0


def test_checkpoints_and_cards_hold_no_code(place, gans):
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (Path("ran"),)

    save(place / "checkpoint.pt", {"images": 1, "evil": Evil()})
    from gans.files import load

    with pytest.raises(InputError, match="is no checkpoint of this suite"):
        load(place / "checkpoint.pt", torch.device("cpu"))
    cards = place / "outputs/extractors"
    cards.mkdir(parents=True)
    (cards / "payload.json").write_text(json.dumps({"name": "payload", "data": "payload:data"}))
    gans("score", "--list")
    assert not (place / "ran").exists()


PATHS = ("../../evil", "/tmp/evil", "..", ".hidden", "a\\b", "a\nb", "a\x1b[2Jb", "n" * 201, "名" * 67, "")
SAYS = "cannot name a file; take 1 to "


@pytest.mark.parametrize("name", PATHS)
def test_a_name_that_becomes_a_path_is_one_plain_name(name, place, gans):
    before = sorted(place.rglob("*"))
    matrix = place / "own.toml"
    matrix.write_text(f"[datasets.digits]\n[models.{json.dumps(name)}]\nrecipe = 'gan'\n")
    entry = {"file": name, "sha256": 64 * "0", "size": 1}
    tries: list[Callable[[], Any]] = [
        lambda: read_matrix("own.toml"),
        lambda: validated(Entry, entry, "zoo.toml"),
        lambda: folder_of(name),
        lambda: study_name(name),
    ]
    for attempt in tries:
        with pytest.raises(InputError) as caught:
            attempt()
        assert name == "" or re.search(SAYS, str(caught.value))
    if name:
        code, _, said = gans("extractor", "digits", "--name", name)
        assert code == 2
        assert len(said.splitlines()) == 1
        assert said.rstrip("\n").isprintable()
    matrix.unlink()
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("name", ["a\nb.toml", ".own.toml", f"{'n' * 101}.toml"])
def test_a_matrix_gives_its_name_to_folders(name, place):
    (place / name).write_text("[datasets.digits]\n[models.gan]\n")
    with pytest.raises(InputError, match=SAYS):
        read_matrix(name)
