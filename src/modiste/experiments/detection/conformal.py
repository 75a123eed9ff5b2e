"""Calibrated p-values: how often is an image that does belong at least as strange as this one?

Nothing is assumed of a detector. Where held-out images and an image that belongs are alike in law, the p-value is at
most alpha with a probability of at most alpha (conformal p-values: Vovk et al. 2005; Bates et al. 2023, equation 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modiste.errors import UsageError
from modiste.experiments.statistics import CONFIDENCE, clopper_pearson

Vector = NDArray[np.float64]
ROUNDING = 1e-9


@dataclass(frozen=True)
class FalseAlarms:
    """How often images that belong raise an alarm: as promised, and as measured. All rates from 0 to 1."""

    promised: float
    """The rate on average over draws of the held-out images, at most alpha."""
    likely: tuple[float, float]
    """95 of 100 draws of the held-out images give a threshold whose own rate lies between these."""
    alarms: int
    images: int
    """Images that belong and took no part in fitting or calibration."""

    @property
    def measured(self) -> float:
        """The share of alarms among them."""
        return self.alarms / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the measured rate (Clopper & Pearson 1934)."""
        return clopper_pearson(self.alarms, self.images)


def p_values(held_out: Vector, scores: Vector) -> Vector:
    """(1 + number of held-out scores >= s) / (n + 1) for each score s; higher is odder.

    The smallest one is 1 / (n + 1).
    """
    below = np.searchsorted(np.sort(held_out), scores, side="left")
    return np.asarray((1 + len(held_out) - below) / (len(held_out) + 1), np.float64)


def alarms(values: Vector, alpha: float) -> NDArray[np.bool_]:
    """Whether each p-value is at most alpha."""
    return values <= alpha + ROUNDING


def check_alpha(alpha: float, held_out: int) -> None:
    """UsageError unless alpha is a rate, and so many held-out images allow an alarm at it."""
    if not 0 < alpha < 1:
        raise UsageError(f"--alpha {alpha:g} is no rate of false alarms; give one above 0 and below 1, as 0.05")
    needed = math.ceil(1 / alpha - ROUNDING) - 1
    if held_out < needed:
        raise UsageError(
            f"--alpha {alpha:g} needs {needed:,} held-out images, as n of them give no p-value below 1 / (n + 1), and "
            f"{held_out:,} calibrate here; give a greater --alpha, or hold out more images (at most --count are used, "
            "and half of them measure where a run has no test images)"
        )


def false_alarms(alpha: float, held_out: int, belonging: Vector) -> FalseAlarms:
    """The promised rate with that many held-out images, and the measured one by the p-values of images that belong."""
    from scipy import stats

    rank = math.floor(alpha * (held_out + 1) + ROUNDING)
    low, high = stats.beta.interval(CONFIDENCE, rank, held_out + 1 - rank)
    count = int(alarms(belonging, alpha).sum())
    return FalseAlarms(rank / (held_out + 1), (float(low), float(high)), count, len(belonging))
