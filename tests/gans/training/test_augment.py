"""Differentiable augmentation against its published definition, written with loops over images and pixels."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gans.config import AUGMENTATIONS, experiment
from gans.errors import InputError
from gans.models.layers import Shape
from gans.registry import RULES
from gans.training.augment import Augmentation
from gans.training.updates import Context
from tests.conftest import CPU, discriminators

pytestmark = pytest.mark.usefixtures("one_thread")


def numbers(count: int, seed: int) -> Callable[..., list[float]]:
    """What the augmentation draws, in its order: one number for each image."""
    rng = torch.Generator().manual_seed(seed)

    def draw(low: int | None = None, high: int | None = None) -> list[Any]:
        if low is None:
            return torch.rand((count, 1, 1, 1), generator=rng).flatten().tolist()
        return torch.randint(low, high, (count, 1), generator=rng).flatten().tolist()

    return draw


def naive(images: Tensor, policy: str, seed: int) -> Tensor:
    """Zhao et al. 2020, appendix and code: `rand_brightness` to `rand_cutout`, one pixel at a time."""
    n, c, h, w = images.shape
    draw, x = numbers(n, seed), images.clone()
    for name in policy.split(","):
        if name == "color":
            for i, u in enumerate(draw()):
                x[i] += u - 0.5
            for i, u in enumerate(draw()):
                for row in range(h):
                    for column in range(w):
                        mean = sum(x[i, k, row, column] for k in range(c)) / c
                        for k in range(c):
                            x[i, k, row, column] = (x[i, k, row, column] - mean) * 2 * u + mean
            for i, u in enumerate(draw()):
                mean = x[i].sum() / (c * h * w)
                x[i] = (x[i] - mean) * (u + 0.5) + mean
        if name == "translation":
            down, right = draw(-(h // 8), h // 8 + 1), draw(-(w // 8), w // 8 + 1)
            moved = torch.zeros_like(x)
            for i in range(n):
                for row in range(h):
                    for column in range(w):
                        r, s = row + down[i], column + right[i]
                        if 0 <= r < h and 0 <= s < w:
                            moved[i, :, row, column] = x[i, :, r, s]
            x = moved
        if name == "cutout":
            size = h // 2
            tops, lefts = draw(0, h + 1 - size % 2), draw(0, w + 1 - size % 2)
            for i in range(n):
                for a in range(size):
                    for b in range(size):
                        row = min(max(tops[i] + a - size // 2, 0), h - 1)
                        column = min(max(lefts[i] + b - size // 2, 0), w - 1)
                        x[i, :, row, column] = 0
    return x


def augmented(images: Tensor, policy: str, seed: int) -> Tensor:
    augmentation = Augmentation.of(policy, CPU)
    assert augmentation
    augmentation.rng.manual_seed(seed)
    return augmentation(images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("policy", [*AUGMENTATIONS[:3], "color,translation,cutout"])
def test_it_is_the_published_one(policy: str, channels: int) -> None:
    images = torch.rand((6, channels, 16, 16), generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert torch.allclose(augmented(images, policy, seed=7), naive(images, policy, seed=7), atol=1e-5)


@pytest.mark.parametrize("rule", ["two-player", "mdgan"])
def test_half_of_the_real_images_are_flipped_and_no_generated_one(rule: str, tiny, blobs) -> None:
    images = torch.zeros(24, 1, 16, 16, dtype=torch.uint8)
    images[..., :8] = 255  # bright on the left
    made = tiny({"networks": {"name": "gan"}, "update": UPDATES[rule], "augment": "flip"}, batch=12)
    update = RULES[rule](made, Shape(1, 16), Context(images))
    seen: list[Tensor] = []
    for trainable in discriminators(update):
        trainable.learn = lambda real, fake, rng, learn=trainable.learn: (
            seen.append(real.images),
            learn(real, fake, rng),
        )[1]
    for step in range(10):
        update.step(step * update.images_per_step)
    left = torch.cat(seen)[:, 0, 0, 0] > 0
    assert torch.equal(torch.cat(seen)[:, 0, 0, -1] < 0, left)  # whole images, from left to right
    assert abs(left.double().mean() - 0.5) < 4 * 0.5 / len(left) ** 0.5
    fake = torch.randn(4, 1, 16, 16)
    assert torch.equal(discriminators(update)[0].augmentation(fake), fake)


def test_gradients_pass_through_twice() -> None:
    images = torch.rand((1, 2, 8, 8), dtype=torch.float64, requires_grad=True)

    def seen(x: Tensor) -> Tensor:
        return augmented(x, "color,translation,cutout", 3).square().sum(dim=(1, 2, 3))

    assert torch.autograd.gradcheck(seen, images)
    assert torch.autograd.gradgradcheck(seen, images)


def test_a_policy_is_one_text_and_wrong_ones_are_refused() -> None:
    assert experiment({"augment": " color , cutout"}).augment == "color,cutout"
    assert experiment({"augment": ""}).augment == experiment({"augment": "  "}).augment == ""
    assert Augmentation.of("", CPU) is None
    for wrong, said in {
        "colour": "unknown augmentation 'colour'; did you mean 'color'",
        "color,": "unknown augmentation ''",
        "cutout,cutout": "names one twice",
    }.items():
        with pytest.raises(InputError, match=said):
            experiment({"augment": wrong})


UPDATES = {
    "two-player": {"rule": "two-player", "d_steps": 2},
    "mdgan": {"rule": "mdgan", "workers": 2, "d_steps": 2},
    "fl-gan": {"rule": "fl-gan", "workers": 2, "d_steps": 2, "average_epochs": 0.4},
}


@pytest.mark.parametrize(
    ("rule", "loss"), [*((rule, "relativistic") for rule in UPDATES), ("two-player", "wasserstein-gp")]
)
def test_discriminators_see_augmented_images_only_each_from_seeds_of_its_own(
    rule: str, loss: str, tiny, blobs
) -> None:
    """Real and generated, in both networks' steps; marked here by a shift that no image comes near."""
    table = {"networks": {"name": "gan"}, "update": UPDATES[rule], "augment": "color", "loss": {"name": loss}}
    update = RULES[rule](tiny(table, batch=4), Shape(1, 16), Context(blobs(n=24).train))
    smallest: list[float] = []
    for trainable in discriminators(update):
        trainable.augmentation.transforms = [lambda x, rng: x + 100]
        trainable.network.register_forward_pre_hook(lambda m, args: smallest.append(float(args[0].detach().min())))
    rngs = [trainable.augmentation.rng for trainable in discriminators(update)]
    assert {id(rng) for rng in rngs} <= {id(rng) for rng in update.rngs}  # all of them known to a recording
    seeds: list[int] = []
    for step in range(3):
        update.step(step * update.images_per_step)
        seeds += [rng.initial_seed() for rng in rngs]
    assert len(smallest) >= 3 * 3 * len(rngs)
    assert min(smallest) > 90
    assert len(set(seeds)) == 3 * len(rngs)
