"""Pictures of generated images: grids and animations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modiste.data.images import Images
from modiste.sampling import grids, writers


def test_a_grid_of_all_classes_has_one_per_row(tmp_path: Path) -> None:
    labels = np.array([0, 1, 2] * 4)
    pixels = np.repeat(labels * 50, 28 * 28).reshape(12, 1, 28, 28).astype(np.uint8)
    writers.write(Images(pixels, labels, ("a", "b", "c"), "rows"), range(12), tmp_path / "grid.png", "png")
    with Image.open(tmp_path / "grid.png") as picture:
        values = np.asarray(picture)
    assert values.shape == (3 * 58 + 2, 4 * 58 + 2)
    for row in range(3):
        assert (values[30 + 58 * row, 30::58] == 50 * row).all()


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (9, 9), (64, 8), (63, 9), (100, 10), (30, 10), (67, 10)])
def test_the_last_row_is_full_where_it_can_be(count: int, columns: int) -> None:
    pixels = np.full((count, 1, 28, 28), 7, np.uint8)
    for labels, names in ((None, ()), (np.zeros(count, np.int64), ("a",))):
        picture = grids.class_grid(Images(pixels, labels, names, "alike"), None)
        assert picture.size == (58 * columns + 2, 58 * -(-count // columns) + 2)
    assert grids.class_grid(Images(pixels, None, (), "asked"), 4).size[0] == 58 * 4 + 2


def test_animation_has_every_frame(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 80, 160)]
    (tmp_path / "a.gif").write_bytes(grids.gif(frames))
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 3 and animation.info["loop"] == 0
