"""Pictures of generated images: grids and animations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
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


def test_animation_has_every_frame(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 80, 160)]
    (tmp_path / "a.gif").write_bytes(grids.gif(frames))
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 3 and animation.info["loop"] == 0
