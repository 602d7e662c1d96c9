"""`gans score` as a user runs it: what it takes, what it prints, what it refuses."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gans.commands.score import plus_minus
from gans.data.datasets import load
from gans.data.images import ImageData
from gans.fidelity import require
from gans.fidelity.extractors.cards import cards
from gans.fidelity.metrics import classification_accuracy
from gans.fidelity.scorer import Scorer
from gans.generate import generate, load_generator
from gans.models.inputs import Prior
from gans.models.layers import Shape
from gans.runs.store import Store
from tests.conftest import networks, untrained
from tests.recorded import recorded

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
N = 60

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GANS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load("digits")


@pytest.fixture
def expected(digits, isolated) -> dict[str, float]:
    return Scorer(digits, "digits", N, CPU).score(digits.test[:N])


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def folder(path: Path, images: torch.Tensor) -> Path:
    path.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(path / f"{index:03}.png")
    return path


def generator(path: Path, channels: int = 1, **more: object) -> Path:
    return untrained(path, networks(latent=8, width=4), Shape(channels, 16), **more)


def test_arrays_of_either_layout_give_the_scorers_numbers(gans, digits, expected, tmp_path):
    images = digits.test[:N].numpy()
    first = npz(tmp_path / "first.npz", arr_0=images)
    last = npz(tmp_path / "last.npz", images=images.transpose(0, 2, 3, 1), labels=np.zeros(N))
    for path in (first, last):
        code, printed, _ = gans("score", path, "--reference", "digits", "--device", "cpu", "--json")
        assert code == 0
        found = json.loads(printed)
        assert found["scores"] == pytest.approx(expected, rel=1e-6, abs=1e-9)
        assert (found["images"], found["reference"], found["reference_images"]) == (N, "digits", 1438)
        assert (found["extractor"], found["extractor_sha256"]) == ("digits", require("digits").hash)


def test_a_folder_prints_every_metric_with_its_error(gans, digits, tmp_path):
    path = folder(tmp_path / "images", digits.test[:N])
    code, printed, _ = gans("score", path, "--reference", "digits", "--device", "cpu")
    assert code == 0
    lines = printed.splitlines()
    assert lines[0] == "60 images against 1,438 training images of Digits, features of 'digits'"
    rows = {line.split()[0]: line for line in lines[3:-2]}
    known = require("digits").metrics()
    assert list(rows) == list(known)
    assert len(rows) >= 10
    for row, metric in zip(rows.values(), known.values(), strict=True):
        assert " ± " in row
        assert row.endswith(f"{metric.best:<5}  {metric.meaning}")


def test_statistics_stand_in_for_the_images(gans, digits, expected, tmp_path):
    saved, images = tmp_path / "digits.npz", npz(tmp_path / "images.npz", images=digits.test[:N].numpy())
    save = ("score", "--reference", "digits", "--save-reference", saved, "--device", "cpu")
    assert gans(*save)[:2] == (
        0,
        f"{saved}: statistics of 1,438 training images of Digits, features of 'digits'\n",
    )
    features = Scorer(digits, "digits", N, CPU)._real.features.double().numpy()
    with np.load(saved) as found:  # as pytorch-fid and clean-fid read it
        assert np.allclose(found["mu"], features.mean(0), rtol=1e-5)
        assert np.allclose(found["sigma"], np.cov(features, rowvar=False))
        assert (found["n"], str(found["extractor_sha256"])) == (1438, require("digits").hash)
        kept = dict(found)
    against = ("--reference", saved, "--device", "cpu")
    scores = json.loads(gans("score", images, *against, "--json")[1])["scores"]
    assert set(scores) == {"fd_digits", "fd_digits_se", "fdinf_digits", "fdinf_digits_se"}
    assert scores == pytest.approx({name: expected[name] for name in scores}, rel=1e-6)
    path = folder(tmp_path / "images", digits.test[:N])  # in another order, on which the extrapolation depends
    found = json.loads(gans("score", path, *against, "--json")[1])["scores"]
    assert found["fd_digits"] == pytest.approx(expected["fd_digits"], rel=1e-6)
    assert "60 images against 1,438 training images of Digits" in gans("score", images, *against)[1]
    assert gans("score", generator(tmp_path / "g.safetensors"), *against, "--count", N)[0] == 0
    assert "exists; name another file" in gans(*save)[2]
    refused(gans, images, *against, "--extractor", "cifar10", says="was made with 'digits'")
    np.savez(saved, **kept | {"extractor_sha256": "0" * 64})
    refused(gans, images, *against, says="was made with other weights of 'digits'")
    np.savez(saved, mu=kept["mu"][:-1], sigma=kept["sigma"])
    refused(gans, images, *against, says="do not fit")
    np.savez(saved, mu=kept["mu"], sigma=kept["sigma"])  # another program's
    found = json.loads(gans("score", images, *against, "--extractor", "digits", "--json")[1])["scores"]
    assert found["fd_digits"] == pytest.approx(expected["fd_digits"], rel=1e-6)
    printed = gans("score", images, *against, "--extractor", "digits")[1]
    assert printed.startswith("60 images against the statistics in digits.npz, features of 'digits'")


def test_files_of_the_native_size_are_padded_as_the_data_set_is(gans, tmp_path):
    """For a data set of 28 x 28 images, files of 28 or of 32 pixels score the same; a mix is refused."""
    pixels = torch.randint(256, (40, 1, 28, 28), generator=torch.Generator().manual_seed(0)).byte()
    folder(tmp_path / "real", pixels)
    reference = ("--reference", f"folder:{tmp_path / 'real'}", "--extractor", "mnist", "--device", "cpu", "--json")
    scores = []
    for name, images in {"native": pixels[:20], "padded": torch.nn.functional.pad(pixels[:20], [2] * 4)}.items():
        code, printed, _ = gans("score", folder(tmp_path / name, images), *reference)
        assert code == 0
        scores.append(json.loads(printed)["scores"])
    assert scores[0] == pytest.approx(scores[1], rel=1e-6, abs=1e-9, nan_ok=True)
    both = folder(tmp_path / "both", pixels[:12])
    Image.new("L", (32, 32)).save(both / "padded.png")
    refused(gans, both, *reference, says="holds images of 28 x 28 and 32 x 32 pixels")


def test_a_conditional_generator_is_scored_by_class(gans, tmp_path, monkeypatch):
    monkeypatch.setattr(classification_accuracy, "STEPS", 2)
    config, path = networks("gan", latent=4, width=16, conditional=True), tmp_path / "generator.safetensors"

    def save(names: str) -> None:
        classes = {"names": list(names), "shares": [0.5, 0.5, *[0.0] * 8]}
        untrained(path, config, Shape(1, 16, 10), experiment={"dataset": "digits"}, classes=classes)

    save("0123456789")
    words = ("score", path, "--count", N, "--device", "cpu")
    found = json.loads(gans(*words, "--json")[1])["scores"]
    assert {"intra_fd_digits", "agreement_digits", "cas_digits", "intra_fd_digits/1"} <= set(found)
    assert "intra_fd_digits/2" not in found
    assert "\nintra_fd_digits " in gans(*words)[1]
    # of other classes the labels say nothing
    save("abcdefghij")
    assert "cas_digits" not in json.loads(gans(*words, "--json")[1])["scores"]


def test_a_generator_is_scored_on_the_report_latents_against_what_it_was_trained_on(
    gans, digits, tmp_path, monkeypatch
):
    path = generator(tmp_path / "generator.safetensors", experiment={"dataset": "digits"})
    network, _ = load_generator(path, CPU)
    images = generate(network, Prior(8).fixed(N, "report"))
    expected = Scorer(digits, "digits", N, CPU).score(images)
    Image.new("L", (64, 64)).save(tmp_path / "samples.png")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    run = recorded(Store(), "train", "dcgan/digits/0", {})
    run.artifact(path, "checkpoint")
    # a run's folder means its generator, not its pictures
    for words in ((path, "--reference", "digits"), (path,), (tmp_path,), (run.id[:12],)):
        code, printed, _ = gans("score", *words, "--count", N, "--json", "--device", "cpu")
        assert code == 0
        assert json.loads(printed)["scores"] == pytest.approx(expected, rel=1e-6, abs=1e-9)
    refused(gans, "ffff0000ffff", "--reference", "digits", says="no run 'ffff0000ffff' in sqlite")
    bare = generator(tmp_path / "bare.safetensors")
    refused(gans, bare, says="--reference is missing: gans score IMAGES --reference mnist")
    (tmp_path / "diverged").mkdir()
    (tmp_path / "diverged/events.jsonl").write_text("{}")
    refused(gans, tmp_path / "diverged", says="no generator.safetensors in")
    gone = generator(tmp_path / "gone.safetensors", experiment={"dataset": f"folder:{tmp_path / 'gone'}"})
    refused(gans, gone, says="check the path; --reference names the data to compare with")


def test_bad_input_is_one_line_and_exit_code_2(gans, digits, tmp_path):
    pixels = digits.test[:N].numpy()
    good = npz(tmp_path / "good.npz", images=pixels)
    whole = good.read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "page.npz").write_text("<html>")
    (tmp_path / "training.pt").write_bytes(b"")
    (tmp_path / "no.safetensors").write_bytes(whole)
    folder(tmp_path / "large", torch.zeros(12, 1, 32, 32).byte())
    folder(tmp_path / "native", torch.zeros(12, 1, 8, 8).byte())
    folder(tmp_path / "mixed", torch.zeros(12, 1, 8, 8).byte())
    for index in range(3):
        Image.new("L", (48, 64)).save(tmp_path / "mixed" / f"large{index}.png")
    generator(tmp_path / "colour.safetensors", channels=3)
    arrays = {"other.npz": {"pixels": pixels}, "float.npz": {"images": pixels / 255}}
    arrays |= {"side.npz": {"images": pixels[..., :8]}, "rgb.npz": {"images": pixels.repeat(3, 1)}}
    arrays |= {"few.npz": {"images": pixels[:9]}, "pickled.npz": {"images": np.array([{}], dtype=object)}}
    for name, parts in arrays.items():
        npz(tmp_path / name, **parts)
    for name, says in {
        "absent.npz": "absent.npz does not exist; check the path",
        "absent": "does not exist; check the path",
        "cut.npz": "cut.npz is damaged, or not an .npz",
        "page.npz": "page.npz is damaged, or not an .npz",
        "pickled.npz": "pickled.npz is damaged, or not an .npz",
        "other.npz": "holds pixels; name its array of images 'images' or 'arr_0'",
        "float.npz": "holds float64 pixels; store uint8",
        "side.npz": "holds images of shape (1, 16, 8), 'digits' takes (1, 16, 16); convert them",
        "rgb.npz": "holds images of shape (3, 16, 16), 'digits' takes (1, 16, 16); convert them",
        "few.npz": "9 generated and 1438 real images; at least 10",
        "training.pt": "name the generator.safetensors in its folder",
        "no.safetensors": "no.safetensors is not a generator that training wrote",
        "colour.safetensors": "draws 3-channel images, 'digits' has 1",
        "large": "holds images of 32 x 32 pixels, 'digits' takes 16 x 16, all the same",
        "native": "holds images of 8 x 8 pixels, 'digits' takes 16 x 16",  # digits are enlarged, not padded
        "mixed": "holds images of 8 x 8 and 48 x 64 pixels",
    }.items():
        refused(gans, tmp_path / name, "--reference", "digits", "--device", "cpu", says=says)
    refused(gans, good, says="--reference is missing: gans score IMAGES --reference mnist")
    refused(gans, "--reference", "digits", says="IMAGES is missing")
    refused(gans, good, "--reference", "digit", says="unknown data set 'digit'; did you mean 'digits'?")
    refused(gans, good, "--reference", "digits", "--extractor", "digit", says="unknown extractor 'digit'")
    refused(gans, good, "--reference", "digits", "--metric", "frechett", says="did you mean 'frechet'?")
    refused(gans, good, "--reference", "digits", "--count", 5, says="is for generators")


def refused(gans: Command, *words: object, says: str) -> None:
    code, printed, error = gans("score", *words)
    assert (code, printed) == (2, ""), words
    assert says in error
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1


def test_the_list_shows_every_card(gans):
    code, printed, _ = gans("score", "--list")
    assert code == 0
    for name, card in cards().items():
        assert f"{name}: {card.accuracy:.2%} of held-out images right" in printed
        assert all(text in printed for text in (card.sha256, card.command, card.data_hash))
    assert "inception: " in printed
    assert "cifar10-resized: 'cifar10' on images of any size" in printed
    assert [card["name"] for card in json.loads(gans("score", "--list", "--json")[1])] == list(cards())


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (12.3456, 0.4321, "12.35 ± 0.43"),
        (0.01234, 0.000567, "0.01234 ± 0.00057"),
        (123.4, 56.7, "123 ± 57"),
        (1.0, 0.0, "1 ± 0"),
        (-1.094e-11, 5.2e-13, "0.00000000 ± 0.00000012"),  # of a set against itself
        (0.90333796940194699, 2.2e-16, "0.90333797 ± 0.00000012"),
        (math.nan, math.nan, "nan ± nan"),
    ],
)
def test_errors_have_two_digits_and_values_as_many_places(value, error, text):
    assert plus_minus(value, error) == text
