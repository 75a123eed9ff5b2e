"""The area under the curve: against scikit-learn, of perfect and useless scores, its interval and differences."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from modiste.experiments.detection import areas, leave_out


def scores(shift: float, seed: int = 0, strange: int = 80, normal: int = 120) -> tuple[areas.Vector, areas.Vector]:
    random = np.random.default_rng(seed)
    return random.normal(shift, size=strange), random.normal(size=normal)


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_the_area_is_scikit_learns_also_with_ties(digits: int) -> None:
    strange, normal = (np.round(part, digits) for part in scores(0.7))
    truth = np.repeat([1, 0], [len(strange), len(normal)])
    expected = roc_auc_score(truth, np.concatenate([strange, normal]))
    found = areas.placements(strange, normal)
    assert areas.area(found).value == pytest.approx(expected) == pytest.approx(found.normal.mean())


def test_a_perfect_detector_and_a_useless_one() -> None:
    perfect = areas.area(areas.placements(np.arange(50.0) + 100, np.arange(60.0)))
    assert (perfect.value, perfect.high) == (1.0, 1.0) and perfect.low == pytest.approx(0.025 ** (1 / 50))
    wrong = areas.area(areas.placements(np.arange(50.0), np.arange(60.0) + 100))
    assert (wrong.value, wrong.low) == (0.0, 0.0) and 0 < wrong.high < 0.1
    constant = areas.area(areas.placements(np.ones(50), np.ones(60)))
    assert constant.value == 0.5
    assert 0.3 < constant.low < 0.45 and constant.low + constant.high == pytest.approx(1)  # as of a share of 50
    useless = areas.area(areas.placements(*scores(0.0)))
    assert useless.low < 0.5 < useless.high


def test_the_interval_holds_the_true_area_in_95_of_100_draws() -> None:
    truth = 0.9213503964748574  # Phi(2 / sqrt(2)), of two normal laws two deviations apart
    hits = 0
    for seed in range(600):
        found = areas.area(areas.placements(*scores(2.0, seed)))
        hits += found.low <= truth <= found.high
    assert 0.93 <= hits / 600 <= 0.97


def test_the_test_of_a_difference_keeps_its_level_and_finds_one() -> None:
    """Two noisy views of the same images: 5 % of draws seem to differ where none does."""
    random, wrong = np.random.default_rng(1), 0
    for _ in range(600):
        strange, normal = random.normal(1.0, size=60), random.normal(size=60)
        views = [areas.placements(strange + random.normal(size=60), normal + random.normal(size=60)) for _ in range(2)]
        wrong += areas.difference(*views)[1] < 0.05
    assert 0.03 <= wrong / 600 <= 0.075
    strange, normal = scores(2.0)
    blurred = areas.placements(strange + 3 * random.normal(size=80), normal + 3 * random.normal(size=120))
    apart, p_value = areas.difference(areas.placements(strange, normal), blurred)
    assert apart > 0.1 and p_value < 0.001


def test_with_the_fewest_images_that_are_measured_the_level_is_nearly_kept() -> None:
    """Of two detectors that know nothing; with two images instead of ten it is a quarter."""

    def wrong(count: int) -> float:
        random, found = np.random.default_rng(2), 0
        for _ in range(2000):
            views = [areas.placements(random.normal(size=count), random.normal(size=100)) for _ in range(2)]
            found += areas.difference(*views)[1] < 0.05
        return found / 2000

    assert wrong(leave_out.FEWEST_IMAGES) <= 0.1 and wrong(2) > 0.2


def test_a_detector_is_no_better_than_itself() -> None:
    found = areas.placements(*scores(1.0))
    assert areas.difference(found, found) == (0.0, 1.0)


def test_areas_without_deviation_differ_by_a_sign_test() -> None:
    high, low = np.arange(10.0) + 10, np.arange(10.0)
    perfect, wrong = areas.placements(high[:5], low), areas.placements(low[:5], high)
    assert areas.difference(perfect, wrong) == (1.0, 2.0**-4)
