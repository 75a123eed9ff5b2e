"""Measured attributes of images: numbers that a person can check by looking.

Where an attribute speaks of the object, the background is the median of the image's border, and what differs from it
weighs by how much it differs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from modiste.data.images import Pixels

Values = NDArray[np.float64]  # [N]
Grey = NDArray[np.float64]  # [N, H, W], 0 black to 1 white


def measure(pixels: Pixels) -> dict[str, Values]:
    """Every attribute [N] of images uint8 [N, C, H, W] by its name; those of colour only where there is colour."""
    unit = pixels / 255
    grey: Grey = unit.mean(1)
    found = {name: function(grey) for name, function in OF_GREY.items()}
    return found | ({name: function(unit) for name, function in OF_COLOUR.items()} if pixels.shape[1] == 3 else {})


def brightness(grey: Grey) -> Values:
    """The mean of all pixels, 0 black to 1 white."""
    return np.asarray(grey.mean((1, 2)))


def contrast(grey: Grey) -> Values:
    """The standard deviation of the object's brightness, its pixels by their weight."""
    weights = _object(grey)
    total = weights.sum((1, 2))
    mean = (weights * grey).sum((1, 2)) / total
    return np.asarray(np.sqrt((weights * (grey - mean[:, None, None]) ** 2).sum((1, 2)) / total))


def detail(grey: Grey) -> Values:
    """The mean difference of neighbouring pixels."""
    down, right = np.abs(np.diff(grey, axis=1)).mean((1, 2)), np.abs(np.diff(grey, axis=2)).mean((1, 2))
    return np.asarray((down + right) / 2)


def width(grey: Grey) -> Values:
    """The object's width over the image's: that of an even bar whose columns have the same standard deviation."""
    return _extent(_object(grey).sum(1))


def height(grey: Grey) -> Values:
    """The object's height over the image's, in the same way."""
    return _extent(_object(grey).sum(2))


def symmetry(grey: Grey) -> Values:
    """How much of the object lies on its mirror image (left and right exchanged), 0 to 1."""
    weights = _object(grey)
    mirrored = weights[:, :, ::-1]
    return np.asarray(np.minimum(weights, mirrored).sum((1, 2)) / np.maximum(weights, mirrored).sum((1, 2)))


def sleeve(grey: Grey) -> Values:
    """The share of the object in the outer quarters of the columns, from a third of the way down: long sleeves."""
    weights = _object(grey)
    rows, columns = grey.shape[1] // 3, grey.shape[2] // 4
    lower = weights[:, rows:]
    return np.asarray((lower[:, :, :columns].sum((1, 2)) + lower[:, :, -columns:].sum((1, 2))) / weights.sum((1, 2)))


def saturation(unit: NDArray[np.float64]) -> Values:
    """The mean distance of a pixel's largest from its smallest channel, 0 grey to 1."""
    return np.asarray((unit.max(1) - unit.min(1)).mean((1, 2)))


def warmth(unit: NDArray[np.float64]) -> Values:
    """The mean of red less blue, -1 blue to 1 red."""
    return np.asarray((unit[:, 0] - unit[:, 2]).mean((1, 2)))


OF_GREY: dict[str, Callable[[Grey], Values]] = {
    function.__name__: function for function in (brightness, contrast, detail, width, height, symmetry, sleeve)
}
OF_COLOUR: dict[str, Callable[[NDArray[np.float64]], Values]] = {"saturation": saturation, "warmth": warmth}


def _object(grey: Grey) -> Grey:
    """The weight [N, H, W] of each pixel: its distance from the background, and a trace of an empty image's."""
    border = np.concatenate([grey[:, 0], grey[:, -1], grey[:, 1:-1, 0], grey[:, 1:-1, -1]], axis=1)
    return np.asarray(np.abs(grey - np.median(border, axis=1)[:, None, None]) + 1e-9)


def _extent(weights: NDArray[np.float64]) -> Values:
    """The extent over the side of weights [N, side] along it: sqrt(12) standard deviations."""
    places = (np.arange(weights.shape[1]) + 0.5) / weights.shape[1]
    total = weights.sum(1)
    mean = weights @ places / total
    square = weights @ places**2 / total - mean**2
    return np.asarray(np.sqrt(12 * np.maximum(square, 0)))
