"""The Inception path, with random weights in the published file's format: no network, no download."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch
from urllib.error import URLError

import pytest
import torch
import torch_fidelity.fidelity
from PIL import Image
from threadpoolctl import threadpool_limits
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from gans.data.images import ImageData
from gans.errors import InputError
from gans.fidelity import require, scorer
from gans.fidelity.extractors import inception
from gans.fidelity.extractors.cards import sha256
from gans.fidelity.extractors.inception import Inception
from gans.fidelity.protocol import ISC_SPLITS
from gans.fidelity.scorer import Scorer

CPU = torch.device("cpu")
N = 12
# what torch-fidelity has, too
EXPECTED = {f"{name}_unpublished_inception" for name in ("fd", "kd", "is", "precision", "recall")}
EXPECTED |= {f"{name}_unpublished_inception_std" for name in ("kd", "is")}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random weights that keep the signal's scale, so that features differ from image to image."""
    torch.manual_seed(0)
    module = "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url"
    with patch(module), patch.object(FeatureExtractorInceptionV3, "load_state_dict"):
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.weight[0].numel()))
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    monkeypatch.setenv("GANS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("GANS_INCEPTION", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.urlopen", refuse)


def images(channels: int) -> ImageData:
    drawn = torch.randint(0, 256, (2 * N, channels, 28, 28), generator=torch.Generator().manual_seed(channels))
    train, test = drawn.to(torch.uint8).split(N)
    return ImageData("some", "Some", train // 2, test, None, None, (), hash=f"some{channels}")


def write(folder: Path, pictures: torch.Tensor) -> str:
    folder.mkdir()
    for index, picture in enumerate(pictures):
        pixels = picture[0] if len(picture) == 1 else picture.permute(1, 2, 0)
        Image.fromarray(pixels.numpy()).save(folder / f"{index:03}.png")
    return str(folder)


def command_line(capsys, *arguments: str) -> dict[str, float]:
    with patch("sys.argv", ["fidelity", *arguments, "--cpu", "--json", "--silent"]):
        torch_fidelity.fidelity.main()
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("channels", "layers"),
    [
        (1, ("64", "192")),
        (3, ("64", "192")),
        pytest.param(1, ("2048", "logits_unbiased"), marks=pytest.mark.slow),
        pytest.param(3, ("2048", "logits_unbiased"), marks=pytest.mark.slow),
    ],
    ids=["grey", "colour", "published layers, grey", "published layers, colour"],
)
def test_scores_equal_torch_fidelitys_command_line(channels, layers, weights, tmp_path, monkeypatch, capsys):
    data = images(channels)
    extractor = replace(inception.inception(weights), network=lambda: Inception(weights, layers))
    monkeypatch.setattr(scorer, "require", lambda _: extractor)
    scores = Scorer(data, "inception", N, CPU).score(data.test)
    inputs = ["--input1", write(tmp_path / "fake", data.test), "--input2", write(tmp_path / "real", data.train)]
    chosen = {"fid": layers[0], "kid": layers[0], "prc": layers[0], "isc": layers[1]}
    expected = command_line(
        capsys,
        *inputs,
        *("--fid", "--kid", "--isc", "--prc"),
        *("--feature-extractor", "inception-v3-compat", "--feature-extractor-weights-path", str(weights)),
        *(part for metric, layer in chosen.items() for part in (f"--feature-layer-{metric}", layer)),
        *("--kid-subset-size", str(N), "--isc-splits", str(ISC_SPLITS), "--save-cpu-ram"),
    )
    # of 2,048 dimensions by another eigenvalue problem
    distance = scores.pop("fd_unpublished_inception")
    rounding = 1e-6 if layers[0] == "2048" else 0
    assert distance == pytest.approx(expected["frechet_inception_distance"], rel=rounding, abs=0)
    assert {name: scores[name] for name in scores if name in EXPECTED} == {
        "kd_unpublished_inception": expected["kernel_inception_distance_mean"],
        "kd_unpublished_inception_std": expected["kernel_inception_distance_std"],
        "is_unpublished_inception": expected["inception_score_mean"],
        "is_unpublished_inception_std": expected["inception_score_std"],
        "precision_unpublished_inception": expected["precision"],
        "recall_unpublished_inception": expected["recall"],
    }
    assert distance > 0
    assert "class_distance_unpublished_inception" not in scores
    assert scores["fd_unpublished_inception_se"] > 0


def test_weights_come_from_the_environment_and_are_told_from_the_published(weights, monkeypatch, caplog):
    monkeypatch.setenv("GANS_INCEPTION", str(weights))
    extractor = require("inception")
    assert list(extractor.metrics())[:3:2] == ["fd_unpublished_inception", "kd_unpublished_inception"]
    assert extractor.prefix == "fd_unpublished_inception"
    assert inception.LAYERS == ("2048", "logits_unbiased")
    assert not extractor.published
    assert "is not the published Inception file" in caplog.text

    monkeypatch.setattr(inception, "INCEPTION_SHA256", extractor.hash)
    caplog.clear()
    published = require("inception")
    assert published.published
    assert published.prefix == "fid"
    shares = ("precision", "recall", "density", "coverage", "memorisation")  # and no class distance
    assert list(published.metrics()) == ["fid", "fidinf", "kid", "isc", *(f"{one}_inception" for one in shares)]
    assert caplog.text == ""


def test_the_published_hash_is_the_one_in_the_files_name():
    assert inception.INCEPTION_SHA256[:8] == Path(URL_INCEPTION_V3).stem.rsplit("-", 1)[-1]


def test_weights_in_torch_hubs_cache_are_found(weights, tmp_path, offline):
    cached = tmp_path / "torch" / "hub" / "checkpoints" / URL_INCEPTION_V3.rsplit("/", 1)[-1]
    cached.parent.mkdir(parents=True)
    shutil.copy(weights, cached)
    assert inception.file() == cached
    assert require("inception").hash == sha256(cached)


def test_offline_is_one_line_before_anything_is_computed(offline):
    with pytest.raises(InputError, match=r"cannot download .*no network.*set GANS_INCEPTION") as caught:
        Scorer(images(3), "inception", N, CPU)
    assert "\n" not in str(caught.value)


def test_a_download_that_is_not_the_published_file_is_refused(weights, monkeypatch, tmp_path):
    module = "torch_fidelity.feature_extractor_inceptionv3.URL_INCEPTION_V3"
    monkeypatch.setattr(module, weights.as_uri())
    with pytest.raises(InputError, match=r"cannot download .*invalid hash value"):
        require("inception")
    assert not list((tmp_path / "torch").rglob("*.pth"))


def _truncated(path: Path, weights: Path) -> None:
    path.write_bytes(weights.read_bytes()[:1_000_000])


def _another_network(path: Path, _: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), path)


def _a_page(path: Path, _: Path) -> None:
    path.write_text("<html>Not found</html>")


def _no_tensors(path: Path, _: Path) -> None:
    torch.save({"weights": 3}, path)


@pytest.mark.parametrize("damage", [_truncated, _another_network, _a_page, _no_tensors])
def test_a_wrong_file_is_one_line(damage, weights, tmp_path):
    path = tmp_path / "wrong.pth"
    damage(path, weights)
    with pytest.raises(InputError, match="is damaged or holds another network") as caught:
        inception.inception(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("GANS_INCEPTION", str(tmp_path / "absent.pth"))
    with pytest.raises(InputError, match=r"absent.pth is not a file; correct GANS_INCEPTION"):
        require("inception")
