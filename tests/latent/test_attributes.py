"""Attributes of images: values of shapes that are known."""

from __future__ import annotations

import numpy as np
import pytest

from modiste.latent import attributes


def bars(*boxes: tuple[int, int, int, int], value: int = 255, side: int = 20) -> np.ndarray:
    """A black image per box (top, bottom, left, right), which is filled."""
    pixels = np.zeros((len(boxes), 1, side, side), np.uint8)
    for image, (top, bottom, left, right) in zip(pixels, boxes, strict=True):
        image[:, top:bottom, left:right] = value
    return pixels


def test_extents_of_bars() -> None:
    """The width of an even bar is its width (of n columns of equal weight, sqrt(n^2 - 1))."""
    found = attributes.measure(bars((5, 15, 8, 12), (2, 18, 2, 18)))
    np.testing.assert_allclose(found["width"], [np.sqrt(4**2 - 1) / 20, np.sqrt(16**2 - 1) / 20], rtol=1e-6)
    np.testing.assert_allclose(found["height"], [np.sqrt(10**2 - 1) / 20, np.sqrt(16**2 - 1) / 20], rtol=1e-6)
    np.testing.assert_allclose(found["brightness"], [0.1, 0.64])
    np.testing.assert_allclose(found["contrast"], [0, 0], atol=1e-4)


def test_it_does_not_matter_which_of_object_and_background_is_black() -> None:
    found = attributes.measure(bars((5, 15, 8, 12), (3, 9, 1, 7)))
    inverted = attributes.measure(255 - bars((5, 15, 8, 12), (3, 9, 1, 7)))
    for name in ("width", "height", "symmetry", "sleeve", "contrast", "detail"):
        np.testing.assert_allclose(found[name], inverted[name], atol=1e-6, err_msg=name)


def test_symmetry_and_sleeves() -> None:
    middle, left = bars((5, 15, 8, 12)), bars((5, 15, 2, 8))
    assert attributes.measure(middle)["symmetry"] == pytest.approx(1)
    assert attributes.measure(left)["symmetry"] == pytest.approx(0, abs=1e-6)
    with_sleeves = middle | bars((8, 16, 2, 4)) | bars((8, 16, 16, 18))
    assert attributes.measure(middle)["sleeve"] == pytest.approx(0, abs=1e-6)
    assert attributes.measure(with_sleeves)["sleeve"] == pytest.approx(32 / 72, abs=1e-6)


def test_detail_and_colour() -> None:
    board = np.indices((20, 20)).sum(0)[None, None] % 2 * 255
    assert attributes.measure(board.astype(np.uint8))["detail"] == pytest.approx(1)
    assert attributes.measure(np.full((1, 1, 20, 20), 90, np.uint8))["detail"] == 0
    red = np.zeros((1, 3, 8, 8), np.uint8)
    red[:, 0] = 255
    found = attributes.measure(red)
    assert found["saturation"] == 1 and found["warmth"] == 1
    assert "saturation" not in attributes.measure(red[:, :1])


def test_an_empty_image_has_numbers() -> None:
    found = attributes.measure(np.zeros((2, 3, 12, 12), np.uint8))
    assert all(np.isfinite(values).all() and values.shape == (2,) for values in found.values())
