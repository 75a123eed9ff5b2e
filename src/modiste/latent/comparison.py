"""What a run's training images have that is near some pictures: a measure for what its generator makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modiste import runs
from modiste.data.images import Pixels, content_digest
from modiste.data.sets import open_data
from modiste.errors import ModisteError
from modiste.latent.projection import pixel_error
from modiste.metrics.nearest_neighbours import nearest_pixels


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """The training images nearest to some pictures; errors [N] as `projection.pixel_error` has them."""

    name: str
    nearest: Pixels
    """The nearest one to each picture, uint8 [N, C, H, W], by the pixels that are known."""
    nearest_errors: NDArray[np.float64]
    mean_errors: NDArray[np.float64]
    """Of the mean training image."""


def compare(
    run: runs.Run, pixels: Pixels, missing: NDArray[np.bool_] | None = None
) -> tuple[TrainingImages | None, str]:
    """How near a run's training images, and their mean, come to pictures of their shape; or None and the reason.

    Pixels that are `missing` [H, W] do not count.
    """
    try:
        train = open_data(run.read_recipe().data)
    except ModisteError as error:
        return None, f"the training images cannot be opened ({error})"
    if content_digest(train) != run.read_manifest().data.digest:
        return None, f"{train.name} does not hold the images that {run.name} learned from"
    known = slice(None) if missing is None else np.tile(~missing.ravel(), pixels.shape[1])
    rows, base = (part.reshape(len(part), -1)[:, known] for part in (pixels, train.pixels))
    nearest = train.pixels[nearest_pixels(rows, base).indices[:, 0]]
    mean = np.round(train.pixels.mean(0, dtype=np.float64)).astype(np.uint8)[None]
    mean_errors = pixel_error(pixels, np.broadcast_to(mean, pixels.shape), missing)
    return TrainingImages(train.name, nearest, pixel_error(pixels, nearest, missing), mean_errors), ""
