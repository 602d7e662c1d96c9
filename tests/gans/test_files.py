import math
import os
import stat
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gans import files
from gans.errors import InputError

CPU = torch.device("cpu")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_state_comes_back_with_types_and_bits(tmp_path: Path) -> None:
    state = {
        "images": 640,
        "best": math.inf,
        "nested": {"list": [{"x": torch.randn(3, 2)}, {"x": torch.arange(3)}], "flag": True},
        "text": "a",
        "half": torch.tensor([1.5, math.nan], dtype=torch.float16),
    }
    file = tmp_path / "new" / "checkpoint.pt"
    files.save(file, state)
    found = files.load(file, CPU)
    assert found["images"] == 640
    assert found["best"] == math.inf
    assert found["nested"]["flag"] is True
    for i, dtype in enumerate((torch.float32, torch.int64)):
        assert torch.equal(found["nested"]["list"][i]["x"], state["nested"]["list"][i]["x"])
        assert found["nested"]["list"][i]["x"].dtype == dtype
    assert found["half"].view(torch.int16).tolist() == state["half"].view(torch.int16).tolist()
    assert names(file.parent) == ["checkpoint.pt"]


@pytest.mark.parametrize("error", [OSError("no space"), KeyboardInterrupt()])
def test_a_write_that_stops_halfway_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    def write(path: Path) -> None:
        assert path.parent == tmp_path  # on the same disk, so that the rename is one step
        path.write_bytes(b"half")
        raise error

    (tmp_path / "x").write_text("whole")
    with pytest.raises(type(error)):
        files.atomically(tmp_path / "x", write)
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text() == "whole"


def test_files_have_the_permissions_of_ordinary_files(tmp_path: Path) -> None:
    """Other users may read results, which the mode 0600 of temporary files would forbid."""
    (tmp_path / "plain").touch()
    files.atomically(tmp_path / "x", lambda path: path.write_text("x") and None)
    files.save_weights(tmp_path / "w", {"a": torch.zeros(2)}, {})
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "x", "w")}
    assert len(modes) == 1, [oct(mode) for mode in modes]


def test_weights_come_back_with_what_they_are(tmp_path: Path) -> None:
    base = torch.randn(4, 6)
    weights = {"a": base, "view": base[:, ::2], "count": torch.tensor(3)}
    about = {"shape": [1, 16], "experiment": {"update": {"swap_epochs": math.inf}}}
    files.save_weights(tmp_path / "g.safetensors", weights, about)
    found, description = files.load_weights(tmp_path / "g.safetensors")
    assert description == about
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[key], value) for key, value in weights.items())
    assert names(tmp_path) == ["g.safetensors"]


def test_weights_that_are_none_are_input_errors_that_name_the_file(tmp_path: Path) -> None:
    missing, text, foreign, empty, folder, broken, cut = (tmp_path / f"{i}.safetensors" for i in range(7))
    text.write_text("this is not safetensors")
    save_file({"a": torch.zeros(2)}, foreign)
    empty.touch()
    folder.mkdir()
    save_file({"a": torch.zeros(2)}, broken, {"about": "{no json"})
    files.save_weights(cut, {"a": torch.zeros(1000)}, {"x": 1})
    cut.write_bytes(cut.read_bytes()[:-100])
    for path in (missing, text, foreign, empty, folder, broken, cut):
        with pytest.raises(InputError) as caught:
            files.load_weights(path)
        assert path.name in str(caught.value)


def test_parts_that_killed_writers_left_go_with_the_next_write(tmp_path: Path) -> None:
    other = f".a.txt.{os.getppid()}"
    for name, age in ((".a.txt.4194304", 60), (".a.txt.4194303", 0), (other, 60), (".a.txt.x", 60)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    files.write_text(tmp_path / "a.txt", "whole")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted([".a.txt.4194303", other, ".a.txt.x", "a.txt"])
