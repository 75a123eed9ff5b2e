"""Pictures of the strangest images, each above what a detector knows that is nearest, and where the two differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modiste.data.images import Pixels
from modiste.experiments.detection.detectors import Detector
from modiste.plotting import figures
from modiste.plotting.figures import Tile, TileRows
from modiste.provenance import metadata


def difference_map(images: Pixels, others: Pixels) -> Pixels:
    """Where images differ, uint8 [N, 3, H, W]: white where they do not, red where the image is brighter, blue where it
    is darker; the mean over colours, full colour at a difference of half the range."""
    apart = (images.astype(np.float64) - others).mean(1) / 127.5
    red, blue = apart.clip(0, 1), (-apart).clip(0, 1)
    shades = np.stack([1 - blue, 1 - np.maximum(red, blue), 1 - red], 1)
    return (255 * shades).round().astype(np.uint8)


def strangest(title: str, images: Pixels, counterparts: Pixels, captions: Sequence[str], detector: Detector) -> bytes:
    """Three rows as a PNG file: the images with their captions, their counterparts, and their differences.

    It says that it is synthetic in part where the counterparts are.
    """
    rows = (
        ("image", images, captions),
        (detector.counterpart, counterparts, [""] * len(images)),
        ("brighter: red\ndarker: blue", difference_map(images, counterparts), [""] * len(images)),
    )
    shown = [
        (label, [[Tile(_coloured(pixels), text) for pixels, text in zip(all_pixels, texts, strict=True)]])
        for label, all_pixels, texts in rows
    ]
    figure = figures.tile_rows(title, [TileRows(detector.about, (), shown)])
    if not detector.is_synthetic:
        return figures.encode(figure, "png")
    return metadata.stamp(figures.encode(figure, "png", marked=False), {"Title": title}, metadata.COMPOSITE_TYPE)


def _coloured(pixels: Pixels) -> Pixels:
    return pixels if len(pixels) == 3 else pixels.repeat(3, axis=0)
