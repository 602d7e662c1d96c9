"""Images in parquet files, tar shards, arrays and LMDB: pixels, labels and splits, and what is refused."""

from __future__ import annotations

import io
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gans.data import datasets, packed
from gans.registry import canonical, label
from tests.gans.data.conftest import refusal
from tests.gans.data.test_folders import png_that_claims

HUB = (
    Path(__file__).parent / "hub"
)  # written by Dataset.to_parquet of `datasets` 5.2.0: image k has the level 20 k


def png(level: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (16, 16), (level,) * 3).save(content, "PNG")
    return content.getvalue()


def levels(images) -> list[int]:
    assert images.shape[1:] == (3, 16, 16)
    return images[:, 0, 0, 0].tolist()


def test_parquet_of_the_datasets_library(tmp_path):
    shutil.copytree(HUB, tmp_path / "pets/data")
    (tmp_path / "pets/README.md").write_text("a card")
    loaded = datasets.load(f"folder:{tmp_path / 'pets'}")
    assert (levels(loaded.train), levels(loaded.test)) == ([0, 20, 40, 60, 80, 100], [120, 140])
    assert (loaded.classes, loaded.train_labels.tolist(), loaded.title) == (("cat", "dog"), [0, 1] * 3, "pets")
    assert loaded.remarks == ("left out: 1 of no known kind of image (README.md)",)
    named = datasets.load(f"folder:{tmp_path / 'pets'},labels=breed,images=img")
    assert (named.classes, named.test_labels.tolist()) == (("b0", "b1", "b2"), [0, 1])
    assert datasets.load(f"folder:{tmp_path / 'pets'},labels=none").classes == ()
    assert "has no column x; name one of id, img, label, breed" in refusal(f"folder:{tmp_path / 'pets'},images=x")
    assert "column breed has no images" in refusal(f"folder:{tmp_path / 'pets'},images=breed")
    one = datasets.load(f"folder:{HUB / 'train-00000-of-00002.parquet'}")
    assert (len(one.train), len(one.test), one.title) == (2, 1, "train-00000-of-00002")


def test_hub_is_read_without_its_library_once_it_is_there(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    says = (
        f"needs the library `datasets`: pip install 'gans[hub]', or put its parquet files into {root}/hf/some/pets"
    )
    assert says in refusal("hf:some/pets")
    assert "'hf:../pets' is no data set of the hub; write hf:OWNER/NAME" in refusal("hf:../pets")
    shutil.copytree(HUB, root / "hf/some/pets")
    loaded = datasets.load("hf:some/pets,splits=hash,labels=breed")
    assert (loaded.title, len(loaded.train), len(loaded.test)) == ("pets", 7, 1)
    assert canonical("hf:some/pets,splits=hash,labels=breed") == "hf:some/pets,labels=breed,splits=hash"
    assert label("hf:some/pets") != label("hf:other/pets") and label("hf:some/pets").startswith("pets-")


def test_hub_that_cannot_be_reached_is_one_line(monkeypatch):
    class Library:
        def load_dataset_builder(self, name, config):
            raise ConnectionError(f"Couldn't reach '{name}' {config} on the Hub\nmore")

    monkeypatch.setitem(sys.modules, "datasets", Library())
    says = (
        "hf:some/pets/small cannot be downloaded (Couldn't reach 'some/pets' small on the Hub); check the name and"
    )
    assert says in refusal("hf:some/pets/small")


def test_parquet_of_strangers(tmp_path, monkeypatch):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

    def write(*cells) -> str:
        pq.write_table(pa.table({"image": pa.array(cells, kind)}), tmp_path / "images.parquet")
        return f"folder:{tmp_path / 'images.parquet'}"

    (tmp_path / "secret.png").write_bytes(png(200))
    mixed = write(*({"bytes": png(k)} for k in range(2)), {"path": str(tmp_path / "secret.png")}, {"bytes": b"no"})
    loaded = datasets.load(mixed)
    assert sorted(levels(loaded.train) + levels(loaded.test)) == [0, 1]
    assert loaded.remarks == ("left out: 2 of no known kind of image (00000002, 00000003)",)
    bomb = png_that_claims(40_000, 40_000)
    assert "00000000 has more than 89,478,485 pixels" in refusal(write({"bytes": bomb}))
    many = write(*[{"bytes": png(0)}] * 1000)  # a dictionary has it once
    monkeypatch.setattr(packed, "UNPACKED", 1_000)
    monkeypatch.setattr(packed, "UNPACKED_TIMES", 10)
    assert "unpacks to more than" in refusal(many)
    (tmp_path / "images.parquet").write_bytes(b"PAR1 and so on PAR1")
    assert "is damaged, or no parquet file of images" in refusal(f"folder:{tmp_path / 'images.parquet'}")


def test_tar_shards_of_webdataset(tmp_path):
    (tmp_path / "shards").mkdir()
    for shard, keys in {"pets-train-0": (0, 1), "pets-train-1": (2, 3), "pets-val-0": (4, 5)}.items():
        with tarfile.open(tmp_path / f"shards/{shard}.tar", "w") as archive:
            for key in keys:
                members = {
                    f"{key}.photo.png": png(20 * key),
                    f"{key}.cls": b"%d\n" % (key % 2),
                    f"{key}.json": b"{}",
                }
                for name, content in members.items():
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
    loaded = datasets.load(f"folder:{tmp_path / 'shards'}")
    assert (levels(loaded.train), levels(loaded.test)) == ([0, 20, 40, 60], [80, 100])
    assert (loaded.classes, loaded.train_labels.tolist()) == (("0", "1"), [0, 1, 0, 1])
    assert "6 of no known kind of image (train/pets-train-0-0.json," in loaded.remarks[0]
    assert datasets.load(f"folder:{tmp_path / 'shards/pets-train-0.tar'}").title == "pets-train-0"


def test_arrays_of_numpy(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(8)[:, None] % 2  # a column, as MedMNIST has
    splits = {f"{split}_{what}": part for what, whole in {"images": pixels, "labels": labels}.items()
              for split, part in {"train": whole[:6], "test": whole[6:]}.items()}  # fmt: skip
    np.savez_compressed(tmp_path / "split.npz", **splits)
    loaded = datasets.load(f"folder:{tmp_path / 'split.npz'}")
    assert np.array_equal(loaded.train.numpy(), pixels[:6].transpose(0, 3, 1, 2))
    assert np.array_equal(loaded.test.numpy(), pixels[6:].transpose(0, 3, 1, 2))
    assert (loaded.classes, loaded.test_labels.tolist()) == (("0", "1"), [0, 1])
    np.save(tmp_path / "a.npy", pixels)
    np.savez(tmp_path / "b.npz", pixels.transpose(0, 3, 1, 2))
    assert datasets.load(f"folder:{tmp_path / 'a.npy'}").hash == datasets.load(f"folder:{tmp_path / 'b.npz'}").hash
    np.save(tmp_path / "grey.npy", pixels[..., 0])
    assert datasets.load(f"folder:{tmp_path / 'grey.npy'}").channels == 1
    np.save(tmp_path / "a.npy", pixels / 255)
    assert "holds float64 (8, 16, 16, 3); save images as uint8" in refusal(f"folder:{tmp_path / 'a.npy'}")
    np.save(tmp_path / "a.npy", np.array([{}]), allow_pickle=True)
    assert "or of objects; save a plain one" in refusal(f"folder:{tmp_path / 'a.npy'}")
    (tmp_path / "grey.npy").write_bytes((tmp_path / "grey.npy").read_bytes()[:-1])
    assert "image 7 of 8 is cut off" in refusal(f"folder:{tmp_path / 'grey.npy'}")


def test_lmdb_as_lsun_s(tmp_path, monkeypatch):
    (tmp_path / "bedroom").mkdir()
    (tmp_path / "bedroom/data.mdb").touch()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "lmdb", None)
        assert "is an LMDB, which needs a library: pip install lmdb" in refusal(f"folder:{tmp_path / 'bedroom'}")
    lmdb = pytest.importorskip("lmdb")
    (tmp_path / "bedroom/data.mdb").unlink()
    with lmdb.open(str(tmp_path / "bedroom")) as environment, environment.begin(write=True) as transaction:
        for key in range(4):
            transaction.put(f"{key:040x}".encode(), png(key))
    loaded = datasets.load(f"folder:{tmp_path / 'bedroom'}")
    assert sorted(levels(loaded.train) + levels(loaded.test)) == [0, 1, 2, 3]
