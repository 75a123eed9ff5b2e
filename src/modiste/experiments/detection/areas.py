"""The area under the curve of hits against false alarms (AUROC), its interval, and the difference of two of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Area:
    """A probability from 0 to 1: that an image that does not belong scores higher than one that does; 0.5 by chance."""

    value: float
    low: float
    high: float
    """The 95 % interval."""


@dataclass(frozen=True)
class Placements:
    """Where images stand among those of the other kind (DeLong et al. 1988, equation 4); the area is their mean."""

    strange: Vector
    """Of each image that does not belong, the share of those that do with a lower score; ties count half."""
    normal: Vector
    """Of each image that belongs, the share of those that do not with a higher score."""


def placements(strange: Vector, normal: Vector) -> Placements:
    """The placements of the scores of both kinds; higher is odder."""
    return Placements(_share_below(normal, strange), 1 - _share_below(strange, normal))


def _share_below(others: Vector, scores: Vector) -> Vector:
    ordered = np.sort(others)
    both = sum(np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    return np.asarray(both / (2 * len(ordered)), np.float64)


def area(found: Placements) -> Area:
    """The area with DeLong's interval, on the scale of its logarithmic odds, so that it stays between 0 and 1.

    An area of exactly 0 or 1 has no deviation; its interval is that of as many hits in a row as the scarcer kind has.
    Nor have scores that are all equal; then it is that of a share of so many.
    """
    value, fewest = float(found.strange.mean()), min(len(found.strange), len(found.normal))
    variance = _variance(found.strange, found.normal) or value * (1 - value) / fewest
    if not 0 < value < 1:
        reach = 0.025 ** (1 / fewest)
        return Area(value, min(value, reach), max(value, 1 - reach))
    half = NORMAL_95 * math.sqrt(variance) / (value * (1 - value))
    odds = math.log(value / (1 - value))
    low, high = (1 / (1 + math.exp(-end)) for end in (odds - half, odds + half))
    return Area(value, low, high)


def difference(first: Placements, second: Placements) -> tuple[float, float]:
    """How much greater the first area is, and the two-sided p-value of no difference, for scores of the same images.

    Where all differences are equal there is no deviation, and the p-value is that of a sign test of as many images as
    the scarcer kind has.
    """
    strange, normal = first.strange - second.strange, first.normal - second.normal
    apart, variance = float(strange.mean()), _variance(strange, normal)
    if variance <= 0:
        return apart, 1.0 if apart == 0 else 2.0 ** (1 - min(len(strange), len(normal)))
    return apart, math.erfc(abs(apart) / math.sqrt(2 * variance))


def _variance(strange: Vector, normal: Vector) -> float:
    """DeLong's variance of the mean of placements, or of their differences; 0 with a single image of a kind."""
    return sum(float(part.var(ddof=1)) / len(part) for part in (strange, normal) if len(part) > 1)
