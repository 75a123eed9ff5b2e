"""A score between its two baselines: a generator that learned nothing, and real images."""

from __future__ import annotations

import math

from modiste.metrics.metric_names import MEANINGS

LOGARITHMIC = ("frechet", "kernel", "class_frechet")
"""Distances, whose size counts in factors."""

UNBIASED = ("frechet_infinite", "kernel")
"""Scores whose real baseline is 0 but for chance, so that no multiple of it means anything."""

LEARNED = 0.1
"""A generator whose share of the distance to real images is smaller has learned nothing yet, whatever its rank."""


def normalised(value: float, real: float, trivial: float, *, logarithmic: bool, least: float) -> float:
    """A score from 0 (the trivial baseline) to 1 (real images), clipped.

    Distances count by factors: log(trivial / value) / log(trivial / real), nothing below `least`.
    """
    if logarithmic:
        value, real = max(value, least), max(real, least)
        share = math.log(trivial / value) / math.log(trivial / real) if trivial > real else 0.0
    else:
        share = (value - trivial) / (real - trivial) if real != trivial else 0.0
    return min(1.0, max(0.0, share))


def start(real: float, trivial: float, better: str) -> float:
    """Where a score's scale towards real images begins: at its trivial baseline, or at 0 where that is no worse.

    So for precision, since noise may lie within a real image's neighbourhood.
    """
    return 0.0 if better == "higher" and trivial >= real else trivial


def share_learned(
    kind: str, value: float, real: float | None, trivial: float | None, error: float | None
) -> float | None:
    """A score's share of the distance from the trivial baseline to real images, 0 to 1.

    0 too within two standard errors of the trivial baseline. None where the baselines are unknown, or where the trivial
    one is no worse than the real one, as for precision.
    """
    better = MEANINGS[kind].better
    if real is None or trivial is None or better == "near":
        return None
    upwards = 1 if better == "higher" else -1
    if (real - trivial) * upwards <= 0:
        return None
    if (value - trivial) * upwards <= 2 * (error or 0.0):
        return 0.0
    logarithmic = kind in LOGARITHMIC and trivial > 0
    return normalised(value, real, trivial, logarithmic=logarithmic, least=max(error or 0.0, 1e-9))
