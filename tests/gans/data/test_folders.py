"""Folders and archives: the same images however they are packed, and every way a folder can be bad."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import socket
import struct
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from gans.data import datasets, folders, listing
from gans.data.images import ImageData
from tests.gans.data.conftest import SHARED, refusal

CIFAR10_JPEG = SHARED / "cifar10-jpeg.tar.xz"


def write_images(folder: Path, names, mode="RGB", size=(20, 20), seed=0) -> Path:
    generator = np.random.default_rng(seed)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(file)
    return folder


@pytest.fixture
def tree(tmp_path) -> Path:
    """30 colour images of 20 x 20 in three class folders."""
    return write_images(tmp_path / "tree", [f"{kind}/{i}.png" for kind in "abc" for i in range(10)])


def load_folder(path: Path, **options) -> ImageData:
    return datasets.load(f"folder:{path}", **options)


def load_afresh(path: Path, **options) -> ImageData:
    """As another process would: not from this one's memory."""
    folders.cached_folder.cache_clear()
    return load_folder(path, **options)


def zipped(folder: Path, file: Path, prefix="", compression=zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(file, "w", compression) as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            archive.write(path, prefix + path.relative_to(folder).as_posix())
    return file


def tarred(folder: Path, file: Path, prefix="", mode="w:xz") -> Path:
    with tarfile.open(file, mode) as archive:
        archive.add(folder, prefix or ".")
    return file


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises width x height pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


# Directories and archives


def test_folder_splits_labels_and_pads(tree):
    loaded = load_folder(tree)
    assert (loaded.title, loaded.classes, loaded.skipped) == ("tree", ("a", "b", "c"), 0)
    assert (loaded.train.shape, loaded.test.shape) == ((27, 3, 32, 32), (3, 3, 32, 32))
    names = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.png"))
    held_out = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:3]
    expected = {"train": [n for n in names if n not in held_out], "test": sorted(held_out)}
    for part, files in expected.items():
        images = np.stack([np.pad(np.asarray(Image.open(tree / n)), ((6, 6), (6, 6), (0, 0))) for n in files])
        assert np.array_equal(getattr(loaded, part).numpy(), images.transpose(0, 3, 1, 2))
        assert getattr(loaded, f"{part}_labels").tolist() == ["abc".index(n[0]) for n in files]


@pytest.mark.parametrize("file", ["t.zip", "t.tar", "t.tar.gz", "t.tgz", "t.tar.bz2", "t.tar.xz"])
@pytest.mark.parametrize("prefix", ["", "some/where/"])
def test_archives_equal_the_folder(tree, tmp_path, file, prefix):
    mode = {"gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz", "tar": "w"}
    path = tmp_path / file
    if file.endswith("zip"):
        zipped(tree, path, prefix)
    else:
        tarred(tree, path, prefix, mode[file.rpartition(".")[2]])
    folder, archive = load_folder(tree), load_folder(path)
    assert archive.hash == folder.hash and archive.classes == folder.classes and archive.title == "t"
    for part in ("train", "test", "train_labels", "test_labels"):
        assert torch.equal(getattr(archive, part), getattr(folder, part))


@pytest.mark.parametrize("held_out", ["test", "val", "valid"])
def test_top_level_folders_are_the_splits(tmp_path, held_out, caplog):
    path = tmp_path / "images"
    write_images(path / "train", [f"{kind}/{i}.png" for kind in "xy" for i in range(4)])
    write_images(path / held_out, ["x/1.png", "y/1.png"], seed=1)
    write_images(path, ["stray.png"], seed=2)
    loaded = load_folder(path)
    assert (len(loaded.train), len(loaded.test), loaded.classes) == (8, 2, ("x", "y"))
    assert loaded.test_labels.tolist() == [0, 1]
    assert np.array_equal(
        loaded.test[1, :, 6:26, 6:26].permute(1, 2, 0).numpy(), np.asarray(Image.open(path / held_out / "y/1.png"))
    )
    assert "1 images are in neither train nor" in caplog.text


@pytest.mark.parametrize("names", [["1.png", "2.png"], ["a/1.png", "a/2.png"], ["1.png", "a/2.png", "b/3.png"]])
def test_unlabelled_folders(tmp_path, names):
    loaded = load_folder(write_images(tmp_path / "images", names))
    assert loaded.classes == () and loaded.train_labels is None and loaded.test_labels is None
    assert len(loaded.test) == 1


def test_names_of_images_are_those_of_torchvision_and_more():
    assert {*IMG_EXTENSIONS, ".gif", ".jfif", ".jpe", ".pbm", ".pnm", ".apng"} <= folders.suffixes()
    assert not {".txt", ".eps", ".pdf", ".mpg", ".npz"} & folders.suffixes()


def test_hidden_files_and_other_files_are_ignored(tree):
    expected = load_folder(tree).hash
    for name in ("__MACOSX/a/1.png", "a/._1.png", ".DS_Store", ".hidden/1.png", "README.txt"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"junk")
    loaded = load_folder(tree)
    assert (loaded.hash, loaded.skipped) == (expected, 0)


def test_names_that_lead_out_of_the_archive_are_ignored(tree, tmp_path):
    path = zipped(tree, tmp_path / "t.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(tree / "a/0.png", "../../evil.png")
    assert load_folder(path).hash == load_folder(tree).hash
    assert not list(tmp_path.parent.glob("evil.png"))


def test_composed_and_decomposed_names_are_one_name(tmp_path):
    composed = write_images(tmp_path / "c", [f"é{i}.png" for i in range(12)])
    decomposed = write_images(tmp_path / "d", [f"e\u0301{i}.png" for i in range(12)])
    assert load_folder(composed).hash == load_folder(decomposed).hash


def test_linked_folders_are_followed_and_loops_are_not(tree, tmp_path):
    expected = load_folder(tree).hash
    linked = tmp_path / "linked"
    tree.rename(linked)
    (linked / "d").mkdir()
    for kind in "abc":
        (linked / kind).rename(linked / "d" / kind)
        (linked / kind).symlink_to(linked / "d" / kind)  # comes before d: each folder is entered once
    (linked / "loop").symlink_to(linked)
    loaded = load_folder(linked)
    assert (loaded.hash, loaded.skipped, loaded.remarks) == (expected, 0, ())


def test_hash_changes_with_one_pixel_and_with_one_label(tree):
    before = load_folder(tree).hash
    image = Image.open(tree / "b/3.png")
    image.putpixel((4, 5), tuple(value ^ 1 for value in image.getpixel((4, 5))))
    image.save(tree / "b/3.png")
    pixel = load_folder(tree).hash
    (tree / "b").rename(tree / "d")
    assert len({before, pixel, load_folder(tree).hash}) == 3


def test_broken_images_are_named_counted_and_left_out(tree, caplog):
    expected = load_folder(tree).train
    whole = (tree / "a/0.png").read_bytes()
    (tree / "a/not-an-image.png").write_text("hello")
    (tree / "a/cut.png").write_bytes(whole[: len(whole) // 2])
    (tree / "a/empty.jpg").touch()
    Image.fromarray(np.zeros((20, 20), np.float32)).save(tree / "a/float.tiff")
    with caplog.at_level(logging.WARNING, "gans"):
        loaded = load_folder(tree)
    assert loaded.skipped == 4 and len(loaded.train) + len(loaded.test) == 30
    assert torch.equal(loaded.train, expected)
    for name in ("not-an-image.png", "cut.png", "empty.jpg", "float.tiff"):
        assert sum(f"a/{name} is broken" in line for line in caplog.messages) == 1
    assert load_afresh(tree).skipped == 4  # from the cache


@pytest.mark.parametrize("side", [10_000, 40_000])  # above Pillow's warning, above its error
def test_decompression_bomb_is_refused(tree, side):
    (tree / "c/bomb.png").write_bytes(png_that_claims(side, side))
    message = refusal(f"folder:{tree}")
    assert "c/bomb.png" in message and "89,478,485 pixels" in message


def test_declared_size_is_refused_unread(tree, tmp_path, monkeypatch):
    path = zipped(tree, tmp_path / "t.zip")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *args: pytest.fail("was read"))
    assert "too many for an image" in refusal(f"folder:{path}")


def test_mixed_channels_are_counted(tree):
    write_images(tree, ["a/grey1.png", "b/grey2.png"], mode="L")
    message = refusal(f"folder:{tree}")
    assert "2 grey and 30 colour" in message and "convert" in message


def test_nothing_to_load(tmp_path, tree):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "has no image" in refusal(f"folder:{empty}")
    assert "has no image" in refusal(f"folder:{zipped(empty, tmp_path / 'e.zip')}")
    assert "has no image" in refusal(f"folder:{tarred(empty, tmp_path / 'e.tar.xz')}")
    assert "1 sound images" in refusal(f"folder:{write_images(tmp_path / 'one', ['1.png'])}")
    assert "does not exist" in refusal(f"folder:{tmp_path}/missing")
    assert "no directory, zip or tar" in refusal(f"folder:{tree}/a/0.png")


def test_no_permission(tree, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(listing, "_open", refuse)  # not by chmod, which does not stop root
    message = refusal(f"folder:{tree}")
    assert "no permission to read" in message and ".png" in message


@pytest.mark.parametrize(("mode", "suffix"), [("w", "tar"), ("w:gz", "tar.gz"), ("w:xz", "tar.xz")])
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_cut_archive_is_refused(tree, tmp_path, mode, suffix, keep):
    path = tarred(tree, tmp_path / f"t.{suffix}", mode=mode)
    content = path.read_bytes()
    end = len(content.rstrip(b"\0"))
    path.write_bytes(content[: int(end * keep)])
    assert "damaged" in refusal(f"folder:{path}")


def test_damaged_headers_and_members_are_refused(tree, tmp_path):
    path = tarred(tree, tmp_path / "t.tar", mode="w")
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        header = archive.getmembers()[10].offset
    path.write_bytes(content[: header + 100])  # cut within a header: tarfile alone takes it for the end
    assert "damaged" in refusal(f"folder:{path}")
    content[header] ^= 1  # a wrong checksum: so it does
    path.write_bytes(content)
    assert "damaged" in refusal(f"folder:{path}")

    path = zipped(tree, tmp_path / "t.zip")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "damaged" in refusal(f"folder:{path}")


def test_more_images_than_memory(tree, monkeypatch):
    memory = psutil.virtual_memory()._replace(available=2 * 30 * 3 * 64 * 64 - 1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert "ask for a smaller resolution" in refusal(f"folder:{tree}", resolution=64)
    assert load_folder(tree, resolution=32).resolution == 32


@pytest.mark.parametrize(
    ("size", "resolution"), [((5, 9), 16), ((16, 40), 16), ((40, 17), 32), ((90, 65), 128), ((300, 400), 128)]
)
def test_default_resolution_of_a_folder(tmp_path, size, resolution):
    write_images(tmp_path / "images", ["a.png", "b.png", "c.png"], size=size)
    write_images(tmp_path / "images", ["d.png"], size=(150, 150))
    assert load_folder(tmp_path / "images").resolution == resolution


# Modes of Pillow


def modes_of_grey(levels: np.ndarray) -> dict[str, Image.Image]:
    grey = Image.fromarray(levels)
    palette = Image.fromarray(255 - levels, "P")
    palette.putpalette(bytes(itertools.chain.from_iterable([255 - i] * 3 for i in range(256))))
    return {
        "L": grey,
        "LA": Image.merge("LA", [grey, Image.new("L", grey.size, 255)]),
        "I;16": Image.fromarray(levels.astype(np.uint16) * 257),
        "I": Image.fromarray(levels.astype(np.int32) * 257),  # as Pillow opens a PGM of 16 bits
        "P": palette,
    }


@pytest.mark.parametrize("mode", ["L", "LA", "I;16", "I", "P"])
def test_grey_modes_keep_all_levels(mode, tmp_path):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    suffix = "pgm" if mode == "I" else "png"
    for i in range(2):
        modes_of_grey(levels)[mode].save(tmp_path / f"{i}.{suffix}")
    assert Image.open(tmp_path / f"0.{suffix}").mode == mode
    assert np.array_equal(load_folder(tmp_path).train[0, 0].numpy(), levels)


def turned(image: Image.Image) -> Image.Image:
    """An image whose camera was held on its left side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image.info["exif"] = exif.tobytes()
    return image


def test_orientation_is_applied(tmp_path):
    lying = np.zeros((16, 16), np.uint8)
    lying[0, 3] = 255  # row 0, column 3 -> row 3, last column
    for i in range(2):
        image = turned(Image.fromarray(lying))
        image.save(tmp_path / f"{i}.png", exif=image.info["exif"])
    assert load_folder(tmp_path).train[0, 0].nonzero().tolist() == [[3, 15]]


# The cache


def cache_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*"))


def test_second_load_decodes_nothing(tree, root, monkeypatch):
    first = load_folder(tree)
    (file,) = cache_files(root / "cache")
    assert file.stat().st_mode & 0o777 == 0o644
    monkeypatch.setattr(folders, "_decode_folder", lambda *args: pytest.fail("decoded again"))
    second = load_afresh(tree)
    assert torch.equal(first.train, second.train) and torch.equal(first.test_labels, second.test_labels)
    assert (first.hash, first.classes, first.title) == (second.hash, second.classes, second.title)


def test_cache_is_keyed_by_files_and_resolution(tree, root):
    load_folder(tree)
    load_folder(tree, resolution=64)
    assert len(cache_files(root / "cache")) == 2
    touch(tree / "a/1.png")
    load_folder(tree)
    assert len(cache_files(root / "cache")) == 3


@pytest.mark.parametrize("spoil", [lambda content: content[:-1000], lambda content: content[:-5] + b"other"])
def test_spoiled_cache_is_found_and_rebuilt(tree, root, caplog, spoil):
    first = load_folder(tree)
    (file,) = cache_files(root / "cache")
    file.write_bytes(spoil(file.read_bytes()))
    again = load_afresh(tree)
    assert "is damaged; the images are decoded again" in caplog.text
    assert again.hash == first.hash and again.classes == first.classes
    caplog.clear()
    assert load_afresh(tree).hash == first.hash and not caplog.messages  # sound again


def test_cache_falls_back_to_the_user_then_to_none(tree, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    first = load_folder(tree, root=tmp_path / "file")
    assert len(cache_files(tmp_path / "user-cache/gans")) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load_afresh(tree, root=tmp_path / "file").hash == first.hash


def touch(file: Path) -> None:
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def test_memory_follows_the_files(tree, root):
    first = load_folder(tree)
    (file,) = cache_files(root / "cache")
    file.unlink()
    assert load_folder(tree) is first
    image = tree / "a/1.png"
    another = image.with_name("another.png")
    changes = {
        "touched": lambda: touch(image),
        "added": lambda: another.write_bytes(image.read_bytes()),
        "renamed": lambda: another.rename(image.with_name("renamed.png")),
        "removed": image.unlink,
    }
    for change in changes.values():
        change()
        again = load_folder(tree)
        assert again is not first
        first = again
    tree.rename(tree.with_name("elsewhere"))
    assert "does not exist" in refusal(f"folder:{tree}")


# Odd files: used, or named with the reason


def test_an_image_is_known_by_its_content_whatever_its_name(tree):
    expected = load_folder(tree).hash
    for place, file in enumerate(sorted(tree.rglob("*.png"))):
        # sorted as before, so that the split is the same but for the names
        file.rename(file.with_name(f"{file.stem}{('.jfif', '.JPE', '', '.txt')[place % 4]}"))
    (tree / "notes.txt").write_text("Python has a magic number that looks like a PPM's: Py")
    loaded = load_folder(tree)
    assert len(loaded.train) + len(loaded.test) == 30 and loaded.skipped == 0
    assert loaded.remarks == ("left out: 1 of no known kind of image (notes.txt)",)
    assert expected != loaded.hash  # other names, another split


@pytest.mark.parametrize("suffix", ["zip", "tar.bz2"])
def test_an_archive_that_unpacks_to_more_than_images_do_is_refused(tmp_path, monkeypatch, suffix):
    """Small files, each within its limit, of zeros: a few kilobytes that have no end."""
    monkeypatch.setattr(listing, "UNPACKED", 2**22)
    monkeypatch.setattr(listing, "UNPACKED_TIMES", 10)
    for name, many in (("small", 3), ("large", 9)):
        (tmp_path / name).mkdir()
        for n in range(many):
            (tmp_path / name / f"{n}.bin").write_bytes(bytes(2**19))
        for side in (8, 9):
            Image.new("L", (side, side)).save(tmp_path / name / f"{side}.png")
        packed = tmp_path / f"{name}.{suffix}"
        if suffix == "zip":
            zipped(tmp_path / name, packed, compression=zipfile.ZIP_DEFLATED)
        else:
            tarred(tmp_path / name, packed, mode="w:bz2")
    assert len(load_folder(tmp_path / f"small.{suffix}").train) == 1
    assert "unpacks to more than 4,194,304 bytes" in refusal(f"folder:{tmp_path}/large.{suffix}")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_made_on_windows_keeps_splits_and_labels(tmp_path, kind):
    path = tmp_path / "ds"
    for part, n in (("train", 6), ("test", 2)):
        write_images(path / part, [f"{kind}/{i:03}.png" for kind in "ab" for i in range(n)], seed=n)
    names = {file: "ds\\" + file.relative_to(path).as_posix().replace("/", "\\") for file in path.rglob("*.png")}
    packed = tmp_path / f"windows.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("ds\\train\\", b"")
            for file, name in names.items():
                archive.writestr(name, file.read_bytes())
    else:
        with tarfile.open(packed, "w") as archive:
            for file, name in names.items():
                archive.add(file, name)
    loaded = load_folder(packed)
    assert (len(loaded.train), len(loaded.test), loaded.classes, loaded.remarks) == (12, 4, ("a", "b"), ())
    assert loaded.hash == load_folder(path).hash


def test_only_regular_files_within_the_folder_are_opened(tree, tmp_path, caplog):
    expected = load_folder(tree).hash
    os.mkfifo(tree / "a/pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tree / "s.png"))  # a socket's path must be short
        (tree / "zero.png").symlink_to("/dev/zero")
        (tree / "gone.png").symlink_to("nowhere.png")
        (tree / "loop.png").symlink_to("loop.png")
        (tree / "up").symlink_to(tmp_path)
        write_images(tmp_path, ["elsewhere.png"])
        (tree / "out.png").symlink_to(tmp_path / "elsewhere.png")
        (tree / "README").touch()
        loaded = load_folder(tree)
    assert loaded.hash == expected and loaded.skipped == 7
    (remark,) = loaded.remarks
    assert remark == (
        "left out: 2 no regular file (a/pipe.png, s.png), 3 leading out of the folder by a link (out.png, up, "
        "zero.png), 2 leading nowhere by a link (gone.png, loop.png), 1 of no known kind of image (README)"
    )
    assert sum(remark in line for line in caplog.messages) == 1
    assert load_afresh(tree).remarks == loaded.remarks  # from the cache


def test_a_pipe_or_device_is_no_archive(tmp_path):
    os.mkfifo(tmp_path / "x.zip")
    (tmp_path / "zero.tar").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("x.zip", "zero.tar"):
        assert "neither a folder nor a file" in refusal(f"folder:{tmp_path / name}")
    assert "loop" in refusal(f"folder:{tmp_path / 'loop'}")
    assert "null byte" in refusal("folder:a\0b")


def test_what_takes_an_archive_beyond_its_files_is_left_out_or_refused(tree, tmp_path, monkeypatch):
    path = zipped(tree, tmp_path / "t.zip")
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the name that is there already
        archive.write(tree / "a/1.png", "a/0.png")
        link = zipfile.ZipInfo("a/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "0.png")
    loaded = load_folder(path)
    assert loaded.hash == load_folder(tree).hash and loaded.skipped == 2
    assert "1 of a name that is there already (a/0.png)" in loaded.remarks[0]
    assert "1 no regular file (a/link.png)" in loaded.remarks[0]

    (tree / "pipe").mkdir()
    os.mkfifo(tree / "pipe/x.png")
    assert "1 no regular file (pipe/x.png)" in load_folder(tarred(tree, tmp_path / "t.tar", mode="w")).remarks[0]

    monkeypatch.setattr(listing, "PIECE", 1000)
    with tarfile.open(tmp_path / "long.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("x" * 2000))
    assert "a header of 2,048 bytes" in refusal(f"folder:{tmp_path / 'long.tar'}")


def test_broken_images_have_ten_lines_at_most(tree, caplog):
    for i in range(25):
        (tree / f"{i:02}.png").write_text("no")
    assert load_folder(tree).skipped == 25
    assert sum("is broken and left out" in line for line in caplog.messages) == 10
    assert "25 broken (00.png, 01.png, 02.png, 22 more)" in caplog.text


# Conversions: by one rule, and in the remarks


@pytest.mark.parametrize(
    ("made", "suffix", "pixels", "remarked"),
    [
        (lambda: Image.new("1", (16, 16), 1), "png", [255], "of 1 bit to black and white"),
        (lambda: Image.new("LA", (16, 16), (200, 51)), "png", [40], "with transparency, laid on black"),
        (lambda: Image.new("RGBA", (16, 16), (200, 100, 50, 51)), "png", [40, 20, 10], "with transparency"),
        (lambda: Image.new("RGB", (16, 16), (1, 2, 3)).quantize(), "png", [1, 2, 3], "by palette"),
        (lambda: Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "tiff", [255, 0, 0], "CMYK to RGB"),
        (lambda: Image.fromarray(np.full((16, 16), 300, np.uint16)), "png", [1], "of 16 bits to 8"),
        (lambda: Image.fromarray(np.full((16, 16), 300, np.uint16)), "tiff", [1], "of 16 bits to 8"),
    ],
)  # fmt: skip
def test_a_conversion_has_exact_pixels_and_a_remark(tmp_path, made, suffix, pixels, remarked):
    for i in range(3):
        made().save(tmp_path / f"{i}.{suffix}")
    loaded = load_folder(tmp_path)
    assert loaded.train[0, :, 3, 3].tolist() == pixels
    (remark,) = loaded.remarks
    assert remark.startswith(f"converted: 3 {remarked}")
    assert loaded.skipped == 0


@pytest.mark.parametrize(("kind", "says"), [(np.int32, "32-bit integers"), (np.float32, "float pixels")])
def test_pixels_without_a_range_are_left_out_with_a_remark(tree, tmp_path, kind, says, caplog):
    for i in range(3):
        Image.fromarray(np.full((16, 16), 200, kind)).save(tree / f"{i}.tiff")
    assert load_folder(tree).skipped == 3
    assert f"0.tiff is broken and left out: {says} have no fixed range" in caplog.text
    for file in tree.rglob("*.png"):
        file.unlink()
    assert "has no image that can be read: 3 broken (0.tiff, 1.tiff, 2.tiff)" in refusal(f"folder:{tree}")


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR10_JPEG.is_file(), reason="no CIFAR-10 archive")
def test_cifar10_archive():
    loaded = load_folder(CIFAR10_JPEG)
    assert loaded.title == "cifar10-jpeg" and loaded.skipped == 0
    assert (loaded.train.shape, loaded.test.shape) == ((50_000, 3, 32, 32), (10_000, 3, 32, 32))
    assert torch.bincount(loaded.train_labels).tolist() == [5_000] * 10
    assert torch.bincount(loaded.test_labels).tolist() == [1_000] * 10
    assert loaded.classes == (
        *("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    )
    # the means of CIFAR-10's train split, as published everywhere, to within what JPEG moves
    means = loaded.train.double().mean((0, 2, 3)) / 255
    assert torch.allclose(means, torch.tensor([0.4914, 0.4822, 0.4465]).double(), atol=2e-3)
