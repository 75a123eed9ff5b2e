"""The watermark: found by its key after every change it is meant to survive, by no other key, and hardly visible."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from modiste.data import toy
from modiste.data.images import resized
from modiste.errors import UsageError
from modiste.provenance import watermark


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    """120 drawn garments of 28 pixels with a texture, which cloth has and the drawings lack, on a black background."""
    pixels = toy.draw(120, 28, 3).pixels
    noise = np.random.default_rng(0).normal(0, 12, pixels.shape)
    return np.where(pixels > 0, np.clip(pixels + noise, 1, 254), 0).astype(np.uint8)


@pytest.fixture(scope="module")
def marked(real: np.ndarray) -> np.ndarray:
    return watermark.embed(real, "secret")  # at the strength that `sample --watermark` has


def compressed(pixels: np.ndarray) -> np.ndarray:
    rows = []
    for image in pixels[:, 0]:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=75)
        rows.append(np.asarray(Image.open(buffer)))
    return np.stack(rows)[:, None]


def moved(pixels: np.ndarray) -> np.ndarray:
    return np.pad(pixels, ((0, 0), (0, 0), (0, 1), (1, 0)))[:, :, 1:, :-1]


CHANGES = {
    "as it is": lambda pixels: pixels,
    "JPEG": compressed,
    "shift": moved,
    "resize to 32": lambda pixels: resized(pixels, 32, "bilinear"),
    "colour": lambda pixels: pixels.repeat(3, axis=1),
    "half as bright": lambda pixels: (pixels // 2).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_its_key_finds_it_after_each_change_and_another_key_does_not(change: str, marked: np.ndarray) -> None:
    changed = CHANGES[change](marked)
    found = watermark.detect(changed, "secret")
    assert found.p_value < 1e-6
    assert found.count == 120
    assert found.shift == ((-1, 1) if change == "shift" else (0, 0))
    assert watermark.detect(changed, "Secret").p_value > 1e-3


def test_unmarked_images_fit_a_key_as_coins_fall(real: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watermark, "SHIFTS", watermark.SHIFTS[:1])
    monkeypatch.setattr(watermark, "SHIFT_FACTORS", np.ones(1))
    found = [watermark.detect(real[:20], f"key {k}") for k in range(300)]
    assert stats.kstest([one.statistic for one in found], "norm").pvalue > 1e-3  # about normal under random keys
    p_values = np.array([one.p_value for one in found])
    for level in (0.02, 0.05, 0.2, 0.5):  # and the p-value is an upper bound
        assert (p_values <= level).mean() <= level + 3 * math.sqrt(level / 300)


def test_the_price_of_the_shifts_keeps_the_error_rate(real: np.ndarray) -> None:
    assert np.isclose((1 / watermark.SHIFT_FACTORS).sum(), 1)
    p_values = np.array([watermark.detect(real[:10], f"key {k}").p_value for k in range(200)])
    assert (p_values <= 0.05).mean() <= 0.05 + 3 * math.sqrt(0.05 / 200)


def test_the_tail_bounds_every_sum_of_random_signs() -> None:
    throws = np.array(np.meshgrid(*[[-1, 1]] * 12)).reshape(12, -1)
    for weights in (np.ones(12), np.arange(1, 13.0), np.array([1.0] + [0.0] * 11), 0.7 ** np.arange(12)):
        sums = weights @ throws / np.linalg.norm(weights)
        for z in (0.3, 1.0, 1.41, 2.0, 3.0):
            assert (sums >= z - 1e-12).mean() <= watermark.tail(z)
    assert watermark.tail(5.0) < 4 * stats.norm.sf(5.0)
    assert watermark.tail(0.0) == 1.0
    assert watermark.tail(-3.0) == 1.0


def test_flat_black_and_white_pixels_stay_and_no_pixel_changes_by_much(real: np.ndarray, marked: np.ndarray) -> None:
    change = marked.astype(int) - real
    assert np.abs(change).max() <= 3 * 4.0 + 0.5
    assert (change != 0).mean() > 0.1
    assert not change[(real == 0) | (real == 255)].any()
    block = np.full((2, 1, 28, 28), 90, np.uint8)
    block[:, :, 4:9, 4:9] = np.random.default_rng(1).integers(60, 120, (2, 1, 5, 5))
    done = watermark.embed(block, "secret")
    flat = np.ones((28, 28), bool)
    flat[3:10, 3:10] = False
    assert (done[:, :, flat] == 90).all()
    assert (done != block).any()


def test_every_image_is_marked_by_itself(real: np.ndarray) -> None:
    whole = watermark.embed(real[:9], "secret")
    assert np.array_equal(whole[4:5], watermark.embed(real[4:5], "secret"))
    assert np.array_equal(whole, watermark.embed(real[:9], "secret"))
    assert len(watermark.embed(real[:0], "secret")) == 0


def test_different_images_get_different_patterns(real: np.ndarray) -> None:
    cells = watermark._cells(watermark._grey(real))
    assert len(set(cells.tolist())) > 10
    assert (watermark._cells(watermark._grey(CHANGES["resize to 32"](real))) == cells).mean() > 0.8


def test_images_without_texture_and_of_odd_sizes_are_taken(real: np.ndarray) -> None:
    plain = np.full((3, 1, 28, 28), 128, np.uint8)
    assert np.array_equal(watermark.embed(plain, "secret"), plain)
    assert watermark.detect(plain, "secret") == watermark.Detection(1.0, 0.0, 3, (0, 0))
    for height, width in ((10, 10), (20, 31), (64, 64)):
        image = np.random.default_rng(2).integers(1, 255, (4, 3, height, width), dtype=np.uint8)
        done = watermark.embed(image, "secret", 8.0)
        assert done.shape == image.shape
        found = watermark.detect_each(done, "secret")
        assert [one.count for one in found] == [1] * 4
    small = np.full((3, 1, 8, 9), 128, np.uint8)
    with pytest.raises(UsageError, match="images of 8 x 9 pixels have no room for a watermark; from 10 x 10"):
        watermark.embed(small, "secret")
    for ask in (watermark.detect, watermark.detect_each):
        with pytest.raises(UsageError, match=r"8 x 9 pixels have no room .*from 10 x 10.*; ask without a key"):
            ask(small, "secret")


@pytest.mark.parametrize(("key", "strength", "says"), [("", 2.0, "key is empty"), ("k", 0.0, "not above 0")])
def test_wrong_use_is_told(real: np.ndarray, key: str, strength: float, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        watermark.embed(real, key, strength)


def test_floats_are_refused() -> None:
    with pytest.raises(UsageError, match="uint8"):
        watermark.detect(np.zeros((1, 1, 8, 8)), "k")  # type: ignore[arg-type]
