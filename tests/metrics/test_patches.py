from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from modiste.data import toy
from modiste.data.images import Images
from modiste.errors import UsageError
from modiste.metrics import features, functional, patches

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def small() -> None:
    """Fewer patches, centres and rounds."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"PATCHES": 2_000, "CENTRES": 24, "ROUNDS": 4}.items():
            patch.setattr(patches, name, value)
        yield


@pytest.fixture(scope="module")
def learned(small: None) -> tuple[patches.Dictionary, Pixels]:
    """A dictionary, and images that it did not learn from."""
    drawn = toy.draw(500, 16, 3)
    return patches.learn(drawn.select(slice(200))), drawn.pixels[200:]


def chequered(pixels: Pixels) -> Pixels:
    rows, columns = np.indices(pixels.shape[2:])
    return (pixels + 10.0 * (1 - 2 * ((rows + columns) % 2))).clip(0, 255).astype(np.uint8)


def turned(pixels: Pixels) -> Pixels:
    """Upside down: the same patches and colours for the most part, elsewhere."""
    return pixels[:, :, ::-1].copy()


@pytest.mark.parametrize("damage", [chequered, turned, lambda pixels: pixels[np.arange(len(pixels)) % 10]])
def test_they_notice_pattern_place_and_lost_variety(
    damage: Callable[[Pixels], Pixels], learned: tuple[patches.Dictionary, Pixels]
) -> None:
    dictionary, pixels = learned
    reference, real = (functional.moments(patches.features(dictionary, part)) for part in np.split(pixels, 2))
    clean = functional.frechet(reference, real)
    damaged = functional.moments(patches.features(dictionary, damage(pixels[150:])))
    assert functional.frechet(reference, damaged) > 2 * clean


def test_an_image_keeps_its_features_in_any_company_and_learning_repeats(
    learned: tuple[patches.Dictionary, Pixels], small: None
) -> None:
    dictionary, pixels = learned
    alone = patches.features(dictionary, pixels[60:61])
    np.testing.assert_allclose(patches.features(dictionary, pixels)[60:61], alone, rtol=1e-4, atol=1e-5)
    again = patches.learn(toy.draw(500, 16, 3).select(slice(200)))
    assert all(np.array_equal(again.__dict__[name], value) for name, value in vars(dictionary).items())
    assert patches.features(dictionary, pixels[:0]).shape == (0, alone.shape[1])


def test_k_means_finds_the_clusters_of_two_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "CENTRES", 2)
    places = torch.tensor([[0.0, 0.0], [10.0, 10.0]])
    random = np.random.default_rng(0)
    points = places[torch.from_numpy(random.permutation(np.arange(200) % 2))]
    points = points + 0.01 * torch.from_numpy(random.standard_normal(points.shape)).float()
    centres = patches.k_means(points, random)
    torch.testing.assert_close(centres[centres[:, 0].argsort()], places, atol=0.01, rtol=0)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 64, 64)])
def test_they_take_every_size_in_grey_and_colour(shape: tuple[int, int, int], small: None) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, *shape), np.uint8)
    dictionary = patches.learn(Images(pixels, None, (), "noise"))
    assert np.isfinite(patches.features(dictionary, pixels)).all()
    flat = np.full((30, *shape), 7, np.uint8)
    assert np.isfinite(patches.features(patches.learn(Images(flat, None, (), "flat")), flat)).all()


def test_the_extractor_names_what_it_learned_from(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path))
    one, other = (features.learned_patches(toy.draw(60, 16, seed)) for seed in (1, 2))
    assert one.name == "patches" and one.facts["hash"] == one.fingerprint != other.fingerprint
    monkeypatch.setattr(patches, "learn", lambda *_: pytest.fail("it was kept"))
    assert features.learned_patches(toy.draw(60, 16, 1)).fingerprint == one.fingerprint


def test_images_smaller_than_a_patch_are_refused() -> None:
    pixels = np.zeros((9, 1, 5, 5), np.uint8)
    with pytest.raises(UsageError, match="specks has images of 5 x 5 pixels, and patches are of 6 x 6; take other"):
        patches.learn(Images(pixels, None, (), "specks"))
