"""Scores on rulers: each between a generator that learned nothing and real images, so that unlike scores compare."""

from __future__ import annotations

from dataclasses import dataclass

from modiste.evaluation.records import ScoreEntry
from modiste.metrics import baselines
from modiste.metrics.metric_names import MetricName


@dataclass(frozen=True)
class Ruler:
    """A score between its two baselines."""

    name: MetricName
    value: float
    noise: float
    """Where the ruler begins: the trivial baseline, or 0 where that is no worse than real images, as for precision."""
    real: float
    """Where it ends."""
    position: float
    """Of the value: 0 at `noise`, 1 at `real` and beyond; distances count by factors."""


def ruler(score: ScoreEntry, value: float | None = None) -> Ruler | None:
    """The score, or another value of it (a mean over runs), on the score's ruler; None where a baseline is missing.

    Of a score that is best near real images both directions count alike. Distances that may be 0 end at the standard
    error of their real baseline.
    """
    value = score.value if value is None else value
    if value is None or score.real is None or score.trivial is None or score.real == score.trivial:
        return None
    noise = baselines.start(score.real, score.trivial, score.better)
    if score.better == "near":
        position = max(0.0, 1 - abs(value - score.real) / abs(noise - score.real))
    else:
        logarithmic = score.kind in baselines.LOGARITHMIC
        least = max(score.real_uncertainty or score.uncertainty or 0.0, 1e-9)
        position = baselines.normalised(value, score.real, noise, logarithmic=logarithmic, least=least)
    return Ruler(score.name, value, noise, score.real, position)
