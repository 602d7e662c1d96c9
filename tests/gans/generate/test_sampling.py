import copy
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from gans import seeds
from gans.errors import InputError
from gans.files import save_weights
from gans.generate import generate, load_generator
from gans.models import build_generator
from gans.models.inputs import PURPOSES, Prior
from gans.models.layers import Shape
from gans.pictures import grids
from gans.registry import MODELS
from tests.conftest import networks

pytestmark = pytest.mark.usefixtures("one_thread")


def tiny_generator(name: str = "dcgan") -> nn.Module:
    generator = build_generator(Shape(3, 16), networks(name=name, latent=8, width=4), seed=0)
    generator(torch.randn(16, 8))  # BatchNorm's running statistics are no longer the initial ones
    return generator.eval()


def test_latents_of_a_purpose_are_fixed_and_standard_normal() -> None:
    first = Prior(100).fixed(2000, "report").z
    torch.manual_seed(456)
    for count in (1, 7, 2000):  # the first ones do not depend on how many follow
        assert torch.equal(Prior(100).fixed(count, "report").z, first[:count])
    n = first.numel()
    assert abs(first.mean().item()) < 4 / n**0.5
    assert first.var().item() == pytest.approx(1, abs=4 * (2 / n) ** 0.5)


def test_purposes_and_training_share_no_latents() -> None:
    drawn = [Prior(8).fixed(64, purpose).z for purpose in PURPOSES]
    drawn += [seeds.normal_rows(64, 8, seed, "latents", 0) for seed in range(5)]
    rows = [row for z in drawn for row in map(tuple, z.tolist())]
    assert len(set(rows)) == len(rows)


def test_generate_rounds_and_clamps_the_networks_output() -> None:
    class Fixed(nn.Linear):
        def forward(self, z):
            return z[:, :, None, None]

    z = torch.tensor([[-1.0, -2.0, 1.0, 5.0, 0.0, 0.5, 127 / 127.5 - 1, 0.1]]).T
    images = generate(Fixed(1, 1).eval(), z)
    assert images.dtype == torch.uint8
    assert images.device.type == "cpu"
    # round((x + 1) / 2 * 255): 127.5 is even-rounded to 128, 191.25 to 191, 140.25 to 140
    assert images.flatten().tolist() == [0, 0, 255, 255, 128, 191, 127, 140]


@pytest.mark.parametrize("batch", [1, 5, 500])
def test_generate_draws_what_the_network_draws_and_leaves_it_as_it_was(batch: int) -> None:
    generator, z = tiny_generator(), torch.randn(23, 8)
    before, rng = copy.deepcopy(generator.state_dict()), torch.get_rng_state()
    found = generate(generator, z, batch)
    assert all(torch.equal(value, before[key]) for key, value in generator.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng)
    with torch.no_grad():
        expected = ((generator(z).double() + 1) / 2 * 255).round()
    assert (found.double() - expected).abs().max() <= 1  # a rounding tie may fall either way
    assert (found == expected).double().mean() > 0.999


def test_generate_refuses_training_mode_and_a_diverged_generator() -> None:
    generator = tiny_generator()
    with pytest.raises(ValueError, match="eval"):
        generate(generator.train(), torch.randn(2, 8))
    with torch.no_grad():
        next(generator.eval().parameters()).fill_(torch.nan)
    with pytest.raises(FloatingPointError):
        generate(generator, torch.randn(2, 8))


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_generator_draws_the_same_images(name: str, tmp_path: Path) -> None:
    generator, z = tiny_generator(name), torch.randn(6, 8)
    about = {"shape": [3, 16], "networks": {"name": name, "latent": 8, "width": 4}, "images": 5}
    save_weights(tmp_path / "g.safetensors", generator.state_dict(), about)
    loaded, description = load_generator(tmp_path / "g.safetensors", torch.device("cpu"))
    assert description == about
    assert not loaded.training
    assert torch.equal(generate(loaded, z), generate(generator, z))


def test_a_file_that_is_no_generator_is_an_input_error(tmp_path: Path) -> None:
    generator, file = tiny_generator(), tmp_path / "g.safetensors"
    with pytest.raises(InputError, match="no file"):
        load_generator(file, torch.device("cpu"))
    good = {"shape": [3, 16], "networks": {"name": "dcgan", "latent": 8, "width": 4}}
    for about in (
        {},
        good | {"networks": {"name": "gone", "latent": 8, "width": 4}},
        good | {"networks": {"name": "dcgan", "latent": 8, "width": 8}},
        good | {"shape": [1, 20]},
    ):
        save_weights(file, generator.state_dict(), about)
        with pytest.raises(InputError):
            load_generator(file, torch.device("cpu"))
    huge = good | {"networks": {"name": "dcgan", "latent": 65_536, "width": 65_536}}  # terabytes
    save_weights(file, generator.state_dict(), huge)
    with pytest.raises(InputError, match="loading state_dict"):  # compared before memory is taken
        load_generator(file)


def test_a_picture_shows_the_images_in_rows(tmp_path: Path) -> None:
    images = (torch.arange(6, dtype=torch.uint8) * 40)[:, None, None, None].expand(6, 1, 4, 4)
    picture = grids.picture(images, columns=3, least=1)
    assert picture.mode == "L"
    assert picture.size == (3 * 5 + 1, 2 * 5 + 1)  # a line of one pixel between and around
    levels = [[picture.getpixel((2 + 5 * column, 2 + 5 * row)) for column in range(3)] for row in range(2)]
    assert levels == [[0, 40, 80], [120, 160, 200]]
    large = grids.picture(images, columns=3, least=100)
    assert large.size == (160, 110)
    assert set(large.tobytes()) == {0, 40, 80, 120, 128, 160, 200}  # not smoothed
    grids.save_picture(picture, tmp_path / "new" / "x.png")
    with Image.open(tmp_path / "new" / "x.png") as read:
        assert read.tobytes() == picture.tobytes()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.png"]
    colour = torch.tensor([250, 0, 10], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert grids.picture(colour, least=1).getpixel((2, 2)) == (250, 0, 10)
