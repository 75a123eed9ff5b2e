"""Pictures beside what a generator makes of them, the nearest training image and the difference, on one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modiste.data.images import Images
from modiste.latent.comparison import TrainingImages
from modiste.latent.projection import Codes
from modiste.plotting import figures
from modiste.plotting.figures import Tile
from modiste.provenance import metadata

MARGIN = 16
"""Dots left of the first picture."""
PER_ROW = 2
"""Pictures with their companions in one row."""
UNKNOWN = np.uint8(128)
"""The grey of missing pixels."""
LONGEST = 16
"""Letters of a class's name under a picture."""


def draw(
    title: str,
    images: Images,
    codes: Codes,
    class_names: Sequence[str],
    training: TrainingImages | None,
    rows: Sequence[int],
    missing: NDArray[np.bool_] | None = None,
) -> bytes:
    """The sheet of the images of these rows (PNG), which says that it is synthetic in part.

    With pixels that are `missing` [H, W] the picture has a grey hole and stands beside its filled-in self.
    """
    heads = ["picture", *(["filled in"] if missing is not None else []), "made", *(["nearest"] if training else [])]
    placed = []
    for start in range(0, len(rows), PER_ROW):
        groups = [_tiles(images, codes, class_names, training, k, missing) for k in rows[start : start + PER_ROW]]
        placed.append(("", groups))
    about = "Under each: root mean square of its differences from the picture, of 255; nearest: of the training images"
    head = ", ".join([*heads, "difference"])
    section = figures.TileRows(about, [head] * min(PER_ROW, len(rows)), placed)
    content = figures.encode(figures.tile_rows(title, [section], label_width=MARGIN), "png", marked=False)
    return metadata.stamp(content, {"Title": title}, metadata.COMPOSITE_TYPE)


def _tiles(
    images: Images, codes: Codes, class_names: Sequence[str], training: TrainingImages | None, k: int,
    missing: NDArray[np.bool_] | None,
) -> list[Tile]:  # fmt: skip
    image, made = images.pixels[k], codes.reconstructions[k]
    own = "" if images.labels is None else images.class_names[images.labels[k]][:LONGEST]
    name = "" if codes.labels is None else class_names[codes.labels[k]][:LONGEST]
    apart = np.abs(image.astype(np.int16) - made.astype(np.int16)).astype(np.uint8)
    if missing is None:
        tiles = [Tile(image, f"no. {k + 1}\n{own}")]
    else:
        tiles = [
            Tile(np.where(missing, UNKNOWN, image), f"no. {k + 1}\n{own}"),
            Tile(np.where(missing, made, image), ""),
        ]
        apart = np.where(missing, np.uint8(0), apart)
    tiles.append(Tile(made, f"{codes.errors[k]:.1f}\n{name}"))
    if training is not None:
        tiles.append(Tile(training.nearest[k], f"{training.nearest_errors[k]:.1f}"))
    return [*tiles, Tile(apart, "")]
