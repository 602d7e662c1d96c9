"""`gans sample | interpolate | arithmetic | walk` as a user runs them, and the generators that they find."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gans.commands import arithmetic
from gans.errors import InputError
from gans.files import save_weights
from gans.generate import generate, latents, load_generator
from gans.models import build_generator
from gans.models.inputs import GeneratorInput, Prior
from gans.models.layers import Shape
from gans.pictures import grids
from gans.runs.find import find_generator
from gans.runs.store import Store
from tests.conftest import networks
from tests.recorded import recorded

pytestmark = pytest.mark.usefixtures("one_thread")


CLASSES = ("cat", "dog", "3")


def saved(
    folder: Path, name: str, classes: Sequence[str] = (), shares: Sequence[float] = (0.5, 0.25, 0.25)
) -> Path:
    """Write an untrained generator into a folder; returns the folder."""
    config = networks(name, latent=8, width=16, conditional=bool(classes))
    generator = build_generator(Shape(1, 16, len(classes)), config, seed=0)
    for key, weight in generator.named_parameters():
        if classes and ("scale" in key or "shift" in key):  # which are alike before training
            torch.nn.init.normal_(weight)
    about = {"shape": [1, 16], "networks": config.model_dump(), "experiment": {"dataset": "digits"}}
    about |= {"classes": {"names": list(classes), "shares": list(shares)}} if classes else {}
    save_weights(folder / "generator.safetensors", generator.state_dict(), about)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with an untrained generator of digits."""
    return saved(tmp_path_factory.mktemp("run"), "gan")


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator with classes."""
    return saved(tmp_path_factory.mktemp("conditional"), "sagan", CLASSES)


def drawn(generator: torch.nn.Module, code: Any, columns: int | None = None, least: int = 384) -> np.ndarray:
    """The picture of a generator's images."""
    return np.asarray(grids.picture(generate(generator, code), columns, least))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_sample_draws_a_class_by_name_or_number(gans, conditional, tmp_path):
    draw = ("sample", conditional, "--count", 4)
    for name in ("cat", "dog", "1", "3", "2"):
        assert gans(*draw, "--class", name, "--output", f"{name}.png")[0] == 0
    cat, dog, one, three, two = (pixels(tmp_path / f"{n}.png") for n in ("cat", "dog", "1", "3", "2"))
    assert not np.array_equal(cat, dog)
    assert np.array_equal(dog, one)
    assert np.array_equal(three, two)  # a name comes before a number
    # without a class they are of all, by their shares, from the same latents
    assert gans(*draw, "--output", "all.png")[0] == 0
    generator, about = load_generator(conditional / "generator.safetensors")
    code = Prior.from_about(about).sample(4, 0, "samples")
    assert torch.equal(code.z, latents.draw(4, 8, 0))
    assert code.labels is not None
    assert np.array_equal(pixels(tmp_path / "all.png"), drawn(generator, code))


@pytest.mark.parametrize("name", ["gan", "sagan", "r3gan"])  # one-hot, scales and shifts, an embedding
def test_interpolation_goes_from_class_to_class(gans, tmp_path, name):
    conditional = saved(tmp_path, name, CLASSES)
    way = ("interpolate", conditional, "--through", "0:1", "0:1", "--steps", 2, "--output", "way.png", "--force")
    generator, _ = load_generator(conditional / "generator.safetensors")
    z = latents.chosen(["0:1"] * 3, 8)
    assert gans(*way, "--classes", "cat", "dog")[0] == 0
    half = GeneratorInput(z, torch.tensor([[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0]]))
    images = generate(generator, half)
    assert torch.equal(images[[0, 2]], generate(generator, GeneratorInput(z[:2], torch.tensor([0, 1]))))
    assert not torch.equal(images[1], images[0])
    assert np.array_equal(pixels(tmp_path / "way.png"), drawn(generator, half, 3, 64))
    # one class all the way: from the same latent it is one image
    assert gans(*way, "--classes", "dog")[0] == 0
    still = GeneratorInput(z, torch.tensor([1, 1, 1]))
    assert np.array_equal(pixels(tmp_path / "way.png"), drawn(generator, still, 3, 64))


def test_a_walk_stays_within_a_class(gans, conditional, tmp_path):
    walk = ("walk", conditional, "--size", 2, "--through", "0:1", "0:2", "0:3", "--force", "--output", "w.png")
    pictures = []
    for words in ((), ("--class", 0), ("--class", 2)):
        assert gans(*walk, *words)[0] == 0
        pictures.append(Path("w.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_a_wrong_class_is_one_line(gans, conditional, folder, tmp_path):
    part = saved(tmp_path, "gan", CLASSES, (0.5, 0, 0.5))
    none = f"{folder} has no classes: it is not a conditional generator"
    for words, says in {
        ("sample", conditional, "--class", "cta"): "unknown class 'cta'; did you mean 'cat'?",
        ("sample", conditional, "--class", 7): "class 7 is not one of 3; they are counted from 0",
        ("sample", folder, "--class", 7): none,
        ("interpolate", folder, "--classes", 1, 2): none,
        ("sample", part, "--class", 1): f"class '{CLASSES[1]}' had no images in training; name another",
    }.items():
        assert gans(*words) == (2, "", f"error: {says}\n")
    code, _, error = gans("arithmetic", conditional, "--a", "cat", "--b", "dog", "--c", "0:1")
    assert (code, error.count("\n")) == (2, 1)
    assert "`gans sample --class`, or name latents in place of classes" in error


def test_sample_writes_the_same_picture_again(gans, folder, tmp_path):
    assert gans("sample", folder, "--count", 5, "--seed", 2) == (
        0,
        f"5 images in outputs/samples/samples-{folder.name}.png\n",
        "",
    )
    first = (tmp_path / f"outputs/samples/samples-{folder.name}.png").read_bytes()
    gans("sample", folder / "generator.safetensors", "--count", 5, "--seed", 2, "--output", "again.png")
    assert (tmp_path / "again.png").read_bytes() == first
    gans("sample", folder, "--count", 5, "--seed", 2, "--truncation", 0.5, "--output", "cut.png")
    assert (tmp_path / "cut.png").read_bytes() != first


def test_interpolation_as_a_strip_a_gif_and_a_video(gans, folder, tmp_path):
    import av

    words = ("interpolate", folder, "--rows", 2, "--stops", 3, "--steps", 4, "--output", "a.png", "a.gif", "a.mp4")
    assert gans(*words)[0] == 0
    first = {suffix: (tmp_path / f"a{suffix}").read_bytes() for suffix in (".png", ".gif", ".mp4")}
    with Image.open(tmp_path / "a.png") as strip:
        scale = strip.height / (2 * 17 + 1)
        assert scale.is_integer() and strip.width == scale * (9 * 17 + 1)
        assert scale * 16 >= 56  # pixels of an image, however many rows there are
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 12
        assert film.info["duration"] == 80
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert len(list(file.decode(video=0))) == 12
        assert float(file.streams.video[0].average_rate) == 12
    gans(*words, "--force")
    assert {suffix: (tmp_path / f"a{suffix}").read_bytes() for suffix in first} == first


def test_a_generator_that_draws_nan_is_bad_input(gans, folder, tmp_path):
    generator, about = load_generator(folder / "generator.safetensors")
    state = {k: v * math.nan if v.is_floating_point() else v for k, v in generator.state_dict().items()}
    save_weights(tmp_path / "nan.safetensors", state, about)
    sums = ("arithmetic", "nan.safetensors", "--a", "0:1", "--b", "0:2", "--c", "0:3")
    for words in (("walk", "nan.safetensors"), ("sample", "nan.safetensors"), sums):
        code, out, error = gans(*words)
        assert (code, out, error.count("\n")) == (2, "", 1)
        assert error.startswith("error: nan.safetensors: NaN among the pixels")


SUMS = ("--a", "0:1", "--b", "0:2", "--c", "0:3")
SMALL = {
    "sample": ("--count", 2),
    "walk": ("--size", 2, "--through", "0:1", "0:2", "0:3"),
    "arithmetic": SUMS,
    "interpolate": ("--rows", 1, "--stops", 2, "--steps", 1),
}


@pytest.mark.parametrize("command", SMALL)
def test_nothing_is_drawn_over_what_is_there(gans, folder, tmp_path, command, monkeypatch):
    gans(command, folder, *SMALL[command])
    first = {path: path.read_bytes() for path in (tmp_path / "outputs/samples").iterdir()}
    assert first
    for path in first:
        path.write_text("mine")
    assert gans(command, folder, *SMALL[command])[0] == 0
    assert all(path.read_text() == "mine" for path in first)
    second = {path.with_stem(f"{path.stem}-2"): content for path, content in first.items()}
    assert {path: path.read_bytes() for path in second} == second
    monkeypatch.setenv("GANS_OUTPUTS", str(tmp_path / "other"))
    gans(command, folder, *SMALL[command])
    assert {path.name for path in (tmp_path / "other/samples").iterdir()} == {path.name for path in first}

    (tmp_path / "own.png").write_text("mine")
    words = (command, folder, *SMALL[command], "--output", "own.png")
    with monkeypatch.context() as patch:
        patch.setattr("gans.runs.find.find_generator", lambda name: pytest.fail("it has begun"))
        says = "error: own.png exists; name another file, or overwrite it with --force\n"
        assert gans(*words) == (2, "", says)
    assert (tmp_path / "own.png").read_text() == "mine"
    assert gans(*words, "--force")[0] == 0
    assert pixels(tmp_path / "own.png").shape[1] > 16


@pytest.fixture
def parity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that separates bright images from dark ones and never sees a third class."""

    def classify(images: torch.Tensor) -> torch.Tensor:
        bright = images.float().mean(dim=(1, 2, 3))
        middle = bright.median()
        return torch.stack([bright - middle, middle - bright, torch.full_like(bright, -1e3)], dim=1)

    monkeypatch.setattr(arithmetic, "classifier", lambda about: (("Bright", "dark", "never"), classify))


@pytest.mark.usefixtures("parity")
def test_arithmetic_averages_the_samples_that_look_most_like_each_class(gans, folder, tmp_path):
    code, said, _ = gans("arithmetic", folder, "--a", "Bright", "--b", "dark", "--c", "0:1,0:2", "--among", 50)
    generator, _ = load_generator(folder / "generator.safetensors")
    means = generate(generator, latents.draw(50, 8, seed=0)).float().mean(dim=(1, 2, 3))
    order = means.argsort().tolist()
    bright, dark = ([f"0:{index}" for index in part] for part in (order[:-4:-1], order[:3]))
    assert code == 0
    assert said.splitlines() == [
        f"a = Bright: {','.join(bright)}",
        f"b = dark: {','.join(dark)}",
        "c = 0:1,0:2: 0:1,0:2",
        f"a - b + c in outputs/samples/arithmetic-{folder.name}.png",
    ]
    # the latents that were printed give the same picture but for the names above the columns
    same = ("--a", ",".join(bright), "--b", ",".join(dark), "--c", "0:1,0:2", "--output", "b.png")
    gans("arithmetic", folder, *same)
    first = tmp_path / f"outputs/samples/arithmetic-{folder.name}.png"
    assert np.array_equal(pixels(tmp_path / "b.png")[24:], pixels(first)[24:])


def test_the_pinned_classifier_tells_real_digits():
    from gans.data import datasets

    digits = datasets.load("digits")
    names, classify = arithmetic.classifier({"experiment": {"dataset": "digits"}, "shape": [1, 16]})
    assert names == tuple("0123456789")
    right = classify(digits.test).argmax(dim=1) == digits.test_labels
    assert right.double().mean() > 0.97  # its card says 0.99
    with pytest.raises(InputError, match=r"Digits at 32x32 has no classifier"):
        arithmetic.classifier({"experiment": {"dataset": "digits"}, "shape": [1, 32]})


BAD: list[tuple[tuple[Any, ...], str]] = [
    (("interpolate", "FOLDER", "--output", "a.webm"), "'.webm' cannot be written; take .png or .gif or .mp4"),
    (("interpolate", "FOLDER", "--through", "0:1"), "--through takes 2 latents or more"),
    (("interpolate", "FOLDER", "--through", "0:1", "x"), "'x' is not a latent; 0:17 is"),
    (("arithmetic", "FOLDER", "--a", "brigt", "--b", "dark", "--c", "dark"), "did you mean 'Bright'?"),
    (("arithmetic", "FOLDER", "--a", "never", "--b", "dark", "--c", "dark"), "only 0 of 2000 samples look like"),
    (("arithmetic", "FOLDER", "--a", "0:1", "--b", "0:x", "--c", "0:1"), "'0:x' is not a latent"),
    (("sample", "nowhere"), "no file, folder or run 'nowhere'"),
]


@pytest.mark.usefixtures("parity")
@pytest.mark.parametrize(("words", "said"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_bad_input_is_one_line_and_exit_code_2(gans, folder, tmp_path, words, said):
    code, out, error = gans(*(folder if word == "FOLDER" else word for word in words))
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert said in error
    assert list(tmp_path.iterdir()) == []


def test_the_begin_of_two_runs_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    store = Store()
    runs = [recorded(store, "train", name, {}) for name in ("gan/digits/0", "bench")]
    found = [store.client.get_run(run.id) for run in runs]
    monkeypatch.setattr("mlflow.MlflowClient.search_runs", lambda *_, **__: found)
    with pytest.raises(InputError, match=r"2 runs begin with 'abcd': .*\(gan/digits/0\), .*\(bench\)"):
        find_generator("abcd")
