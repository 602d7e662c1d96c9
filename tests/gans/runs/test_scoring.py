"""The generator that training chose is scored, once, on latents that did not choose it."""

import pytest
import torch
from torch import Tensor

from gans import files
from gans.config import Resolved
from gans.generate import generate, load_generator
from gans.models.inputs import Prior
from gans.runs.execute import Scoring
from gans.schema import CHECKPOINT, GENERATOR
from gans.training.loop import Session, train
from gans.training.recorder import Observer
from tests.conftest import train_and_score

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_best_point_of_the_curve_is_chosen_and_scored_on_other_latents(
    tiny, blobs, stub_scorer, recorder, monkeypatch, tmp_path
) -> None:
    """The scores are given: the second of four is best, so its generator is kept and scored."""
    script = iter([9.0, 2.0, 5.0, 2.0])
    drawn: list[Tensor] = []

    def distance(self, images: Tensor) -> float:
        drawn.append(images)
        return next(script)

    monkeypatch.setattr(stub_scorer, "distance", distance)
    final: list[Tensor] = []
    monkeypatch.setattr(stub_scorer, "score", lambda self, images: final.append(images) or {"fd_stub": 1.0})
    made = tiny({"networks": {"name": "dcgan"}})
    observer = recorder()
    outcome = train_and_score(made, blobs(), tmp_path, CPU, observer)
    assert observer.of("curve/fd_stub") == [(0, 9.0), (32, 2.0), (64, 5.0), (96, 2.0)]
    assert outcome.chosen == 32
    assert outcome.scores == {"fd_stub": 1.0}
    # the file is that generator: it draws what was scored at 32 images
    generator, about = load_generator(tmp_path / GENERATOR, CPU)
    assert about["images"] == 32
    assert about["data"] == "Blobs"
    assert Resolved.model_validate(about["experiment"]) == made
    assert torch.equal(generate(generator, Prior(8).fixed(100, "choose")), drawn[1])
    assert torch.equal(generate(generator, Prior(8).fixed(100, "report")), final[0])
    assert not torch.equal(drawn[1], final[0])


def test_the_average_is_scored_with_running_statistics(tiny, blobs, stub_scorer, monkeypatch, tmp_path) -> None:
    """With half-life 0 the scored generator is the trained one, in eval mode."""
    runs: list[Session] = []
    end = Session.end
    monkeypatch.setattr(Session, "end", lambda self, *how: runs.append(self) or end(self, *how))
    script = iter([3.0, 2.0, 1.0, 0.5])
    monkeypatch.setattr(stub_scorer, "distance", lambda self, images: next(script))
    monkeypatch.setattr(stub_scorer, "score", lambda self, images: {"fd_stub": 0.0})
    train_and_score(tiny({"networks": {"name": "dcgan"}}, ema={"halflife_kimg": 0}), blobs(), tmp_path, CPU)
    generator, about = load_generator(tmp_path / GENERATOR, CPU)
    assert about["images"] == 96
    trained = runs[0].training.update.generator.network
    assert trained.training
    z = Prior(8).fixed(20, "report")
    assert torch.equal(generate(generator, z), generate(trained.eval(), z))


def test_a_process_killed_between_training_and_scoring_goes_on_with_scoring(
    tiny, blobs, stub_scorer, recorder, tmp_path
) -> None:
    made = tiny({"networks": {"name": "gan"}})
    whole = train_and_score(made, blobs(), tmp_path / "whole")
    scoring = Scoring(made, blobs(), tmp_path / "cut", CPU)
    trained = train(made, blobs(), tmp_path / "cut", CPU, scoring.evaluator)
    kept = {name: (tmp_path / "cut" / name).read_bytes() for name in (CHECKPOINT, GENERATOR)}
    # the last log of a session that dies in the middle of scoring: pictures are drawn, no score is logged
    first, second = recorder(lambda event, count: event == "log"), recorder()
    with pytest.raises(KeyboardInterrupt):
        scoring.finish(trained, first)
    assert [path.name for path in first.pictures] == ["final.png", "neighbours.png"]
    found = train_and_score(made, blobs(), tmp_path / "cut", observer=second)
    assert (found.status, found.scores, found.chosen) == ("finished", whole.scores, whole.chosen)
    assert not second.of("loss/generator")
    assert second.of("score/fd_stub") == [(96, whole.scores["fd_stub"])]
    assert {name: (tmp_path / "cut" / name).read_bytes() for name in kept} == kept


def test_a_generator_whose_pixels_are_no_numbers_has_diverged(tiny, blobs, stub_scorer, tmp_path) -> None:
    made = tiny({"networks": {"name": "gan"}})
    scoring = Scoring(made, blobs(), tmp_path, CPU)
    trained = train(made, blobs(), tmp_path, CPU, scoring.evaluator)
    weights, about = files.load_weights(tmp_path / GENERATOR)
    files.save_weights(tmp_path / GENERATOR, {key: value * torch.nan for key, value in weights.items()}, about)
    found = scoring.finish(trained, Observer())
    assert (found.status, found.scores) == ("diverged", {})
    assert found.reason
