"""Folders and archives: the same images however they are packed, and every way a folder can be bad."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import socket
import struct
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gans import registry
from gans.data import datasets, folders, listing
from gans.data.images import ImageData
from tests.gans.data.conftest import refusal


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


def test_folder_splits_labels_and_pads(tree, caplog):
    loaded = load_folder(tree)
    assert (loaded.title, loaded.classes, loaded.remarks) == ("tree", ("a", "b", "c"), ())
    assert "3 classes (a, b, c), 27 train and 3 test images by a hash of their names" in caplog.text
    names = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.png"))
    held_out = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:3]
    expected = {"train": [n for n in names if n not in held_out], "test": sorted(held_out)}
    for part, files in expected.items():
        images = np.stack([np.pad(np.asarray(Image.open(tree / n)), ((6, 6), (6, 6), (0, 0))) for n in files])
        assert np.array_equal(getattr(loaded, part).numpy(), images.transpose(0, 3, 1, 2))
        assert getattr(loaded, f"{part}_labels").tolist() == ["abc".index(n[0]) for n in files]


def test_folders_are_splits_and_what_is_in_neither_is_said(tmp_path):
    path = tmp_path / "images"
    write_images(path / "train", [f"{kind}/{i}.png" for kind in "xy" for i in range(4)])
    write_images(path / "val", ["x/1.png", "y/1.png"], seed=1)
    write_images(path, ["stray.png"], seed=2)
    loaded = load_folder(path)
    assert loaded.test_labels.tolist() == [0, 1]
    right = np.asarray(Image.open(path / "val/y/1.png"))
    assert np.array_equal(loaded.test[1, :, 6:26, 6:26].permute(1, 2, 0).numpy(), right)
    assert loaded.remarks == ("left out: 1 in neither split (stray.png)",)


def test_settings_are_part_of_the_name(tree):
    plain, found = load_folder(tree), load_afresh(Path(f"{tree},labels=none,splits=a/b"))
    assert (found.title, found.classes, len(found.train), len(found.test)) == ("tree", (), 10, 10)
    assert load_afresh(tree).hash == plain.hash != found.hash
    other = registry.canonical(f"folder:{tree}/../tree,splits=a/b,labels=none")
    assert other == f"folder:{tree},labels=none,splits=a/b"
    assert registry.label(other) != registry.label(f"folder:{tree}")
    for setting, says in {
        "labels=maybe": "labels=maybe is not valid: there are no such labels; take none, first or last, or a",
        "fit=stretch": "fit=stretch is not valid: take crop, or pad",
        "splits=random": "splits=random is not valid: take hash, or the names of two folders, as train/test",
        "splits=day/night": "splits=day/night: no two folders with images have these names",
    }.items():
        assert says in refusal(f"folder:{tree},{setting}")


def test_stylegan_s_archive_has_its_classes(tmp_path):
    path = write_images(tmp_path / "gan", [f"0000{n // 5}/img{n}.png" for n in range(20)])
    labels = [[f"0000{n // 5}/img{n}.png", n % 2] for n in range(20)]
    (path / "dataset.json").write_text(json.dumps({"labels": labels}))
    loaded = load_folder(zipped(path, tmp_path / "gan.zip"))
    assert (loaded.classes, loaded.remarks) == (("0", "1"), ())
    assert torch.cat([loaded.train_labels, loaded.test_labels]).bincount().tolist() == [10, 10]
    assert load_folder(tarred(path, tmp_path / "gan.tar", mode="w")).hash == loaded.hash


def test_labels_of_two_files_are_of_one_type_and_do_not_disagree(tmp_path):
    path = write_images(tmp_path / "two", [f"{split}/{n}.png" for split in ("train", "test") for n in range(4)])
    for split, labels in {"train": ("1", "2", "cat", "1"), "test": ("1", "2", "1", "2")}.items():
        lines = [f"{n}.png,{label}" for n, label in enumerate(labels)]
        (path / split / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    loaded = load_folder(path)
    assert loaded.classes == ("1", "2", "cat")
    assert (loaded.train_labels.tolist(), loaded.test_labels.tolist()) == ([0, 1, 2, 0], [0, 1, 0, 1])
    (path / "metadata.csv").write_text("file_name,label\ntrain/0.png,2\n")
    assert "have other labels (train/0.png)" in refusal(f"folder:{path}")
    (path / "metadata.csv").write_text("image,label\ntrain/0.png,2\n")
    assert "metadata.csv cannot be read (it has no column file_name)" in refusal(f"folder:{path}")


def test_hugging_face_s_folders_have_a_table_for_each_split(tmp_path, caplog):
    path = write_images(tmp_path / "hub", [f"{split}/{n}.png" for split in ("train", "test") for n in range(4)])
    for split in ("train", "test"):
        rows = (json.dumps({"file_name": f"{n}.png", "label": "ab"[n % 2], "wide": n > 1}) for n in range(4))
        (path / split / "metadata.jsonl").write_text("\n".join(rows))
    loaded = load_folder(path)
    assert (loaded.classes, loaded.train_labels.tolist(), loaded.remarks) == (("a", "b"), [0, 1, 0, 1], ())
    says = "2 classes (a, b), 4 train and 4 test images by folder, labels of test/metadata.jsonl, train/metadata"
    assert says in caplog.text
    assert load_folder(zipped(path, tmp_path / "hub.zip")).hash == loaded.hash
    assert load_folder(Path(f"{path},labels=none")).classes == ()
    (path / "test/3.png").unlink()
    assert "test/metadata.jsonl lists images that are not there (test/3.png)" in refusal(f"folder:{path}")
    write_images(path, ["test/3.png", "train/4.png"])
    assert "images are not in the file of labels (train/4.png)" in refusal(f"folder:{path}")
    (path / "train/4.png").write_bytes(b"broken")
    assert len(load_folder(path).train) == 4


@pytest.mark.parametrize(
    ("names", "encoding"),
    [("表示 能力", "cp932"), ("狐狸 小狗", "gbk"), ("äö éè", "utf-8"), ("Bär. café", "cp437")],
)
def test_zips_of_other_encodings_keep_their_classes(tmp_path, names, encoding):
    packed = zipped(write_images(tmp_path / "x", ["AAAA/0.png", "BBBB/0.png"]), tmp_path / "t.zip")
    content = packed.read_bytes()
    for plain, name in zip((b"AAAA", b"BBBB"), names.split(), strict=True):
        content = content.replace(plain, name.encode(encoding))  # as long, and no flag says what it is
    packed.write_bytes(content)
    assert set(load_folder(packed).classes) == set(names.split())


@pytest.mark.parametrize(
    ("file", "mode"),
    [("t.zip", ""), ("t.tar", "w"), ("t.tar.gz", "w:gz"), ("t.tgz", "w:gz"), ("t.tbz", "w:bz2"), ("t", "w:xz")],
)
def test_archives_equal_the_folder(tree, tmp_path, file, mode):
    path = tmp_path / file
    if mode:
        tarred(tree, path, "some/where/", mode)
    else:
        zipped(tree, path, "some/where/")
    folder, archive = load_folder(tree), load_folder(path)
    assert archive.hash == folder.hash and archive.classes == folder.classes and archive.title == "t"
    for part in ("train", "test", "train_labels", "test_labels"):
        assert torch.equal(getattr(archive, part), getattr(folder, part))


def test_hidden_files_and_names_that_lead_out_are_left_out(tree, tmp_path):
    expected = load_folder(tree).hash
    packed = zipped(tree, tmp_path / "t.zip")
    with zipfile.ZipFile(packed, "a") as archive:
        archive.write(tree / "a/0.png", "../../evil.png")
    assert load_folder(packed).hash == expected
    for name in ("__MACOSX/a/1.png", "a/._1.png", ".DS_Store", ".hidden/1.png", "README.txt"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"junk")
    assert load_folder(tree).hash == expected


def test_hash_changes_with_one_pixel_and_with_one_label(tree):
    before = load_folder(tree).hash
    image = Image.open(tree / "b/3.png")
    image.putpixel((4, 5), tuple(value ^ 1 for value in image.getpixel((4, 5))))
    image.save(tree / "b/3.png")
    pixel = load_folder(tree).hash
    (tree / "b").rename(tree / "d")
    assert len({before, pixel, load_folder(tree).hash}) == 3


def test_broken_images_are_counted_with_the_reason(tree, caplog):
    expected = load_folder(tree).train
    whole = (tree / "a/0.png").read_bytes()
    (tree / "a/not-an-image.png").write_text("hello")
    (tree / "a/cut.png").write_bytes(whole[: len(whole) // 2])
    (tree / "a/empty.jpg").touch()
    for i in range(5):
        Image.fromarray(np.zeros((20, 20), np.float32)).save(tree / f"{i}.tiff")
    Image.fromarray(np.zeros((20, 20), np.int32)).save(tree / "whole.tiff")
    loaded = load_folder(tree)
    assert torch.equal(loaded.train, expected)
    (remark,) = loaded.remarks
    assert "5 broken, float pixels have no fixed range; store 8 bits (0.tiff, 1.tiff, 2.tiff, 2 more)" in remark
    assert "1 broken, 32-bit integers have no fixed range; store 8 bits, or 16 unsigned ones (whole" in remark
    assert "1 broken, image file is truncated (a/cut.png)" in remark
    assert "2 of no known kind of image (a/empty.jpg, a/not-an-image.png)" in remark
    assert sum(remark in line for line in caplog.messages) == 1
    assert load_afresh(tree).remarks == loaded.remarks  # from the cache


@pytest.mark.parametrize("side", [10_000, 40_000])  # above Pillow's warning, above its error
def test_decompression_bomb_is_refused(tree, side):
    (tree / "c/bomb.png").write_bytes(png_that_claims(side, side))
    message = refusal(f"folder:{tree}")
    assert "c/bomb.png" in message and "89,478,485 pixels" in message


def test_what_has_too_many_bytes_is_not_read(tree, tmp_path, monkeypatch):
    zipped(tree, tmp_path / "t.zip")
    tarred(tree, tmp_path / "t.tar", mode="w")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    monkeypatch.setattr(listing.File, "content", lambda *_: pytest.fail("was read"))
    assert "30 with too many bytes for an image (a/0.png" in refusal(f"folder:{tmp_path / 't.zip'}")
    assert "bytes; remove it" in refusal(f"folder:{tmp_path / 't.tar'}")


def test_mixed_channels_are_counted(tree):
    write_images(tree, ["a/grey1.png", "b/grey2.png"], mode="L")
    assert "2 grey and 30 colour images; convert" in refusal(f"folder:{tree}")


def test_nothing_to_load(tmp_path, tree):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "a.png").touch()
    says = "has no readable image: 1 of no known kind of image (a.png); known formats are JPEG"
    assert says in refusal(f"folder:{empty}")
    assert "has no readable image" in refusal(f"folder:{zipped(empty, tmp_path / 'e.zip')}")
    assert "has no readable image" in refusal(f"folder:{tarred(empty, tmp_path / 'e.tar.xz')}")
    assert "1 undamaged images" in refusal(f"folder:{write_images(tmp_path / 'one', ['1.png'])}")
    assert "No such file" in refusal(f"folder:{tmp_path}/missing")
    assert "is not a directory, .zip or .tar (.gz, .xz, .bz2) of images" in refusal(f"folder:{tree}/a/0.png")


def test_no_permission(tree, monkeypatch):
    def refuse(file, *_):
        raise PermissionError(13, "Permission denied", file.name)

    monkeypatch.setattr(listing.File, "content", refuse)  # not by chmod, which does not stop root
    assert re.search(r"no permission to read ./\d.png", refusal(f"folder:{tree}"))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("keep", [0.2, 0.9])
def test_cut_archive_is_refused(tree, tmp_path, mode, keep):
    path = tarred(tree, tmp_path / "t", mode=mode)
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


def test_more_images_than_disk_space(tree, monkeypatch):
    usage = shutil.disk_usage(tree)._replace(free=30 * 3 * 64 * 64)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    says = "30 images of 64 x 64 need 0.0 GB of disk space in"
    assert says in refusal(f"folder:{tree}", resolution=64)
    assert load_folder(tree, resolution=32).resolution == 32


@pytest.mark.parametrize(
    ("size", "resolution"), [((5, 9), 16), ((40, 17), 32), ((90, 65), 128), ((96, 100), 96), ((300, 400), 128)]
)
def test_default_resolution_of_a_folder(tmp_path, size, resolution):
    write_images(tmp_path / "images", ["a.png", "b.png", "c.png"], size=size)
    write_images(tmp_path / "images", ["d.png"], size=(150, 150))
    assert load_folder(tmp_path / "images").resolution == resolution


@pytest.mark.parametrize(
    ("size", "setting", "side", "how"),
    [
        ((96, 96), "", 96, ""),
        ((96, 64), "", 64, "images of 96 x 64 pixels made 64 x 64: cropped at the centre"),
        ((300, 200), "", 128, "images of 300 x 200 pixels made 128 x 128: resized, cropped at the centre"),
        ((96, 64), ",fit=pad", 96, "images of 96 x 64 pixels made 96 x 96: padded with black"),
        ((300, 150), ",fit=pad", 128, "images of 300 x 150 pixels made 128 x 128: resized, padded with black"),
    ],
)
def test_rectangles_are_cropped_or_padded_as_asked(tmp_path, size, setting, side, how):
    write_images(tmp_path / "images", ["a.png", "b.png", "c.png"], size=size)
    loaded = load_folder(Path(f"{tmp_path / 'images'}{setting}"))
    assert (loaded.resolution, loaded.about[1:]) == (side, (how,) if how else ())
    edge = round((side - side * size[1] / size[0]) / 2) if setting else 0
    assert loaded.train[:, :, edge].any() and not loaded.train[:, :, :edge].any()


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


def test_orientation_is_applied(tmp_path):
    pixels, exif = np.zeros((16, 16), np.uint8), Image.Exif()
    pixels[0, 3] = 255  # row 0, column 3 -> row 3, last column
    exif[0x0112] = 6  # the camera was held on its left side
    for i in range(2):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png", exif=exif)
    loaded = load_folder(tmp_path)
    assert loaded.train[0, 0].nonzero().tolist() == [[3, 15]]
    assert loaded.remarks == ("converted: 2 turned as their EXIF says",)


# The cache


def test_second_load_decodes_nothing(tree, root, monkeypatch):
    first = load_folder(tree)
    files = sorted((root / "cache").iterdir())
    assert [file.suffix for file in files] == [".images", ".safetensors", ".safetensors"]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o644] * 3
    monkeypatch.setattr(folders, "_decode_folder", lambda *args: pytest.fail("decoded again"))
    second = load_afresh(tree)
    assert load_folder(tree, resolution=32) is second
    assert torch.equal(first.train, second.train) and torch.equal(first.test_labels, second.test_labels)
    for key in ("hash", "classes", "title", "sizes", "understood"):
        assert getattr(first, key) == getattr(second, key)


def test_damaged_cache_is_decoded_again(tree, root, caplog):
    first = load_folder(tree)
    (pixels,) = (root / "cache").glob("*.images")
    pixels.write_bytes(bytes(pixels.stat().st_size))
    again = load_afresh(tree)
    assert again.hash == first.hash and again.train.any()
    assert "is damaged; the images are decoded again" in caplog.text


def test_cache_falls_back_to_the_user_then_to_none(tree, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    first = load_folder(tree, root=tmp_path / "file")
    assert len(list((tmp_path / "user-cache/gans").iterdir())) == 3
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load_afresh(tree, root=tmp_path / "file").hash == first.hash


def test_memory_and_cache_follow_the_files_and_the_resolution(tree, root):
    first = load_folder(tree)
    assert load_folder(tree, resolution=64) is not first
    assert len(list((root / "cache").iterdir())) == 5
    assert load_folder(tree) is first
    image = tree / "a/1.png"
    another = image.with_name("another.png")
    changes = {
        "touched": lambda: os.utime(image, (1, 1)),
        "added": lambda: another.write_bytes(image.read_bytes()),
        "renamed": lambda: another.rename(image.with_name("renamed.png")),
        "removed": image.unlink,
    }
    for change in changes.values():
        change()
        again = load_folder(tree)
        assert again is not first
        first = again


# Odd files: used, or named with the reason


def test_an_image_is_known_by_its_content_whatever_its_name(tree):
    for place, file in enumerate(sorted(tree.rglob("*.png"))):
        file.rename(file.with_name(f"{file.stem}{('.jfif', '.JPE', '', '.txt')[place % 4]}"))
    (tree / "notes.txt").write_text("Python has a magic number that looks like a PPM's: Py")
    loaded = load_folder(tree)
    assert len(loaded.train) + len(loaded.test) == 30
    assert loaded.remarks == ("left out: 1 of no known kind of image (notes.txt)",)


@pytest.mark.parametrize("suffix", ["zip", "tar.bz2"])
def test_an_archive_that_unpacks_to_more_than_images_do_is_refused(tmp_path, monkeypatch, suffix):
    """Small files, each within its limit, of zeros: a few kilobytes that have no end."""
    monkeypatch.setattr("gans.data.packed.UNPACKED", 2**22)
    monkeypatch.setattr("gans.data.packed.UNPACKED_TIMES", 10)
    tree, packed = write_images(tmp_path / "x", ["0.png", "1.png"]), tmp_path / f"x.{suffix}"

    def pack() -> None:
        if suffix == "zip":
            zipped(tree, packed, compression=zipfile.ZIP_DEFLATED)
        else:
            tarred(tree, packed, mode="w:bz2")

    pack()
    assert len(load_folder(packed).train) == 1
    for n in range(9):
        (tree / f"{n}.bin").write_bytes(bytes(2**19))
    pack()
    assert "unpacks to more than 4,194,304 bytes" in refusal(f"folder:{packed}")


def test_an_archive_made_on_windows_keeps_splits_and_labels(tmp_path):
    path = write_images(tmp_path / "ds", [f"{split}/{kind}/1.png" for split in ("train", "test") for kind in "ab"])
    with zipfile.ZipFile(tmp_path / "windows.zip", "w") as archive:
        archive.writestr("ds\\train\\", b"")
        for file in path.rglob("*.png"):
            archive.writestr("ds\\" + str(file.relative_to(path)).replace("/", "\\"), file.read_bytes())
    loaded = load_folder(tmp_path / "windows.zip")
    assert (len(loaded.train), len(loaded.test), loaded.classes, loaded.remarks) == (2, 2, ("a", "b"), ())
    assert loaded.hash == load_folder(path).hash


def test_only_regular_files_within_the_folder_are_opened(tree, tmp_path):
    expected = load_folder(tree).hash
    os.mkfifo(tree / "a/pipe.png")
    write_images(tmp_path, ["elsewhere.png"])
    links = {"zero.png": "/dev/zero", "gone.png": "nowhere.png", "loop.png": "loop.png", "up": ".."}
    for name, target in (links | {"b/0.jpg": "0.png", "out.png": tmp_path / "elsewhere.png"}).items():
        (tree / name).symlink_to(target)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tree / "s.png"))  # a socket's path must be short
        loaded = load_folder(tree)
    assert loaded.hash == expected
    assert loaded.remarks == ("left out: 8 links, pipes or devices (a/pipe.png, b/0.jpg, gone.png, 5 more)",)


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
    assert loaded.hash == load_folder(tree).hash
    assert "1 of a name that is there already (a/0.png)" in loaded.remarks[0]
    assert "1 links, pipes or devices (a/link.png)" in loaded.remarks[0]

    (tree / "pipe").mkdir()
    os.mkfifo(tree / "pipe/x.png")
    packed = tarred(tree, tmp_path / "t.tar", mode="w")
    assert "1 links, pipes or devices (pipe/x.png)" in load_folder(packed).remarks[0]

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with tarfile.open(tmp_path / "long.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("x" * 2000))
    assert "a header of 2,048 bytes" in refusal(f"folder:{tmp_path / 'long.tar'}")


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
        (lambda: Image.new("L", (16, 16), 7), "bmp", [7], ""),
    ],
)  # fmt: skip
def test_a_conversion_has_exact_pixels_and_a_remark(tmp_path, made, suffix, pixels, remarked):
    for i in range(3):
        made().save(tmp_path / f"{i}.{suffix}")
    loaded = load_folder(tmp_path)
    assert loaded.train[0, :, 3, 3].tolist() == pixels
    assert bool(loaded.remarks) == bool(remarked)
    assert all(remark.startswith(f"converted: 3 {remarked}") for remark in loaded.remarks)
