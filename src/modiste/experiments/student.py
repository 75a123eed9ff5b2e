"""Student's t without scipy: tail, quantile, and the power of the paired test."""

from __future__ import annotations

import functools
import math

import numpy as np


def t_two_sided(t: float, freedom: float) -> float:
    """P(|T| >= |t|) of Student's t: the incomplete beta I_x(f/2, 1/2) at x = f / (f + t²)."""
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t), t * t / (freedom + t * t))


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """The regularised incomplete beta I_x(a, b), rest = 1 - x, by its continued fraction (DLMF 8.17.22)."""
    if x > (a + 1) / (a + b + 2):  # on the other side it converges within a few terms
        return 1 - _incomplete_beta(b, a, rest, x)
    if x <= 0:
        return 0.0
    fraction = 1.0
    for m in reversed(range(100)):
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        even = (m + 1) * (b - m - 1) * x / ((a + 2 * m + 1) * (a + 2 * m + 2))
        fraction = 1 + odd / (1 + even / fraction)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    return math.exp(scale) / (a * fraction)


@functools.lru_cache(maxsize=4096)
def t_quantile(probability: float, freedom: float) -> float:
    """The t >= 0 with P(T <= t) = probability, which is from 0.5 to below 1."""
    below, above, tail = 0.0, 1.0, 2 * (1 - probability)
    while t_two_sided(above, freedom) > tail:
        below, above = above, 2 * above
    while above - below > 1e-14 * above:
        middle = (below + above) / 2
        if middle in (below, above):
            break
        below, above = (middle, above) if t_two_sided(middle, freedom) > tail else (below, middle)
    return (below + above) / 2


def t_power(effect: float, count: int, level: float) -> float:
    """The chance that a paired t test at that two-sided level finds an effect (mean over deviation) in its direction.

    With S² = χ²/f the T is (Z + effect √n) / S, so the chance is the mean of Φ(effect √n - t S) over S.
    """
    freedom = count - 1
    critical, shift = t_quantile(1 - level / 2, freedom), effect * math.sqrt(count)
    grid = (np.arange(300) + 0.5) / 300 * (1 + 8 / math.sqrt(freedom))
    weights = np.exp((freedom - 1) * np.log(grid) - freedom / 2 * (grid**2 - 1))
    chances = np.array([math.erfc((critical * s - shift) / math.sqrt(2)) / 2 for s in grid.tolist()])
    return float(weights @ chances / weights.sum())
