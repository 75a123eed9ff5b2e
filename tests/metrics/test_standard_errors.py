"""Standard errors: against the deviation over fresh sets, a numerical derivative, and scores without a group."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from modiste.metrics import functional, manifold, standard_errors
from modiste.metrics.functional import Score

MEANS = np.array([[0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 1.0, 0.0], [0.0, 4.0, 0.0, -1.0]])
Array = np.ndarray


def made(count: int, seed: int, drawn: bool, spread: float = 1.0) -> tuple[Array, Array]:
    """Features of images of three classes, which are drawn, or take turns; and their labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(3, size=count) if drawn else np.arange(count) % 3
    return MEANS[labels] + spread * random.normal(size=(count, 4)), labels


REAL, REAL_LABELS = made(600, 10**6, drawn=False)


def agreement(x: Array, labels: Array, strata: Array | None) -> Score:
    seen = ((x[:, None] - MEANS) ** 2).sum(2).argmin(1)
    return functional.class_balance(seen, 3, [0.5, 0.3, 0.2], strata)


SCORES: dict[str, Callable[[Array, Array, Array | None], Score]] = {
    "frechet": lambda x, labels, strata: functional.frechet_score(REAL, x, strata=strata),
    "kernel": lambda x, labels, strata: functional.kernel_distance(REAL, x, subsets=20, subset_size=200, strata=strata),
    "class_frechet": lambda x, labels, strata: functional.class_frechet(REAL, REAL_LABELS, x, labels, classes=3),
    "recall": lambda x, labels, strata: manifold.manifold_scores(REAL, x, strata=strata)["recall"],
    "coverage": lambda x, labels, strata: manifold.manifold_scores(REAL, x, strata=strata)["coverage"],
    "density": lambda x, labels, strata: manifold.manifold_scores(REAL, x, strata=strata)["density"],
    "class_balance": agreement,
}


@pytest.mark.parametrize("drawn", [True, False], ids=["drawn", "in turn"])
@pytest.mark.parametrize("name", SCORES)
def test_the_error_is_the_deviation_over_fresh_sets(name: str, drawn: bool) -> None:
    """Within a fifth below, and half above: images of a score's least value are told √2 too much of."""
    found = []
    for seed in range(60):
        x, labels = made(150, seed, drawn, spread=0.8 if name == "recall" else 1.4)
        found.append(SCORES[name](x, labels, None if drawn else labels))
    told = math.sqrt(np.mean([one.uncertainty**2 for one in found]))  # type: ignore[operator]
    assert 0.75 < told / np.std([one.value for one in found], ddof=1) < 1.6


def test_images_in_turn_vary_less_than_drawn_ones() -> None:
    x, labels = made(300, 1, drawn=False)
    narrow, wide = functional.frechet_score(REAL + 5, x, strata=labels), functional.frechet_score(REAL + 5, x)
    assert narrow.value == wide.value and narrow.uncertainty < 0.8 * wide.uncertainty  # type: ignore[operator]
    assert standard_errors.of_mean(np.array([1.0, 5.0, 1.0, 5.0]), np.array([0, 1, 0, 1])) == 0
    assert standard_errors.of_mean(np.arange(10.0)) == pytest.approx(np.arange(10).std(ddof=1) / math.sqrt(10))
    assert standard_errors.of_mean(np.ones(1)) == 0


def test_the_distances_influence_is_its_derivative_by_an_images_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = made(200, 2, drawn=True, spread=1.3)
    seen: list[Array] = []
    monkeypatch.setattr(standard_errors, "of_mean", lambda influence, strata: seen.append(influence) or 0.0)
    functional.frechet_score(REAL, x)
    known = functional.moments(REAL)
    weights = np.full(len(x), 1 / len(x))

    def distance(of: Array) -> float:
        of = of / of.sum()
        mean = of @ x
        covariance = ((x - mean) * of[:, None]).T @ (x - mean) * len(x) / (len(x) - 1)
        return functional.frechet(known, functional.Moments(mean, covariance, len(x)))

    for k in (0, 7, 100):
        step = 1e-5 * (np.arange(len(x)) == k)
        slope = (distance(weights + step) - distance(weights - step)) / 2e-5
        assert slope == pytest.approx(seen[0][k] - seen[0].mean(), rel=0.02, abs=0.02)


@pytest.mark.parametrize("count", [97, 12])
def test_left_out_is_the_score_without_the_group(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = made(count, 3, drawn=True, spread=1.4)
    seen: list[Array] = []
    genuine = standard_errors.of_left_out
    monkeypatch.setattr(standard_errors, "of_left_out", lambda values: seen.append(values) or genuine(values))
    whole = manifold.manifold_scores(REAL, x, k_precision=3, k_density=5, strata=labels)
    groups = standard_errors.groups(count, labels)
    assert np.bincount(groups).max() - np.bincount(groups).min() <= 1
    recall, coverage = seen
    for group in range(min(standard_errors.GROUPS, count)):
        without = manifold.manifold_scores(REAL, x[groups != group], k_precision=3, k_density=5)
        assert recall[group] == pytest.approx(without["recall"].value, abs=1e-9)
        assert coverage[group] == pytest.approx(without["coverage"].value, abs=1e-9)
    assert whole["recall"].uncertainty == genuine(recall) > 0


def test_an_error_without_a_direction_is_finite() -> None:
    """Constant features, and fewer images than features."""
    flat = np.concatenate([REAL, np.ones((len(REAL), 1))], 1)
    x, _ = made(100, 4, drawn=True)
    score = functional.frechet_score(flat, np.concatenate([x, np.ones((100, 1))], 1))
    assert score.uncertainty == pytest.approx(functional.frechet_score(REAL, x).uncertainty)
    wide = np.random.default_rng(0).normal(size=(2, 400, 60))
    few = functional.frechet_score(wide[0], wide[1][:20]).uncertainty
    assert few is not None and math.isfinite(few) and few > 0
    assert functional.frechet_score(REAL, REAL).uncertainty == pytest.approx(0, abs=1e-6)


def test_equal_values_have_no_spread() -> None:
    assert standard_errors.of_left_out(np.full(10, 0.15)) == 0.0
