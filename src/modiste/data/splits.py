"""Training and test images of one set of files beside each other: what must be alike in both is checked on reading."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from modiste.config import Data
from modiste.data import readers
from modiste.data.classes import NoReference, without_images
from modiste.data.images import Images, Note
from modiste.data.readers import Split
from modiste.errors import ModisteError

FAR_APART = 0.25
"""Means of brightness further apart than this, of 1 from black to white, are noted: an inverted split, say."""


@dataclass(frozen=True)
class Kind:
    """What the images of one split are like."""

    channels: int
    size: tuple[int, int]
    """Height and width in pixels."""
    labelled: bool
    missing: tuple[str, ...]
    """Classes of the set without an image here."""
    brightness: float
    """The mean, from 0 (black) to 1 (white)."""


@dataclass(frozen=True)
class Unlabelled(Note):
    """A split without labels where the other has some."""

    place: str
    split: Split

    def __str__(self) -> str:
        other = "training" if self.split == "test" else "test"
        return f"{self.place}: the {_word(self.split)} images have no labels, and the {other} images have some"


@dataclass(frozen=True)
class OtherBrightness(Note):
    """Training and test images of which one seems to be inverted, or in another range."""

    place: str
    train: float
    test: float

    def __str__(self) -> str:
        return (
            f"{self.place}: the mean brightness is {self.train:.2f} in training and {self.test:.2f} in test images "
            "(0 is black, 1 white), as if one of them were inverted or in another range"
        )


def read(path: Path, split: Split, data: Data) -> Images:
    """One split of a folder or file (see `readers.read_path`), with notes on how it differs from the other.

    ModisteError where training and test images cannot be compared: of another size (which `data.resize` mends), grey
    and in colour, or of classes that have no training image.
    """
    images = readers.read_path(path, split, data)
    if not readers.has_test_split(path):
        return images
    files = _state(path)
    asked = data.model_copy(update={"split": "train", "count": None})
    mine = _known[files, asked, split] = _kind(images)
    other: Split = "test" if split == "train" else "train"
    if (files, asked, other) not in _known:
        _known[files, asked, other] = _kind(readers.read_path(path, other, data))
    kinds = {split: mine, other: _known[files, asked, other]}
    return replace(images, notes=(*images.notes, *compared(kinds["train"], kinds["test"], images.name, data.resize)))


_known: dict[tuple[object, Data, Split], Kind] = {}
"""By the state of the files: a few facts each, so that a split that is not asked for is read once."""


def _state(path: Path) -> tuple[object, ...]:
    """A value that changes when a file at or below the path does."""
    files = [path] if path.is_file() else [Path(top, name) for top, _, names in os.walk(path) for name in names]
    told = sorted((str(file), stat.st_size, stat.st_mtime_ns) for file in files if (stat := _stat(file)))
    return str(path.absolute()), hash(tuple(told))


def _stat(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None


def _kind(images: Images) -> Kind:
    _, channels, height, width = images.pixels.shape
    missing = without_images(images.labels, images.class_names)
    brightness = float(images.pixels.mean(dtype=np.float64)) / 255
    return Kind(channels, (height, width), images.labels is not None, missing, brightness)


def compared(train: Kind, test: Kind, place: str, resize: int | None = None) -> tuple[Note, ...]:
    """What to note of test images beside training images; ModisteError where they are of different kinds."""
    if train.channels != test.channels:
        one, other = ("grey", "in colour") if train.channels == 1 else ("in colour", "grey")
        raise ModisteError(
            f"{place}: the training images are {one} and the test images {other}, so they cannot be compared; "
            "convert them to one kind"
        )
    if train.size != test.size and resize is None:
        sizes = " and the test images ".join(f"{width} x {height}" for height, width in (train.size, test.size))
        raise ModisteError(
            f"{place}: the training images are {sizes} pixels, so they cannot be compared; bring them to one size, "
            "before or with `--resize SIDE` of train, data, augment and judge train"
        )
    notes: list[Note] = []
    if train.labelled and test.missing:
        notes.append(NoReference(place, "test", test.missing))
    if train.labelled != test.labelled:
        notes.append(Unlabelled(place, "test" if train.labelled else "train"))
    if abs(train.brightness - test.brightness) > FAR_APART:
        notes.append(OtherBrightness(place, round(train.brightness, 4), round(test.brightness, 4)))
    return tuple(notes)


def _word(split: Split) -> str:
    return "training" if split == "train" else "test"
