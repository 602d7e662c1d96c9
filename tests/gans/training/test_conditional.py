"""Conditional training: steps, feedback and bytes against what is written out by hand."""

from typing import Any

import pytest
import torch

from gans.config import Resolved
from gans.data.batches import Batch
from gans.models import shape_of
from gans.registry import RULES
from gans.training.mdgan.flgan import FLGAN
from gans.training.mdgan.server import MDGAN
from gans.training.two_player import Discriminator, TwoPlayer
from gans.training.updates import Context, Update
from tests.conftest import discriminators, seeded

pytestmark = pytest.mark.usefixtures("one_thread")
WORKERS = {"rule": "mdgan", "workers": 3, "batches": 2, "swap_epochs": 0.4}


def make(tiny, blobs, name: str, *tables: dict[str, Any], **fields: Any) -> Update:
    made: Resolved = tiny({"networks": {"name": name, "conditional": True}}, *tables, batch=4, **fields)
    data = blobs(n=60, classes=3)
    context = Context(data.train, data.train_labels)
    return RULES[made.update.rule](made, shape_of(data, made.networks), context)


def test_the_generated_classes_are_the_datas_or_even(tiny, blobs) -> None:
    """Their means over 100 batches of 8, from images of shares 4:1."""
    data = blobs(n=60, classes=2)
    skewed = torch.arange(60).remainder(5) // 4  # 0 0 0 0 1
    for how, share in (("data", 0.2), ("uniform", 0.5)):
        made = tiny({"networks": {"name": "gan", "conditional": True}, "labels": how})
        update = TwoPlayer(made, shape_of(data, made.networks), Context(data.train, skewed))
        drawn = torch.cat([update.generator_input(seeded(update, "latents", 8 * i)).labels for i in range(100)])
        assert drawn.double().mean().item() == pytest.approx(share, abs=4 * (share * (1 - share) / 800) ** 0.5)


@pytest.mark.parametrize("batches", [1, 2])
def test_labels_travel_with_the_batches_and_count(batches: int, tiny, blobs) -> None:
    """b = 4 images of 256 floats and 4 labels of 8 bytes, twice for k = 2; up go the feedback and 4 statistics."""
    update = make(tiny, blobs, "gan", {"update": {**WORKERS, "batches": batches}})
    assert isinstance(update, MDGAN)
    seen: list[tuple[Batch, Batch]] = []
    for discriminator in update.team.discriminators:
        discriminator.compute = lambda x_d, x_g, compute=discriminator.compute: (
            seen.append((x_d, x_g)),
            compute(x_d, x_g),
        )[1]
    update.step(0)
    assert update.metrics()["traffic/server_to_worker"] == batches * (4 * 4 * 256 + 4 * 8)
    assert update.metrics()["traffic/worker_to_server"] == 4 * 4 * 256 + 16
    inputs = [update.generator_input(seeded(update, "latents", 0, j)) for j in range(batches)]
    for n, (x_d, x_g) in enumerate(seen):
        assert torch.equal(x_d.labels, inputs[(n + 1) % batches].labels)
        assert torch.equal(x_g.labels, inputs[n % batches].labels)
    data = blobs(n=60, classes=3)
    for worker in update.team.workers.values():  # each image has its label wherever it went
        for image, label in zip(*worker.shard.of(worker.shard.indices(0, 20)), strict=True):
            distances = (data.train.float() / 127.5 - 1 - image).abs().amax(dim=(1, 2, 3))
            assert label == data.train_labels[distances.argmin()]


def test_a_federated_worker_draws_the_classes_that_it_has(tiny, blobs) -> None:
    table = {"rule": "fl-gan", "workers": 3, "shards": "classes", "average_epochs": 0.4}
    update = make(tiny, blobs, "gan", {"update": table})
    assert isinstance(update, FLGAN)
    for n, worker in enumerate(update.workers):
        assert worker.generator_input(seeded(worker, "latents", 0)).labels.tolist() == [n] * 4
        assert worker.batches.of(worker.batches.indices(0, 20)).labels.tolist() == [n] * 20
    update.step(0)
    assert [type(trainable) for trainable in discriminators(update)] == [Discriminator] * 3
