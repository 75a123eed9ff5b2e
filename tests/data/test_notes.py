"""Notes on brightness that was damaged before the images were saved."""

from __future__ import annotations

import re

import numpy as np
import pytest
from support import read

from modiste.data import notes as set_notes
from modiste.data.images import Images
from modiste.data.notes import (
    AllEqual,
    Fitted,
    HalfRange,
    OneColour,
    Transparent,
    UnreadFiles,
    UnreadFolder,
)
from modiste.data.sets import list_warnings
from modiste.wording import counted


def test_what_pixels_say_of_brightness_that_was_lost():
    """Each fault as programs make it, and sets that have none."""
    random = np.random.default_rng(0)
    photos = random.integers(1, 255, (120, 1, 6, 6)).astype(np.uint8)
    masks = (random.random((120, 1, 6, 6)) > 0.5).astype(np.uint8)
    bright = photos.copy()
    bright[np.arange(120), 0, np.arange(120) % 6, 0] = 255
    stretched = bright.copy()
    stretched[:, 0, 0, 1] = 0
    colours = np.broadcast_to(random.integers(0, 255, (5, 3, 1, 1)), (5, 3, 6, 6)).astype(np.uint8)
    found = {
        "photos": photos,
        "masks": masks,
        "drawings": masks * 255,
        "icons": np.where(random.random(photos.shape) < 0.3, masks * 255, photos),
        "as float": (bright / 255).astype(np.uint8),
        "halved": photos // 2,
        "upper half": photos // 2 + 128,
        "stretched": stretched,
        "equal": photos[:1].repeat(9, 0),
        "black": photos * 0,
        "one": photos[:1],
        "plain": colours,
    }
    seen = {
        name: set_notes.brightness(Images(pixels.astype(np.uint8), None, (), "set")) for name, pixels in found.items()
    }
    kinds = {name: [type(note).__name__ for note in notes] for name, notes in seen.items()}
    assert kinds == {
        "photos": [],
        "masks": ["HalfRange"],
        "drawings": [],
        "icons": [],
        "as float": ["HalfRange"],
        "halved": ["HalfRange"],
        "upper half": ["HalfRange"],
        "stretched": ["Rescaled"],
        "equal": ["AllEqual"],
        "black": ["AllEqual"],
        "one": [],
        "plain": ["OneColour"],
    }
    assert seen["masks"] == (HalfRange("set", 1),) and seen["upper half"] == (HalfRange("set", 128, is_upper=True),)
    assert seen["plain"] == (OneColour("set", 5, 5),) and seen["equal"] == (AllEqual("set", 9),)
    assert seen["black"] == (AllEqual("set", 120, is_black=True),)
    assert list_warnings(read("toy-16", count=300)) == []


@pytest.mark.parametrize(
    ("one", "several"),
    [
        (OneColour("set", 1, 1), OneColour("set", 2, 3)),
        (Fitted("crop", 1, 1, (3, 4), (3, 4)), Fitted("crop", 2, 3, (3, 4), (3, 4))),
        (Transparent(1, 1, "black", 0), Transparent(2, 3, "black", 0)),
        (UnreadFiles(("a",)), UnreadFiles(("a", "b"))),
        (UnreadFolder("val", 1), UnreadFolder("val", 2)),
    ],
)
def test_one_and_several_are_told_apart(one, several):
    assert not re.search(r"\b1 (images|pictures|files)\b|\bare\b|\bwere not\b", str(one))
    assert not re.search(r"\b[23] (image|picture|file)\b|\bis not\b", str(several))


def test_what_is_counted_has_a_plural():
    assert [counted(0), counted(1), counted(2_000)] == ["0 images", "1 image", "2,000 images"]
    assert [counted(1, "class"), counted(2, "class")] == ["1 class", "2 classes"]
