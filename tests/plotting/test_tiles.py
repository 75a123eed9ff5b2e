"""Images in rows: every pixel stays, and a grid gives back what it was drawn from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modiste.errors import UsageError
from modiste.plotting import tiles


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_have_gaps_borders_and_room_below(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 255, (5, channels, 4, 3), np.uint8)
    canvas = tiles.arrange(images, 2, scale=2, gap=3, border=1, below=5)
    assert canvas.shape == (3 * (8 + 5 + 3) - 3 + 2, 2 * (6 + 3) - 3 + 2, channels)
    second_row = canvas[1 + 16 : 1 + 16 + 8, 1 + 9 : 1 + 9 + 6]
    assert (second_row[::2, ::2].transpose(2, 0, 1) == images[3]).all() and (second_row[1::2] == second_row[::2]).all()
    assert (canvas == 255).sum() == canvas.size - 5 * 8 * 6 * channels  # the rest is white


@pytest.mark.parametrize(("channels", "side"), [(1, 16), (1, 28), (3, 32), (3, 128)])
def test_a_grid_gives_its_images_back(channels: int, side: int, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, channels, side, side), np.uint8)
    tiles.grid(images, 3).save(tmp_path / "grid.png")
    np.testing.assert_array_equal(tiles.read_grid(tmp_path / "grid.png", side), images)


def test_a_grid_of_no_image_is_refused() -> None:
    with pytest.raises(UsageError, match="--count"):
        tiles.grid(np.zeros((0, 1, 8, 8), np.uint8), 8)


def test_a_grid_is_drawn_without_matplotlib() -> None:
    code = "import sys; import modiste.plotting.tiles; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_grid_places_every_image_and_never_rescales_brightness() -> None:
    pixels = np.full((3, 1, 28, 28), 100, dtype=np.uint8)
    pixels[1] = 7
    picture = np.asarray(tiles.grid(pixels, columns=2))
    assert picture.shape == (2 * (56 + 2) + 2, 2 * (56 + 2) + 2)
    assert picture[30, 30] == 100 and picture[30, 90] == 7 and picture[90, 30] == 100 and picture[90, 90] == 255
    assert tiles.grid(np.zeros((2, 3, 32, 32), dtype=np.uint8), 2).mode == "RGB"


def test_between_transparent_images_a_page_shows_through() -> None:
    images = np.full((2, 1, 3, 3), 255, np.uint8)
    picture = tiles.picture_of(images, 2, transparent=True)
    assert picture.mode == "LA"
    alpha = np.asarray(picture)[:, :, 1]
    assert (alpha[:, :3] == 255).all() and (alpha[:, 3 : 3 + tiles.GAP] == 0).all() and (alpha[:, -3:] == 255).all()
    assert np.array_equal(np.asarray(picture)[:, :, 0], np.asarray(tiles.picture_of(images, 2)))
