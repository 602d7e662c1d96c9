import copy
import math
from itertools import count

import pytest
import torch
from torch import Tensor

from gans.config import TwoPlayerConfig
from gans.errors import InputError
from gans.models.layers import Shape
from gans.schema import GENERATOR
from gans.training.checkpoints import Checkpoints
from gans.training.evaluation import Curve
from gans.training.loop import Session
from gans.training.mdgan.flgan import FLGAN, alone
from gans.training.recorder import Recorder
from gans.training.state import Training
from gans.training.two_player import TwoPlayer
from gans.training.updates import Context
from tests.conftest import latents, seeded

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = Shape(1, 16)
CPU = torch.device("cpu")


def make(tiny, images: Tensor, network: str = "gan", **update) -> FLGAN:
    table = {"rule": "fl-gan", "workers": 3, "average_epochs": 0.4, **update}
    return FLGAN(tiny({"networks": {"name": network}, "update": table}, batch=4), SHAPE, Context(images))


def weights(rule: FLGAN) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    pairs = [(w.generator.network.state_dict(), w.discriminator.network.state_dict()) for w in rule.workers]
    return copy.deepcopy(pairs)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


def test_all_start_from_one_pair_and_draw_their_own_latents(tiny, blobs) -> None:
    rule = make(tiny, blobs().train)
    first, *rest = weights(rule)
    assert all(same(first[0], g) and same(first[1], d) for g, d in rest)
    assert same(first[0], rule.generator.network.state_dict())
    drawn = [latents(worker, 0) for worker in rule.workers]
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])


def test_between_rounds_every_worker_is_a_gan_by_itself(tiny, blobs) -> None:
    """Worker 1 does what a two-player GAN does that has its shard, its seed and the common start."""
    images = blobs(n=60).train
    rule = make(tiny, images, average_epochs=100.0)
    assert rule.images_per_step == 12
    shard = rule.workers[1].batches.images
    alike = TwoPlayer(alone(rule.experiment, rule.experiment.update, 1), SHAPE, Context(shard))
    assert alike.experiment.update == TwoPlayerConfig()
    alike.generator.network.load_state_dict(rule.workers[1].generator.network.state_dict())
    alike.discriminator.network.load_state_dict(rule.workers[1].discriminator.network.state_dict())
    for step in range(3):
        rule.step(12 * step)
        alike.step(4 * step)
    assert same(alike.generator.network.state_dict(), rule.workers[1].generator.network.state_dict())
    assert same(alike.discriminator.network.state_dict(), rule.workers[1].discriminator.network.state_dict())


def test_a_worker_draws_the_classes_that_it_has(tiny, blobs) -> None:
    table = {"rule": "fl-gan", "workers": 3, "shards": "classes", "average_epochs": 0.4}
    made, data = (
        tiny({"networks": {"name": "gan", "conditional": True}, "update": table}, batch=4),
        blobs(classes=3),
    )
    update = FLGAN(made, Shape(1, 16, 3), Context(data.train, data.train_labels))
    for n, worker in enumerate(update.workers):
        assert worker.generator_input(seeded(worker, "latents", 0)).labels.tolist() == [n] * 4
        assert worker.batches.of(worker.batches.indices(0, 20)).labels.tolist() == [n] * 20


@pytest.mark.parametrize("network", ["dcgan", "sagan"])
def test_a_round_gives_everyone_the_mean_of_the_networks(network: str, tiny, blobs) -> None:
    rule = make(tiny, blobs(n=60).train, network, average_epochs=100.0)
    for step in range(2):
        rule.step(12 * step)
    before = weights(rule)
    start = copy.deepcopy(rule.generator.network.state_dict())
    rule.average()
    assert not same(start, rule.generator.network.state_dict())
    after = weights(rule)
    for trainable in range(2):
        for key in before[0][trainable]:
            mean = sum(pair[trainable][key].double() for pair in before) / 3
            if key.endswith(("._u", "._v")):
                mean = mean / mean.square().sum().sqrt()
            for pair in after:
                assert torch.allclose(pair[trainable][key].double(), mean, rtol=1e-5, atol=1e-6), key
    assert same(after[0][0], rule.generator.network.state_dict())


def test_the_traffic_of_a_round(tiny, blobs) -> None:
    """w + theta floats each way per worker, counted by hand for the fully connected networks: no buffers."""
    rule = make(tiny, blobs(n=60).train)
    assert rule.metrics() == {
        "workers/alive": 3,
        "traffic/server_to_worker_formula": 4 * (1336 + 1053),
        "traffic/worker_to_server_formula": 4 * (1336 + 1053),
    }
    for iteration in range(5):
        rule.step(iteration * 12)
    found = rule.metrics()
    # z = 8, h = 4, 256 pixels: G 8*4+4 + 4*4+4 + 4*256+256; D 256*4+4 + 4*4+4 + 4+1
    assert (rule.generator.size, rule.workers[0].discriminator.size) == (1336, 1053)
    assert found["traffic/server_to_worker"] == found["traffic/worker_to_server"] == 4 * (1336 + 1053)
    assert found["traffic/exchanges"] == 2 * 3
    assert found["traffic/total_mib"] == 2 * 2 * 3 * 4 * (1336 + 1053) / 2**20


def test_a_budget_without_a_round_is_refused(tiny) -> None:
    """n = 60, N = 3, b = 4: m = 20 and 12 images a step; E = 1.6 is a round in step 8, after 96 images."""
    update = {"rule": "fl-gan", "workers": 3, "average_epochs": 1.6}
    for kimg in (0.096, 0.085):  # the last step goes beyond the budget
        FLGAN.check(tiny({"update": update}, batch=4, kimg=kimg), 60)
    with pytest.raises(
        InputError,
        match=r"^no round of averaging within the budget of 0.084 kimg: lower update.average_epochs or raise kimg",
    ):
        FLGAN.check(tiny({"update": update}, batch=4, kimg=0.084), 60)
    FLGAN.check(tiny({"update": {**update, "d_steps": 2}}, batch=4, kimg=0.084), 60)  # 4 steps of 24 images


def test_the_initial_generator_is_never_chosen(tiny, blobs, tmp_path, stub_scorer, monkeypatch) -> None:
    """Rounds after steps 3 and 6 of 8, scores after steps 2, 4, 6 and 8: the one after step 4 is the first."""
    scores = count(1)  # every one is worse than the one before it
    monkeypatch.setattr(stub_scorer, "distance", lambda self, images: float(next(scores)))
    table = {"rule": "fl-gan", "workers": 3, "average_epochs": 0.6}
    made = tiny({"update": table, "schedule": {"evaluations": 4, "checkpoints": 1}}, batch=4, kimg=0.096)
    run = Training(made, blobs(), CPU)
    curve = Curve(stub_scorer(blobs(), "stub", 100, CPU), run, tmp_path / GENERATOR)
    session = Session(run, curve, Recorder(CPU), tmp_path, Checkpoints(tmp_path))
    start = copy.deepcopy(run.ema.state())
    trained = []
    for step in range(1, 9):
        session.step()
        trained.append(run.update.trained)
        if run.due("evaluations"):
            session.evaluate()
        if step == 2:
            assert (curve.best, curve.chosen, curve.weights) == (math.inf, 0, {})
            assert same(start, run.ema.state())
        if step == 3:  # the average begins here: nothing of the initial weights is left in it
            assert same(run.update.generator.network.state_dict(), run.ema.state())
    assert trained == [False] * 2 + [True] * 6
    assert (curve.best, curve.chosen) == (2.0, 48)
    assert not same(start, curve.weights)
