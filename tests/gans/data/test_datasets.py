"""Named data sets: exact pixels against a second reading of the same bytes."""

from __future__ import annotations

import pickle
import struct
import tarfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets as torchvision_datasets

from gans.data import datasets
from gans.registry import DATASETS
from tests.gans.data.conftest import SHARED, refusal

needs_mnist = pytest.mark.skipif(not (SHARED / "MNIST/raw/t10k-images-idx3-ubyte").is_file(), reason="no MNIST")


def bilinear_matrix(before: int, after: int) -> np.ndarray:
    """Row i: the weights of the `before` pixels in enlarged pixel i (half-pixel centres, edges repeated)."""
    centres = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    return np.clip(1 - np.abs(centres[:, None] - np.arange(before)), 0, None)


@pytest.mark.parametrize("resolution", [16, 32])
def test_digits_are_those_of_scikit_learn(resolution):
    loaded = datasets.load("digits", resolution=resolution)
    bunch = load_digits()
    weights = bilinear_matrix(8, resolution)
    levels = np.rint(bunch.images * 255 / 16)
    expected = weights @ levels @ weights.T
    seen: dict[int, int] = dict.fromkeys(range(10), 0)
    rows = {True: iter(zip(loaded.test, loaded.test_labels, strict=True))}
    rows[False] = iter(zip(loaded.train, loaded.train_labels, strict=True))
    undo = np.linalg.pinv(weights)
    for image, original, label in zip(expected, bunch.images, bunch.target, strict=True):
        held_out = seen[int(label)] % 5 == 2  # the third of every five of a class
        seen[int(label)] += 1
        pixels, got = next(rows[held_out])
        assert got == label
        assert np.abs(pixels[0].numpy() - image).max() <= 1  # Pillow rounds twice
        assert np.array_equal(np.rint(undo @ pixels[0].numpy() @ undo.T * 16 / 255), original)
    assert next(rows[True], None) is None and next(rows[False], None) is None


def test_cifar10_as_jpeg_is_read_from_its_archive(root, tmp_path):
    colours = {"frog": (0, 200, 40), "ship": (10, 20, 220)}
    root.mkdir()
    with tarfile.open(root / "cifar10-jpeg.tar.xz", "w:xz") as archive:
        for split, count in (("train", 3), ("test", 2)):
            for name, colour in colours.items():
                Image.new("RGB", (32, 32), colour).save(tmp_path / f"{name}.jpg", quality=95)
                for index in range(count):
                    archive.add(tmp_path / f"{name}.jpg", f"{split}/{name}/{index:04}.jpg")
    loaded = datasets.load("cifar10-jpeg")
    assert (loaded.name, loaded.title, loaded.classes) == ("cifar10-jpeg", "CIFAR-10 (JPEG)", ("frog", "ship"))
    assert (loaded.train_labels.tolist(), loaded.test_labels.tolist()) == ([0, 0, 0, 1, 1, 1], [0, 0, 1, 1])
    expected = torch.tensor([colours[loaded.classes[label]] for label in loaded.train_labels.tolist()])
    assert (loaded.train.float().mean((2, 3)) - expected).abs().max() < 3  # JPEG's rounding
    assert datasets.load("cifar10-jpeg", resolution=64).train.shape == (6, 3, 64, 64)


def write_mnist(root: Path, folder="MNIST", seed=0) -> dict[str, np.ndarray]:
    """A small data set in MNIST's own format, written from its description."""
    generator = np.random.default_rng(seed)
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    written = {}
    for part, n in (("train", 7), ("t10k", 3)):
        images = generator.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = generator.integers(0, 10, n, dtype=np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, n, 28, 28) + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, n) + labels.tobytes())
        written |= {part: images, f"{part}-labels": labels}
    return written


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_idx_files_are_padded_exactly(root, name, folder):
    written = write_mnist(root, folder)
    loaded = datasets.load(name)
    assert np.array_equal(loaded.train.numpy()[:, 0], np.pad(written["train"], ((0, 0), (2, 2), (2, 2))))
    assert np.array_equal(loaded.test.numpy()[:, 0], np.pad(written["t10k"], ((0, 0), (2, 2), (2, 2))))
    assert loaded.test_labels.tolist() == written["t10k-labels"].tolist()
    assert len(loaded.classes) == 10


def test_cifar10_planes_are_red_green_blue(root, monkeypatch):
    # the published format: each row 1024 red, 1024 green, 1024 blue values, row by row
    rows = np.random.default_rng(0).integers(0, 256, (6, 3072), dtype=np.uint8)
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, content in {
        "data_batch_1": {"data": rows[:4], "labels": [3, 1, 4, 1]},
        "test_batch": {"data": rows[4:], "labels": [5, 9]},
        "batches.meta": {"label_names": list("abcdefghij")},
    }.items():
        (folder / name).write_bytes(pickle.dumps(content))
    cifar = torchvision_datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", [["data_batch_1", None]])
    monkeypatch.setattr(cifar, "test_list", [["test_batch", None]])
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": None})
    loaded = datasets.load("cifar10")
    assert np.array_equal(loaded.train.numpy(), rows[:4].reshape(4, 3, 32, 32))
    assert loaded.test_labels.tolist() == [5, 9] and loaded.classes == tuple("abcdefghij")
    assert loaded.train.is_contiguous() and loaded.title == "CIFAR-10"


@needs_mnist
def test_real_mnist():
    loaded = datasets.load("mnist", root=SHARED)
    assert (loaded.train.shape, loaded.test.shape) == ((60_000, 1, 32, 32), (10_000, 1, 32, 32))
    raw = np.fromfile(SHARED / "MNIST/raw/t10k-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 28, 28)
    assert np.array_equal(loaded.test.numpy()[:, 0, 2:30, 2:30], raw)
    assert int(loaded.test.sum()) == int(raw.sum())  # so the padding is black
    assert loaded.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    # as published: https://yann.lecun.com/exdb/mnist
    assert torch.bincount(loaded.train_labels).tolist() == [
        *(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
    ]


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_without_network_one_line_says_what_to_do(root, name, monkeypatch, capfd):
    def offline(*args, **options):
        raise URLError("Name or service not known")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", offline)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", offline)
    message = refusal(name)
    assert str(root) in message and "GANS_DATA" in message and "Name or service not known" in message
    assert capfd.readouterr() == ("", "")


def test_complete_files_need_neither_network_nor_write_access(root, monkeypatch):
    write_mnist(root)

    def refuse(*args, **options):
        raise PermissionError("read-only")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", refuse)
    monkeypatch.setattr("os.makedirs", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert len(datasets.load("mnist").train) == 7


@pytest.mark.parametrize("size", [0, 10, 500])
def test_cut_idx_file_is_called_damaged(root, size):
    write_mnist(root)
    file = root / "MNIST/raw/train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:size])
    assert "is damaged" in refusal("mnist")


# Names and loading


def test_unknown_name_suggests_the_nearest():
    assert "did you mean 'mnist'?" in refusal("minst")
    assert "folder:PATH" in refusal("folder")
    assert "folder:PATH" in refusal("folder:")


def test_second_load_comes_from_memory(root, tmp_path, monkeypatch):
    write_mnist(root)
    write_mnist(tmp_path / "other", seed=1)
    first = datasets.load("mnist")
    assert datasets.load("mnist") is first
    assert datasets.load("mnist", resolution=16).resolution == 16
    assert datasets.load("mnist", root=tmp_path / "other").hash != first.hash
    monkeypatch.setitem(DATASETS.entries, "mnist", "gans.data.datasets:digits")  # another function under the name
    assert datasets.load("mnist").title == "Digits"
