import copy
import math
from collections import Counter
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.utils._pytree import tree_leaves

from gans import files, seeds
from gans.data.batches import Batch, Batches
from gans.models.layers import Shape
from gans.registry import LOSSES
from gans.training.mdgan.server import MDGAN, derangement, swap_interval
from gans.training.mdgan.workers import LocalTeam, WorkersLost, assignment
from gans.training.two_player import TwoPlayer
from gans.training.updates import Context
from tests.conftest import latents, seeded, to_double, values

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = Shape(1, 16)


def make(tiny, images: Tensor, network: str = "gan", loss: str = "non-saturating", **update) -> MDGAN:
    table = {"rule": "mdgan", "swap_epochs": math.inf, **update}
    made = tiny({"networks": {"name": network}, "loss": {"name": loss}, "update": table}, batch=4)
    MDGAN.check(made, len(images))
    return MDGAN(made, SHAPE, Context(images))


def shards_of(rule: MDGAN) -> list[Batches]:
    return [worker.shard for worker in rule.team.workers.values()]


@pytest.mark.parametrize(
    ("network", "workers", "batches"),
    [("gan", 3, 2), ("dcgan", 1, 1), ("dcgan", 2, 2), ("dcgan", 5, 2), ("dcgan", 10, 3), ("dcgan", 10, 10)],
)
def test_the_merged_gradient_is_that_of_the_averaged_objective(network, workers, batches, tiny, blobs) -> None:
    """1/N sum_n F_n dX/dw from pixel feedbacks, against autograd through all N discriminators at once."""
    rule = make(tiny, blobs(n=60).train, network, workers=workers, batches=batches)
    to_double(rule.generator, *rule.team.trainables)
    merged: list[Tensor] = []
    rule.generator.apply = lambda gradients: merged.extend(gradients)  # G stays where it was
    rule.step(0)
    # the discriminators have learned and move no more: in training mode they normalise by the batch alone
    objective = torch.zeros((), dtype=torch.float64)
    for n, trainable in enumerate(rule.team.trainables):
        fake = rule.generator.forward(latents(rule, 0, n % batches))
        objective = objective + softplus(-trainable.network(fake)).mean() / workers
    whole = torch.autograd.grad(objective, list(rule.generator.network.parameters()))
    found, expected = (torch.cat([g.flatten().double() for g in many]) for many in (merged, whole))
    assert expected.norm() > 0
    assert (found - expected).norm() / expected.norm() < 1e-10


@pytest.mark.parametrize(
    ("network", "loss", "conditional"),
    [("gan", "relativistic", True), ("dcgan", "hinge", False), ("sagan", "wasserstein-gp", True)],
)
def test_one_worker_one_batch_one_step_is_the_two_player_gan(network, conditional, loss, tiny, blobs) -> None:
    data = blobs(classes=3)
    base = {"networks": {"name": network, "conditional": conditional}, "loss": {"name": loss}}
    alone = {"rule": "mdgan", "workers": 1, "batches": 1, "d_steps": 1, "swap_epochs": 1.0}
    shape, context = Shape(1, 16, 3 if conditional else 0), Context(data.train, data.train_labels)
    rule = MDGAN(tiny(base, {"update": alone}, batch=4), shape, context)
    plain = TwoPlayer(tiny(base, batch=4), shape, context)
    assert rule.images_per_step == plain.images_per_step == 4
    # the two rules label their random streams differently: give both the same
    worker = rule.team.workers[0]
    worker.indices = lambda iteration: plain.batches.indices(iteration * 4, 4)
    rule.team.discriminators[0].batches = plain.batches
    worker.seed = lambda purpose, iteration, *labels: seeds.mix(0, purpose, iteration * 4)
    for update in (rule, plain):
        update.seed = lambda rng, purpose, images, *labels: rng.manual_seed(seeds.mix(0, purpose, images))
    for step in range(4):
        found, expected = values(rule.step(step * 4)), values(plain.step(step * 4))
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)
    pairs = ((rule.generator, plain.generator), (rule.team.trainables[0], plain.discriminator))
    for ours, theirs in ((one.network.state_dict(), other.network.state_dict()) for one, other in pairs):
        for name, weight in ours.items():
            # a bias before BatchNorm has no gradient but rounding, which Adam makes a step of at most lr
            atol = 4 * 2e-4 * 2 if network == "sagan" and name.endswith("bias") else 2e-6
            assert torch.allclose(weight.double(), theirs[name].double(), rtol=1e-5, atol=atol), name


@pytest.mark.parametrize(
    ("workers", "batches", "expected"),
    [
        (4, 1, [(0, 0), (0, 0), (0, 0), (0, 0)]),
        (4, 2, [(0, 1), (1, 0), (0, 1), (1, 0)]),
        (4, 4, [(0, 1), (1, 2), (2, 3), (3, 0)]),
        (5, 3, [(0, 1), (1, 2), (2, 0), (0, 1), (1, 2)]),
    ],
)
def test_the_assignment_is_the_papers(workers: int, batches: int, expected: list) -> None:
    """X_g = X(n mod k), X_d = X((n + 1) mod k), counted from 0, written out by hand."""
    assert [assignment(n, batches) for n in range(workers)] == expected


def test_derangements_are_uniform() -> None:
    """The 9 derangements of 4: chi-square with 8 degrees of freedom, 0.1 % level 26.12."""
    rng = torch.Generator().manual_seed(0)
    draws = 2700
    counts = Counter(tuple(derangement(4, rng)) for _ in range(draws))
    assert len(counts) == 9
    assert sum((count - draws / 9) ** 2 / (draws / 9) for count in counts.values()) < 26.12


@pytest.mark.parametrize(
    ("shard", "batch", "epochs", "interval"),
    [(6000, 10, 1.0, 600), (6000, 10, 5.0, 3000), (20, 4, 1.0, 5), (20, 4, 0.4, 2), (20, 4, 0.01, 1)],
)
def test_the_swap_interval_is_m_e_over_b(shard: int, batch: int, epochs: float, interval: int) -> None:
    """The first row is the paper's MNIST: 60,000 images on 10 workers, b = 10."""
    assert swap_interval(shard, batch, epochs) == interval


def swaps(rule: MDGAN, steps: int) -> list[int]:
    """Iterations, counted from 1, after which all discriminators are at other workers."""
    found = []
    for iteration in range(1, steps + 1):
        before = list(rule.team.trainables)
        rule.step((iteration - 1) * rule.images_per_step)
        if any(moved := [a is not b for a, b in zip(before, rule.team.trainables, strict=True)]):
            assert all(moved)
            found.append(iteration)
    return found


def test_swaps_happen_at_multiples_of_m_e_over_b_and_never_for_infinity(tiny, blobs) -> None:
    images = blobs(n=60).train
    # m = 20, b = 4: an epoch is 5 iterations
    assert swaps(make(tiny, images, workers=3, swap_epochs=1.0), 11) == [5, 10]
    assert swaps(make(tiny, images, workers=3, swap_epochs=0.4), 5) == [2, 4]
    assert swaps(make(tiny, images, workers=3, swap_epochs=math.inf), 6) == []
    assert swaps(make(tiny, images, workers=1, swap_epochs=0.1), 5) == []


def test_weights_and_adam_moments_travel_together_and_data_stay(tiny, blobs) -> None:
    rule = make(tiny, blobs().train, workers=3)
    for step in range(2):
        rule.step(step * 12)
    before = [copy.deepcopy(trainable.state()) for trainable in rule.team.trainables]
    shards_before = shards_of(rule)
    order = derangement(3, seeds.generator(0, "swap", 7))
    rule.swap(7)
    assert shards_of(rule) == shards_before
    for trainable, source in zip(rule.team.trainables, order, strict=True):
        pairs = zip(tree_leaves(trainable.state()), tree_leaves(before[source]), strict=True)
        assert all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)
        assert all(moments["step"] == 2 for moments in trainable.optimizer.state_dict()["state"].values())


@pytest.mark.parametrize("same", [False, True])
def test_discriminators_start_from_weights_of_their_own_or_from_equal_ones(same: bool, tiny, blobs) -> None:
    first, *others = make(tiny, blobs().train, workers=3, same_start=same).team.trainables
    for other in others:
        assert torch.equal(first.parameters[0], other.parameters[0]) == same


@pytest.mark.parametrize(("batches", "down"), [(1, 4 * 4 * 256), (2, 2 * 4 * 4 * 256), (3, 2 * 4 * 4 * 256)])
def test_traffic_is_what_is_handed_over(batches: int, down: int, tiny, blobs) -> None:
    """b = 4 images of d = 256 floats: 2bd down (bd where X_g is X_d), bd and 4 statistics up; by hand."""
    rule = make(tiny, blobs(n=60).train, workers=3, batches=batches, swap_epochs=0.4)
    for step in range(5):  # swaps at 2 and 4
        rule.step(step * 12)
    found = rule.metrics()
    theta = 256 * 4 + 4 + 4 * 4 + 4 + 4 + 1
    assert rule.team.each == theta
    assert found["traffic/server_to_worker"] == down
    assert found["traffic/worker_to_server"] == 4 * 4 * 256 + 16
    # theta and Adam's two moments, and its step count for each of the six parameters
    assert found["traffic/worker_to_worker"] == 4 * (3 * theta + 6)
    assert found["traffic/exchanges"] == 15
    assert found["traffic/moves"] == 6
    total = 15 * (down + 4 * 4 * 256 + 16) + 6 * 4 * (3 * theta + 6)
    assert found["traffic/total_mib"] == total / 2**20
    assert found["traffic/server_to_worker_formula"] == 4 * 2 * 4 * 256
    assert found["traffic/worker_to_server_formula"] == 4 * 4 * 256
    assert found["traffic/worker_to_worker_formula"] == 4 * theta


@pytest.mark.parametrize("batches", [1, 2])
def test_labels_travel_with_the_batches_and_count(batches: int, tiny, blobs) -> None:
    """b = 4 images of 256 floats and 4 labels of 8 bytes, twice for k = 2; up go the feedback and 4 statistics."""
    data = blobs(n=60, classes=3)
    table = {"rule": "mdgan", "workers": 3, "batches": batches, "swap_epochs": 0.4}
    made = tiny({"networks": {"name": "gan", "conditional": True}, "update": table}, batch=4)
    update = MDGAN(made, Shape(1, 16, 3), Context(data.train, data.train_labels))
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
    for worker in update.team.workers.values():  # each image has its label wherever it went
        for image, label in zip(*worker.shard.of(worker.shard.indices(0, 20)), strict=True):
            distances = (data.train.float() / 127.5 - 1 - image).abs().amax(dim=(1, 2, 3))
            assert label == data.train_labels[distances.argmin()]


def crashing(tiny, blobs, workers: int = 4, **fields) -> MDGAN:
    table = {"rule": "mdgan", "workers": workers, "crashes": True, "swap_epochs": 0.4, **fields}
    made = tiny({"networks": {"name": "gan"}, "update": table}, batch=4, kimg=1.0)
    return MDGAN(made, SHAPE, Context(blobs(n=80).train))


def test_one_worker_crashes_every_i_over_n_iterations_and_the_budget_ends_with_the_last(tiny, blobs) -> None:
    """N = 4, b = 4, 1000 images: I = 1000 / (4 * 5/2) = 100, a crash before iterations 25, 50, 75 (from 0)."""
    rule = crashing(tiny, blobs)
    alive, images = [], 0
    while images < 1000:
        rule.step(images)
        alive.append(len(rule.team.alive))
        assert rule.images_per_step == 4 * alive[-1]  # only what was really shown counts
        images += rule.images_per_step
    assert alive == [4] * 25 + [3] * 25 + [2] * 25 + [1] * 25
    assert images == 1000
    assert rule.metrics()["workers/alive"] == 1
    reasons = [f"crashed before iteration {i} (simulated)" for i in (25, 50, 75)]
    assert list(rule.team.lost.values()) == reasons
    assert rule.remark().startswith(f"worker {next(iter(rule.team.lost))} crashed before iteration 25")


def test_averages_and_swaps_are_over_the_survivors(tiny, blobs) -> None:
    """The gradient after two losses is that of the mean over two discriminators, and these two change places."""
    rule = make(tiny, blobs(n=60).train, workers=4, batches=3, swap_epochs=0.25)
    assert rule.swap_interval == round(15 * 0.25 / 4)  # m = 60 / 4, for any number of workers left
    rule.step(0)
    rule.team.lose(0, "test")
    rule.team.lose(2, "test")
    merged: list[Tensor] = []
    rule.generator.apply = lambda gradients: merged.extend(gradients)
    rule.swap = lambda iteration: None
    rule.step(16)
    assert rule.images_per_step == 8
    objective = torch.zeros(())
    # k = 3 is more than two workers can use: X_0 goes to worker 1 and X_1 to worker 3
    for place, n in enumerate((1, 3)):
        fake = rule.generator.network(latents(rule, 16, place))
        objective = objective + LOSSES["non-saturating"].g_loss(rule.team.placed[n].network(fake)) / 2
    whole = torch.autograd.grad(objective, list(rule.generator.network.parameters()))
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-8) for a, b in zip(merged, whole, strict=True))
    del rule.swap
    before = rule.team.trainables
    rule.swap(5)
    assert rule.team.trainables == before[::-1]


def test_the_last_worker_has_nobody_to_swap_with_and_its_loss_is_the_end(tiny, blobs) -> None:
    rule = make(tiny, blobs(n=60).train, workers=2, swap_epochs=0.1)
    rule.team.lose(1, "test")
    before = rule.team.trainables
    rule.step(0)
    assert rule.team.trainables == before
    rule.team.lose(0, "test")
    with pytest.raises(WorkersLost, match="all 2 workers were lost by iteration 1"):
        rule.step(4)
    with pytest.raises(WorkersLost):
        rule.state()


def test_losses_are_reported_and_survive_a_checkpoint(tiny, blobs, tmp_path) -> None:
    events: list[tuple[int, str]] = []
    one = crashing(tiny, blobs)
    images = 0
    for _ in range(60):
        one.step(images)
        images += one.images_per_step
    files.save(tmp_path / "state.pt", one.state())
    state = files.load(tmp_path / "state.pt", torch.device("cpu"))
    worker_factory = partial(LocalTeam, lost=lambda *event: events.append(event))
    other = MDGAN(one.experiment, SHAPE, Context(blobs(n=80).train, worker_factory=worker_factory))
    other.load(state)
    assert events == list(one.team.lost.items())
    assert len(events) == 2
    for _ in range(20):  # over the third crash
        assert torch.equal(values(one.step(images)), values(other.step(images)))
        assert one.images_per_step == other.images_per_step
        images += one.images_per_step
    assert one.metrics() == other.metrics()
    assert one.team.lost == other.team.lost
    assert len(one.team.lost) == 3
