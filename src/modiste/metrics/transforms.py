"""The scale on which a score is averaged and compared over training seeds, and its inverse.

`log`: positive scores whose spread grows with their size. The mean is the geometric one and two means differ by a
factor (Bland and Altman 1996, BMJ 312:1079 and 312:1153; Keene 1995: choose it beforehand, not by the data).
`share`: shares of images. The mean is that of the angles asin √p (Bartlett 1947, Biometrics 3:39), which exist at
exactly 0 and 1 and do not depend on the count behind a share. Nothing is reported in angles, so the difference of two
means is one of shares, without an interval: only logarithms give a readable one (Bland and Altman).
`plain`: everything else.

The logit is usually preferred to the angle (Warton and Hui 2011), but at 0 it needs that count, and there one image
more in 10,000 moves it by 1.1, as much as going from 50 to 75 %. In simulations of studies both err equally often.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scale = Literal["log", "share", "plain"]

MEANS: dict[Scale, str] = {"log": "geometric", "share": "of angles asin √p", "plain": "arithmetic"}
"""Which mean is taken on a scale, in a word."""

HUGE = 700.0  # exp overflows soon beyond it, and larger factors are all alike


def usable(scale: Scale, values: Iterable[float | None]) -> Scale:
    """The scale, or `plain` where it does not hold one of the values: 0 and less (log), below 0 or above 1 (share).

    Call it once for all values of one table, so that no table has two scales. None and NaN are failed runs and do not
    count.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    fits = {"log": lambda value: value > 0, "share": lambda value: 0 <= value <= 1, "plain": lambda value: True}[scale]
    return scale if all(map(fits, known)) else "plain"


def forward(value: float, scale: Scale) -> float:
    """A score on its scale: ln x, asin √p in [0, π/2], or itself; rises with the score."""
    if scale == "log":
        return math.log(value)
    return math.asin(math.sqrt(value)) if scale == "share" else value


def back(value: float, scale: Scale) -> float:
    """The score at a place on the scale, never outside its range: above 0, within [0, 1], or itself."""
    if scale == "log":
        return math.exp(min(max(value, -HUGE), HUGE))
    return math.sin(min(max(value, 0.0), math.pi / 2)) ** 2 if scale == "share" else value


def slope(value: float, scale: Scale) -> float:
    """The score's change per unit of the scale at that place: turns a small deviation into the score's units."""
    if scale == "log":
        return back(value, scale)
    return math.sin(2 * min(max(value, 0.0), math.pi / 2)) if scale == "share" else 1.0


def rounding(values: NDArray[np.float64], scale: Scale) -> float:
    """The magnitude by which rounding errors of values on the scale are judged; at least 1 for logarithms."""
    largest = float(np.abs(values).max())
    return max(1.0, largest) if scale == "log" else largest
