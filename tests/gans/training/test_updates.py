"""Optimisers, and settings that move with the budget: their ends, a loop that sets them by hand, checkpoints."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, RMSprop

from gans.compute.graphs import StepRunner
from gans.config import AnnealConfig, Resolved
from gans.errors import InputError
from gans.training.state import Training
from gans.training.updates import BETA2_STEPS, Trainable, factor, moved_beta2
from tests.conftest import CPU, discriminators
from tests.gans.compute.test_graphs import Strict, assert_same

pytestmark = pytest.mark.usefixtures("one_thread")
R3GAN = AnnealConfig(shape="cosine", lr=0.25, beta2=0.1, penalty=0.1)
RULES = {
    "two-player": {"rule": "two-player"},
    "mdgan": {"rule": "mdgan", "workers": 3},
    "fl-gan": {"rule": "fl-gan", "workers": 3, "average_epochs": 0.4},
}
GP = {"networks": {"name": "gan"}, "loss": {"name": "wasserstein-gp"}}
LR = 0.01


@pytest.mark.parametrize(
    ("settings", "plain"),
    [
        ({}, lambda p: Adam(p, LR, (0.5, 0.999), foreach=False)),
        ({"name": "adam", "beta1": 0.0, "beta2": 0.9}, lambda p: Adam(p, LR, (0.0, 0.9), foreach=False)),
        ({"name": "sgd"}, lambda p: SGD(p, LR)),
        ({"name": "sgd", "momentum": 0.7, "alpha": 0.3}, lambda p: SGD(p, LR, momentum=0.7)),
        ({"name": "rmsprop"}, lambda p: RMSprop(p, LR, 0.99)),
        ({"name": "rmsprop", "alpha": 0.8, "momentum": 0.3}, lambda p: RMSprop(p, LR, 0.8)),
    ],
)
def test_an_optimiser_is_torchs_with_its_own_settings(settings, plain, tiny) -> None:
    """A setting of another optimiser changes nothing."""
    network = nn.Linear(5, 3).double()
    trainable = Trainable(copy.deepcopy(network), LR, tiny(optimizer=settings))
    optimizer = plain(network.parameters())
    for _ in range(5):
        gradients = [torch.randn_like(parameter) for parameter in network.parameters()]
        trainable.apply([gradient.clone() for gradient in gradients])
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
    for found, expected in zip(trainable.parameters, network.parameters(), strict=True):
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_the_schedules_of_the_papers_at_their_ends_and_in_the_middle() -> None:
    """R3GAN: learning rate 2e-4 to 5e-5, gamma 0.05 to 0.005, beta2 0.9 to 0.99; SNGAN and WGAN-GP: to nothing."""
    assert [2e-4 * factor(R3GAN, R3GAN.lr, t) for t in (0, 0.5, 1)] == pytest.approx([2e-4, 1.25e-4, 5e-5])
    assert [0.05 * factor(R3GAN, R3GAN.penalty, t) for t in (0, 1)] == pytest.approx([0.05, 0.005])
    assert [moved_beta2(R3GAN, 0.9, t) for t in (0, 0.5, 1)] == pytest.approx([0.9, 0.945, 0.99])
    assert len({moved_beta2(R3GAN, 0.9, t / 1000) for t in range(1001)}) == BETA2_STEPS + 1
    linear = AnnealConfig(lr=0.0)
    assert [factor(linear, linear.lr, t) for t in (0, 0.25, 1)] == [1, 0.75, 0]


def annealed(tiny, rule: str, **tables) -> Resolved:
    return tiny(GP, {"update": RULES[rule], "anneal": R3GAN.model_dump()}, tables, batch=4)


def rates(trainable: Trainable) -> tuple[float, float]:
    (group,) = trainable.optimizer.param_groups
    return float(group["lr"]), group["betas"][1]


@pytest.mark.parametrize("rule", RULES)
def test_every_network_of_every_rule_follows_the_share_of_the_budget(rule: str, tiny, blobs) -> None:
    made = annealed(tiny, rule, optimizer={"lr_g": 1e-3, "lr_d": 2e-3, "beta2": 0.9})
    training = Training(made, blobs(n=60), CPU)
    update = training.update
    while not training.over:
        progress = training.images / made.budget
        training.step()
        moved = factor(R3GAN, 0.25, progress)
        for trainable in update.trainables:
            if rule == "fl-gan" and trainable is update.generator:
                continue  # the server's, which does not learn
            lr = 2e-3 if trainable in discriminators(update) else 1e-3
            assert rates(trainable) == pytest.approx((lr * moved, moved_beta2(R3GAN, 0.9, progress)), rel=1e-6)
        for trainable in discriminators(update):
            assert float(trainable.penalty_factor) == pytest.approx(factor(R3GAN, 0.1, progress), rel=1e-6)
    assert 0.8 < progress < 1


@pytest.mark.parametrize("name", ["adam", "sgd", "rmsprop"])
def test_a_rate_that_moves_is_one_that_is_set_by_hand(name: str, tiny, blobs) -> None:
    """With every optimiser; the weights agree to rounding, since a rate on the device is a float32."""
    optimizer = {"name": name, "lr_g": 1e-3, "lr_d": 2e-3}
    base = tiny({"networks": {"name": "gan"}, "optimizer": optimizer})
    moving, by_hand = (
        Training(made, blobs(), CPU) for made in (base.model_copy(update={"anneal": AnnealConfig(lr=0.0)}), base)
    )
    for _ in range(8):
        for trainable, lr in ((by_hand.update.generator, 1e-3), (by_hand.update.discriminator, 2e-3)):
            trainable.optimizer.param_groups[0]["lr"] = lr * (1 - by_hand.images / base.budget)
        moving.step()
        by_hand.step()
    for one, other in zip(moving.update.trainables, by_hand.update.trainables, strict=True):
        for a, b in zip(one.parameters, other.parameters, strict=True):
            assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_step_is_recorded_anew_when_beta2_moves_and_stays_a_plain_one(tiny, blobs) -> None:
    made, recorder = annealed(tiny, "two-player", kimg=0.4), Strict()
    replayed, plain = Training(made, blobs(n=60), CPU), Training(made, blobs(n=60), CPU)
    replayed.runner, plain.runner = StepRunner(recorder), StepRunner()
    for _ in range(22):  # of 100: some of the twenty steps of beta2
        replayed.step()
        plain.step()
    assert_same(replayed, plain)
    assert recorder.recordings == len({moved_beta2(R3GAN, 0.999, 4 * i / 400) for i in range(22)}) > 2


def test_another_budget_is_another_training_only_if_settings_move_with_it(tiny, blobs) -> None:
    data = blobs()

    def go_on(table: dict) -> None:
        short, long = (Training(tiny(GP, table, kimg=kimg), data, CPU) for kimg in (0.096, 0.192))
        long.load(short.state())

    go_on({})
    with pytest.raises(InputError, match="it has other settings or data"):
        go_on({"anneal": {"lr": 0.0}})
