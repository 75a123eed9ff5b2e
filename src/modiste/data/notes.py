"""Notes on a set of images: what was left out, how images were changed, and whether their brightness was damaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from modiste.data.images import Images, Note, Pixels, blocks, parts, remembered
from modiste.wording import counted

SHOWN = 4
"""Files that a sentence names at most."""
FULL_RANGE_SHARE, FULL_RANGE_COUNT = 0.995, 100
"""If this share of images (of at least so many) reach both 0 and 255, brightness was probably rescaled per image.

Of Fashion-MNIST's own images 91.6 % do (88.8 to 93.8 % by class), so that all of 100 do once in 6,000 draws.
"""
DRAWN_SHARE, DRAWN_LEAST = 0.02, 3
"""With more black and more white pixels than this share, and this count, images are drawings and not rescaled."""
HALF = 128
"""If no pixel is above this, or none below 255 minus this, at least half of the range was lost."""

Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class UnreadFiles(Note):
    """Files among the pictures that were not read."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        names = few(self.names)
        were, kind = ("was", "a picture") if len(self.names) == 1 else ("were", "pictures")
        return f"{counted(len(self.names), 'file')} {were} not read as {kind}: {names}"


@dataclass(frozen=True)
class UnreadFolder(Note):
    """A folder of pictures beside train and test."""

    name: str
    pictures: int

    def __str__(self) -> str:
        are = "is" if self.pictures == 1 else "are"
        held = counted(self.pictures, "picture")
        return f"{held} in {self.name}/ {are} not read, only those in train/ and test/"


@dataclass(frozen=True)
class UnreadArray(Note):
    """An unread array of a file, or column of a table, that looks like images or labels."""

    name: str
    kind: Literal["images", "labels"]
    advice: str
    """The name under which it would be read; empty where that is not certain."""

    def __str__(self) -> str:
        looks = "looks like labels" if self.kind == "labels" else "holds images"
        return f"`{self.name}` {looks} and is not read" + (f"; call it {self.advice}" if self.advice else "")


@dataclass(frozen=True)
class LabelsBeside(Note):
    """Labels in a file beside the one .npy file that was given."""

    name: str
    folder: str

    def __str__(self) -> str:
        return f"the labels in {self.name} beside it are not read; give the folder {self.folder}"


@dataclass(frozen=True)
class ReadFrom(Note):
    """Images or labels that were read under a name other than a standard one."""

    name: str
    kind: Literal["images", "labels"]

    def __str__(self) -> str:
        return f"the {self.kind} were read from `{self.name}`"


@dataclass(frozen=True)
class Fitted(Note):
    """Images that were not square, and how they were made so."""

    fit: str
    count: int
    total: int
    smallest: Size
    largest: Size

    def __str__(self) -> str:
        are, were, its = ("is", "was", "its") if self.count == 1 else ("are", "were", "their")
        change = {
            "crop": f"cut to {its} middle square (`--fit pad` or `stretch`, data.fit, cuts nothing off)",
            "pad": "padded to a square (`--fit crop` or `stretch`, data.fit, does without)",
            "stretch": "stretched to a square (`--fit crop` or `pad`, data.fit, keeps shapes as they are)",
        }[self.fit]
        sizes = " to ".join(dict.fromkeys(f"{width} x {height}" for width, height in (self.smallest, self.largest)))
        return f"{self.count:,} of {counted(self.total)} {are} not square ({sizes} pixels) and {were} {change}"


@dataclass(frozen=True)
class Transparent(Note):
    """Pictures with transparent parts, the colour behind these, and the number that then show hardly anything."""

    count: int
    total: int
    background: str
    vanished: int

    def __str__(self) -> str:
        other = "black" if self.background == "white" else "white"
        have = "has" if self.count == 1 else "have"
        total = counted(self.total, "picture")
        text = f"{self.count:,} of {total} {have} transparent parts, which were laid over {self.background}"
        if not self.vanished:
            return f"{text} (data.background = {other} or #rrggbb, with --background, is another colour)"
        which = "which" if self.vanished == self.count else f"and {self.vanished:,} of them"
        return f"{text}, {which} leaves next to nothing to be seen; use data.background = {other} (--background)"


@dataclass(frozen=True)
class AllEqual(Note):
    """All images of the set are the same one."""

    place: str
    total: int
    is_black: bool = False

    def __str__(self) -> str:
        black = ", black throughout, as where values from 0 to 1 were saved as whole numbers" if self.is_black else ""
        remedy = "check how they were made, and give different ones"
        return f"all {self.total:,} images of {self.place} are the same{black}; {remedy}"


@dataclass(frozen=True)
class OneColour(Note):
    """Images that are of a single colour throughout."""

    place: str
    count: int
    total: int

    def __str__(self) -> str:
        are = "is" if self.count == 1 else "are"
        return f"{self.count:,} of {counted(self.total)} of {self.place} {are} of one colour throughout"


@dataclass(frozen=True)
class HalfRange(Note):
    """No pixel of the set is brighter than `value`, or (`is_upper`) none is darker."""

    place: str
    value: int
    is_upper: bool = False

    def __str__(self) -> str:
        than = "darker" if self.is_upper else "brighter"
        meaning = "values from 0 to 1 saved as whole numbers" if self.value <= 1 else "a range that was halved"
        return (
            f"no pixel of {self.place} is {than} than {self.value} of 255, which looks like {meaning}; "
            "save pixels from 0 to 255"
        )


@dataclass(frozen=True)
class Rescaled(Note):
    """The share of images that reach both 0 and 255."""

    place: str
    share: float

    def __str__(self) -> str:
        return (
            f"{self.share:.1%} of the images of {self.place} reach exactly 0 and 255, as if their brightness had been "
            "rescaled image by image (save_image with normalize); save them unscaled"
        )


def brightness(images: Images) -> tuple[Note, ...]:
    """Notes on brightness that was damaged before the images were saved: all equal, half the range, or rescaled."""
    place, total = images.name, len(images)
    facts = BrightnessFacts(*remembered(images, "brightness", lambda: _brightness(images.pixels)))
    if total > 1 and facts.all_equal:
        return (AllEqual(place, total, is_black=facts.brightest == 0),)
    notes: list[Note] = []
    if facts.brightest <= HALF:
        notes.append(HalfRange(place, facts.brightest))
    elif facts.darkest >= 255 - HALF:
        notes.append(HalfRange(place, facts.darkest, is_upper=True))
    if facts.rescaled:
        notes.append(Rescaled(place, facts.rescaled))
    if facts.blank:
        notes.append(OneColour(place, facts.blank, total))
    return tuple(notes)


class BrightnessFacts(NamedTuple):
    """What is known of the brightness of a set."""

    all_equal: bool
    darkest: int
    brightest: int
    blank: int
    """Images of one colour throughout."""
    rescaled: float
    """The share of images that reach both 0 and 255 where that looks like rescaling, else 0."""


def _brightness(pixels: Pixels) -> BrightnessFacts:
    first, equal, blank = pixels[0], True, 0
    low, high = (np.empty(len(pixels), np.uint8) for _ in range(2))
    for part, block in zip(blocks(len(pixels), first.size), parts(pixels), strict=True):
        channels = block.reshape(*block.shape[:2], -1)
        lows, highs = channels.min(2), channels.max(2)
        blank += int((lows == highs).all(1).sum())
        low[part], high[part] = lows.min(1), highs.max(1)
        equal = equal and bool((block == first).all())
    share = float(((low == 0) & (high == 255)).mean())
    looks_rescaled = len(pixels) >= FULL_RANGE_COUNT and share >= FULL_RANGE_SHARE and not _are_drawings(pixels)
    return BrightnessFacts(equal, int(low.min()), int(high.max()), blank, share if looks_rescaled else 0.0)


def _are_drawings(pixels: Pixels) -> bool:
    """Whether black and white are both common, as in drawings, masks and icons; rescaling makes few such pixels."""
    size = pixels[0].size
    black, white = (np.concatenate([(part == value).sum((1, 2, 3)) for part in parts(pixels)]) for value in (0, 255))
    most = max(DRAWN_LEAST, DRAWN_SHARE * size)
    return bool(np.median(np.minimum(black, white)) > most or (black + white == size).all())


def few(names: Sequence[str]) -> str:
    """The first of these names, and the number of further ones."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
