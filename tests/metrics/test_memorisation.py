"""Copies raise the alarms, new images do not, and the statistics are the textbook's."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.stats

from modiste.errors import ModisteError
from modiste.metrics import memorisation
from modiste.metrics.functional import Score
from modiste.metrics.memorisation import authenticity, duplicates, nearest_ratio
from modiste.metrics.nearest_neighbours import NearestNeighbours, nearest

RANDOM = np.random.default_rng(0)
TRAIN, HELD_OUT, NEW = (RANDOM.normal(size=(count, 12)) for count in (1500, 400, 400))
COPIES = TRAIN[:400] + RANDOM.normal(0, 0.05, (400, 12))
FAR = NEW * 3


def to_train(rows: np.ndarray) -> NearestNeighbours:
    return nearest(rows, TRAIN)


def data_copying(new: np.ndarray, held_out: np.ndarray, train: np.ndarray, **options: int) -> Score:
    return memorisation.data_copying(new, train, memorisation.training_cells(held_out, train, **options))


def test_nearest_ratio() -> None:
    real = to_train(HELD_OUT).distances
    new, copied = nearest_ratio(to_train(NEW).distances, real), nearest_ratio(to_train(COPIES).distances, real)
    assert new.value == pytest.approx(1, abs=0.06) and copied.value < 0.2
    assert nearest_ratio(to_train(FAR).distances, real).value > 1.5
    assert new.uncertainty is not None and abs(new.value - 1) < 4 * new.uncertainty < 0.2
    assert nearest_ratio([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]).value == 2
    assert nearest_ratio(real, real, seed=1).uncertainty != nearest_ratio(real, real, seed=2).uncertainty


def test_nearest_ratio_of_zeros() -> None:
    assert nearest_ratio([0.0, 0.0], [0.0]).value == 1
    assert nearest_ratio([0.0], [1.0]).value == 0
    uncertainty = nearest_ratio([1.0, 2.0], [0.0, 1.0, 1.0]).uncertainty
    assert uncertainty is not None and 0 < uncertainty < 10
    with pytest.raises(ModisteError, match="half of the held-out images are exact copies"):
        nearest_ratio([1.0], [0.0])


def test_authenticity() -> None:
    own = nearest(TRAIN, TRAIN, exclude_self=True).distances
    real, copied = authenticity(to_train(HELD_OUT), own), authenticity(to_train(COPIES), own)
    assert copied.value == 0 and 0.3 < real.value < 0.7 and authenticity(to_train(FAR), own).value > 0.9
    assert abs(authenticity(to_train(NEW), own).value - real.value) < 0.15
    by_hand = authenticity(NearestNeighbours(np.array([[1.0], [3.0], [2.0]]), np.array([[0], [1], [0]])), [1.5, 2.9])
    assert by_hand.value == pytest.approx(2 / 3) and by_hand.uncertainty == pytest.approx(math.sqrt(2 / 27))
    with pytest.raises(ModisteError, match="number 1, and the distances within the training set are only 1"):
        authenticity(NearestNeighbours(np.ones((1, 1)), np.ones((1, 1), int)), [1.0])


def test_duplicates() -> None:
    real = to_train(HELD_OUT).distances
    copied = duplicates(to_train(np.concatenate([TRAIN[:30], COPIES[:70]])).distances, real)
    assert copied.value == 1 and copied.details["exact"] == 30 and copied.details["near"] == 100
    assert copied.details["expected_near"] == pytest.approx(1, abs=0.3)  # 1 % of a hundred
    new = duplicates(to_train(NEW).distances, real)
    assert new.value < 0.04 and new.details["exact"] == 0
    assert new.details["threshold"] == np.percentile(real, 1)


def test_duplicates_where_held_out_images_are_copies_too() -> None:
    score = duplicates(np.zeros(10), np.zeros(5))
    assert score.details["near"] == score.details["expected_near"] == 10


def test_data_copying() -> None:
    new, copied, far = (data_copying(rows, HELD_OUT, TRAIN) for rows in (NEW, COPIES, FAR))
    assert abs(new.value) < 3 and copied.value < -10 and far.value > 5
    assert new.details["dimensions"] == 12 and sum(new.details["weights"]) == pytest.approx(1)
    assert new.uncertainty == pytest.approx(math.sqrt(sum(w**2 for w in new.details["weights"])))
    assert data_copying(NEW, HELD_OUT, TRAIN) == new
    with_fewer = data_copying(NEW, HELD_OUT, TRAIN, dimensions=4)
    assert with_fewer.details["dimensions"] == 4 and abs(with_fewer.value) < 3
    for score in (new, copied, far):
        json.dumps(dict(score.details), allow_nan=False)


def test_data_copying_is_near_zero_on_average() -> None:
    random = np.random.default_rng(1)
    found = []
    for seed in range(30):
        train, held_out, new = (random.normal(size=(count, 3)) for count in (200, 90, 90))
        found.append(data_copying(new, held_out, train, cells=2, seed=seed))
    values = [score.value for score in found]
    assert abs(np.mean(values)) < 0.6
    assert np.std(values) == pytest.approx(np.mean([score.uncertainty for score in found]), rel=0.4)


def test_data_copying_in_one_cell_is_mann_whitney() -> None:
    score = data_copying(NEW[:50], HELD_OUT[:60], TRAIN, cells=1)
    distances = (to_train(rows).distances[:, 0] for rows in (NEW[:50], HELD_OUT[:60]))
    theirs = scipy.stats.mannwhitneyu(*distances, alternative="greater", method="asymptotic", use_continuity=False)
    assert score.value == pytest.approx(scipy.stats.norm.isf(theirs.pvalue), rel=1e-6)


def test_mann_whitney_with_ties() -> None:
    # scipy corrects the variance for ties and this does not (nor do Meehan et al.): U is the same
    ours, theirs = np.array([1.0, 2.0, 2.0, 5.0]), np.array([2.0, 2.0, 3.0])
    u = scipy.stats.mannwhitneyu(ours, theirs).statistic
    assert memorisation.mann_whitney_z(ours, theirs) == pytest.approx((u - 6) / math.sqrt(12 * 8 / 12))
    assert memorisation.mann_whitney_z(np.zeros(5), np.zeros(5)) == 0


def test_cells_are_found_and_small_ones_skipped() -> None:
    blobs = np.concatenate([RANDOM.normal(centre, 0.1, (100, 2)) for centre in (0, 5, 50)])
    score = data_copying(blobs[:200], blobs + 0.01, blobs, cells=3)
    assert len(score.details["z"]) == 2 and len(score.details["skipped"]) == 1
    assert score.details["weights"] == [0.5, 0.5]
    with pytest.raises(ModisteError, match="no cell has 20 generated and 20 held-out images"):
        data_copying(blobs[:5], blobs, blobs)


def test_constant_training_set() -> None:
    flat = np.full((50, 4), 0.3)
    assert data_copying(flat, flat, flat).value == 0
    assert data_copying(flat, flat + 1, flat).value < -5


def test_bad_input_is_refused_in_a_sentence() -> None:
    with pytest.raises(ModisteError, match="the generated distances have NaN"):
        nearest_ratio([math.nan], [1.0])
    with pytest.raises(ModisteError, match="the held-out distances hold 0 images"):
        duplicates([1.0], [])
    with pytest.raises(ModisteError, match="the training features have 12 columns and the others 5"):
        data_copying(NEW[:, :5], HELD_OUT, TRAIN)
    with pytest.raises(ModisteError, match="the held-out features have NaN or infinite numbers in 400 of 400"):
        data_copying(NEW, HELD_OUT * np.inf, TRAIN)
