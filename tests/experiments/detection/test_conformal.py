"""P-values: uniform where images belong, never below 1 / (n + 1), and their rates of false alarms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from modiste.errors import UsageError
from modiste.experiments.detection import conformal


def test_p_values_count_held_out_scores_at_least_as_high() -> None:
    held_out = np.array([1.0, 2.0, 2.0, 3.0])
    scores = np.array([4.0, 3.0, 2.0, 1.5, 0.0])
    by_hand = [(1 + sum(one >= score for one in held_out)) / 5 for score in scores]
    assert conformal.p_values(held_out, scores).tolist() == by_hand == [0.2, 0.4, 0.8, 0.8, 1.0]


def test_p_values_of_images_that_belong_are_uniform() -> None:
    """Each by held-out images of its own: by the same ones they would not be independent, as the test assumes."""
    random = np.random.default_rng(7)

    def draw(factor: float) -> float:
        held_out, score = random.gamma(2.0, size=499), factor * random.gamma(2.0, size=1)
        return float(conformal.p_values(held_out, score)[0])

    assert stats.kstest([draw(1.0) for _ in range(1000)], "uniform").pvalue > 0.05
    assert stats.kstest([draw(1.5) for _ in range(1000)], "uniform").pvalue < 1e-6


def test_false_alarms_come_as_often_as_promised() -> None:
    """Over 2,000 draws of 99 held-out images and one that belongs, 10 % are promised; a deviation is 0.7 %."""
    random = np.random.default_rng(3)
    found = [conformal.p_values(random.normal(size=99), random.normal(size=1))[0] for _ in range(2000)]
    assert np.mean(conformal.alarms(np.array(found), 0.1)) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("alpha", [0.05, 0.07, 0.1, 0.29])
def test_the_promise_is_the_greatest_possible_p_value_up_to_alpha(alpha: float) -> None:
    values = np.arange(1, 101) / 100  # all that 99 held-out images give
    assert conformal.alarms(values, alpha).sum() == round(100 * alpha)
    rate = conformal.false_alarms(alpha, 99, values)
    assert rate.promised == pytest.approx(alpha) and rate.measured == pytest.approx(alpha)
    assert rate.likely[0] < alpha < rate.likely[1] and rate.interval[0] < alpha < rate.interval[1]


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_alpha_is_a_rate(alpha: float) -> None:
    with pytest.raises(UsageError, match=r"is no rate of false alarms; give one above 0 and below 1, as 0\.05"):
        conformal.check_alpha(alpha, 1000)


def test_alpha_needs_enough_held_out_images() -> None:
    conformal.check_alpha(0.05, 19)
    with pytest.raises(UsageError, match=r"--alpha 0.05 needs 19 held-out images, .* 18 calibrate here;"):
        conformal.check_alpha(0.05, 18)
