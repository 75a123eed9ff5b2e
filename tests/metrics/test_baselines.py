"""Scores between their baselines."""

from __future__ import annotations

import pytest

from modiste.metrics import baselines


@pytest.mark.parametrize(
    ("value", "logarithmic", "expected"),
    [(0.1, False, 1.0), (1.1, False, 0.0), (0.6, False, 0.5), (9.0, False, 0.0), (0.1, True, 1.0), (0.01, True, 1.0)],
)
def test_normalised_scores_run_from_trivial_to_real(value: float, logarithmic: bool, expected: float) -> None:
    assert baselines.normalised(value, 0.1, 1.1, logarithmic=logarithmic, least=0.01) == pytest.approx(expected)


def test_distances_count_by_factors_and_no_baseline_lies_below_the_error() -> None:
    assert baselines.normalised(1.0, 0.01, 100.0, logarithmic=True, least=1e-9) == pytest.approx(0.5)
    assert baselines.normalised(0.001, -0.5, 10.0, logarithmic=True, least=0.001) == 1.0


def test_a_trivial_baseline_that_beats_real_images_starts_at_0() -> None:
    assert baselines.start(0.9, 0.1, "higher") == 0.1 and baselines.start(0.04, 112.0, "lower") == 112.0
    start = baselines.start(0.87, 0.95, "higher")  # precision
    poor, good = (baselines.normalised(value, 0.87, start, logarithmic=False, least=1e-9) for value in (0.03, 0.86))
    assert poor < 0.05 and good > 0.95


@pytest.mark.parametrize(
    ("kind", "value", "real", "trivial", "error", "expected"),
    [
        ("frechet", 112.0, 0.04, 112.0, 0.1, 0.0),
        ("frechet", 100.0, 0.04, 112.0, 7.0, 0.0),  # within two standard errors of its start
        ("frechet", 0.04, 0.04, 112.0, 0.001, 1.0),
        ("frechet", (0.04 * 112) ** 0.5, 0.04, 112.0, 0.01, 0.5),  # half of the distance by factors
        ("coverage_k5", 0.45, 0.9, 0.0, 0.01, 0.5),
        ("precision_k3", 0.5, 0.87, 0.95, 0.01, None),  # noise is no worse than real images
        ("two_sample_1nn", 0.9, 0.5, 1.0, 0.01, None),
        ("frechet", 5.0, None, 112.0, 0.01, None),
    ],
)
def test_the_share_learned_from_nothing_to_real_images(
    kind: str, value: float, real: float | None, trivial: float | None, error: float, expected: float | None
) -> None:
    found = baselines.share_learned(kind, value, real, trivial, error)
    assert found == (None if expected is None else pytest.approx(expected))
