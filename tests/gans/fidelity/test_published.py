"""Inception, DINOv2 and CLIP with random weights in the published files' formats: no network, no download."""

import math
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
from torch_fidelity.feature_extractor_clip import MODEL_METADATA, MODEL_URLS, VisionTransformer
from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from gans.data.images import ImageData
from gans.errors import InputError
from gans.fidelity import published, require, scorer
from gans.fidelity.extractors import dinov2
from gans.fidelity.extractors.cards import sha256
from gans.fidelity.extractors.dinov2 import DINOV2
from gans.fidelity.extractors.published import CLIP, CLIP_VIT, INCEPTION, Published, _answers, inception_v3
from gans.fidelity.protocol import ISC_SPLITS
from gans.fidelity.scorer import Scorer
from tests.conftest import CPU, single_thread
from tests.gans.fidelity import Bare

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore::torch.jit.TracerWarning")
N = 12
WIDTH, DEPTH = 128, 2
ALL: dict[str, Published] = {"inception": INCEPTION, "dinov2": DINOV2, "clip": CLIP}
DISTANCES = {"inception": "fid", "dinov2": "fd_dinov2", "clip": "fd_clip"}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Random weights of small networks, and of Inception's."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(dino_weights(), folder / "dinov2.pth")
    torch.jit.trace(Whole().eval(), torch.zeros(1, 3, 64, 64), check_trace=False).save(folder / "clip.pt")
    torch.save(inception_weights(), folder / "inception.pth")
    return {path.stem: path for path in folder.iterdir()}


def inception_weights() -> dict[str, Tensor]:
    """Random weights that keep the signal's scale, so that features differ from image to image."""
    module = "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url"
    with patch(module), patch.object(FeatureExtractorInceptionV3, "load_state_dict"):
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.weight[0].numel()))
    return network.state_dict()


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("GANS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for weights in ALL.values():
        monkeypatch.delenv(weights.variable, raising=False)
    with single_thread():
        yield


@pytest.fixture
def offline(monkeypatch) -> list[float]:
    """No server answers; the seconds that were waited for one."""
    waited = []

    def refuse(*_: object, timeout: float = 0, **__: object) -> None:
        waited.append(timeout)
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    _answers.cache_clear()
    return waited


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


# --- scores


SOME, PUBLISHED = ("64", "192"), ("2048", "logits_unbiased")  # layers of Inception


@pytest.mark.parametrize(
    ("name", "channels", "layers"),
    [
        ("inception", 1, SOME),
        pytest.param("inception", 3, PUBLISHED, marks=pytest.mark.slow),
        ("clip", 1, None),
        ("clip", 3, None),
    ],
)
def test_scores_equal_torch_fidelitys(name, channels, layers, files, monkeypatch):
    data = images(channels)
    monkeypatch.setenv(ALL[name].variable, str(files[name]))
    theirs = {"feature_extractor": CLIP_VIT}
    if layers:
        extractor = replace(INCEPTION(), network=lambda: inception_v3(files[name], layers))
        monkeypatch.setattr(scorer, "require", lambda _: extractor)
        theirs = {"feature_extractor": "inception-v3-compat", "isc": True, "isc_splits": ISC_SPLITS}
        theirs |= {f"feature_layer_{metric}": layers[metric == "isc"] for metric in ("fid", "kid", "prc", "isc")}
    scores = Scorer(data, name, N, CPU).score(data.test)
    expected = torch_fidelity.calculate_metrics(
        input1=Bare(data.test.expand(-1, 3, -1, -1)),
        input2=Bare(data.train.expand(-1, 3, -1, -1)),
        feature_extractor_weights_path=str(files[name]),
        cuda=False,
        fid=True,
        kid=True,
        prc=True,
        kid_subset_size=N,
        save_cpu_ram=True,
        verbose=False,
        **theirs,
    )
    found = {one.replace(f"_unpublished_{name}", ""): value for one, value in scores.items()}
    # of 2,048 dimensions by another eigenvalue problem
    rounding = 1e-6 if layers == PUBLISHED else 0
    assert found["fd"] == pytest.approx(expected["frechet_inception_distance"], rel=rounding, abs=0)
    assert found["fd"] > 0
    for ours, metric in (("kd", "kernel_inception_distance"), *([("is", "inception_score")] if layers else [])):
        assert (found[ours], found[f"{ours}_std"]) == (expected[f"{metric}_mean"], expected[f"{metric}_std"])
    assert (found["precision"], found["recall"]) == (expected["precision"], expected["recall"])
    assert "class_distance" not in found
    assert ("is" in found) == bool(layers)  # CLIP has no logits


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


# --- files of weights


def placed(monkeypatch, name: str, weights: Published) -> None:
    """Register other published weights under a name."""
    monkeypatch.setattr(
        f"gans.fidelity.extractors.{'dinov2' if name == 'dinov2' else 'published'}.{name.upper()}", weights
    )


@pytest.mark.parametrize("name", ALL)
def test_only_the_published_file_has_the_name(name, files, monkeypatch, caplog):
    weights = ALL[name]
    monkeypatch.setenv(weights.variable, str(files[name]))
    other = require(name)
    assert not other.published
    assert other.prefix == f"fd_unpublished_{name}"
    assert f"is not the published {weights.title} file" in caplog.text
    placed(monkeypatch, name, replace(weights, sha256=other.hash))
    caplog.clear()
    assert require(name).prefix == DISTANCES[name]
    assert caplog.text == ""
    assert published(name).hash == other.hash


def test_addresses_and_hashes_are_torch_fidelitys():
    assert INCEPTION.url == URL_INCEPTION_V3
    assert INCEPTION.sha256[:8] == Path(URL_INCEPTION_V3).stem.rsplit("-", 1)[-1]
    assert (MODEL_METADATA[CLIP_VIT]["hash"], MODEL_URLS[CLIP_VIT]) == (CLIP.sha256, CLIP.url)


def test_a_file_is_downloaded_once_and_checked(files, monkeypatch, tmp_path, offline):
    source = tmp_path / "source.pth"
    source.write_bytes(files["inception"].read_bytes())
    weights = replace(INCEPTION, url=source.as_uri(), sha256=sha256(source))
    monkeypatch.undo()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(InputError, match=r"cannot download .*invalid hash value"):
        replace(weights, sha256="0" * 64)()
    assert not list((tmp_path / "torch").rglob("*.p*"))
    assert weights.in_reach()
    assert weights().prefix == "fid"
    source.unlink()
    assert weights.weights() == tmp_path / "torch/hub/checkpoints/source.pth"


@pytest.mark.parametrize("name", ALL)
def test_offline_is_one_line_before_anything_is_computed(name, offline):
    with pytest.raises(InputError, match=rf"cannot download .*no network.*set {ALL[name].variable}") as caught:
        Scorer(images(3), name, N, CPU)
    assert "\n" not in str(caught.value)


def test_a_machine_without_a_network_tries_it_once(offline):
    assert [INCEPTION.in_reach() for _ in range(3)] == [False] * 3
    assert offline == [5]


DAMAGES = {
    "cut": lambda path, whole: path.write_bytes(whole.read_bytes()[:1_000_000]),
    "a page": lambda path, _: path.write_text("<html>Not found</html>"),
    "another network": lambda path, _: torch.save(nn.Linear(2, 2).state_dict(), path),
    "no tensors": lambda path, _: torch.save({"weights": 3}, path),
}


@pytest.mark.parametrize(
    ("name", "damage"), [*((name, "cut") for name in ALL), *(("inception", damage) for damage in DAMAGES)]
)
def test_a_wrong_file_is_one_line(name, damage, files, monkeypatch, tmp_path):
    path = tmp_path / "wrong"
    DAMAGES[damage](path, files[name])
    monkeypatch.setenv(f"GANS_{name.upper()}", str(path))
    with pytest.raises(InputError, match="is damaged or holds another network") as caught:
        require(name)
    assert "\n" not in str(caught.value)
