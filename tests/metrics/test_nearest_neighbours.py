"""The nearest neighbours are those of brute force, to the last digit, also where float32 cannot tell them apart."""

from __future__ import annotations

import numpy as np
import pytest

from modiste.errors import ModisteError
from modiste.metrics import nearest_neighbours


def draws(count: int, width: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width))


def brute_force(queries: np.ndarray, base: np.ndarray, k: int, exclude_self: bool) -> tuple[np.ndarray, np.ndarray]:
    apart = np.sqrt(((queries[:, None].astype(float) - base[None].astype(float)) ** 2).sum(-1))
    if exclude_self:
        np.fill_diagonal(apart, np.inf)
    order = np.argsort(apart, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(apart, order, 1), order


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.uint8])
@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("k", [1, 4, 40])
def test_nearest_is_brute_force(kind: type, exclude_self: bool, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    base = (draws(101) * 40 + 120).clip(0, 255).astype(kind)
    queries = base if exclude_self else (draws(37, seed=1) * 40 + 120).clip(0, 255).astype(kind)
    expected = brute_force(queries, base, k, exclude_self)
    for slices in ({}, {"QUERY_ROWS": 10, "BASE_ROWS": 12, "EXACT_ROWS": 7}):
        for name, value in slices.items():
            monkeypatch.setattr(nearest_neighbours, name, value)
        found = nearest_neighbours.nearest(queries, base, k, exclude_self=exclude_self)
        np.testing.assert_allclose(found.distances, expected[0], rtol=1e-12)
        np.testing.assert_array_equal(found.indices, expected[1])
        assert found.distances.dtype == np.float64 and found.indices.dtype == np.int64


@pytest.mark.parametrize("whole", [False, True])
def test_pixels_are_compared_by_brightness_in_floats_and_in_whole_numbers(
    whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest_neighbours, "_suit_integers", lambda points, others: whole)
    random = np.random.default_rng(0)
    base, queries = (random.integers(0, 256, (count, 784), np.uint8) for count in (300, 20))
    base[:2], queries[:2], queries[2] = [[0], [255]], [[255], [0]], base[7]
    expected = brute_force(queries / 255, base / 255, 3, False)
    found = nearest_neighbours.nearest_pixels(queries, base, 3)
    np.testing.assert_allclose(found.distances, expected[0], rtol=1e-12)
    np.testing.assert_array_equal(found.indices, expected[1])
    assert found.distances[:3, 0].tolist() == [0, 0, 0]


def test_neighbours_that_float32_cannot_tell_apart_are_found() -> None:
    line = np.arange(200.0)[:, None] * 1e-7
    base = np.concatenate([line, np.ones((1, 1)) * 1e3])  # the far point makes all others the same in float32
    found = nearest_neighbours.nearest(base, base, exclude_self=True)
    np.testing.assert_array_equal(np.abs(found.indices[:200, 0] - np.arange(200)), 1)
    np.testing.assert_allclose(found.distances[:200, 0], 1e-7, rtol=1e-6)


def test_identical_rows_are_at_distance_zero() -> None:
    base = (draws(300, 784) + 1e4).astype(np.float32)
    found = nearest_neighbours.nearest(base[[17, 200, 3]], base)
    assert found.distances.tolist() == [[0], [0], [0]] and found.indices.tolist() == [[17], [200], [3]]
    twice = np.concatenate([base, base])
    again = nearest_neighbours.nearest(twice, twice, exclude_self=True)
    assert (again.distances == 0).all()
    np.testing.assert_array_equal(again.indices[:, 0], (np.arange(600) + 300) % 600)


def test_constant_rows() -> None:
    found = nearest_neighbours.nearest(np.full((5, 3), 0.1), np.full((400, 3), 0.1), 2)
    assert (found.distances == 0).all() and (found.indices[:, 0] != found.indices[:, 1]).all()
    alone = nearest_neighbours.nearest(np.full((400, 3), 0.1), np.full((400, 3), 0.1), exclude_self=True)
    assert (alone.distances == 0).all() and (alone.indices[:, 0] != np.arange(400)).all()


def test_one_row() -> None:
    found = nearest_neighbours.nearest([[3.0, 4.0]], [[0.0, 0.0]])
    assert found.distances.tolist() == [[5]] and found.indices.tolist() == [[0]]


def test_read_only_rows_are_fine() -> None:
    base = draws(20)
    base.flags.writeable = False
    assert (nearest_neighbours.nearest(base, base).distances == 0).all()


def test_bad_input_is_refused_in_a_sentence() -> None:
    x = draws(5)
    with pytest.raises(ModisteError, match="the queries have 8 features and the base 3"):
        nearest_neighbours.nearest(x, draws(5, 3))
    with pytest.raises(ModisteError, match="k = 6 neighbours were asked for among 5"):
        nearest_neighbours.nearest(x, x, 6)
    with pytest.raises(ModisteError, match="k = 5 neighbours were asked for among 4"):
        nearest_neighbours.nearest(x, x, 5, exclude_self=True)
    with pytest.raises(ModisteError, match="not 4 rows and 5"):
        nearest_neighbours.nearest(x[:4], x, exclude_self=True)
    with pytest.raises(ModisteError, match="the base hold 0 images"):
        nearest_neighbours.nearest(x, x[:0])
    with pytest.raises(ModisteError, match="the base have NaN or infinite numbers in 5 of 5 rows"):
        nearest_neighbours.nearest(x, x * np.nan)
    with pytest.raises(ModisteError, match="must be a matrix"):
        nearest_neighbours.nearest(x.astype(str), x)
