"""What to expect of a training on so many images, and which recipe suits them: facts, worded last."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Literal

from modiste import config
from modiste.config import Data
from modiste.data.images import Images
from modiste.data.subsets import heldout_indices
from modiste.wording import counted

Expectation = Literal["copies", "rough", "recognisable", "good"]

SIZES: tuple[tuple[int, int, Expectation], ...] = (
    (0, 10, "copies"),
    (300, 20, "rough"),
    (2_000, 20, "recognisable"),
    (20_000, 30, "good"),
)
"""From so many images on: minutes of training on two processor cores, and what they give (docs/results.md)."""
EXPECTATIONS: dict[Expectation, str] = {
    "copies": "little variety and near-copies; give more pictures, or start from a trained run (--from)",
    "rough": "things that one recognises where the pictures are alike (as garments), with some near-copies, and "
    "colours without shapes where they differ much",
    "recognisable": "things that one recognises where the pictures are alike (as garments), and colours, outlines and "
    "textures where they differ much (as sprites or photographs)",
    "good": "varied things where the pictures are alike (as garments); more minutes will still help",
}
SMALL, LARGEST = 32, 64
"""Sides in pixels: of the recipe photos, and up to which the recipes on a processor are meant."""


@dataclass(frozen=True)
class Advice:
    """The recipe, minutes and resizing that suit a set of images, and what they give."""

    images: int
    recipe: str
    minutes: int
    expect: Expectation
    resize: int | None
    """The side in pixels to resize to; None where the images fit, or the recipe resizes them."""
    side: int
    """The smaller side of the images in pixels."""
    name: str
    """Of the data set, as on the command line."""
    options: tuple[str, ...] = ()
    """Further words of the command: how pictures were made square, over which background, and what suits few."""
    obstacle: str = ""
    """What stops every training on these images, and what to do about it; empty where nothing does."""

    def __str__(self) -> str:
        if self.obstacle:
            return f"no training can learn from these: {self.obstacle}"
        resize = [] if self.resize is None else ["--resize", str(self.resize)]
        words = [
            "modiste",
            "train",
            self.recipe,
            "--data",
            self.name,
            *resize,
            *self.options,
            "--budget",
            f"{self.minutes}min",
        ]
        lines = [
            f"you have {counted(self.images, 'picture')}: expect {EXPECTATIONS[self.expect]}",
            f"use: {shlex.join(words)}",
        ]
        if self.recipe == "photos" and self.side >= LARGEST and self.resize is None:
            lines.append(f"(it resizes to {SMALL} pixels; --resize {LARGEST} takes four times as long)")
        if self.recipe == "swift" and self.resize == SMALL != self.side:
            lines.append(
                f"(swift takes square images whose side 4 divides, up to {LARGEST}: these become {SMALL} x {SMALL})"
            )
        return "\n".join(lines)


def advise(images: Images, settings: Data) -> Advice:
    """The advice for the training images of a data set that was read with these settings."""
    count, channels, height, width = images.pixels.shape
    minutes, expect = next(row[1:] for row in reversed(SIZES) if count >= row[0])
    pairs = {"--fit": settings.fit, "--background": settings.background, "--group-by": settings.group_by}
    plain = {"--fit": Data().fit, "--background": Data().background, "--group-by": None}
    options = [word for key, value in pairs.items() if value and value != plain[key] for word in (key, value)]
    if channels > 1:
        recipe, resize = "photos", None if settings.resize == SMALL else settings.resize
    else:
        fits = height == width and height % 4 == 0 and height <= LARGEST
        recipe, resize = "swift", settings.resize if fits else SMALL
    options += _for_few(images, settings, recipe)
    return Advice(count, recipe, minutes, expect, resize, min(height, width), settings.name, tuple(options))


def _for_few(images: Images, settings: Data, recipe: str) -> list[str]:
    """Words for a batch that the images fill without the held-out ones, where they do not fill the recipe's, and for
    none to be judged by where a single one is held out."""
    asked = config.load(recipe).train.batch_size
    if len(images) > 2 * asked:
        return []
    held = len(heldout_indices(images, settings.heldout))
    left = len(images) - held
    batch = ["--set", f"train.batch_size={2 ** (left.bit_length() - 1)}"] if 1 < left < asked else []
    return [*batch, *(["--set", "evaluate.every_images=0"] if held == 1 else [])]
