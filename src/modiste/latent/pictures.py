"""Pictures to look for in a generator: a file, a folder or a data set, brought to the generator's own shape."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modiste.config import Data
from modiste.data import decoding, image_files, readers
from modiste.data.images import Images, Split
from modiste.data.sets import has_test, open_data, resolved_name, set_name
from modiste.errors import UsageError
from modiste.networks.layers import ImageShape
from modiste.sampling.generators import TrainedGenerator

HALF = 128
"""A pixel of a mask is missing from this brightness on."""


def read_pictures(what: str, data: Data, generator: TrainedGenerator) -> Images:
    """The pictures that `open_pictures` opens, as the generator makes them; UsageError where they do not fit it."""
    return fitted(open_pictures(what, data), generator.shape, generator.source)


def open_pictures(what: str | Path, like: Data) -> Images:
    """The pictures in that file, folder or data set, of a set its test images where it has some.

    `like` says how pictures are brought to one square size: the run's settings. Labels are the set's own. UsageError
    where there is nothing of that kind.
    """
    path = readers.expanded(what)
    settings = Data(**like.model_dump(include={"resize", "resize_filter", "fit", "background"}))
    if path.is_file() and image_files.is_picture(path):
        pixels, notes = image_files.read_pixels([path], settings)
        return Images(pixels, None, (), path.stem, notes)
    settings = settings.model_copy(update={"name": resolved_name(str(what))})
    part = test_or_train(settings)
    images = open_data(settings, part=part)
    return images if part == "test" else replace(images, name=set_name(images.name))


def test_or_train(data: Data) -> Split:
    """The part of a set that is looked at: its test images where it has some."""
    return "test" if has_test(data) else "train"


def fitted(images: Images, shape: ImageShape, source: str, *, resizes: bool = True) -> Images:
    """The images with the generator's number of channels, grey ones repeated; UsageError where they do not fit.

    `resizes`: whether the command has an option for that.
    """
    _, channels, height, width = images.pixels.shape
    if (height, width) != (shape.size, shape.size):
        raise UsageError(
            f"{images.name}: {width} x {height} pixels, and {source} makes {shape.size} x {shape.size}; bring them to "
            f"that{f' with --resize {shape.size}' if resizes else ''}"
        )
    if channels > shape.channels:
        raise UsageError(f"{images.name} is in colour, and {source} makes grey images; convert it to grey")
    if channels == shape.channels:
        return images
    return replace(images, pixels=np.repeat(images.pixels, shape.channels, axis=1), source=None)


def read_mask(file: str, size: int) -> NDArray[np.bool_]:
    """Which pixels [size, size] are missing, by a picture in which they are white; UsageError where it does not fit."""
    path = readers.expanded(file)
    if not path.is_file():
        raise UsageError(
            f"--mask {path} is no file; give a picture of {size} x {size} pixels, white where one is missing"
        )
    decoded = decoding.decode(path)
    if decoded.frames > 1:
        raise UsageError(f"--mask {path} holds {decoded.frames} pictures; give a file of one")
    picture = decoded.picture.convert("L")
    if picture.size != (size, size):
        width, height = picture.size
        raise UsageError(
            f"--mask {path} is {width} x {height} pixels and the images {size} x {size}; give it that size"
        )
    missing: NDArray[np.bool_] = np.asarray(picture) >= HALF
    if missing.all() or not missing.any():
        covers = "everything, so that nothing is left to go by" if missing.all() else "nothing"
        raise UsageError(f"--mask {path} covers {covers}; paint the missing pixels white and the others black")
    return missing
