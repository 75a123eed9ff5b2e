"""Images in rows: the one layout of equal images for grids, animations, report pictures and figures.

Brightness is never rescaled: black is 0 and white is 255 in every image. Nothing here needs matplotlib.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modiste.errors import UsageError

GAP = 2
"""White pixels between two images."""
GRID_SIDE = 56
"""Pixels of an image's side in a grid, about: images are enlarged by the nearest whole factor."""


def arrange(
    images: NDArray[np.uint8],
    columns: int,
    *,
    scale: int = 1,
    gap: int = GAP,
    border: int = 0,
    below: int = 0,
    places: Sequence[int] | None = None,
) -> NDArray[np.uint8]:
    """Images uint8 [N, C, H, W] in rows on white, as one array [height, width, C].

    Each is enlarged `scale` times. `gap` pixels part two images, `border` pixels surround all of them, and `below` is
    room for a caption under each. `places`: where each image stands, counted along the rows, where some stay empty.
    """
    _, channels, height, width = images.shape
    places = range(len(images)) if places is None else places
    count = max(places, default=-1) + 1
    step_y, step_x = height * scale + below + gap, width * scale + gap
    size = (-(-count // columns) * step_y - gap + 2 * border, columns * step_x - gap + 2 * border)
    canvas = np.full((*size, channels), 255, np.uint8)
    for place, image in zip(places, images, strict=True):
        top, left = border + place // columns * step_y, border + place % columns * step_x
        enlarged = image.repeat(scale, 1).repeat(scale, 2)
        canvas[top : top + height * scale, left : left + width * scale] = enlarged.transpose(1, 2, 0)
    return canvas


def picture_of(
    images: NDArray[np.uint8],
    columns: int,
    *,
    scale: int = 1,
    border: int = 0,
    transparent: bool = False,
    places: Sequence[int] | None = None,
) -> Image.Image:
    """The arranged images as a grey or a colour picture; `transparent`: a page's own colour shows between them."""
    canvas = arrange(images, columns, scale=scale, border=border, places=places)
    picture = Image.fromarray(canvas[:, :, 0] if canvas.shape[2] == 1 else canvas)
    if transparent:
        gaps = arrange(np.zeros_like(images[:, :1]), columns, scale=scale, border=border, places=places)[:, :, 0]
        picture.putalpha(Image.fromarray(255 - gaps))
    return picture


def grid(images: NDArray[np.uint8], columns: int) -> Image.Image:
    """The grid that a run draws at its ticks and that `sample` writes: images enlarged by a whole factor."""
    if not len(images):
        raise UsageError("there is no image to draw; ask for at least one with --count")
    return picture_of(images, columns, scale=_grid_scale(images.shape[2]), border=GAP)


def read_grid(path: Path, side: int) -> NDArray[np.uint8]:
    """The images uint8 [N, C, side, side] of a file that `grid` has drawn, at their own size."""
    with Image.open(path) as picture:
        dots = np.asarray(picture if picture.mode == "L" else picture.convert("RGB"))
    dots = dots.reshape(*dots.shape[:2], -1)
    scale = _grid_scale(side)
    drawn = side * scale
    images = [
        dots[top : top + drawn : scale, left : left + drawn : scale].transpose(2, 0, 1)
        for top in range(GAP, dots.shape[0] - drawn + 1, drawn + GAP)
        for left in range(GAP, dots.shape[1] - drawn + 1, drawn + GAP)
    ]
    return np.stack(images)


def _grid_scale(side: int) -> int:
    return max(1, round(GRID_SIDE / side))
