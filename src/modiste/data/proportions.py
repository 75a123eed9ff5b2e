"""Labels in the proportions of a set: an endless sequence of classes in which every stretch has its share of each.

Scores, checkpoints, searches and studies ask generators for these labels, so that a perfect generator shows the classes
as often as the real images that it is compared with. Where all classes are equally frequent they take turns.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def class_counts(labels: NDArray[np.int64], classes: int) -> tuple[int, ...]:
    """How many of these labels [N] each class has."""
    return tuple(np.bincount(labels, minlength=classes).tolist())


def even_labels(counts: Sequence[int]) -> bool:
    """Whether all classes are equally frequent."""
    return len(set(counts)) <= 1


def is_skewed(labels: NDArray[np.int64], counts: Sequence[int], total: int | None = None) -> bool:
    """Whether these labels have a class more or less often than a draw by the counts would, by six deviations.

    Of a draw without replacement from `total` images, if that is given.
    """
    shares = np.array(counts) / sum(counts)
    found = np.bincount(labels, minlength=len(shares))
    rest = 1.0 if total is None else (total - len(labels)) / (total - 1)
    deviations = np.sqrt(len(labels) * shares * (1 - shares) * rest)
    return bool((np.abs(found - len(labels) * shares) > 6 * deviations + 1).any())


def label_of(positions: Sequence[int], counts: Sequence[int]) -> NDArray[np.int64]:
    """The class [N] at each position of the sequence in which class k has the share counts[k] / sum(counts).

    Of the first n labels, for every n, each class has its share of n rounded up or down; after as many labels as the
    counts have (without their common divisor) the sequence repeats. Equal counts give `position % classes`. A label
    does not depend on which other positions are asked for.
    """
    common = int(np.gcd.reduce(np.array(counts, np.int64)))
    shares = tuple(count // common for count in counts)
    places = np.array(positions, dtype=np.int64) % sum(shares)
    return _sequence(shares, int(places.max(initial=-1)) + 1)[places]


@functools.lru_cache(maxsize=8)
def _sequence(shares: tuple[int, ...], length: int) -> NDArray[np.int64]:
    """The beginning of the sequence, by the rule of Tijdeman 1980 ("The chairman assignment problem"), in integers.

    Next is the class that must come soonest lest its count fall one behind its share, among those that would not run
    ahead; of equals the first.
    """
    present = np.flatnonzero(shares)
    if len(present) == 1:
        return np.full(length, present[0])
    weights = np.array(shares, np.int64)[present]
    total, margin = int(weights.sum()), 2 * len(present) - 2
    taken = np.zeros(len(present), np.int64)
    labels = np.empty(length, np.int64)
    for step in range(1, length + 1):
        may = (weights * step - taken * total) * margin >= total
        deadlines = np.where(may, (margin - 1 + margin * taken) / weights, np.inf)
        chosen = int(np.argmin(deadlines))
        taken[chosen] += 1
        labels[step - 1] = chosen
    return present[labels]
