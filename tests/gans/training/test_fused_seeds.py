"""A prototype: seeds as one program on stacked weights (HFTA, arXiv 2102.02344); see docs/speed-log.md."""

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.optim import Adam

from benchmarks.speed.measurement import Operations
from gans import schema
from gans.compute import precision
from gans.models import layers
from gans.training.two_player import TwoPlayer
from gans.training.updates import Context, Trainable, laid_out_as
from tests.conftest import GREY

pytestmark = pytest.mark.usefixtures("one_thread")


class Stacked:
    """Networks with one optimiser; inputs and outputs have a further first dimension, the seeds."""

    def __init__(self, trainables: Sequence[Trainable]) -> None:
        networks = [trainable.network for trainable in trainables]
        self.state = stack_module_state(networks)
        self.weights = list(self.state[0].values())
        network, group = copy.deepcopy(networks[0]).to("meta"), trainables[0].optimizer.param_groups[0]
        self.forward = vmap(lambda state, given: functional_call(network, state, given))
        self.optimizer = Adam(self.weights, lr=group["lr"], betas=group["betas"], fused=True)

    def __call__(self, given: Tensor) -> Tensor:
        return self.forward(self.state, given)

    def descend(self, losses: Tensor) -> Tensor:
        """A step along the gradients of all losses; no weight is in two of them."""
        gradients = torch.autograd.grad(losses.sum(), self.weights)
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = laid_out_as(weight, gradient)
        self.optimizer.step()
        return losses.detach()


class Fused:
    """`TwoPlayer` for several seeds."""

    def __init__(self, rules: Sequence[TwoPlayer]) -> None:
        self.rules, self.one = rules, rules[0].discriminator
        self.networks = [Stacked([rule.learners()[name] for rule in rules]) for name in rules[0].learners()]

    def drawn(self, images: int) -> tuple[Tensor, Tensor]:
        """Latents and real images of all seeds."""
        for rule in self.rules:
            rule.prepare(images)
        latents = [rule.generator_input(rule.input_rngs[0]).z for rule in self.rules]
        return torch.stack(latents), torch.stack([rule.batches.of(rule.indices).images for rule in self.rules])

    def compute(self, latents: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """The losses of D and G for each seed."""
        (generator, discriminator), loss = self.networks, self.one.loss
        both = [real, (fake := generator(latents)).detach()]
        apart = self.one.apart
        logits = map(discriminator, both) if apart else discriminator(torch.cat(both, dim=1)).chunk(2, dim=1)
        d_loss = discriminator.descend(vmap(loss.d_loss)(*logits))
        return d_loss, generator.descend(vmap(loss.g_loss)(discriminator(fake)))


@pytest.mark.parametrize("model", ["gan", "dcgan"])
def test_fused_seeds_train_as_each_alone_in_as_many_operations(model: str, tiny, blobs, monkeypatch) -> None:
    def rules(count: int) -> list[TwoPlayer]:
        made = (tiny({"networks": {"name": model}}, seed=seed) for seed in range(count))
        return [TwoPlayer(one, GREY, Context(blobs().train)) for one in made]

    alone, fused, moments = rules(3), Fused(rules(3)), (0, 8, 16)
    expected = [[rule.step(images) for rule in alone] for images in moments]
    monkeypatch.setattr(precision, "by_launches", lambda device: True)
    monkeypatch.setattr(layers, "is_channels_last", lambda weight: False)  # vmap refuses the question
    for images, steps in zip(moments, expected, strict=True):
        for found, name in zip(fused.compute(*fused.drawn(images)), (schema.LOSS_D, schema.LOSS_G), strict=True):
            assert torch.allclose(found, torch.stack([step[name] for step in steps]), rtol=1e-5)
    for stacked, name in zip(fused.networks, alone[0].learners(), strict=True):
        for key, values in (stacked.state[0] | stacked.state[1]).items():
            every = torch.stack([rule.learners()[name].network.state_dict()[key] for rule in alone])
            assert torch.allclose(values, every, rtol=1e-4, atol=1e-6), key
    counts = []
    for count in (2, 5):
        fused = Fused(rules(count))
        given = fused.drawn(0)
        with Operations() as seen:
            fused.compute(*given)
        counts.append(seen.counts)
    assert counts[0] == counts[1]
