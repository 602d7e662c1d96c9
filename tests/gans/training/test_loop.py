import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gans import files
from gans.config import Resolved, experiment
from gans.data import datasets
from gans.recipes import names as recipes
from gans.recipes import recipe
from gans.schema import CHECKPOINT, GENERATOR
from gans.training.costs import Costs
from gans.training.loop import Outcome, train
from gans.training.state import Training
from gans.training.updates import Statistics
from tests.conftest import StubScorer, discriminators, train_and_score

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")
COSTS = ("seconds/", "speed/", "memory/", "energy/")  # differ from run to run
# a swap every second iteration: m = 20, b = 4
MDGAN = {"rule": "mdgan", "workers": 3, "batches": 2, "d_steps": 1, "swap_epochs": 0.4}
SHARDED = {"mdgan": MDGAN, "fl-gan": {"rule": "fl-gan", "workers": 3, "d_steps": 1, "average_epochs": 0.4}}


def of_recipe(tiny, name: str, **fields: Any) -> Resolved:
    rule = recipe(name).settings.get("update", {}).get("rule")
    update = {"update": SHARDED[rule]} if rule in SHARDED else {}
    batch = 4 if update else 8
    return tiny(recipe(name).settings, update, **{"batch": batch, "kimg": 0.192} | fields)


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    if isinstance(tree, dict):
        return {k: v for key, value in tree.items() for k, v in leaves(value, f"{path}/{key}").items()}
    if isinstance(tree, list | tuple):
        return {k: v for i, value in enumerate(tree) for k, v in leaves(value, f"{path}/{i}").items()}
    return {path: tree}


def assert_same_files(one: Path, other: Path) -> None:
    """Bit for bit, but for the seconds that training took."""
    a, b = (leaves(files.load(folder / CHECKPOINT, CPU)) for folder in (one, other))
    assert a.keys() == b.keys()
    assert sum(isinstance(value, Tensor) for value in a.values()) > 20
    for key, value in a.items():
        if isinstance(value, Tensor):
            assert torch.equal(value, b[key]), key
            assert value.dtype == b[key].dtype
        elif not key.startswith(("/seconds/", *(f"/history/{cost}" for cost in COSTS))):
            assert value == b[key], key
    (a, about), (b, said) = (files.load_weights(folder / GENERATOR) for folder in (one, other))
    assert about == said
    assert all(torch.equal(value, b[key]) for key, value in a.items())
    assert pictures(one) == pictures(other)


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "samples").iterdir())}


def logged(observer) -> dict[tuple[int, str], float]:
    return {(images, name): value for images, name, value in observer.values if not name.startswith(COSTS)}


def history(outcome: Outcome) -> dict[str, list[tuple[int, float]]]:
    return {
        name: list(map(tuple, points)) for name, points in outcome.history.items() if not name.startswith(COSTS)
    }


# event and how often it came
STOPS = {
    "just before the 2nd checkpoint": ("flush", 2),
    "between checkpoints": ("log", 9),
    "before any": ("log", 3),
}


# the other recipes' states are tested step by step in tests/gans/compute/test_graphs.py
FAST = {"gan", "dcgan", "mdgan", "fl-gan"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in recipes()]
)
def test_resume_is_exact(name: str, tiny, blobs, stub_scorer, recorder, tmp_path) -> None:
    """An interrupted run and an uninterrupted one end with the same bits, scores and curves."""
    made, images, whole = of_recipe(tiny, name), blobs(classes=3), recorder()
    expected = train_and_score(made, images, tmp_path / "whole", CPU, whole)
    assert expected.status == "finished"
    if name == "gan":  # the seed alone makes another run
        other = train_and_score(made.model_copy(update={"seed": 1}), images, tmp_path / "other", CPU)
        assert other.scores != expected.scores
    for stop in STOPS if name == "gan" else ["between checkpoints"]:
        first, second, folder = recorder(lambda *event, at=STOPS[stop]: event == at), recorder(), tmp_path / stop
        with pytest.raises(KeyboardInterrupt):
            train_and_score(made, images, folder, CPU, first)
        assert (folder / CHECKPOINT).exists() == (stop != "before any")
        torch.manual_seed(99)  # global random state has no say
        found = train_and_score(made, images, folder, CPU, second)
        assert_same_files(tmp_path / "whole", folder)
        assert (found.status, found.scores, found.chosen) == ("finished", expected.scores, expected.chosen)
        # the outcome has the history of both sessions, and the observer got what came before
        assert history(found) == history(expected)
        # the two sessions log what one would have logged; logged twice, the values agree
        assert logged(first) | logged(second) == logged(whole)
        assert logged(second) | logged(first) == logged(whole)


def test_a_longer_budget_goes_through_the_same_states(tiny, blobs, stub_scorer, tmp_path) -> None:
    """Training 2N images is training N and then N: the schedule, not the budget, is cut in two."""
    half, whole = (tiny({"networks": {"name": "gan"}}, kimg=kimg) for kimg in (0.048, 0.096))
    for made, run in ((half, "a"), (whole, "b"), (whole, "a")):  # the last takes the checkpoint at N up
        train_and_score(made, blobs(), tmp_path / run, CPU)
    a, b = (files.load(tmp_path / run / CHECKPOINT, CPU) for run in "ab")
    for key, value in leaves({k: a[k] for k in ("images", "update", "ema")}).items():
        other = leaves(b)[key]
        assert torch.equal(value, other) if isinstance(value, Tensor) else value == other, key


def poison(monkeypatch: pytest.MonkeyPatch, at: int, where: str) -> None:
    """From `at` images on, a NaN in the step's statistics or in the weights that it leaves behind."""
    step = Training.step

    def poisoned(self: Training) -> Statistics:
        statistics = step(self)
        if self.images < at:
            return statistics
        with torch.no_grad():
            if where == "loss":
                self.means.sums["loss/generator"].mul_(math.nan)
            elif where == "generator":
                self.update.generator.parameters[0][(0,) * self.update.generator.parameters[0].ndim] = math.nan
                self.ema.update()
            else:
                discriminators(self.update)[0].parameters[0].view(-1)[0] = math.nan
        return statistics

    monkeypatch.setattr(Training, "step", poisoned)


@pytest.mark.parametrize(
    ("name", "where"),
    [("gan", "loss"), ("gan", "generator"), ("gan", "discriminator"), ("mdgan", "discriminator")],
)
def test_a_nan_ends_as_diverged_with_the_checkpoint_before_it(
    name: str, where: str, tiny, blobs, stub_scorer, recorder, monkeypatch, tmp_path
) -> None:
    made = of_recipe(tiny, name, schedule={"evaluations": 4, "grids": 4, "checkpoints": 4, "logs": 8})
    poison(monkeypatch, at=120, where=where)  # checkpoints are at 48, 96, 144, 192
    observer = recorder()
    outcome = train_and_score(made, blobs(), tmp_path, CPU, observer)
    assert outcome.status == "diverged"
    assert "kimg" in outcome.reason
    assert outcome.scores == {}
    state = files.load(tmp_path / CHECKPOINT, CPU)
    assert state["images"] == 96
    assert all(v.isfinite().all() for v in leaves(state).values() if isinstance(v, Tensor))
    weights, about = files.load_weights(tmp_path / GENERATOR)
    assert all(value.isfinite().all() for value in weights.values())
    assert about["images"] == outcome.chosen <= 96
    assert all(math.isfinite(value) for name, value in observer.of("loss/generator"))


@pytest.mark.parametrize(("often", "where"), [("grids", "generator"), ("checkpoints", "discriminator")])
def test_weights_that_go_bad_within_a_step_are_neither_drawn_nor_saved(
    often: str, where: str, tiny, blobs, stub_scorer, monkeypatch, tmp_path
) -> None:
    """The step's losses are those before its update: finite, while the weights that it leaves are not."""
    schedule = {"evaluations": 1, "grids": 1, "checkpoints": 1, "logs": 1, often: 8}
    poison(monkeypatch, at=120, where=where)
    outcome = train_and_score(of_recipe(tiny, "gan", schedule=schedule), blobs(), tmp_path, CPU)
    assert outcome.status == "diverged"
    if (tmp_path / CHECKPOINT).exists():
        state = files.load(tmp_path / CHECKPOINT, CPU)
        assert all(v.isfinite().all() for v in leaves(state).values() if isinstance(v, Tensor))


def test_a_score_that_is_not_finite_ends_as_diverged(tiny, blobs, stub_scorer, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(stub_scorer, "distance", lambda self, images: math.nan)
    outcome = train_and_score(tiny({"networks": {"name": "gan"}}), blobs(), tmp_path, CPU)
    assert (outcome.status, outcome.reason) == ("diverged", "the score is nan at 0.0 kimg")


def test_a_generator_that_draws_one_image_late_ends_as_diverged(
    tiny, blobs, stub_scorer, monkeypatch, tmp_path, caplog
) -> None:
    """From half of the budget of 96 images on: early on, small initial weights draw one image too."""
    monkeypatch.setattr("gans.training.evaluation.COLLAPSED", 1.0)
    monkeypatch.setattr("gans.models.inputs.to_uint8", lambda images: torch.zeros_like(images).byte())
    early = train_and_score(tiny({"networks": {"name": "gan"}}), blobs(), tmp_path / "early", CPU)
    assert early.status == "finished" and "too early to say that training diverged" in caplog.text
    monkeypatch.setattr("gans.training.evaluation.COLLAPSE_STEPS", 1)
    outcome = train_and_score(tiny({"networks": {"name": "gan"}}), blobs(), tmp_path, CPU)
    assert (outcome.status, outcome.scores) == ("diverged", {})
    assert outcome.reason == "the generator has collapsed to one image at 0.1 kimg"
    assert [images for images, _ in outcome.history["curve/fd_stub"]] == [0, 32]


@pytest.mark.parametrize(
    ("kimg", "batch", "schedule"),
    [
        (0.096, 8, {"evaluations": 3, "grids": 2, "checkpoints": 4, "logs": 6}),
        (0.1, 7, {"evaluations": 15, "grids": 15, "checkpoints": 15, "logs": 15}),  # at every step
    ],
)
def test_things_happen_as_often_as_scheduled(
    kimg: float, batch: int, schedule: dict[str, int], tiny, blobs, stub_scorer, recorder, tmp_path
) -> None:
    made = tiny({"networks": {"name": "gan"}}, kimg=kimg, batch=batch, schedule=schedule)
    steps = math.ceil(made.budget / batch)
    end = steps * batch

    def moments(count: int) -> list[int]:
        """The steps after which a new multiple of budget / count has been reached, by exact fractions."""
        return sorted({math.ceil(-(-i * made.budget // count) / batch) * batch for i in range(1, count + 1)})

    observer = recorder()
    outcome = train(made, blobs(), tmp_path, CPU, StubScorer(blobs(), "stub", 100, CPU), observer)
    assert outcome.status == "finished"
    curve = [images for images, _ in observer.of("curve/fd_stub")]
    assert curve == [0, *moments(schedule["evaluations"])]
    grids = [path for path in observer.pictures if path.name.endswith("kimg.png")]
    assert len(grids) == 1 + min(schedule["grids"], steps)
    assert observer.flushes == min(schedule["checkpoints"], steps) + 1  # and one at the end
    logs = [images for images, _ in observer.of("loss/generator")]
    # a checkpoint has a log right before it, so that nothing half-averaged is lost
    assert logs == sorted({*moments(schedule["logs"]), *moments(schedule["checkpoints"])})
    assert logs[-1] == curve[-1] == end == files.load(tmp_path / CHECKPOINT, CPU)["images"]


def test_observers_get_sizes_scores_and_costs(tiny, blobs, stub_scorer, recorder, tmp_path) -> None:
    observer = recorder()
    made = tiny({"networks": {"name": "gan"}})
    outcome = train_and_score(made, blobs(), tmp_path, CPU, observer)
    g = 8 * 4 + 4 + 4 * 4 + 4 + 4 * 256 + 256
    d = 256 * 4 + 4 + 4 * 4 + 4 + 4 * 1 + 1
    assert observer.of("parameters/generator") == [(0, g)]
    assert observer.of("parameters/discriminator") == [(0, d)]
    assert observer.of("score/fd_stub") == [(96, outcome.scores["fd_stub"])]
    assert observer.of("score/spread") == [(96, outcome.scores["spread"])]
    assert all(value > 0 for _, value in observer.of("speed/images_per_second"))
    assert len(observer.of("speed/images_per_second")) == len(observer.of("loss/generator"))
    last = {name: value for _, name, value in observer.values}
    assert {n.removeprefix("seconds/"): v for n, v in last.items() if n.startswith("seconds/")} == outcome.seconds
    assert last["memory/peak_mib"] > 10


def test_the_clock_books_every_second_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("gans.training.costs.time.perf_counter", lambda: now[0])
    costs = Costs(CPU)
    now[0] += 1
    with costs.of("training"):
        now[0] += 10
        with costs.of("evaluation"):
            now[0] += 100
        now[0] += 20
    now[0] += 2
    assert costs.timing() == {"seconds/training": 30.0, "seconds/evaluation": 100.0, "seconds/overhead": 3.0}


def test_seconds_add_up_over_the_sessions_of_a_run(tiny, blobs, stub_scorer, recorder, tmp_path) -> None:
    made, observer = tiny({"networks": {"name": "gan"}}), recorder()
    with pytest.raises(KeyboardInterrupt):
        train_and_score(made, blobs(), tmp_path, CPU, recorder(lambda *event: event == ("flush", 3)))
    state = files.load(tmp_path / CHECKPOINT, CPU)
    state["seconds"] = {"training": 1000.0, "evaluation": 200.0, "overhead": 30.0}
    files.save(tmp_path / CHECKPOINT, state)
    seconds = train_and_score(made, blobs(), tmp_path, CPU, observer).seconds
    assert all(0 < seconds[part] - spent < 10 for part, spent in state["seconds"].items())
    # and the speed is of this session's steps, not of the seconds before
    assert all(speed > 10 for _, speed in observer.of("speed/images_per_second"))


@pytest.mark.slow
def test_a_small_dcgan_learns_digits(tmp_path: Path) -> None:
    """The score falls to less than half of the untrained generator's."""
    made = experiment(
        recipe("dcgan").settings,
        {"networks": {"latent": 16, "width": 16}, "schedule": {"evaluations": 4, "grids": 2, "checkpoints": 4}},
        {"score": {"extractors": ["digits"], "images": 200, "curve_images": 200}, "kimg": 20, "batch": 32},
    )
    made = Resolved.of(made, 16, "float32", made.score.extractors)
    outcome = train_and_score(made, datasets.load("digits"), tmp_path, CPU)
    assert outcome.status == "finished", outcome.reason
    (_, untrained), *later = outcome.history["curve/fd_digits"]
    assert min(score for _, score in later) < untrained / 2
    assert outcome.scores["fd_digits"] < untrained / 2


def test_an_untrained_generator_is_never_the_result(tiny, blobs, stub_scorer, tmp_path, monkeypatch) -> None:
    """Even if its images score best: weak extractors prefer grey noise to a first attempt at an image."""
    scores = iter([1.0, 9.0, 8.0, 7.0])
    monkeypatch.setattr(stub_scorer, "distance", lambda self, images: next(scores, 7.0))
    outcome = train_and_score(tiny({"networks": {"name": "gan"}}), blobs(), tmp_path, CPU)
    curve = outcome.history["curve/fd_stub"]
    assert [score for _, score in curve] == [1.0, 9.0, 8.0, 7.0]
    assert outcome.chosen == curve[-1][0]


def test_a_share_of_the_data_is_all_that_is_trained_on(tiny, blobs):
    data, experiment = blobs(), of_recipe(tiny, "gan", data_share=0.4)
    part = data.part(0.4)
    alone = dataclasses.replace(data, train=part.images, train_labels=part.labels)
    steps = [Training(experiment, data, CPU), Training(of_recipe(tiny, "gan"), alone, CPU)]
    for training in steps * 6:
        training.step()
    ours, theirs = (training.update.generator.network.state_dict() for training in steps)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
