"""The zoo: what ships scores as it says, others' files are those of their index, runs become entries."""

import io
import json
import re
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gans import zoo
from gans.config import Resolved, experiment
from gans.data import datasets
from gans.fidelity.scorer import Scorer
from gans.files import Damaged
from gans.generate import generate, load_generator
from gans.models.inputs import Prior
from gans.pictures import grids
from gans.registry import DATASETS
from gans.runs.find import find_generator
from gans.runs.publish import command
from gans.runs.store import Store
from gans.zoo.index import INDEX, SHIPPED, Zoo
from tests.conftest import CPU, parsed, untrained
from tests.recorded import Recorded, recorded

ENTRIES = Zoo(str(SHIPPED)).entries()
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GANS_ZOO", raising=False)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if e.data == "digits" else pytest.mark.slow) for n, e in ENTRIES.items()]
)
def test_what_ships_scores_as_its_entry_says_and_says_how_it_was_made(name, one_thread):
    entry, path = ENTRIES[name], zoo.find(f"zoo:{name}")
    assert path.stat().st_size == entry.size
    generator, about = load_generator(path)
    assert about["shape"] == [entry.channels, entry.side]
    assert (entry.licence, entry.data_licence) == ("MIT", DATASETS[entry.data].licence)
    assert re.fullmatch("[0-9a-f]{40}", entry.commit)  # a clean tree
    again = parsed(shlex.split(entry.command)[1:]).experiment({})
    trained = Resolved.model_validate(about["experiment"])
    assert command(trained) == entry.command
    extractors = trained.score.extractors
    assert Resolved.of(again, trained.resolution, trained.precision, extractors) == trained
    try:
        data = datasets.load(entry.data, resolution=entry.side)
    except ValueError as error:
        pytest.skip(str(error))
    images = generate(generator, Prior.from_about(about).fixed(entry.score_images, "report"))
    scorer = Scorer(data, extractors[0], entry.score_images, CPU)
    assert (scorer.metric, scorer.extractor.hash) == (entry.metric, entry.extractor_sha256)
    assert scorer.distance(images) == pytest.approx(entry.score, rel=1e-4)


def test_what_ships_is_small_and_has_the_digits():
    assert {"gan-digits", "dcgan-digits"} <= set(ENTRIES)
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 8_000_000
    assert {path.name for path in SHIPPED.iterdir()} == {INDEX, *(entry.file for entry in ENTRIES.values())}


def test_a_flipped_bit_in_a_copy_of_what_ships_is_refused(tmp_path):
    for file in SHIPPED.glob("*.safetensors"):
        whole, copy = file.read_bytes(), tmp_path / file.name
        for place in range(5, len(whole), len(whole) // 7):
            copy.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(Damaged):
                load_generator(copy)


def test_the_list_has_every_fact(gans):
    code, printed, _ = gans("zoo")
    assert code == 0
    for name, entry in ENTRIES.items():
        assert f"{name}: {entry.metric} " in printed
        assert all(text in printed for text in (entry.sha256, entry.command, entry.licence, entry.data_licence))
    code, printed, _ = gans("zoo", "--json")
    assert [one["name"] for one in json.loads(printed)] == list(ENTRIES)


def test_a_name_draws_at_once_as_sample_does(gans, tmp_path):
    assert gans("zoo", "gan-digits", "--count", 9)[0] == 0
    (first,) = tmp_path.glob("outputs/samples/*.png")
    pixels = first.read_bytes()
    first.unlink()
    assert gans("sample", "zoo:gan-digits", "--count", 9)[0] == 0
    assert next(tmp_path.glob("outputs/samples/*.png")).read_bytes() == pixels
    code, _, error = gans("zoo", "gan-digts")
    assert (code, error) == (2, "error: unknown generator 'gan-digts' in the zoo; did you mean 'gan-digits'?\n")


@pytest.fixture
def own(tmp_path) -> Path:
    """A zoo with one untrained generator."""
    made = experiment({"networks": {"name": "dcgan", "latent": 8, "width": 4}})
    folder = tmp_path / "own"
    path = untrained(folder / "mine.safetensors", made.networks, experiment=made.model_dump(mode="json"))
    content = path.read_bytes()
    (folder / INDEX).write_text(index("mine", content, 'file = "mine.safetensors"'))
    return folder


def index(name: str, content: bytes, place: str, **more: object) -> str:
    fields = ENTRIES["gan-digits"].model_dump(exclude={"file", "url"})
    fields |= {"sha256": sha256(content).hexdigest(), "size": len(content)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in (fields | more).items()]
    return "\n".join([f"[{name}]", place, *lines, ""])


@pytest.fixture
def served(own, monkeypatch) -> Iterator[str]:
    """The zoo's folder, served over HTTP."""

    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(own)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_folder_is_a_zoo(gans, own, monkeypatch):
    assert find_generator(f"zoo:{own}#mine") == own / "mine.safetensors"
    assert gans("zoo", "--index", own)[1].startswith(f"{own}#mine: fd_digits ")
    assert gans("zoo", "mine", "--index", own)[0] == 0
    monkeypatch.setenv("GANS_ZOO", str(own))
    assert zoo.find("mine") == own / "mine.safetensors"
    assert zoo.find("gan-digits").parent == SHIPPED
    code, printed, _ = gans("score", "zoo:mine", "--count", 100, "--device", "cpu")
    assert (code, "against 1,438 training images of Digits" in printed) == (0, True)


def test_a_zoo_on_the_web_is_fetched_once(own, served, tmp_path, monkeypatch):
    monkeypatch.setenv("GANS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GANS_ZOO", served)
    path = zoo.find("mine")
    assert path.parent == tmp_path / "data/cache/zoo"
    assert path.read_bytes() == (own / "mine.safetensors").read_bytes()
    (own / "mine.safetensors").unlink()
    assert zoo.find("mine") == path
    # an index in a folder may name files on the web
    content = path.read_bytes()
    path.unlink()
    (own / "elsewhere.safetensors").write_bytes(content)
    (own / INDEX).write_text(index("mine", content, f'url = "{served}/elsewhere.safetensors"'))
    assert zoo.find(f"{own}#mine") == path


def test_another_file_than_the_indexs_is_refused_in_one_line(gans, own, served, tmp_path, monkeypatch):
    monkeypatch.setenv("GANS_DATA", str(tmp_path / "data"))
    good = (own / "mine.safetensors").read_bytes()
    for bad, says in ((good[:-1] + b"x", "is not the file of the index"), (good + b"x", "larger than")):
        (own / "mine.safetensors").write_bytes(bad)
        refused(gans, f"zoo:{served}#mine", says)
        refused(gans, f"zoo:{own}#mine", "mine.safetensors is not the file of the index: its SHA-256 begins with")
    assert not list(tmp_path.glob("data/cache/zoo/*"))
    (own / "mine.safetensors").unlink()
    refused(gans, f"zoo:{own}#mine", "mine.safetensors is missing")
    refused(gans, f"zoo:{served}#mine", "cannot fetch")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (index("mine", b"", 'file = "../mine.safetensors"', size=1), "cannot name a file"),
        (index('"../mine"', b"", 'file = "a"'), "cannot name a file"),
        (index("mine", b"", 'url = "file:///etc/passwd"', size=1), "does not begin with https://"),
        (index("mine", b"", "", size=1), "give either file or url"),
        (index("mine", b"", 'file = "a"', size=1, sha256="abc"), "mine.sha256 = 'abc' is not valid"),
        (index("mine", b"", 'file = "a"', size=1, shape=1), "unknown key 'shape'"),
        ("mine = 3", "mine is not a table of a generator"),
        ("mine =", "cannot read"),
        ("", "unknown generator 'mine'"),
    ],
)
def test_a_bad_index_is_one_line(gans, own, text, says):
    (own / INDEX).write_text(text)
    refused(gans, f"zoo:{own}#mine", says)


def refused(gans: Command, name: str, says: str) -> None:
    code, printed, error = gans("sample", name)
    assert (code, printed) == (2, "")
    assert says in error
    assert len(error.splitlines()) == 1


def finished_run(own: Path) -> Recorded:
    """A run that kept the zoo's generator."""
    record = json.dumps({"sha256": "a" * 64, "version": 3, "metrics": []})
    tags = {"gans.model": "dcgan", "gans.metric": "fd_digits", "gans.score_images": "1438"}
    run = recorded(Store(), "train", "dcgan/digits/0", {**tags, "gans.scored.auto.1438": record})
    path = own / "generator.safetensors"
    path.write_bytes((own / "mine.safetensors").read_bytes())
    run.artifact(path, "checkpoint")
    run.log(1, {"score/fd_digits": 12.5, "score/fd_digits_se": 0.5})
    run.finish("finished")
    return run


def test_a_finished_run_becomes_an_entry(gans, own, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    record = json.dumps({"sha256": "a" * 64, "version": 3, "metrics": []})
    tags = {"gans.model": "dcgan", "gans.metric": "fd_digits", "gans.score_images": "1438"}
    run = recorded(
        Store(), "train", "dcgan/digits/0", {**tags, "gans.scored.auto.1438": record, "gans.dirty": "true"}
    )
    path = own / "generator.safetensors"
    path.write_bytes((own / "mine.safetensors").read_bytes())
    words = ("zoo", "--add", run.id[:8], "--to", tmp_path / "new", "--licence", "CC0")
    assert "has no checkpoint/generator.safetensors" in gans(*words)[2]
    run.artifact(path, "checkpoint")
    run.log(1, {"score/fd_digits": 12.5, "score/fd_digits_se": 0.5})
    run.finish("finished")
    assert gans(*words)[0] == 0
    entry = Zoo(str(tmp_path / "new")).entries()["dcgan-digits"]
    assert (entry.score, entry.error, entry.score_images, entry.licence) == (12.5, 0.5, 1438, "CC0")
    assert entry.commit.endswith(" with changes")
    trained = "gans train dcgan digits --seed 0 --kimg 100 --set batch=64 networks.latent=8 networks.width=4"
    assert entry.command == trained
    assert find_generator(f"zoo:{tmp_path / 'new'}#dcgan-digits").read_bytes() == path.read_bytes()
    assert gans(*words)[0] == 0  # the same again
    (file := tmp_path / "new/dcgan-digits.safetensors").write_text("another")
    says = f"error: {file} exists; name another file, or overwrite it with --force\n"
    assert gans(*words)[::2] == (2, says)
    assert file.read_text() == "another"
    assert gans(*words, "--force")[0] == 0
    assert file.read_bytes() == path.read_bytes()
    assert len(Zoo(str(tmp_path / "new")).entries()) == 1
    assert "--licence is missing" in gans(*words[:-2])[2]
    assert "no run 'ffff' in " in gans("zoo", "--add", "ffff", *words[3:])[2]


class FakeHub:
    """The calls of huggingface_hub that are made, on a folder in place of the hub."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def HfApi(self) -> "FakeHub":
        return self

    HfFileSystem = HfApi

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> str:
        assert exist_ok
        assert private
        return f"https://hub/{name}"

    def upload_folder(self, *, repo_id: str, folder_path: Path, allow_patterns: list[str]) -> None:
        (self.root / repo_id).mkdir(parents=True)
        for file in allow_patterns:
            shutil.copy(folder_path / file, self.root / repo_id)

    def open(self, path: str) -> io.BufferedReader:
        return (self.root / path).open("rb")


def test_a_run_is_pushed_with_its_card_and_taken_from_the_hub(gans, own, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("GANS_DATA", str(tmp_path / "data"))
    run = finished_run(own)
    words = ("push", run.id, "me/mine", "--licence", "MIT")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    code, printed, error = gans(*words)
    assert (code, error) == (2, "error: the hub needs a library: pip install huggingface_hub\n")
    assert printed == "zoo.toml, dcgan-digits.safetensors, README.md, samples.png in outputs/hub/me/mine\n"
    monkeypatch.setitem(sys.modules, "huggingface_hub", FakeHub(tmp_path / "hub"))
    (tmp_path / "outputs/hub/me/mine/notes.txt").touch()
    assert "gans sample zoo:hf:me/mine" in gans(*words, "--private")[1]
    repository = tmp_path / "hub/me/mine"
    assert len(list(repository.iterdir())) == 4  # without the notes
    card = (repository / "README.md").read_text()
    for text in (
        'license: "mit"',
        "| `fd_digits` | 12.5 ± 0.5 |",
        "gans train dcgan digits",
        "licence: CC BY 4.0",
    ):
        assert text in card
    assert grids.readable(repository / "samples.png")
    # others take it, by the checks of a zoo
    assert zoo.find("zoo:hf:me/mine").read_bytes() == (own / "generator.safetensors").read_bytes()
    assert gans("sample", "zoo:hf:me/mine#dcgan-digits", "--count", 4)[0] == 0
    refused(gans, "zoo:hf:me/none", "cannot fetch hf:me/none/zoo.toml")
    shutil.rmtree(tmp_path / "data/cache/zoo")
    with (repository / "dcgan-digits.safetensors").open("ab") as file:
        file.write(b"x")
    refused(gans, "zoo:hf:me/mine", "larger than")
    (repository / INDEX).write_text((repository / INDEX).read_text().replace("size = ", "size = 9999999"))
    refused(gans, "zoo:hf:me/mine", "dcgan-digits.size = ")
    assert "'me' is not a repository of the hub; write OWNER/NAME" in gans("push", run.id, "me", *words[3:])[2]
