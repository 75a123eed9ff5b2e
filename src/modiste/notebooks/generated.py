"""Generators, generated images and pictures found in a generator, which show themselves in a notebook."""

from __future__ import annotations

from PIL import Image

from modiste.data.images import Images
from modiste.exports import projections
from modiste.exports.projections import Projected
from modiste.plotting import tiles
from modiste.provenance import metadata
from modiste.sampling import grids
from modiste.sampling.generators import TrainedGenerator
from modiste.wording import counted

GRID_IMAGES = 40
"""Images in the grid that stands for a generator, at most."""
MOST_COLUMNS = 12
"""Classes up to which the grid has a class per column."""
MOST_IMAGES = 200
"""Of a set of images that are shown, the first ones."""


class Generator(TrainedGenerator):
    """A trained generator that shows some images of each class."""

    def _repr_png_(self) -> bytes | None:
        try:
            classes = self.shape.classes or 10
            columns = classes if classes <= MOST_COLUMNS else 10
            images = self.sample_set(max(1, GRID_IMAGES // classes) * classes)
            return _stamped(tiles.grid(images.pixels, columns), images.name)
        except Exception:  # a notebook shows the text instead
            return None

    def __repr__(self) -> str:
        shape = self.shape
        classes = counted(shape.classes, "class") if shape.classes else "no classes"
        return f"<generator of {self.source}: {shape.channels} x {shape.size} x {shape.size} pixels, {classes}>"


class GeneratedImages(Images):
    """Generated images that show themselves as a grid."""

    def _repr_png_(self) -> bytes | None:
        try:
            return _stamped(grids.class_grid(self.select(slice(MOST_IMAGES)), None), self.name)
        except Exception:  # a notebook shows the text instead
            return None

    def __repr__(self) -> str:
        return f"<{self.name}: {counted(len(self))} uint8 {list(self.pixels.shape)}>"


class Projection(Projected):
    """Pictures found in a generator, which show themselves beside what it makes of them."""

    def _repr_png_(self) -> bytes | None:
        try:
            return (self.out / projections.SHEET).read_bytes()
        except OSError:  # moved; a notebook shows the text instead
            return None

    def __repr__(self) -> str:
        pictures = counted(len(self.codes), "picture")
        return f"<{pictures} of {self.images.name}, off by {self.codes.errors.mean():.1f} of 255>"


def _stamped(picture: Image.Image, title: str) -> bytes:
    """The picture as a PNG file that says it is synthetic."""
    return metadata.stamp(grids.png(picture), {"Title": title})
