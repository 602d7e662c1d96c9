"""Generators as torch.export and ONNX files, loaded as someone without this package does."""

import json

import pytest
import torch

from gans.generate import export, load_generator
from gans.models import build_generator
from gans.models.inputs import GeneratorInput
from gans.models.layers import Shape
from gans.registry import MODELS
from gans.zoo import find
from tests.conftest import networks

pytestmark = pytest.mark.usefixtures("one_thread")


def given(name: str, conditional: bool) -> tuple[torch.nn.Module, GeneratorInput]:
    config = networks(name, latent=8, width=16, conditional=conditional)
    z, labels = torch.randn(5, 8), torch.arange(5) % 3
    generator = build_generator(Shape(3, 16, 3 if conditional else 0), config, seed=0).eval()
    return generator, GeneratorInput(z, labels if conditional else None)


@pytest.mark.parametrize("name", MODELS)
def test_pt2_loads_with_torch_alone(name, tmp_path):
    for conditional in (False, True):
        generator, code = given(name, conditional)
        content, apart = export.export(generator, {"shape": [3, 16]}, code, ".pt2")
        (tmp_path / "g.pt2").write_bytes(content)
        about = {"about": ""}
        images = torch.export.load(tmp_path / "g.pt2", extra_files=about).module()(*code[:3])  # another batch
        assert (images - generator(*code[:3])).abs().max() <= 1e-5 >= apart
        assert json.loads(about["about"]) == {"shape": [3, 16]}


def test_onnx_is_the_same_network(gans, tmp_path):
    status, _, err = gans("export", "zoo:gan-digits", "--onnx", "g.onnx")
    if status:  # the libraries are optional
        assert "pip install onnxscript onnxruntime" in err
        pytest.skip("onnxscript or onnxruntime is not installed")
    import onnxruntime

    generator, about = load_generator(find("zoo:gan-digits"))
    z = torch.randn(3, about["networks"]["latent"])
    (images,) = onnxruntime.InferenceSession(tmp_path / "g.onnx").run(["images"], {"z": z.numpy()})
    assert (torch.from_numpy(images) - generator(z)).abs().max() <= 1e-5


def test_an_export_that_differs_is_refused(monkeypatch):
    generator, code = given("gan", False)
    monkeypatch.setattr(export, "TOLERANCE", -1)
    with pytest.raises(ValueError, match="differ by"):
        export.export(generator, {}, code, ".pt2")
