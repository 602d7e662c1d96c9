"""Named data sets: exact pixels against a second reading of the same bytes."""

from __future__ import annotations

import pickle
import struct
import tarfile
from hashlib import md5
from pathlib import Path
from string import ascii_lowercase
from urllib.error import URLError

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from scipy.io import savemat
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


def write_mnist(root: Path, folder="MNIST", seed=0, parts=("train", "t10k")) -> dict[str, np.ndarray]:
    """A small data set in MNIST's own format, written from its description."""
    generator = np.random.default_rng(seed)
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    written = {}
    for part, n in zip(parts, (7, 3), strict=True):
        images = generator.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = generator.integers(0, 10, n, dtype=np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, n, 28, 28) + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, n) + labels.tobytes())
        written |= {part: images, f"{part}-labels": labels}
    return written


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_idx_files_are_padded_exactly(root, name, folder):
    written = write_mnist(root, folder)
    loaded = datasets.load(name)
    assert np.array_equal(loaded.train.numpy()[:, 0], np.pad(written["train"], ((0, 0), (2, 2), (2, 2))))
    assert np.array_equal(loaded.test.numpy()[:, 0], np.pad(written["t10k"], ((0, 0), (2, 2), (2, 2))))
    assert loaded.test_labels.tolist() == written["t10k-labels"].tolist()
    assert len(loaded.classes) == 10


def test_emnist_is_upright_and_its_letters_begin_at_a(root):
    parts = ("emnist-letters-train", "emnist-letters-test")
    written = write_mnist(root, "EMNIST", parts=parts)
    for part, labels in zip(parts, ([1, 26, 2, 3, 4, 5, 6], [1, 2, 26]), strict=True):
        content = struct.pack(">2i", 2049, len(labels)) + bytes(labels)
        (root / f"EMNIST/raw/{part}-labels-idx1-ubyte").write_bytes(content)
    loaded = datasets.load("emnist-letters")
    assert np.array_equal(loaded.train.numpy()[:, 0, 2:30, 2:30], written[parts[0]].transpose(0, 2, 1))
    assert loaded.test_labels.tolist() == [0, 1, 25] and "".join(loaded.classes) == ascii_lowercase


def sums(folder: Path, *names: str) -> list[list[str]]:
    """A table of torchvision's: the files of a folder with their checksums."""
    return [[name, md5((folder / name).read_bytes()).hexdigest()] for name in names]


@pytest.mark.parametrize(
    ("name", "cifar", "files", "folder", "labels", "names"),
    [
        ("cifar10", "CIFAR10", ("data_batch_1", "test_batch"), "cifar-10-batches-py", "labels", "label_names"),
        ("cifar100", "CIFAR100", ("train", "test"), "cifar-100-python", "fine_labels", "fine_label_names"),
    ],
)
def test_cifar_planes_are_red_green_blue(root, monkeypatch, name, cifar, files, folder, labels, names):
    # the published format: each row 1024 red, 1024 green, 1024 blue values, row by row
    rows = np.random.default_rng(0).integers(0, 256, (6, 3072), dtype=np.uint8)
    cifar, folder = getattr(torchvision_datasets, cifar), root / folder
    folder.mkdir(parents=True)
    meta = cifar.meta["filename"]
    for file, content in {
        files[0]: {"data": rows[:4], labels: [3, 1, 4, 1], "coarse_labels": [0] * 4},
        files[1]: {"data": rows[4:], labels: [5, 9], "coarse_labels": [0] * 2},
        meta: {names: list("abcdefghij")},
    }.items():
        (folder / file).write_bytes(pickle.dumps(content))
    monkeypatch.setattr(cifar, "train_list", sums(folder, files[0]))
    monkeypatch.setattr(cifar, "test_list", sums(folder, files[1]))
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": sums(folder, meta)[0][1]})
    loaded = datasets.load(name)
    assert np.array_equal(loaded.train.numpy(), rows[:4].reshape(4, 3, 32, 32))
    assert loaded.test_labels.tolist() == [5, 9] and loaded.classes == tuple("abcdefghij")
    assert loaded.train.is_contiguous() and loaded.title == name.upper().replace("R1", "R-1")
    (folder / files[0]).write_bytes(pickle.dumps({"data": rows[:1], labels: [0]}))  # not of that checksum
    datasets._load_named.cache_clear()
    monkeypatch.setattr("urllib.request.urlopen", offline)
    assert "or is damaged there" in refusal(name)


def test_svhn_is_read_from_matlab_files(root, monkeypatch):
    # the published format: X is (height, width, channel, image), the digit 0 has the label 10
    generator, table = np.random.default_rng(0), {}
    root.mkdir()
    for split, labels in {"train": [10, 1, 9], "test": [2, 10]}.items():
        pixels = generator.integers(0, 256, (32, 32, 3, len(labels)), dtype=np.uint8)
        savemat(root / f"{split}_32x32.mat", {"X": pixels, "y": np.array(labels, np.uint8)[:, None]})
        table[split] = ["", *sums(root, f"{split}_32x32.mat")[0]]
    monkeypatch.setattr(torchvision_datasets.SVHN, "split_list", table)
    loaded = datasets.load("svhn")
    assert np.array_equal(loaded.test.numpy(), pixels.transpose(3, 2, 0, 1))
    assert loaded.train_labels.tolist() == [0, 1, 9] and loaded.test_labels.tolist() == [2, 0]
    assert loaded.classes == tuple("0123456789")


@pytest.fixture
def stl10(root, monkeypatch) -> dict[str, np.ndarray]:
    """Images by split, written in the published format: planes of columns, labels from 1."""
    folder, generator = root / "stl10_binary", np.random.default_rng(0)
    folder.mkdir(parents=True)
    images = {}
    for split, labels in {"train": [10, 1, 2], "test": [3, 10], "unlabeled": [0] * 4}.items():
        images[split] = generator.integers(0, 256, (len(labels), 3, 96, 96), dtype=np.uint8)
        images[split].transpose(0, 1, 3, 2).tofile(folder / f"{split}_X.bin")
        np.array(labels, np.uint8).tofile(folder / f"{split}_y.bin")
    (folder / "class_names.txt").write_text("\n".join("abcdefghij"))
    stl10 = torchvision_datasets.STL10
    monkeypatch.setattr(stl10, "train_list", sums(folder, "train_X.bin", "train_y.bin", "unlabeled_X.bin"))
    monkeypatch.setattr(stl10, "test_list", sums(folder, "test_X.bin", "test_y.bin"))
    return images


def test_stl10_has_labelled_and_unlabelled_images(stl10):
    loaded, unlabeled = datasets.load("stl10"), datasets.load("stl10-unlabeled")
    assert np.array_equal(loaded.train.numpy(), stl10["train"])
    assert (loaded.train_labels.tolist(), loaded.test_labels.tolist()) == ([9, 0, 1], [2, 9])
    assert loaded.classes == tuple("abcdefghij")
    assert np.array_equal(unlabeled.train.numpy(), stl10["unlabeled"])
    assert (unlabeled.train_labels, unlabeled.test_labels, unlabeled.classes) == (None, None, ())


def test_celeba_is_the_central_square_resized(root, monkeypatch):
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{index:06}.jpg" for index in range(1, 7)]
    for index, name in enumerate(names):
        face = Image.new("RGB", (178, 218), "black")
        face.paste((40 * index, 200, 90), (0, 20, 178, 198))  # the central 178 x 178
        face.save(folder / "img_align_celeba" / name, quality=100, subsampling=0)
    for file, header, values in (
        ("list_eval_partition.txt", "", lambda index: "001202"[index]),
        ("identity_CelebA.txt", "", lambda index: "7"),
        ("list_attr_celeba.txt", "5\nBald Young\n", lambda index: "-1  1"),
        ("list_bbox_celeba.txt", "5\nimage_id x_1 y_1 width height\n", lambda index: "1 2 3 4"),
        ("list_landmarks_align_celeba.txt", f"5\n{'x ' * 10}\n", lambda index: "1 " * 9 + "1"),
    ):
        lines = (f"{name} {values(index)}\n" for index, name in enumerate(names))
        (folder / file).write_text(header + "".join(lines))
    celeba = torchvision_datasets.CelebA
    listed = [("", md5, file) for file, md5 in sums(folder, *(file for *_, file in celeba.file_list[1:]))]
    monkeypatch.setattr(celeba, "file_list", listed)
    for side in (None, 32):
        loaded = datasets.load("celeba", resolution=side)
        assert loaded.train.shape == (3, 3, side or 64, side or 64) and len(loaded.test) == 2
        expected = torch.tensor([[40 * index, 200, 90] for index in (0, 1, 4)])
        assert (loaded.train - expected[:, :, None, None]).abs().max() < 15  # JPEG's, at the edge
        assert loaded.train_labels is None and loaded.classes == ()
    (folder / "img_align_celeba" / names[0]).unlink()
    datasets._load_named.cache_clear()
    assert datasets.load("celeba").hash == datasets.load("celeba").hash  # decoded images are kept
    assert names[0] in refusal("celeba", resolution=16)


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


def test_memory_is_checked_before_a_set_is_read(monkeypatch):
    memory = psutil.virtual_memory()._replace(available=2 * 108_000 * 3 * 96 * 96 - 1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(torchvision_datasets, "STL10", lambda *args, **options: pytest.fail("was read"))
    says = "STL-10 (unlabeled): 108,000 images of 96 x 96 need 6.0 GB of memory, 6.0 GB are free"
    assert says in refusal("stl10-unlabeled")


def offline(*args, **options):
    raise URLError("Name or service not known")


TO_DOWNLOAD = [name for name in DATASETS if name not in ("digits", "cifar10-jpeg")]


@pytest.mark.parametrize("name", TO_DOWNLOAD)
def test_without_network_one_line_says_what_to_do(root, name, monkeypatch, capfd):
    monkeypatch.setattr("urllib.request.urlopen", offline)
    message = refusal(name)
    assert str(root) in message and "GANS_DATA" in message
    assert ("gdown" if name == "celeba" else "Name or service not known") in message
    assert capfd.readouterr() == ("", "")


def test_the_command_says_what_a_set_is_and_whether_it_is_here(root, gans, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", offline)
    write_mnist(root)
    code, listed, _ = gans("data")
    assert code == 0 and set(DATASETS) <= {line.partition(":")[0] for line in listed.splitlines()}
    assert f"yes, {root / 'MNIST/raw'}" in listed and "no: gans data get svhn" in listed
    assert "non-commercial use only" in listed and "5.8 GB on disk" in listed
    assert gans("data", "get", "mnist")[0] == 0
    code, listed, said = gans("data", "get", "svhn")
    assert (code, listed, len(said.splitlines())) == (2, "", 1) and "Name or service not known" in said


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
    monkeypatch.setitem(DATASETS.entries, "mnist", "gans.data.published:DIGITS")  # another function under the name
    assert datasets.load("mnist").title == "Digits"
