"""Near-duplicates of training images, on a stand-in for a generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from modiste.data.images import Images
from modiste.errors import ModisteError
from modiste.exports import duplicates
from modiste.networks.layers import ImageShape


def stand_in(copies: dict[int, int], train: np.ndarray, classes: int) -> Callable[..., Images]:
    """Makes noise, but for some seeds a training image: that with the number, brightened by the thousands' digit."""

    def make(*, seeds: Sequence[int]) -> Images:
        pixels = np.stack([np.random.default_rng(seed).integers(0, 256, train.shape[1:], np.uint8) for seed in seeds])
        for k, seed in enumerate(seeds):
            if seed in copies:
                pixels[k] = train[copies[seed] % 1000]
                pixels[k, 0, 0, 0] += copies[seed] // 1000
        return Images(pixels, np.array([seed % classes for seed in seeds]), ("a", "b", "c")[:classes], "stand-in")

    return make


@pytest.fixture
def train() -> np.ndarray:
    return np.random.default_rng(99).integers(0, 200, (20, 1, 6, 6), np.uint8)


def training_of(train: np.ndarray, threshold: float) -> duplicates.TrainingImages:
    rows = train.reshape(len(train), -1)
    return duplicates.TrainingImages(rows, ImageShape(1, 6), threshold, "unseen", 100, 0.01)


def test_copies_are_replaced_by_further_seeds_of_their_class(
    train: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", 5)
    # 4 is of class 1: its replacement 13 is one off a training image in one pixel, and so is that one's, 16
    make = stand_in({0: 3, 4: 7, 13: 2003, 16: 5, 11: 12}, train, 3)
    found, seeds, search = duplicates.generate_without_duplicates(
        make, range(12), 3, training_of(train, 2.5 / 255), "it", lambda _: None
    )
    assert seeds == [1, 2, 3, 5, 6, 7, 8, 9, 10, 12, 14, 19]
    assert found.labels is not None and found.labels.tolist() == [seed % 3 for seed in seeds]
    assert np.bincount(found.labels).tolist() == [4, 4, 4]
    assert np.array_equal(found.pixels, make(seeds=seeds).pixels)
    assert search.removed == (0, 4, 11, 13, 16) and search.generated == 17 and search.exact == 4
    _, seeds, search = duplicates.generate_without_duplicates(
        make, range(12), 3, training_of(train, 0.0), "it", lambda _: None
    )
    assert 13 in seeds and search.removed == (0, 4, 11) and search.exact == 3


def test_without_originals_every_seed_stays(train: np.ndarray) -> None:
    seeds = [9, 0, 4]
    found, used, search = duplicates.generate_without_duplicates(
        stand_in({0: 3}, train, 3), seeds, 3, None, "it", lambda _: None
    )
    assert used == seeds and len(found) == 3 and search.removed == () and search.generated == 3


def test_a_generator_that_only_copies_is_given_up(train: np.ndarray) -> None:
    calls: list[int] = []
    make = stand_in({seed: seed % 20 for seed in range(10_000)}, train, 3)

    def counted(*, seeds: Sequence[int]) -> Images:
        calls.append(len(seeds))
        return make(seeds=seeds)

    with pytest.raises(ModisteError, match=r"it copies: 224 of its 224 images .* --keep-duplicates") as failure:
        duplicates.generate_without_duplicates(counted, range(32), 1, training_of(train, 0.0), "it", lambda _: None)
    assert sum(calls) <= 4 * 32 + 100 and "\n" not in str(failure.value)
