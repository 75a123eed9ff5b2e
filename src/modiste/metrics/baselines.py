"""Where a score stands between its two baselines: a generator that learned nothing, and real images."""

from __future__ import annotations

import math

from modiste.metrics import suite

LOGARITHMIC = ("frechet", "kernel", "class_frechet")
"""Distances, whose size counts in factors."""

LEARNED = 0.1
"""Of the way to real images: with less than that a generator has learned nothing yet, whatever its order."""


def normalised(value: float, floor: float, ceiling: float, *, logarithmic: bool, least: float) -> float:
    """A score from 0 (as a generator that learned nothing) to 1 (as real images), clipped.

    Distances count by factors: log(ceiling / value) / log(ceiling / floor), nothing below `least`.
    """
    if logarithmic:
        value, floor = max(value, least), max(floor, least)
        share = math.log(ceiling / value) / math.log(ceiling / floor) if ceiling > floor else 0.0
    else:
        share = (value - ceiling) / (floor - ceiling) if floor != ceiling else 0.0
    return min(1.0, max(0.0, share))


def centre(floor: float, ceiling: float, better: str) -> float:
    """Where a score's way to real images begins: at its ceiling, or at 0 where that is no worse than the floor.

    So for precision, since noise may lie within a real image's neighbourhood.
    """
    return 0.0 if better == "higher" and ceiling >= floor else ceiling


def way(name: str, value: float, floor: float | None, ceiling: float | None, error: float | None) -> float | None:
    """The share of the way from a generator that learned nothing to real images that a score has come, 0 to 1.

    0 too where it is within two standard errors of its start. None where the baselines are not known, or do not lie
    so that the one is better than the other, as those of precision.
    """
    better = suite.MEANINGS[suite.metric_kind(name)].better
    if floor is None or ceiling is None or better == "near":
        return None
    upwards = 1 if better == "higher" else -1
    if (floor - ceiling) * upwards <= 0:
        return None
    if (value - ceiling) * upwards <= 2 * (error or 0.0):
        return 0.0
    logarithmic = suite.metric_kind(name) in LOGARITHMIC and ceiling > 0
    return normalised(value, floor, ceiling, logarithmic=logarithmic, least=max(error or 0.0, 1e-9))
