"""Pictures of the strangest images, each above what a detector knows that is nearest, and where the two differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from modiste.data.images import Pixels
from modiste.plotting import figures
from modiste.plotting.figures import Tile, TileRows


def difference_map(images: Pixels, others: Pixels) -> Pixels:
    """Where images differ, uint8 [N, 3, H, W]: white where they do not, red where the image is brighter, blue where it
    is darker; the mean over colours, full colour at a difference of half the range."""
    apart = (images.astype(np.float64) - others).mean(1) / 127.5
    red, blue = apart.clip(0, 1), (-apart).clip(0, 1)
    shades = np.stack([1 - blue, 1 - np.maximum(red, blue), 1 - red], 1)
    return (255 * shades).round().astype(np.uint8)


def strangest(title: str, images: Pixels, counterparts: Pixels, captions: Sequence[str], about: str) -> Figure:
    """Three rows: the images with their captions, their counterparts, and their differences."""
    rows = (
        ("image", images, captions),
        ("nearest that\nis known", counterparts, [""] * len(images)),
        ("brighter: red\ndarker: blue", difference_map(images, counterparts), [""] * len(images)),
    )
    shown = [
        (label, [[Tile(_coloured(pixels), text) for pixels, text in zip(all_pixels, texts, strict=True)]])
        for label, all_pixels, texts in rows
    ]
    return figures.tile_rows(title, [TileRows(about, (), shown)])


def _coloured(pixels: Pixels) -> Pixels:
    return pixels if len(pixels) == 3 else pixels.repeat(3, axis=0)


def save(figure: Figure, path: Path) -> None:
    """Write the figure as a PNG file."""
    figures.save(figure, path)
