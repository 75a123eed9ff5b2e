"""Precision, recall, density, coverage and the two-sample test, against rivals and by brute force."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

from modiste.metrics import manifold


def draws(count: int, width: int = 8, seed: int = 0, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, (count, width))


def kinds(garments: dict[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (draws(400), draws(400, seed=1, shift=0.2, scale=1.3)),
        (garments["real"].astype(np.float64), garments["spoilt"].astype(np.float64)),
    ]


def test_manifold_scores_against_prdc(
    rivals: ModuleType, garments: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    # prdc's balls exclude their edge and ours include it, which matters only for equal distances; there are none here.
    for real, fake in [*kinds(garments), (draws(200), draws(350, seed=1, scale=0.7))]:
        found = manifold.manifold_scores(real, fake, k_precision=3, k_density=5)
        three, five = rivals.compute_prdc(real, fake, 3), rivals.compute_prdc(real, fake, 5)
        for name in ("precision", "recall"):
            assert found[name].value == pytest.approx(three[name], rel=1e-6)
        for name in ("density", "coverage"):
            assert found[name].value == pytest.approx(five[name], rel=1e-6)
    assert "Num real" in capsys.readouterr().out


def test_uncovered_images_are_those_that_recall_does_not_count(garments: dict[str, np.ndarray]) -> None:
    for real, fake in kinds(garments):
        outside = manifold.uncovered(real, fake, k=3)
        assert 0 < outside.sum() < len(real)
        assert 1 - outside.mean() == pytest.approx(manifold.manifold_scores(real, fake)["recall"].value, abs=1e-12)
        apart = np.linalg.norm(real[:, None].astype(np.float64) - fake[None], axis=2)
        own = np.sort(np.linalg.norm(fake[:, None].astype(np.float64) - fake[None], axis=2), axis=1)[:, 3]
        assert np.array_equal(outside, (apart > own).all(axis=1))
    same = draws(50)
    assert not manifold.uncovered(same, same).any()


def test_manifold_scores_against_torch_fidelity(rivals: ModuleType, garments: dict[str, np.ndarray]) -> None:
    for real, fake in kinds(garments):
        found = manifold.manifold_scores(real, fake)
        pair = (torch.from_numpy(fake), torch.from_numpy(real))
        precision, recall = rivals.fidelity_prc.calculate_precision_recall_full(*pair, neighborhood=3)
        assert found["precision"].value == pytest.approx(precision, rel=1e-6)
        assert found["recall"].value == pytest.approx(recall, rel=1e-6)


def test_manifold_scores_by_hand() -> None:
    # On a line, k = 1: reference balls 0 ± 1, 1 ± 1, 10 ± 9; generated balls 2 ± 1, 3 ± 1, 30 ± 27
    found = manifold.manifold_scores([[0.0], [1.0], [10.0]], [[2.0], [3.0], [30.0]], k_precision=1, k_density=1)
    assert {name: score.value for name, score in found.items()} == {
        "precision": pytest.approx(2 / 3),  # 2 (on the edge of 1 ± 1), 3 (in 10 ± 9)
        "recall": pytest.approx(2 / 3),  # 1 (on the edge of 2 ± 1), 10
        "density": pytest.approx(3 / 3),  # 2 in two balls, 3 in one
        "coverage": pytest.approx(2 / 3),
    }


def brute_force(real: np.ndarray, fake: np.ndarray, k_precision: int, k_density: int) -> dict[str, float]:
    """The four shares by their definitions, from whole squared distances."""

    def squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return ((a[:, None] - b[None]) ** 2).sum(-1)

    def edges(a: np.ndarray, k: int) -> np.ndarray:
        return np.sort(squared(a, a) + np.diag(np.full(len(a), np.inf)), 1)[:, k - 1]

    apart = squared(real, fake)
    inside = apart <= edges(real, k_density)[:, None]
    return {
        "precision": (apart <= edges(real, k_precision)[:, None]).any(0).mean(),
        "recall": (apart <= edges(fake, k_precision)[None]).any(1).mean(),
        "density": inside.sum() / k_density / len(fake),
        "coverage": inside.any(1).mean(),
    }


def grid(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 6, (count, 3)).astype(float)


FAR = np.array([[1e5, 0.0, 0.0]])
HARD_SETS = {
    "points of a grid, whose distances are equal": (grid(60, 0), grid(50, 1)),
    "a far point in each set, beside which float32 sees no distances": (
        np.concatenate([grid(60, 0), FAR]),
        np.concatenate([grid(50, 1), -FAR]),
    ),
    "generated images in a heap within many balls": (grid(60, 0), grid(300, 1) / 1024 + 2),
    "reference images in a heap": (grid(300, 0) / 1024 + 2, grid(50, 1)),
}


@pytest.mark.parametrize("name", HARD_SETS)
@pytest.mark.parametrize("neighbours", [(3, 5), (5, 2)])
@pytest.mark.parametrize("many", [0, 1000])
def test_manifold_scores_of_hard_sets_are_brute_force(
    name: str, neighbours: tuple[int, int], many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifold, "MANY", many)
    found = manifold.manifold_scores(*HARD_SETS[name], k_precision=neighbours[0], k_density=neighbours[1])
    assert {key: score.value for key, score in found.items()} == pytest.approx(
        brute_force(*HARD_SETS[name], *neighbours), rel=1e-12
    )


@pytest.mark.parametrize("rows", [7, 500])
def test_slices_do_not_change_manifold_scores(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = draws(60), draws(50, seed=1)
    expected = manifold.manifold_scores(x, y)
    monkeypatch.setattr(manifold, "ROWS", rows)
    assert manifold.manifold_scores(x, y) == expected


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_manifold_scores_of_identical_sets(offset: float) -> None:
    x = draws(123, 20) + offset
    found = manifold.manifold_scores(x, x)
    assert found["precision"].value == found["recall"].value == found["coverage"].value == 1
    assert found["density"].value == pytest.approx(6 / 5)  # itself and the five neighbours, edge included


def test_manifold_scores_of_far_and_of_constant_sets() -> None:
    x = draws(50)
    apart = manifold.manifold_scores(x, draws(50, seed=1) + 100)
    assert all(score.value == 0 for score in apart.values())
    flat = np.full((20, 3), 7.1)
    same, other = manifold.manifold_scores(flat, flat[:10]), manifold.manifold_scores(flat, flat[:10] + 1e-3)
    assert same["precision"].value == same["recall"].value == same["coverage"].value == 1
    assert all(score.value == 0 for score in other.values())


def test_equal_draws_are_covered_as_expected() -> None:
    found = manifold.manifold_scores(draws(2000, 5), draws(2000, 5, 1))
    assert found["coverage"].value == pytest.approx(1 - 2**-5, abs=0.012)
    assert found["density"].value == pytest.approx(1, abs=0.05)


def test_two_sample_1nn() -> None:
    x = draws(300)
    same = manifold.two_sample_1nn(x, draws(400, seed=1))
    assert same.uncertainty is not None and abs(same.value - 0.5) < 4 * same.uncertainty and same.details["each"] == 300
    assert manifold.two_sample_1nn(x, draws(300, seed=1) + 50).value == 1
    assert manifold.two_sample_1nn(x, x).value == 0  # each image is its copy's nearest neighbour
    flat = manifold.two_sample_1nn(np.zeros((100, 3)), np.zeros((100, 3)))
    assert flat.value == pytest.approx(0.5, abs=0.1)  # decided by the order, which is random
    assert manifold.two_sample_1nn(x, x, most=20).details["each"] == 20
