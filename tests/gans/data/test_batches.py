import pytest
import torch

from gans import seeds
from gans.data.batches import Batches

N = 23


@pytest.fixture
def images() -> torch.Tensor:
    """Image i is grey level i all over."""
    return torch.arange(N, dtype=torch.uint8)[:, None, None, None].expand(N, 1, 2, 2).contiguous()


def stream(batches: Batches, start: int, count: int) -> list[int]:
    return batches.indices(start, count).tolist()


def test_every_epoch_covers_each_image_once_in_another_order(images: torch.Tensor) -> None:
    batches = Batches(images, seed=5)
    epochs = [stream(batches, e * N, N) for e in range(4)]
    assert all(sorted(epoch) == list(range(N)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert list(range(N)) not in epochs


@pytest.mark.parametrize("size", [1, 4, 22, 23, 24, 60])
def test_random_access_equals_sequential_access_across_epochs(images: torch.Tensor, size: int) -> None:
    whole = [i for e in range(9) for i in stream(Batches(images, 5), e * N, N)]
    starts = range(0, 6 * N - size + 1, size)
    sequential = Batches(images, 5)
    assert [i for s in starts for i in stream(sequential, s, size)] == whole[: len(starts) * size]
    backwards = Batches(images, 5)
    for start in reversed(starts):
        assert stream(backwards, start, size) == whole[start : start + size]
        assert stream(Batches(images, 5), start, size) == whole[start : start + size]


def test_batches_are_those_images_in_minus_one_to_one(images: torch.Tensor) -> None:
    batches = Batches(images, 5)
    found = batches.of(batches.indices(20, 7)).images
    levels = torch.tensor(stream(batches, 20, 7), dtype=torch.float64)
    assert found.dtype == torch.float32
    assert found.shape == (7, 1, 2, 2)
    expected = (levels / 255 * 2 - 1)[:, None, None, None].expand(7, 1, 2, 2)
    assert torch.allclose(found.double(), expected, atol=1e-6)


def test_seeds_and_labels_give_other_orders(images: torch.Tensor) -> None:
    kinds = [(5,), (6,), (5, "worker", 0), (5, "worker", 1), (5, "penalty", 0), (6, "worker", 0)]
    orders = {tuple(stream(Batches(images, *kind), 0, N)) for kind in kinds}
    assert len(orders) == len(kinds)


def test_orders_leave_the_global_random_state_alone(images: torch.Tensor) -> None:
    before = torch.get_rng_state()
    Batches(images, 5).indices(0, 50)
    assert torch.equal(torch.get_rng_state(), before)


def test_few_orders_are_kept_in_memory(images: torch.Tensor) -> None:
    batches = Batches(images, 5)
    for position in range(0, 50 * N, 10):
        batches.indices(position, 10)
    assert len(batches.orders) <= 2


def test_the_first_order_is_uniform() -> None:
    """Place of image 0 among 4 over 4000 seeds: chi-square with 3 degrees of freedom, 0.1 % level 16.27."""
    images = torch.zeros(4, 1, 1, 1, dtype=torch.uint8)
    places = [stream(Batches(images, seed), 0, 4).index(0) for seed in range(4000)]
    counts = torch.bincount(torch.tensor(places), minlength=4)
    assert ((counts - 1000.0) ** 2 / 1000).sum() < 16.27


# the seeds below everything


def test_seeds_differ_with_every_label() -> None:
    labels = [
        (),
        (0,),
        (0, 0),
        (1,),
        ("latents",),
        ("latents", 0),
        ("latents", 640),
        ("latents", 640, 0),
        ("latents", 640, 1),
        ("latents", 0, 640),
        ("order", 640),
        (640, "latents"),
    ]
    made = {(seed, label): seeds.mix(seed, *label) for seed in (0, 1) for label in labels}
    assert len(set(made.values())) == len(made), "two positions share a random stream"
    assert all(0 <= value < 2**63 for value in made.values())


@pytest.mark.parametrize("stride", [1, 32, 63, 320])
def test_seeds_mixed_ahead_are_those_mixed_alone(stride: int) -> None:
    """In any order, and off the stride's grid, where MD-GAN goes on after a crash."""
    positions = [0, stride, 7, 63 * stride, 64 * stride, 5 * stride + 3, 2**33, 3 * stride]
    for labels in ((), (0,), (2, 1)):
        for position in positions:
            found = seeds.mix_ahead(3, "latents", position, stride, *labels)
            assert found == seeds.mix(3, "latents", position, *labels)


def test_seeds_are_the_same_in_every_process() -> None:
    """No salted hash, no state: equal calls give equal numbers."""
    torch.manual_seed(1)
    first = seeds.normal((3, 5), 7, "latents", 64)
    torch.manual_seed(2)
    torch.randn(10)
    assert torch.equal(first, seeds.normal((3, 5), 7, "latents", 64))
    assert not torch.equal(first, seeds.normal((3, 5), 8, "latents", 64))
