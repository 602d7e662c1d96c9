import pytest
import torch

from gans import seeds
from gans.data.batches import Batches, HostBatches

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


def test_batches_of_images_on_the_host_are_the_same_stream(images: torch.Tensor) -> None:
    """Across epochs, after a jump to another position, and with labels."""
    labels, device = torch.arange(N) % 3, torch.device("cpu")
    plain, host = Batches(images, 5, labels=labels), HostBatches(images, 5, labels, device, count=8)
    for position in [*range(0, 6 * N, 8), 16, 24, 1000, 1008]:
        expected, found = (batches.of(batches.indices(position, 8)) for batches in (plain, host))
        assert torch.equal(found.images, expected.images) and torch.equal(found.labels, expected.labels)
        assert len(host.ahead) == 3  # this step's and two further ones
    assert HostBatches(images, 5, None, device, count=8).of(torch.arange(2)).labels is None


def test_seeds_and_labels_give_other_orders(images: torch.Tensor) -> None:
    kinds = [(5,), (6,), (5, "worker", 0), (5, "worker", 1), (5, "penalty", 0), (6, "worker", 0)]
    orders = {tuple(stream(Batches(images, *kind), 0, N)) for kind in kinds}
    assert len(orders) == len(kinds)


# the seeds below everything


def test_seeds_differ_with_every_label() -> None:
    labels = [(), (0,), (0, 0), (1,), ("latents",), ("latents", 0), ("latents", 640), ("latents", 640, 0)]
    labels += [("latents", 640, 1), ("latents", 0, 640), ("order", 640), (640, "latents")]
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
