"""DINOv2 and CLIP with random weights in the published files' formats: no network, no download."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch
from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F
import torch_fidelity
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_clip import MODEL_METADATA, MODEL_URLS, VisionTransformer
from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2

from gans.data.images import ImageData
from gans.errors import InputError
from gans.fidelity import published, require
from gans.fidelity.extractors import clip, dinov2
from gans.fidelity.extractors.fetched import Fetched
from gans.fidelity.scorer import Scorer
from tests.conftest import single_thread

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore::torch.jit.TracerWarning")
CPU = torch.device("cpu")
N = 12
WIDTH, DEPTH = 128, 2
FILES: dict[str, Fetched] = {"dinov2": dinov2.WEIGHTS, "clip": clip.WEIGHTS}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Random weights of small networks."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(dino_weights(), folder / "dinov2.pth")
    torch.jit.trace(Whole().eval(), torch.zeros(1, 3, 64, 64), check_trace=False).save(folder / "clip.pt")
    return {"dinov2": folder / "dinov2.pth", "clip": folder / "clip.pt"}


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("GANS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for weights in FILES.values():
        monkeypatch.delenv(weights.variable, raising=False)
    with single_thread():
        yield


def dino_weights() -> dict[str, Tensor]:
    """A file as DINOv2 publishes them, of two blocks of two heads: its names and shapes, random numbers."""

    def linear(name: str, outputs: int, inputs: int) -> dict[str, Tensor]:
        return {
            f"{name}.weight": torch.randn(outputs, inputs) / inputs**0.5,
            f"{name}.bias": 0.1 * torch.randn(outputs),
        }

    def norm(name: str) -> dict[str, Tensor]:
        return {f"{name}.weight": 1 + 0.1 * torch.randn(WIDTH), f"{name}.bias": 0.1 * torch.randn(WIDTH)}

    state = {
        "cls_token": torch.randn(1, 1, WIDTH),
        "pos_embed": torch.randn(1, 1 + 37 * 37, WIDTH),
        "mask_token": torch.zeros(1, WIDTH),
        "patch_embed.proj.weight": torch.randn(WIDTH, 3, 14, 14) / 24,
        "patch_embed.proj.bias": torch.randn(WIDTH),
        **norm("norm"),
    }
    for i in range(DEPTH):
        block = f"blocks.{i}"
        state |= norm(f"{block}.norm1") | norm(f"{block}.norm2")
        state |= linear(f"{block}.attn.qkv", 3 * WIDTH, WIDTH) | linear(f"{block}.attn.proj", WIDTH, WIDTH)
        state |= linear(f"{block}.mlp.fc1", 4 * WIDTH, WIDTH) | linear(f"{block}.mlp.fc2", WIDTH, 4 * WIDTH)
        state |= {f"{block}.ls1.gamma": torch.rand(WIDTH), f"{block}.ls2.gamma": torch.rand(WIDTH)}
    return state


def dino(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """The class token of float images (n, 3, 224, 224), from the paper's equations, in float64."""
    w = {name: value.double() for name, value in state.items()}

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    patches = F.conv2d(x.double(), w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=14)
    tokens = torch.cat([w["cls_token"].expand(len(x), -1, -1), patches.flatten(2).mT], 1)
    grid = w["pos_embed"][:, 1:].reshape(1, 37, 37, WIDTH).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, scale_factor=(16.1 / 37, 16.1 / 37), mode="bicubic")
    tokens = tokens + torch.cat([w["pos_embed"][:, :1], resized.flatten(2).mT], 1)
    for i in range(DEPTH):
        block = f"blocks.{i}"
        q, k, v = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", tokens)).unflatten(-1, (3, 2, 64)).unbind(2)
        weights = torch.einsum("nqhd,nkhd->nhqk", q, k).div(8).softmax(-1)
        mixed = torch.einsum("nhqk,nkhd->nqhd", weights, v).flatten(2)
        tokens = tokens + w[f"{block}.ls1.gamma"] * linear(f"{block}.attn.proj", mixed)
        hidden = F.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", tokens)))
        tokens = tokens + w[f"{block}.ls2.gamma"] * linear(f"{block}.mlp.fc2", hidden)
    return norm("norm", tokens)[:, 0]


class Whole(nn.Module):
    """What of CLIP a published archive has and torch-fidelity reads."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = VisionTransformer(64, 32, WIDTH, DEPTH, 2, 24)
        self.text_projection = nn.Parameter(torch.randn(4, 24))

    def forward(self, x: Tensor) -> Tensor:
        return self.visual(x).sum() + self.text_projection.sum()


def images(channels: int) -> ImageData:
    drawn = torch.randint(0, 256, (2 * N, channels, 28, 28), generator=torch.Generator().manual_seed(channels))
    train, test = drawn.to(torch.uint8).split(N)
    return ImageData("some", "Some", train // 2, test, None, None, (), hash=f"some{channels}")


def theirs(state: dict[str, Tensor]) -> FeatureExtractorDinoV2:
    """torch-fidelity's extractor, with this network in the place of the one that it downloads."""
    with patch("torch.hub.load", return_value=nn.Module()):
        extractor = FeatureExtractorDinoV2("dinov2-vit-l-14", ["dinov2"])
    extractor.model.forward = lambda x: dino(state, x)
    return extractor


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_dinov2_is_the_papers_network_on_torch_fidelitys_images(channels, files):
    state, pixels = torch.load(files["dinov2"]), images(channels).train
    features, logits = dinov2.DINOv2(files["dinov2"])(pixels)
    (expected,) = theirs(state)(pixels.expand(-1, 3, -1, -1))
    assert logits is None
    assert features.shape == (N, WIDTH)
    assert torch.allclose(features, expected, atol=2e-5)
    assert features.std(0).min() > 1e-4  # they differ from image to image


def test_dinov2_drops_no_weights_but_that_of_masks(files):
    state = torch.load(files["dinov2"])
    for name, value in state.items():
        changed = dinov2.build(state | {name: value + 0.5 * torch.ones_like(value)}).state_dict()
        same = all(torch.equal(value, changed[key]) for key, value in dinov2.build(state).state_dict().items())
        assert same == (name == "mask_token")


class Bare(Dataset):
    def __init__(self, images: Tensor) -> None:
        self.images = images.expand(-1, 3, -1, -1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_clip_scores_equal_torch_fidelitys(channels, files, monkeypatch):
    data = images(channels)
    monkeypatch.setenv("GANS_CLIP", str(files["clip"]))
    scores = Scorer(data, "clip", N, CPU).score(data.test)
    expected = torch_fidelity.calculate_metrics(
        input1=Bare(data.test),
        input2=Bare(data.train),
        feature_extractor="clip-vit-b-32",
        feature_extractor_weights_path=str(files["clip"]),
        cuda=False,
        fid=True,
        kid=True,
        kid_subset_size=N,
        save_cpu_ram=True,
        verbose=False,
    )
    assert scores["fd_unpublished_clip"] == expected["frechet_inception_distance"] > 0
    assert scores["kd_unpublished_clip"] == expected["kernel_inception_distance_mean"]
    assert not any(name.startswith(("is_", "class_distance")) for name in scores)  # no logits


def test_a_scorer_takes_dinov2(files, monkeypatch):
    monkeypatch.setenv("GANS_DINOV2", str(files["dinov2"]))
    data = images(1)
    scorer = Scorer(data, "dinov2", N, CPU)
    assert scorer.metric == "fd_unpublished_dinov2"
    assert scorer.distance(data.train) == pytest.approx(0, abs=1e-3)
    assert scorer.distance(data.test) > 1


@pytest.mark.parametrize("name", FILES)
def test_only_the_published_file_has_the_name(name, files, monkeypatch, caplog):
    weights, module = FILES[name], {"dinov2": dinov2, "clip": clip}[name]
    monkeypatch.setenv(weights.variable, str(files[name]))
    other = require(name)
    assert not other.published
    assert other.prefix == f"fd_unpublished_{name}"
    assert f"is not the published {weights.of} file" in caplog.text
    monkeypatch.setattr(module, "WEIGHTS", replace(weights, sha256=other.hash))
    assert require(name).prefix == weights.called == f"fd_{name}"
    # planning knows it without the file
    assert published(name).hash == weights.sha256
    assert published(name).prefix == f"fd_{name}"


def test_clip_s_file_is_torch_fidelitys() -> None:
    assert MODEL_METADATA[clip.THEIRS]["hash"] == clip.SHA256
    assert MODEL_URLS[clip.THEIRS] == clip.WEIGHTS.url


@pytest.mark.parametrize("name", FILES)
def test_offline_is_one_line_before_anything_is_computed(name, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(InputError, match=rf"cannot download .*no network.*set {FILES[name].variable}") as caught:
        Scorer(images(3), name, N, CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"<html>Not found</html>", b""], ids=["a page", "empty"])
def test_a_wrong_file_is_one_line(name, content, tmp_path):
    path = tmp_path / "wrong"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged or holds another network") as caught:
        {"dinov2": dinov2.dinov2, "clip": clip.clip}[name](path)
    assert "\n" not in str(caught.value)
