"""Scores on rulers from noise to real images."""

from __future__ import annotations

import math
from typing import Any

import pytest

from modiste.evaluation.records import ScoreEntry
from modiste.evaluation.rulers import ruler
from modiste.metrics.metric_names import MetricName


def entry(kind: str, value: float | None, real: float | None, trivial: float | None, **more: Any) -> ScoreEntry:
    name = MetricName(kind, "garment", 10_000, "test")
    return ScoreEntry(name, value, real=real, trivial=trivial, better=name.meaning.better, **more)


@pytest.mark.parametrize(
    ("score", "position"),
    [
        (entry("frechet", 1.0, 0.01, 100.0), 0.5),  # by factors
        (entry("frechet", 100.0, 0.01, 100.0), 0.0),
        (entry("frechet", 900.0, 0.01, 100.0), 0.0),
        (entry("kernel", -0.001, 0.0, 1.0, real_uncertainty=0.001), 1.0),
        (entry("kernel", math.sqrt(0.001), 0.0, 1.0, real_uncertainty=0.001), 0.5),
        (entry("inception_style", 5.0, 9.0, 1.0), 0.5),
        (entry("recall_k3", 0.2, 0.8, 0.0), 0.25),
        (entry("two_sample_1nn", 0.75, 0.5, 1.0), 0.5),
        (entry("two_sample_1nn", 0.25, 0.5, 1.0), 0.5),
    ],
)
def test_a_position_equals_its_number(score: ScoreEntry, position: float) -> None:
    found = ruler(score)
    assert found is not None and found.position == pytest.approx(position)
    assert (found.value, found.noise, found.real) == (score.value, score.trivial, score.real)


def test_a_ruler_begins_at_nothing_where_noise_passes_for_real() -> None:
    found = ruler(entry("precision_k3", 0.6, 0.8, 0.95))
    assert found is not None and (found.noise, found.position) == (0.0, pytest.approx(0.75))


def test_a_mean_lies_on_the_ruler_of_its_score() -> None:
    found = ruler(entry("recall_k3", 0.2, 0.8, 0.0), 0.4)
    assert found is not None and (found.value, found.position) == (0.4, pytest.approx(0.5))


@pytest.mark.parametrize(
    ("value", "real", "trivial"), [(None, 1.0, 2.0), (1.5, None, 2.0), (1.5, 1.0, None), (1, 1, 1)]
)
def test_without_two_baselines_there_is_no_ruler(value: Any, real: Any, trivial: Any) -> None:
    assert ruler(entry("frechet", value, real, trivial)) is None
