"""Each metric against a second implementation: SciPy, scikit-learn, or a closed form."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import polynomial_kernel

from gans.fidelity import require
from gans.fidelity.comparison import Comparison, Features, Real, class_shares
from gans.fidelity.gaussian import Gaussian
from gans.fidelity.metric import label_of
from gans.fidelity.metrics import frechet, kernel
from gans.fidelity.metrics.classes import variation
from gans.fidelity.scorer import measured
from gans.registry import METRICS
from tests.conftest import single_thread


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two sets of correlated features that overlap in part."""
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(6, 6, generator=generator)
    generated = torch.randn(120, 6, generator=generator) @ mixing
    real = torch.randn(150, 6, generator=generator) @ mixing * 1.3 + 0.5
    return generated, real


def as_real(features: torch.Tensor, held_out: torch.Tensor | None = None, **known: torch.Tensor) -> Real:
    return Real(features, measure_held_out=lambda: torch.ones(5) if held_out is None else held_out, **known)


def scores(generated: Features, real: Real) -> dict[str, float]:
    """All metrics in the features of `digits`; the class distance only where the classes are known."""
    extractor = require("digits")
    metrics = extractor.metrics(METRICS.optional).items()
    known = {name: one for name, one in metrics if real.classes is not None or "class" not in name}
    return measured(Comparison(generated, real, extractor.subset_size(len(generated), len(real))), known)


def exactly_normal(mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """Features whose sample mean is `mean` and whose sample covariance is diag(deviation ** 2)."""
    drawn = torch.randn(500, len(mean), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    centred = drawn - drawn.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(centred.T.cov()), centred.T, upper=False).T
    return (white * deviation + mean).float()


def test_frechet_distance_equals_scipys_matrix_square_root(pair):
    generated, real = (features.double().numpy() for features in pair)
    a, b = np.cov(generated.T), np.cov(real.T)
    expected = ((generated.mean(0) - real.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet.distance(Features(pair[0]), Features(pair[1])) == pytest.approx(expected, rel=1e-5)


def test_kernel_distance_equals_scikit_learns_cubic_kernel(pair):
    generated, real = pair[0], pair[1][:120]  # subsets of all images: every one gives the same number
    both = ((generated, generated), (real, real), (generated, real))
    xx, yy, xy = (polynomial_kernel(a.double(), b.double()) for a, b in both)
    n = len(generated)
    expected = (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (n * (n - 1)) - 2 * xy.mean()
    found = scores(Features(generated, torch.zeros(n, 10)), as_real(real))
    assert found["kd_digits"] == pytest.approx(expected, rel=1e-4)
    assert found["kd_digits_std"] == pytest.approx(0, abs=1e-3)


def test_metrics_that_are_named_equal_their_definitions(pair):
    """Authenticity and the Vendi score on whole matrices; the sliced distance by SciPy, line by line."""
    generated, real = (features.double().numpy() for features in pair)
    found = scores(Features(pair[0], torch.zeros(120, 10)), as_real(pair[1]))
    assert list(METRICS.optional) == ["authpct", "vendi", "sliced-wasserstein"]
    assert not {"authpct_digits", "vendi_digits", "sw_digits"} & set(require("digits").metrics())
    between, within = cdist(real, generated), cdist(real, real)
    np.fill_diagonal(within, np.inf)
    authentic = within.min(0)[between.argmin(0)] < between.min(0)
    assert found["authpct_digits"] == pytest.approx(100 * authentic.mean())
    unit = generated / np.linalg.norm(generated, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / len(unit))
    entropy = -sum(value * np.log(value) for value in values if value > 1e-12)
    assert found["vendi_digits"] == pytest.approx(np.exp(entropy), rel=1e-6)
    rng = torch.Generator().manual_seed(2020)
    lines = torch.randn(1000, 6, generator=rng, dtype=torch.float64).numpy()
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(2020))[:120].numpy()
    squares = []
    for line in lines[:, :, None]:
        costs = ((generated @ line) - (real[order] @ line).T) ** 2
        squares.append(costs[linear_sum_assignment(costs)].mean())
    assert found["sw_digits"] == pytest.approx(np.mean(squares) ** 0.5, rel=1e-6)


def test_class_distance_is_the_total_variation_distance():
    logits = torch.eye(3)[[0, 0, 1, 1, 1, 1, 1, 1, 1, 2]]
    shares = class_shares(logits)
    assert shares.tolist() == [0.2, 0.7, 0.1]
    real = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    assert variation(shares, real, 10).value == pytest.approx(0.45)
    assert variation(real, real, 10).value == 0
    one, other = torch.eye(2, dtype=torch.float64)
    assert variation(one, other, 10).value == 1
    # of two classes, the distance is that of one share: its error is the binomial one
    half = torch.tensor([0.3, 0.7], dtype=torch.float64)
    assert variation(half, one, 400).error == pytest.approx((0.3 * 0.7 / 400) ** 0.5, rel=0.15)


def draw(count: int, seed: int, shift: float = 0.3, scale: float = 1.2, side: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, side, generator=generator) * torch.linspace(0.5, 2, side) * scale + shift


@pytest.fixture(scope="module")
def one_thread_for_all() -> Iterator[None]:
    with single_thread():
        yield


@pytest.fixture(scope="module")
def repeated(one_thread_for_all) -> dict[str, np.ndarray]:
    """Scores of 100 fresh draws from one distribution against the same real features."""
    features = draw(400, seed=0, shift=0, scale=1)
    held_out = torch.cdist(draw(200, seed=1, shift=0, scale=1), features).min(1).values
    classes = torch.full((4,), 0.25, dtype=torch.float64)
    real = as_real(features, held_out, classes=classes)
    # the logits follow the features, with classes of unlike shares
    drawn = [draw(400, seed) for seed in range(10, 110)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "KID_SUBSETS", 1)  # of all 400 images: each of the 100 would be the same
        made = (Features(x, 2 * x[:, :4] + torch.arange(4) / 3) for x in drawn)
        found = [scores(one, real) for one in made]
    return {name: np.array([score[name] for score in found]) for name in found[0]}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(require("digits").metrics(METRICS.optional)))
def test_standard_errors_equal_the_spread_over_fresh_draws(name, repeated):
    """The spread over 100 draws is itself known to 7 %.

    Recall's error takes the generated images' balls as fixed, and is an upper bound: without one image the balls
    of its neighbours would reach further.
    """
    spread, claimed = repeated[name].std(ddof=1), repeated[f"{name}_se"].mean()
    low, high = (1, 1.8) if name.startswith("recall") else (0.75, 1.35)
    assert low < claimed / spread < high


def test_errors_of_means_are_those_of_their_parts():
    """The Inception score's is that of ten splits, memorisation's that of one rank per image."""
    drawn = torch.randn(200, 4, generator=torch.Generator().manual_seed(4))
    held_out = torch.linspace(0.1, 1, 50)
    found = scores(Features(drawn[:100], 3 * drawn[:100]), as_real(drawn[100:], held_out))
    assert found["is_digits_se"] == pytest.approx(found["is_digits_std"] / 3)
    nearest = torch.cdist(drawn[:100].double(), drawn[100:].double()).min(1).values.numpy()
    ranks = (held_out.numpy()[None] > nearest[:, None]).mean(1)
    assert found["memorisation_digits"] == pytest.approx(ranks.mean())
    assert found["memorisation_digits_se"] == pytest.approx(ranks.std(ddof=1) / 10)


def test_few_images_say_how_little_the_extrapolation_knows():
    """Two points make a line without a spread: its doubt is what halves and quarters would make of it."""
    real, generated = Gaussian.of(draw(300, 1, side=48)), draw(100, 2, side=48)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(2020))
    whole, halves, quarters = (
        np.mean([real.distance(Gaussian.of(part)) for part in generated[order].split(100 // cuts)])
        for cuts in (1, 2, 4)
    )
    found = real.at_infinity(generated, error=0.5)
    assert found.value == pytest.approx(2 * whole - halves)
    doubt = (2 * whole - halves) - (2 * halves - quarters)
    assert found.error == pytest.approx((0.5**2 + doubt**2) ** 0.5)


def test_error_of_the_frechet_distance_of_a_shift_has_a_closed_form():
    """Of equal covariances only the shift moves: 2 (mu - mu_R) . x has the deviation 2 |mu - mu_R| sigma."""
    mean, shift = torch.zeros(3), torch.tensor([30.0, 0.0, 0.0])
    real = Gaussian.of(exactly_normal(mean, torch.ones(3)))
    drawn = exactly_normal(shift, torch.ones(3))
    error = real.error(drawn, Gaussian.of(drawn))
    assert error == pytest.approx(2 * 30 / 500**0.5, rel=1e-4)


def test_frechet_distance_at_infinity_reads_the_line_at_zero():
    """On the whole set, halves, thirds and quarters, by NumPy's fit of a line over 1 / n."""
    real, generated = Gaussian.of(draw(300, 1)), draw(240, 2)
    shuffled = generated[torch.randperm(240, generator=torch.Generator().manual_seed(2020))]
    means = [
        np.mean([real.distance(Gaussian.of(part)) for part in shuffled.split(240 // cuts)])
        for cuts in (1, 2, 3, 4)
    ]
    expected = np.polyfit([1 / 240, 2 / 240, 3 / 240, 4 / 240], means, 1)[1]
    assert real.at_infinity(generated, 0.1).value == pytest.approx(expected)


def test_kernel_error_is_that_of_the_witness_function(pair):
    """2 (mean k(x, X) - mean k(x, Y)) by scikit-learn's cubic kernel."""
    generated, real = pair
    witness = 2 * (polynomial_kernel(generated, generated).mean(1) - polynomial_kernel(generated, real).mean(1))
    expected = witness.std(ddof=1) / 120**0.5
    assert kernel.error(generated, real, subsets=7, size=120) == pytest.approx(expected, rel=1e-4)
    # subsets of half of the images add a seventh
    assert kernel.error(generated, real, subsets=7, size=60) == pytest.approx(expected * (8 / 7) ** 0.5, rel=1e-4)


# On the features' device: the arithmetic that a GPU runs, here on a CPU


def correlated(count: int, side: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    """Positive features with a few strong directions, as networks give them, float32 (count, side)."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(side, side, generator=torch.Generator().manual_seed(9)) / side**0.5
    deviations = torch.logspace(0, -2, side) * scale
    return (torch.randn(count, side, generator=generator) * deviations @ mixing).relu() + 0.1


@pytest.mark.parametrize(
    ("count", "side"),
    [(2000, 96), (60, 96), (500, 300), pytest.param(4200, 2048, marks=pytest.mark.slow)],
    ids=["digits", "fewer images than dimensions", "wider", "Inception"],
)
def test_the_symmetric_frechet_distance_equals_torch_fidelitys(count, side, one_thread_for_all):
    generated, real = Features(correlated(count, side, 1, 1.1)), Features(correlated(count, side, 2))
    expected = frechet.by_torch_fidelity(generated, real)
    assert frechet.symmetric(generated, real) == pytest.approx(expected, rel=1e-6, abs=0)
    assert (frechet.distance(generated, real) == expected) == (side < frechet.WIDE)


@pytest.mark.parametrize("shape", [(300, 400, 100, 96), (120, 90, 90, 6)])
def test_kernel_distances_on_a_device_equal_torch_fidelitys(shape):
    """By float64, where NumPy keeps float32: of distances far from 0, to its rounding."""
    count, other, size, side = shape
    generated, real = correlated(count, side, 1, 2), correlated(other, side, 2)
    expected = kernel.by_torch_fidelity(generated, real, 20, size)
    assert kernel.on_device(generated, real, 20, size) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    exact = kernel.by_torch_fidelity(generated.double(), real.double(), 20, size)
    assert kernel.on_device(generated, real, 20, size) == pytest.approx(exact, rel=1e-9, abs=1e-12)


# Metrics by name


def test_the_label_of_an_extractor_by_its_frechet_distance():
    assert [label_of(name) for name in ("fid", "fd_digits", "fd_my_rows")] == ["inception", "digits", "my_rows"]
    assert [label_of(name) for name in ("kd_digits", "fd_digits_se", "fdinf_digits", "fid_se")] == [None] * 4
