"""Scores against closed forms, against rivals that compute the same thing, and at the edges.

The rivals get features through a network that passes them on. Where they do not compute quite the same thing, a
comment says why. All comparisons are to 1e-6 relative unless it says otherwise.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch

from modiste.errors import ModisteError
from modiste.metrics import functional, manifold
from modiste.metrics.functional import Moments, Score


def draws(count: int, width: int = 8, seed: int = 0, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, (count, width))


BUFFERED = pytest.mark.filterwarnings("ignore:Metric .* will save all extracted features:UserWarning")


def kinds(garments: dict[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (draws(400), draws(400, seed=1, shift=0.2, scale=1.3)),
        (garments["real"].astype(np.float64), garments["spoilt"].astype(np.float64)),
    ]


# --- Fréchet


def gaussian(mean: Any, covariance: Any) -> Moments:
    return Moments(np.array(mean, float), np.array(covariance, float), 100)


def test_moments_are_numpys() -> None:
    x = draws(7001, 5).astype(np.float32)
    found = functional.moments(x)
    np.testing.assert_allclose(found.mean, x.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-10)
    assert found.count == 7001 and found.mean.dtype == found.covariance.dtype == np.float64


def test_moments_keep_their_digits_far_from_zero() -> None:
    x = draws(500, 3)
    np.testing.assert_allclose(functional.moments(x + 1e6).covariance, functional.moments(x).covariance, rtol=1e-6)


def test_frechet_of_diagonal_gaussians() -> None:
    one, other = gaussian([0, 1, 2], np.diag([1, 4, 9])), gaussian([1, 1, 0], np.diag([4, 4, 1]))
    assert functional.frechet(one, other) == pytest.approx((1 + 0 + 4) + ((1 - 2) ** 2 + 0 + (3 - 1) ** 2), rel=1e-12)


def test_frechet_of_correlated_gaussians() -> None:
    # [[2, 1], [1, 2]] has eigenvalues 3 and 1, so against the identity: trace 4 + 2 - 2 (sqrt 3 + 1)
    found = functional.frechet(gaussian([0, 0], np.eye(2)), gaussian([0, 3], [[2, 1], [1, 2]]))
    assert found == pytest.approx(9 + 6 - 2 * (math.sqrt(3) + 1), rel=1e-12)


def test_frechet_where_the_covariances_do_not_commute() -> None:
    one, other = functional.moments(draws(50, 6) @ draws(6, 6, 1)), functional.moments(draws(50, 6, 2) @ draws(6, 6, 3))
    root = scipy.linalg.sqrtm(one.covariance @ other.covariance).real
    expected = np.sum((one.mean - other.mean) ** 2) + np.trace(one.covariance + other.covariance - 2 * root)
    assert functional.frechet(one, other) == pytest.approx(expected, rel=1e-9)
    assert functional.frechet(other, one) == pytest.approx(expected, rel=1e-9)


def test_frechet_does_not_see_rotation_and_translation() -> None:
    x, y = draws(200), draws(150, seed=1, shift=0.5, scale=2)
    turn = np.linalg.qr(draws(8, 8, 5))[0]
    expected = functional.frechet(functional.moments(x), functional.moments(y))
    assert functional.frechet(functional.moments(x @ turn + 7), functional.moments(y @ turn + 7)) == pytest.approx(
        expected
    )


def test_frechet_of_singular_sets() -> None:
    few, others = functional.moments(draws(5, 40)), functional.moments(draws(300, 40, 1))
    root = scipy.linalg.sqrtm(others.covariance)
    crossed = np.sqrt(np.linalg.eigvalsh(root @ few.covariance @ root).clip(0)).sum()
    expected = np.sum((few.mean - others.mean) ** 2) + np.trace(few.covariance + others.covariance) - 2 * crossed
    assert functional.frechet(few, others) == pytest.approx(expected, rel=1e-6)
    assert functional.frechet(few, few) == pytest.approx(0, abs=1e-5)
    assert functional.frechet(others, others) == pytest.approx(0, abs=1e-9)
    flat, higher = np.zeros((10, 40)), np.full((12, 40), 0.5)
    assert functional.frechet(functional.moments(flat), functional.moments(higher)) == 40 * 0.25
    assert functional.frechet(functional.moments(flat), functional.moments(flat)) == 0


def test_frechet_against_rivals(rivals: ModuleType, garments: dict[str, np.ndarray]) -> None:
    for real, fake in kinds(garments):
        found = functional.frechet(functional.moments(real), functional.moments(fake))
        metric = rivals.FrechetInceptionDistance(feature=rivals.Through(real.shape[1])).set_dtype(torch.float64)
        metric.update(torch.from_numpy(real), real=True)
        metric.update(torch.from_numpy(fake), real=False)
        assert float(metric.compute()) == pytest.approx(found, rel=1e-6)
        one, other = (rivals.fidelity_fid.fid_features_to_statistics(torch.from_numpy(x)) for x in (real, fake))
        theirs = rivals.fidelity_fid.fid_statistics_to_metric(one, other, verbose=False)["frechet_inception_distance"]
        assert theirs == pytest.approx(found, rel=1e-6)


def test_frechet_score_has_an_error() -> None:
    x, y = draws(2000, 4), draws(500, 4, 1)
    score = functional.frechet_score(x, y)
    assert score.value == functional.frechet(functional.moments(x), functional.moments(y))
    fresh = [functional.frechet_score(x, draws(500, 4, seed)).value for seed in range(10, 50)]
    assert score.uncertainty is not None and 0.5 < score.uncertainty / np.std(fresh) < 2


def test_frechet_infinite_takes_the_bias_away() -> None:
    reference = gaussian(np.zeros(16), np.eye(16))
    fake = draws(3000, 16, 3)
    plain = functional.frechet(reference, functional.moments(fake))
    score = functional.frechet_infinite(reference, fake)
    assert plain > 0.02  # the true distance is 0
    assert score.uncertainty is not None and abs(score.value) < plain / 3
    assert score.details["points"] == 15 and score.details["smallest"] == 1500 and score.details["largest"] == 3000
    shifted = functional.frechet_infinite(reference, fake + 0.5)
    assert shifted.value == pytest.approx(16 * 0.25, rel=0.1)


def test_frechet_infinite_is_an_ordinary_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter(float(k) for k in (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9))
    monkeypatch.setattr(functional, "_frechet", lambda *_: next(values))
    score = functional.frechet_infinite(gaussian(np.zeros(2), np.eye(2)), draws(300, 2))
    counts = np.linspace(150, 300, 15).round()
    theirs = scipy.stats.linregress(1 / counts, [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9])
    assert score.value == pytest.approx(theirs.intercept) and score.uncertainty == pytest.approx(
        theirs.intercept_stderr
    )


def test_class_frechet() -> None:
    labels = np.arange(400) % 4
    x, y = draws(400, 6), draws(400, 6, 1)
    x[:, 0] += 10 * labels
    y[:, 0] += 10 * labels
    y[labels == 2] += 1
    score = functional.class_frechet(x, labels, y, labels, classes=4, dimensions=6)
    per_class = score.details["per_class"]
    for label in range(4):  # with all directions kept, the projection is a rotation
        one, other = (functional.moments(part[labels == label]) for part in (x, y))
        assert per_class[label] == pytest.approx(functional.frechet(one, other), rel=1e-9)
    assert score.value == pytest.approx(np.mean(per_class)) and np.argmax(per_class) == 2
    assert functional.class_frechet(x, labels, y, labels, classes=4).details["dimensions"] == 6


def test_class_frechet_names_classes_without_images() -> None:
    x, labels = draws(60, 5), np.arange(60) % 3
    asked = np.where(labels == 1, 0, labels)
    asked[0] = 1  # one image: no covariance
    score = functional.class_frechet(x, labels, x, asked, classes=3, dimensions=2)
    assert score.details["per_class"][1] is None and score.details["skipped"] == [1]
    assert score.value == pytest.approx(np.mean([score.details["per_class"][k] for k in (0, 2)]))
    with pytest.raises(ModisteError, match="no class has two"):
        functional.class_frechet(x[:2], np.array([0, 1]), x[:2], np.array([0, 1]), classes=2)


# --- kernel and classifier scores


@BUFFERED
def test_kernel_distance_of_whole_sets_against_rivals(rivals: ModuleType, garments: dict[str, np.ndarray]) -> None:
    for real, fake in kinds(garments):
        count = len(real)
        score = functional.kernel_distance(real, fake, subset_size=count)
        assert score.details["subsets"] == 1 and score.uncertainty > 0  # one subset is all there is
        metric = rivals.KernelInceptionDistance(feature=rivals.Through(1), subsets=1, subset_size=count)
        metric.set_dtype(torch.float64)
        metric.update(torch.from_numpy(real), real=True)
        metric.update(torch.from_numpy(fake), real=False)
        assert float(metric.compute()[0]) == pytest.approx(score.value, rel=1e-6)
        keys = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None}
        theirs = rivals.fidelity_kid.kernel_mmd(real, fake, kid_kernel_poly_coef0=1, kid_mmd_est="unbiased", **keys)
        assert theirs == pytest.approx(score.value, rel=1e-6)


@BUFFERED
def test_kernel_distance_over_subsets(rivals: ModuleType) -> None:
    # Rivals draw other subsets from other random numbers: only the mean and its error can be compared.
    x, y = draws(600, 6), draws(500, 6, 1, shift=0.15)
    score = functional.kernel_distance(x, y, subsets=40, subset_size=100)
    metric = rivals.KernelInceptionDistance(feature=rivals.Through(1), subsets=40, subset_size=100).set_dtype(
        torch.float64
    )
    metric.update(torch.from_numpy(x), real=True)
    metric.update(torch.from_numpy(y), real=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mean, deviation = (float(value) for value in metric.compute())
    ours = score.details["sd"] / math.sqrt(40)  # over subsets alone, of which rivals tell
    assert score.uncertainty is not None and score.uncertainty > ours
    assert abs(score.value - mean) < 4 * math.hypot(ours, deviation / math.sqrt(40))
    assert 0.6 < score.details["sd"] / deviation < 1.6


def test_kernel_distance_is_unbiased_and_says_the_size_of_its_subsets() -> None:
    score = functional.kernel_distance(draws(400), draws(300, seed=1), subsets=50)
    assert score.details["subset_size"] == 300 and score.details["subsets"] == 50
    found = [functional.kernel_distance(draws(50, seed=s), draws(50, seed=s + 1000)).value for s in range(200)]
    assert min(found) < 0 < max(found)
    assert abs(np.mean(found)) < 4 * np.std(found) / math.sqrt(len(found))


def test_inception_style_at_its_ends() -> None:
    sure = 100.0 * np.eye(10)[np.arange(1000) % 10]
    assert functional.inception_style(sure, splits=1).value == pytest.approx(10)
    assert functional.inception_style(np.ones((100, 10))).value == pytest.approx(1)
    assert functional.inception_style(np.eye(10)[[3] * 50] * 1e4).value == pytest.approx(1)
    assert functional.inception_style(1e4 * np.eye(2)[[0, 1]], splits=1).value == pytest.approx(2)
    few = functional.inception_style(draws(3, 10))
    assert few.details["splits"] == 3 and few.value == pytest.approx(1)


def test_sorted_images_have_the_same_inception_style_score() -> None:
    sure = 100.0 * np.eye(10)[np.arange(2000) // 200]
    assert functional.inception_style(sure).value > 9


@BUFFERED
def test_inception_style_against_rivals(rivals: ModuleType) -> None:
    logits = draws(1003, 10, scale=3)
    whole = functional.inception_style(logits, splits=1)
    assert whole.uncertainty is None
    metric = rivals.InceptionScore(feature=rivals.Through(10), splits=1)
    metric.update(torch.from_numpy(logits))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deviation of one split
        assert float(metric.compute()[0]) == pytest.approx(whole.value, rel=1e-6)
    # The rivals shuffle by other random numbers; torch-fidelity can be told not to, and torchmetrics cannot.
    score = functional.inception_style(logits, seed=3)
    shuffled = logits[functional.random_stream(3, functional.SPLITS).permutation(len(logits))]
    theirs = rivals.fidelity_isc.isc_features_to_metric(torch.from_numpy(shuffled), splits=10, shuffle=False)
    assert score.value == pytest.approx(theirs["inception_score_mean"], rel=1e-6)
    assert score.details["sd"] == pytest.approx(theirs["inception_score_std"], rel=1e-6)
    assert score.uncertainty == pytest.approx(score.details["sd"] / 3)  # sqrt(10 - 1): unbiased, over sqrt(10)


def test_label_agreement() -> None:
    score = functional.label_agreement([0, 1, 1, 0], [0, 0, 1, 1], classes=3)
    assert score.value == 0.5 and score.uncertainty == pytest.approx(0.25)
    assert score.details == {"confusion": [[1, 1, 0], [1, 1, 0], [0, 0, 0]], "per_class": [0.5, 0.5, None]}
    assert functional.label_agreement([2, 0], [0, 2], 3).details["confusion"][0][2] == 1
    with pytest.raises(ModisteError, match="the labels run from 0 to 3, outside of 0 to 2"):
        functional.label_agreement([0, 0], [0, 3], 3)
    with pytest.raises(ModisteError, match="the predicted labels are 1 for 2 images"):
        functional.label_agreement([0], [0, 1], 3)
    with pytest.raises(ModisteError, match="whole number, not float64"):
        functional.label_agreement([0.5], [0], 3)


def test_class_balance() -> None:
    assert functional.class_balance(np.arange(100) % 10, 10).value == 0
    assert functional.class_balance(np.zeros(100, int), 10).value == pytest.approx(0.9)
    score = functional.class_balance([0, 0, 0, 1], 2)
    assert score.value == 0.25 and score.details["frequencies"] == [0.75, 0.25]
    random = np.random.default_rng(0)
    even = [functional.class_balance(random.integers(10, size=500), 10) for _ in range(300)]
    assert np.mean([one.value for one in even]) == pytest.approx(even[0].details["expected_if_fair"], rel=0.05)
    fair = [0.9, 0.08, 0.02]
    drawn = [functional.class_balance(random.choice(3, 500, p=fair), 3, fair) for _ in range(300)]
    assert np.mean([one.value for one in drawn]) == pytest.approx(drawn[0].details["expected_if_fair"], rel=0.1)
    assert functional.class_balance(np.repeat(np.arange(3), [90, 8, 2]), 3, fair).value == pytest.approx(0)
    assert functional.class_balance(np.zeros(100, int), 3, fair).value == pytest.approx(0.1)
    skewed = [functional.class_balance(random.choice(4, 500, p=[0.55, 0.15, 0.15, 0.15]), 4) for _ in range(300)]
    assert np.std([one.value for one in skewed]) == pytest.approx(skewed[0].uncertainty, rel=0.2)


def test_discriminator_accuracy() -> None:
    real, fake = functional.discriminator_accuracy([1.0, 2.0, -1.0, 0.0], [-1.0, -2.0])
    assert real.value == 0.625 and fake.value == 1  # two right, a tie that counts half, of four
    assert fake.uncertainty == 0 and real.uncertainty == pytest.approx(math.sqrt(0.625 * 0.375 / 4))
    assert [score.value for score in functional.discriminator_accuracy([0.6], [0.6], boundary=0.5)] == [1, 0]


# --- the edges


def every_score() -> dict[str, Callable[[np.ndarray, np.ndarray], Score]]:
    """Each score of two feature matrices."""

    def by_class(real: np.ndarray, fake: np.ndarray) -> Score:
        return functional.class_frechet(real, np.zeros(len(real), int), fake, np.zeros(len(fake), int), classes=1)

    of_manifold = {
        name: lambda real, fake, name=name: manifold.manifold_scores(real, fake)[name]
        for name in ("precision", "recall", "density", "coverage")
    }
    return {
        "frechet": functional.frechet_score,
        "infinite": lambda real, fake: functional.frechet_infinite(functional.moments(real), fake),
        "class": by_class,
        "kernel": functional.kernel_distance,
        "1nn": manifold.two_sample_1nn,
        **of_manifold,
    }


@pytest.mark.parametrize("name", every_score())
def test_every_score_is_finite_repeatable_and_json(name: str) -> None:
    score = every_score()[name]
    x = draws(24, 30).astype(np.float32)  # fewer images than features
    for real, fake in (
        (x, x),
        (x, draws(40, 30, 1)),
        (x, x + 1000),
        (np.full((24, 30), 0.3), np.full((24, 30), 0.3)),
        (x, np.full((9, 30), 0.3)),
        (np.full((9, 30), 0.3), x),
    ):
        found = score(real, fake)
        assert math.isfinite(found.value) and (found.uncertainty is None or math.isfinite(found.uncertainty))
        assert score(real.copy(), fake.copy()) == found
        json.dumps([found.value, found.uncertainty, dict(found.details)], allow_nan=False)


@pytest.mark.parametrize("name", every_score())
def test_bad_features_are_refused_in_a_sentence(name: str) -> None:
    score, x = every_score()[name], draws(20)
    broken = x.copy()
    broken[3, 1], broken[3, 2], broken[8, 0] = math.nan, math.nan, math.inf
    with pytest.raises(ModisteError, match=r"the generated features have NaN or infinite numbers in 2 of 20 rows"):
        score(x, broken)
    whose = "the features" if name == "infinite" else "the reference features"
    with pytest.raises(ModisteError, match=rf"{whose} have NaN or infinite numbers in 2 of 20 rows"):
        score(broken, x)
    with pytest.raises(ModisteError, match="the reference has 8 features per image and the generated set 5"):
        score(x, draws(20, 5))
    for few in (x[:1], x[:0]):
        with pytest.raises(ModisteError, match=rf"the generated features hold {len(few)} images? and .* at least \d"):
            score(x, few)
    with pytest.raises(ModisteError, match="must be a matrix"):
        score(x, x[0])


def test_other_bad_input() -> None:
    with pytest.raises(ModisteError, match="the logits hold 0 images"):
        functional.inception_style(np.zeros((0, 10)))
    with pytest.raises(ModisteError, match="the real logits have NaN"):
        functional.discriminator_accuracy([math.nan], [0.0])
    with pytest.raises(ModisteError, match="points = 2 gives 2 subset sizes"):
        functional.frechet_infinite(functional.moments(draws(20)), draws(20), points=2)
    with pytest.raises(ModisteError, match="at least one whole number"):
        functional.class_balance([], 10)


def test_the_seed_matters_and_nothing_else_does() -> None:
    x, y = draws(80), draws(90, seed=1)
    for score in (
        lambda seed: functional.frechet_infinite(functional.moments(x), y, seed=seed).value,
        lambda seed: functional.kernel_distance(x, y, seed=seed, subset_size=30, subsets=5).value,
        lambda seed: manifold.two_sample_1nn(x, y, seed=seed, most=20).value,
        lambda seed: functional.inception_style(x, seed=seed).value,
    ):
        torch.manual_seed(0)
        np.random.seed(0)
        first = score(1)
        torch.manual_seed(5)
        np.random.seed(5)
        assert score(1) == first != score(2)
