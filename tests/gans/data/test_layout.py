"""What folders of images mean, from the names of the files alone."""

from __future__ import annotations

import pytest

from gans.data import layout
from gans.errors import InputError

TWO = ("0.png", "1.png")


def under(*folders: str) -> list[str]:
    """Two files in each folder."""
    return [f"{folder}/{name}" for folder in folders for name in TWO]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (under("cat", "dog", "fox"), "3 classes (cat, dog, fox), 5 train and 1 test images by a hash"),
        (under("some/where/cat", "some/where/dog"), "2 classes (cat, dog), 3 train and 1 test"),
        (under("only"), "no classes, 1 train and 1 test"),
        ([*under("cat", "dog"), "stray.png"], "no classes, 4 train and 1 test"),
        (under("train/cat", "train/dog", "test/cat", "test/dog"), "2 classes (cat, dog), 4 train and 4 test"),
        (
            under("top/Train/a", "top/Train/b", "top/VAL/a"),
            "2 classes (a, b), 4 train and 2 test images by folder",
        ),
        (under("training/a", "training/b", "testing/a"), "2 classes (a, b), 4 train and 2 test images by folder"),
        (under("train/a", "train/b", "eval/b"), "2 classes (a, b), 4 train and 2 test images by folder"),
        (under("train", "valid"), "no classes, 2 train and 2 test images by folder"),
        (under("train/a", "test/b", "val/c"), "2 classes (a, b), 2 train and 2 test images by folder"),
        (under("train/a", "train/b", "test"), "no classes, 4 train and 2 test images by folder"),
        (under("cat/train", "cat/test", "dog/train"), "2 classes (cat, dog), 4 train and 2 test images by folder"),
        (under("x/train/a", "x/test/b", "y/a"), "2 classes (a, b), 5 train and 1 test"),  # not all are in splits
        (under("train", "bus", "car"), "3 classes (bus, car, train), 5 train and 1 test images by a hash"),
        (
            under("train/n01/images", "train/n02/images", "val/images"),
            "2 classes (n01, n02), 3 train and 1 test images by a hash",
        ),
        (
            under("train/n01/images", "train/n02/images", "val/n01/images"),
            "2 classes (n01, n02), 4 train and 2 test",
        ),
        (under(*map(str, range(12))), "12 classes (0, 1, 10, 9 more), 22 train and 2 test"),
    ],
)
def test_what_is_understood_is_said(files, says):
    assert layout.understand(sorted(files), None).text.startswith(says)


@pytest.mark.parametrize(
    ("files", "settings", "says"),
    [
        (under("2024/may", "2025/june"), {"labels": "none"}, "no classes, 3 train and 1 test"),
        (under("cat/a", "cat/b", "dog/a"), {"labels": "first"}, "2 classes (cat, dog), 5 train and 1 test"),
        (under("cat/a", "cat/b", "dog/a"), {"labels": "last"}, "2 classes (a, b), 5 train and 1 test"),
        (
            under("train/cat", "train/dog", "test/cat"),
            {"splits": "hash"},
            "2 classes (cat, dog), 5 train and 1 test",
        ),
        (under("train", "test"), {"splits": "hash"}, "2 classes (test, train), 3 train and 1 test"),
        (
            under("a/Day", "b/day", "a/night", "b/night"),
            {"labels": "none", "splits": "day/night"},
            "no classes, 4 train and 4 test images by folder",
        ),
    ],
)
def test_settings_say_otherwise(files, settings, says):
    assert layout.understand(sorted(files), None, **settings).text.startswith(says)


def test_stylegan_s_labels_count_in_place_of_folders():
    files = under("00000", "00001")
    content = b'{"labels": [["00000/0.png", 9], ["00000/1.png", 10], ["00001/0.png", 10], ["00001/1.png", 9]]}'
    given = layout.read_labels("dataset.json", content)
    found = layout.understand(files, given)
    assert found.classes == ("9", "10")
    assert [found.labels[file] for file in files] == [0, 1, 1, 0]
    assert layout.understand(files, given, labels="last").classes == ("00000", "00001")
    for labels in (b'{"labels": null}', b'{"labels": [["00000/0.png", [0.0, 1.0]]]}'):
        given = layout.read_labels("dataset.json", labels)
        assert layout.understand(files, given).classes == ()
    with pytest.raises(InputError, match=r"^images are not in the file of labels \(00001/0.png, 00001/1.png\)"):
        layout.understand(files, {files[0]: 1, files[1]: 2})
    for other in (b'{"title": "mine"}', b"[]", b"\xff", b"[" * 100_000):
        assert layout.read_labels("dataset.json", other) is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t/metadata.csv", 'file_name,text,label\n0.png,"a, b",10\n1.png,c,9\n'),
        ("t/metadata.jsonl", '{"file_name": "0.png", "label": 10}\n\n{"file_name": "1.png", "label": 9, "x": []}'),
        ("t/labels.csv", "./0.png,10\r\n1.png,9\r\n"),
        ("t/labels.csv", "\ufefflabel,file_name\n10,0.png\n9,1.png\n"),
        ("labels.csv", "t/0.png,10,more\nt/1.png,9"),
    ],
)
def test_tables_beside_the_images_have_labels(name, content):
    given = {file: int(label) for file, label in (layout.read_labels(name, content.encode()) or {}).items()}
    assert given == {"t/0.png": 10, "t/1.png": 9}
    found = layout.understand(under("t"), given)
    assert (found.classes, found.labels) == (("9", "10"), {"t/0.png": 1, "t/1.png": 0})


def test_a_column_may_be_named_and_captions_are_no_labels():
    table = b"file_name,text,kind\n0.png,a cat,cat\n1.png,a dog,dog\n"
    assert layout.read_labels("metadata.csv", table) is None
    assert layout.read_labels("metadata.csv", table, "kind") == {"0.png": "cat", "1.png": "dog"}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("metadata.jsonl", b'{"file_name": "0.png", "label": [1, 2]}', "neither whole numbers nor names"),
        ("metadata.jsonl", b'{"file_name": "0.png", "label": 1}\n{"file', "metadata.jsonl cannot be read"),
        ("metadata.jsonl", b"[1]", "metadata.jsonl cannot be read"),
        ("labels.csv", b"\xff\xfe", "labels.csv cannot be read"),
        ("labels.csv", b"0.png,a\n0.png,b\n", "labels.csv has images twice"),
    ],
)
def test_a_bad_table_is_one_line(name, content, says):
    with pytest.raises(InputError, match=says) as caught:
        layout.read_labels(name, content)
    assert "\n" not in str(caught.value) and "labels=none" in str(caught.value)


@pytest.mark.parametrize(
    ("names", "encoding", "other"),
    [
        ("café Crème", "latin_1", "latin_1"),
        ("João São", "latin_1", "latin_1"),
        ("perro niño", "latin_1", "latin_1"),
        ("Bär cat", "latin_1", "latin_1"),
        ("Bär cat", "cp437", "cp437"),
        ("garçon fille", "cp437", "cp437"),
        ("für über", "cp437", "cp437"),
        ("狐狸 小狗", "gbk", "cp437"),
        ("鳥 狗", "gbk", "latin_1"),
        ("表示 能力", "cp932", "latin_1"),
        ("ねこ 犬 dog", "cp932", "cp437"),
    ],
)
def test_classes_in_other_encodings_are_text_beside_those_in_utf_8(names, encoding, other):
    folders = [name.encode(encoding).decode(errors="surrogateescape") for name in names.split()]
    found = layout.understand(sorted(under(*folders, "日本", "naïve")), None, other)
    assert {*found.classes} == {*names.split(), "日本", "naïve"}
