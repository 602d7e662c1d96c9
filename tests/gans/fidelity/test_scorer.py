"""The scorer on real digits: equal to torch-fidelity, ordered by damage, and honest about its cache."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch_fidelity
from threadpoolctl import threadpool_info

from gans import files
from gans.data.datasets import load
from gans.data.images import ImageData, to_float
from gans.errors import InputError
from gans.fidelity.extractors.pinned import register, settings
from gans.fidelity.metric import error_of
from gans.fidelity.scorer import Scorer
from tests.conftest import single_thread
from tests.gans.fidelity import Bare

CPU = torch.device("cpu")
N = 300


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load("digits")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANS_DATA", str(tmp_path_factory.mktemp("data")))
        yield files.cache("reference")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with single_thread():
        yield


@pytest.fixture(scope="module")
def scorer(digits, cache) -> Scorer:
    return Scorer(digits, "digits", N, CPU)


def noisy(images: torch.Tensor, strength: float) -> torch.Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + strength * noise).clamp(0, 255).to(torch.uint8)


def test_scores_equal_torch_fidelitys_to_the_last_digit(digits):
    generated = noisy(digits.train, 20)
    n = len(generated)
    scorer = Scorer(digits, "digits", n, CPU)
    register()
    expected = torch_fidelity.calculate_metrics(
        input1=Bare(generated),
        input2=Bare(digits.train),
        feature_extractor="gans-digits",
        cuda=False,
        batch_size=scorer.batch,
        fid=True,
        kid=True,
        isc=True,
        prc=True,
        **settings(scorer.extractor, n, n),
    )
    assert scorer.distance(generated) == expected["frechet_inception_distance"]
    scores = scorer.score(generated)
    shared = {
        "fd_digits": expected["frechet_inception_distance"],
        "kd_digits": expected["kernel_inception_distance_mean"],
        "kd_digits_std": expected["kernel_inception_distance_std"],
        "is_digits": expected["inception_score_mean"],
        "is_digits_std": expected["inception_score_std"],
        "precision_digits": expected["precision"],
        "recall_digits": expected["recall"],
    }
    assert {name: scores[name] for name in shared} == shared
    # and every metric has a value and an error
    assert set(scores) == {*scorer.names, *map(error_of, scorer.names), "kd_digits_std", "is_digits_std"}
    assert all(map(math.isfinite, scores.values()))


def test_noise_floor_is_below_any_damage_and_states_its_sizes(digits):
    scorer = Scorer(digits, "digits", 1000, CPU)
    floor = scorer.noise_floor()
    halves, test = floor["train half vs train half"], floor["train vs test"]
    assert (halves["n_generated"], halves["n_reference"]) == (719, 719)
    assert (test["n_generated"], test["n_reference"]) == (359, 1438)
    assert set(halves) == {*scorer.score(digits.train[:1000]), "n_generated", "n_reference"}
    worst = max(row["fd_digits"] for row in floor.values())
    assert 0 < worst < scorer.distance(noisy(digits.train[:1000], 20))
    assert floor == scorer.noise_floor()


def test_scoring_and_the_training_around_it_do_not_touch_each_other(scorer, digits):
    images = digits.train[:N]
    expected = scorer.score(images)

    def settings() -> tuple:
        threads, precision = torch.get_num_threads(), torch.backends.cudnn.conv.fp32_precision
        return threads, torch.are_deterministic_algorithms_enabled(), precision, threadpool_info()

    torch.manual_seed(5)
    state, before = torch.get_rng_state(), settings()
    with torch.autocast("cpu"):
        assert Scorer(digits, "digits", N, CPU).score(images) == expected
    assert torch.equal(state, torch.get_rng_state())
    assert settings() == before
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[: len(content) // 2], lambda content: content[:-8] + bytes(8), lambda _: b""],
    ids=["truncated", "changed", "empty"],
)
def test_a_damaged_reference_cache_is_rebuilt(digits, scorer, cache, damage, monkeypatch):
    expected = scorer.distance(digits.train[:N])
    entry = max(cache.iterdir(), key=lambda path: path.stat().st_size)
    content = entry.read_bytes()
    entry.write_bytes(damage(content))
    assert Scorer(digits, "digits", N, CPU).distance(digits.train[:N]) == expected
    assert entry.stat().st_size == len(content)
    monkeypatch.setattr(Scorer, "_extract", lambda *_: pytest.fail("the features are on disk"))
    Scorer(digits, "digits", N, CPU)


def test_memorisation_is_1_for_copies_and_a_half_for_fresh_images(digits, scorer):
    copies = scorer.score(digits.train[:N])
    fresh = scorer.score(digits.test[:N])
    assert copies["memorisation_digits"] == 1
    assert fresh["memorisation_digits"] == pytest.approx(0.5, abs=3 * fresh["memorisation_digits_se"])


def test_dropped_classes_are_the_class_distance(digits, scorer):
    """By the data's own labels, which the classifier does not see."""
    kept = digits.train[digits.train_labels >= 2][:N]
    shares = torch.bincount(digits.train_labels[digits.train_labels >= 2][:N], minlength=10) / N
    real = torch.bincount(digits.train_labels, minlength=10) / len(digits.train)
    found = scorer.assess(kept)
    assert found.scores["class_distance_digits"] == pytest.approx((shares - real).abs().sum().item() / 2, abs=0.01)
    assert torch.allclose(found.classes.float(), torch.stack([shares, real]), atol=0.01)


def test_a_cache_that_cannot_be_written_costs_no_run(digits, tmp_path, monkeypatch):
    (tmp_path / "data").write_text("a file where a folder should be")
    monkeypatch.setenv("GANS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "data"))
    assert Scorer(digits, "digits", N, CPU).distance(digits.train[:N]) > 0


def test_images_must_be_what_they_were_announced_to_be(scorer, digits):
    with pytest.raises(TypeError, match=r"uint8 images, not torch\.float32"):
        scorer.score(to_float(digits.train[:N]))
    with pytest.raises(InputError, match=r"\(300, 1, 16, 16\), not \(299, 1, 16, 16\)"):
        scorer.distance(digits.train[: N - 1])
    with pytest.raises(InputError, match=r"not \(300, 3, 16, 16\)"):
        scorer.score(digits.train[:N].expand(-1, 3, -1, -1))


def test_data_must_suit_the_extractor(digits):
    colour = replace(digits, name="colour", train=digits.train.expand(-1, 3, -1, -1))
    with pytest.raises(InputError, match="takes 1-channel images of side 16, but 'colour' has 3 and 16"):
        Scorer(colour, "digits", N, CPU)
    with pytest.raises(InputError, match="at least 10 of each"):
        Scorer(digits, "digits", 9, CPU)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_scores_on_a_gpu_equal_those_on_a_cpu(digits, scorer):
    """To what the network's own rounding leaves; neighbours may tip over at the edge of a ball."""
    images = noisy(digits.train[:N], 20)
    found, expected = Scorer(digits, "digits", N, torch.device("cuda")).score(images), scorer.score(images)
    assert list(found) == list(expected)
    for name in ("fd", "fdinf", "kd", "is"):
        assert found[f"{name}_digits"] == pytest.approx(expected[f"{name}_digits"], rel=1e-4, abs=1e-5)
    for name in ("precision", "recall", "density", "coverage", "memorisation", "class_distance"):
        assert found[f"{name}_digits"] == pytest.approx(expected[f"{name}_digits"], abs=0.01)
