"""Which arrays of an archive, or columns of a table, are images and which are labels, by their names and contents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["images", "labels"]
Split = Literal["train", "test"]

CUSTOMARY: dict[Kind, dict[Split, tuple[str, ...]]] = {
    "images": {"train": ("images", "x", "x_train", "train_images"), "test": ("x_test", "test_images")},
    "labels": {"train": ("labels", "y", "y_train", "train_labels"), "test": ("y_test", "test_labels")},
}
"""Names that count wherever they are there, the first before the others."""
IMAGE_WORDS, LABEL_WORDS = ("image", "img", "data", "x", "arr_0"), ("label", "target", "y", "arr_1")
NAME = re.compile(rf"(?:(train|test)_?)?({'|'.join((*IMAGE_WORDS, *LABEL_WORDS))})s?(?:_?(train|test))?")
MOST_VALUES = 1000
"""An array with more values than this, or with most of them once, is not taken for labels."""


def named(names: Sequence[str], kind: Kind, split: Split) -> list[str]:
    """The names of the arrays that may be these: the customary one alone, or else all that other programs call so."""
    customary = [name for name in CUSTOMARY[kind][split] if name in names]
    return customary[:1] or [name for name in names if _role(name) == (kind, split)]


def is_customary(name: str) -> bool:
    """Whether it needs no word when an array of this name is read."""
    return any(name in names for splits in CUSTOMARY.values() for names in splits.values())


def _role(name: str) -> tuple[Kind, Split] | None:
    """What an array of this name is to other programs, as X_train, trainImages or target; None of any other name."""
    match = NAME.fullmatch(name.lower())
    if not match or (match[1] and match[3]):
        return None
    split: Split = "test" if "test" in (match[1], match[3]) else "train"
    return "images" if match[2] in IMAGE_WORDS else "labels", split


def says_labels(name: str) -> bool:
    """Whether the name has one of the words for labels in it."""
    return re.search(r"label|target|class(?!_?names)", name.lower()) is not None


def may_be_labels(shape: Sequence[int], dtype: np.dtype[Any], images: int | None) -> bool:
    """Whether an array of this shape holds one whole number, word or truth value per image (None: however many)."""
    of_one = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
    return dtype.kind in "iubUSO" and of_one and images in (None, shape[0])


def look_like_labels(values: NDArray[Any]) -> bool:
    """Whether these values, one per image, repeat as labels do, and numbers that count or identify do not."""
    different = len(set(values.reshape(-1).tolist()))
    return 2 <= different <= min(MOST_VALUES, len(values) // 2)
