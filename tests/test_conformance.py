"""What every entry of the registries must do; a new entry is tested by being registered."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gans import files
from gans.models import build_discriminator, build_generator, shape_of
from gans.models.layers import Shape, has_batch_norm
from gans.recipes import RULE_RECIPES, recipe
from gans.recipes import names as recipes
from gans.registry import LOSSES, MODELS, RULES
from gans.training.updates import Context
from tests.conftest import discriminators, networks, train_and_score

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")
OPTIMIZERS = [
    {"name": "adam"},
    {"name": "sgd", "lr_g": 0.01, "lr_d": 0.01, "momentum": 0.9},
    {"name": "sgd", "lr_g": 0.01, "lr_d": 0.01},
    {"name": "rmsprop"},
]
UPDATES = {
    "two-player": {"rule": "two-player", "d_steps": 1},
    "mdgan": {"rule": "mdgan", "workers": 3, "batches": 2, "d_steps": 1, "swap_epochs": 0.4},
    "fl-gan": {"rule": "fl-gan", "workers": 3, "d_steps": 1, "average_epochs": 0.4},
}


def update_of(rule: str) -> dict[str, Any]:
    """Settings of a rule that fit few images; those of a new rule are its defaults."""
    return UPDATES.get(rule, {"rule": rule})


@pytest.mark.parametrize(("side", "channels"), [(16, 1), (32, 3), (64, 1)])
@pytest.mark.parametrize(
    ("name", "classes"),
    [(name, n) for name, model in MODELS.items() for n in ((0, 4) if model.conditional else (0,))],
)
def test_networks(name: str, classes: int, side: int, channels: int) -> None:
    shape = Shape(channels, side, classes)
    config = networks(name=name, latent=6, width=4, conditional=bool(classes))
    generator, discriminator = build_generator(shape, config, 0), build_discriminator(shape, config, 0)
    projects = classes and MODELS[name].conditional == "projection"
    labels = torch.arange(4)
    given = [torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), *([labels] if classes else [])]

    def judge(images: Tensor, labels: Tensor) -> Tensor:
        return discriminator(images, labels) if projects else discriminator(images)

    images = generator(*given)
    assert images.shape == (4, channels, side, side)
    assert images.dtype == torch.float32
    outputs = judge(images, labels)
    assert outputs.shape == ((4, 1 + classes) if classes and not projects else (4,))
    # every parameter takes part, those of each class too, and a backward pass reaches the generator
    outputs.sum().backward()
    missing = [n for net in (generator, discriminator) for n, p in net.named_parameters() if p.grad is None]
    assert missing == []
    generator.eval()
    discriminator.eval()
    with torch.no_grad():
        for table in (part for part in generator.modules() if isinstance(part, nn.Embedding)):
            table.weight += 0.1 * torch.arange(4.0)[:, None]  # some are alike for all classes at the start
        # one image at a time gives the same, another latent or class another image
        whole = generator(*given)
        for one in torch.arange(4).split(1):
            assert torch.allclose(generator(*(part[one] for part in given)), whole[one], atol=1e-5)
            assert torch.allclose(judge(whole[one], labels[one]), judge(whole, labels)[one], atol=1e-4)
        assert not torch.equal(whole[0], whole[1])
        if classes:
            assert not torch.allclose(generator(given[0], labels.flip(0)), whole, atol=1e-5)
        if projects:
            assert not torch.allclose(judge(whole, labels.flip(0)), judge(whole, labels), atol=1e-6)
        # however large the activations, pixels stay in [-1, 1]
        for parameter in generator.parameters():
            parameter *= 50
        extreme = generator(1000 * given[0], *given[1:])
    assert extreme.isfinite().all()
    assert extreme.abs().max() <= 1


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_not_probabilities(name: str) -> None:
    """The loss has the sigmoid: with its last bias lowered, D gives negative numbers, else large ones."""
    discriminator = build_discriminator(Shape(1, 16), networks(name=name, latent=6, width=4), 0)
    last = [layer for layer in discriminator.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]
    with torch.no_grad():
        if last.bias is not None:
            last.bias.fill_(-100)
        else:  # whose sign is the image's
            last.weight *= 1e6
    logits = discriminator(torch.ones(2, 1, 16, 16))
    assert (logits < -50 if last.bias is not None else logits.abs() > 50).all()


def together() -> list[Any]:
    """Every network, loss and rule, with and without classes.

    The smallest network is tried with all of them, the others with each by itself; the rest are slow tests.
    """
    loss, rule = next(iter(LOSSES)), next(iter(RULES))
    found = []
    for name, *choices in product(MODELS, LOSSES, RULES, (False, True)):
        if choices[-1] and not MODELS[name].conditional:
            continue
        changed = sum(one != plain for one, plain in zip(choices, (loss, rule, False), strict=True))
        slow = name != "gan" and changed > 1
        found.append(pytest.param(name, *choices, marks=pytest.mark.slow if slow else ()))
    return found


@pytest.mark.parametrize(("name", "loss", "rule", "conditional"), together())
def test_every_rule_trains_every_network_with_every_loss(name, loss, rule, conditional, tiny, blobs) -> None:
    table = {"networks": {"name": name, "conditional": conditional}, "loss": {"name": loss}}
    made, data = (
        tiny({**table, "update": update_of(rule)}, batch=4),
        blobs(n=24, channels=3, classes=3),
    )
    update = RULES[rule](made, shape_of(data, made.networks), Context(data.train, data.train_labels))
    if LOSSES[loss].penalised and has_batch_norm(discriminators(update)[0].network):
        pytest.skip("the gradient penalty is refused with BatchNorm in the discriminator (gans.runs.cell)")
    networks = [update.generator.network, *(d.network for d in discriminators(update))]
    before = [[p.detach().clone() for p in network.parameters()] for network in networks]
    for i in range(2):
        statistics = update.step(i * update.images_per_step)
    assert set(statistics) >= {"loss/discriminator", "loss/generator"}
    for name, value in statistics.items():
        assert value.shape == (), name
        assert value.isfinite(), name
        assert not value.requires_grad, name
    for network, old in zip(networks, before, strict=True):
        assert all(p.isfinite().all() for p in network.parameters())
        moved = [not torch.equal(p, q) for p, q in zip(network.parameters(), old, strict=True)]
        # Adam moves whatever has a gradient; Wasserstein's last bias has none, nor gamma = 0's convolutions
        assert sum(moved) >= len(moved) / 2


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("settings", OPTIMIZERS, ids=str)
def test_every_rule_goes_on_bit_for_bit_with_every_optimiser(settings, rule, tiny, blobs, tmp_path) -> None:
    """The state goes through a file, as in a checkpoint; the optimiser is the named one."""
    made = tiny(
        {"networks": {"name": "dcgan"}, "optimizer": settings, "update": update_of(rule)},
        batch=4,
    )
    whole, resumed = (RULES[rule](made, Shape(1, 16), Context(blobs(n=24).train)) for _ in range(2))
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop}[settings["name"]]
    for trainable in (whole.generator, *discriminators(whole)):
        assert type(trainable.optimizer) is kind
    images = 0
    for _ in range(2):
        whole.step(images)
        images += whole.images_per_step
    files.save(tmp_path / "state.pt", whole.state())
    resumed.load(files.load(tmp_path / "state.pt", CPU))
    for _ in range(2):
        found = [update.step(images) for update in (whole, resumed)]
        assert found[0].keys() == found[1].keys()
        assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
        images += whole.images_per_step
    networks = [
        [update.generator.network, *(d.network for d in discriminators(update))] for update in (whole, resumed)
    ]
    for one, other in zip(*networks, strict=True):
        pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        assert all(torch.equal(p, q) for p, q in pairs)
    assert whole.finite() and resumed.finite()


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_sees_a_weight_that_is_no_number_and_counts_its_discriminators(rule, tiny, blobs) -> None:
    made = tiny({"networks": {"name": "gan"}, "update": update_of(rule)}, batch=4)
    for place in range(1 + len(discriminators(RULES[rule](made, Shape(1, 16), Context(blobs(n=24).train))))):
        update = RULES[rule](made, Shape(1, 16), Context(blobs(n=24).train))
        trainables = [update.generator, *discriminators(update)]
        assert update.finite()
        assert update.discriminator_size() == sum(trainable.size for trainable in trainables[1:])
        with torch.no_grad():
            trainables[place].parameters[-1].view(-1)[0] = torch.nan
        assert not update.finite()


def each_recipe() -> list[Any]:
    """Those with classes are slow tests: their networks are trained with every rule and loss above.

    So are those that tests/gans/training/test_loop.py trains.
    """
    fast = {*MODELS.names(), *RULE_RECIPES} - {"gan", "dcgan", "mdgan", "fl-gan"}
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in recipes()]


@pytest.mark.parametrize("name", each_recipe())
def test_every_recipe_trains_to_the_end(name, tiny, blobs, stub_scorer, recorder, tmp_path) -> None:
    made, data = tiny(recipe(name).settings, kimg=0.024, batch=4), blobs(channels=3, classes=3)
    if made.update.rule != "two-player":
        made = tiny(recipe(name).settings, {"update": update_of(made.update.rule)}, kimg=0.024, batch=4)
    observer = recorder()
    outcome = train_and_score(made, data, tmp_path, CPU, observer)
    assert outcome.status == "finished", outcome.reason
    assert set(outcome.scores) == {"fd_stub", "spread"}
    assert (tmp_path / "generator.safetensors").exists()
    step = made.batch * made.update.d_steps if made.update.rule == "two-player" else 12
    assert observer.values[-1][0] == -(-24 // step) * step  # the step that spends the budget is a whole one
