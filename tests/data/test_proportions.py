"""Labels in a set's proportions: each stretch from the start has its share, and equal classes take turns as ever."""

from __future__ import annotations

import numpy as np
import pytest

from modiste.data.proportions import class_counts, even_labels, label_of


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 47])
def test_equal_classes_take_turns(classes: int) -> None:
    positions = np.arange(10**9, 10**9 + 500)
    assert label_of(positions.tolist(), [1000] * classes).tolist() == (positions % classes).tolist()


@pytest.mark.parametrize(
    "counts",
    [[95, 5], [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009], [1, 999], [7, 0, 3], [500, 20, 20, 1], [3]],
)
def test_every_beginning_has_its_shares(counts: list[int]) -> None:
    total = sum(counts)
    labels = label_of(range(2 * total), counts)
    so_far = np.cumsum(np.eye(len(counts))[labels], axis=0)
    quotas = np.arange(1, 2 * total + 1)[:, None] * np.array(counts) / total
    assert np.abs(so_far - quotas).max() < 1
    assert so_far[total - 1].tolist() == counts and (labels[:total] == labels[total:]).all()
    assert label_of([total + 3, 5], counts).tolist() == label_of([3, 5], counts).tolist() == labels[[3, 5]].tolist()


@pytest.mark.parametrize("seed", range(4))
def test_random_counts_stay_within_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    counts = np.maximum(1, random.lognormal(3, 2, int(random.integers(2, 60)))).astype(int)
    labels = label_of(range(3000), counts.tolist())
    quotas = np.arange(1, 3001)[:, None] * counts / counts.sum()
    assert np.abs(np.cumsum(np.eye(len(counts))[labels], axis=0) - quotas).max() < 1


def test_counts() -> None:
    assert (
        class_counts(np.array([0, 2, 2]), 4) == (1, 0, 2, 0)
        and even_labels([4, 4])
        and not even_labels([4, 3])
        and even_labels([])
    )
