"""Real images that something is compared with: which data set, which part of it, and what else of it has a say."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np

from modiste.config import Data
from modiste.data.images import Images, content_digest, first_images
from modiste.data.sets import Part, has_test, is_known_set, native_data, open_data, resolved_name
from modiste.errors import ModisteError, UsageError
from modiste.evaluation.sources import Origin, Source

UNTOLD = Data().name  # the data set that images are measured against where nothing names theirs

Split = Literal["test", "heldout", "train"]
FLOOR_PARTS: dict[Split, tuple[Part, ...]] = {
    "test": ("heldout", "fit"),
    "heldout": ("test", "fit"),
    "train": ("test",),
}
"""Where the real images of the floor come from, in order: first those that the judge did not learn from."""


def named(subject: Origin, data_name: str | None) -> Data:
    """The data set to judge against by its name, without a look at its images."""
    used = subject.run.read_recipe().data if subject.run else Data(**{"name": UNTOLD, **(subject.data or {})})
    if data_name is not None:
        return used.model_copy(update={"name": resolved_name(data_name)})
    if subject.data and not is_known_set(used.name):
        raise UsageError(f"{subject.name} learned from {used.name}; say with --data where that data set is")
    return used


def dataset_of(subject: Origin, data_name: str | None) -> tuple[Data, str]:
    """The data set to judge against, whole; and why the run it comes from cannot be asked for copies of it, if so."""
    own = named(subject, data_name)
    if subject.run is None:
        return native_data(own), ""
    if own == subject.run.read_recipe().data and is_known_set(own.name):  # under which it does not change
        return native_data(own), ""
    with suppress(ModisteError):  # of a set that cannot be opened, the caller says so
        if content_digest(open_data(own)) == subject.run.read_manifest().data.digest:
            return native_data(own), ""
    reason = f"{Path(own.name).name} does not hold the images that {subject.run.name} learned from"
    return native_data(own if data_name is None else Data(name=own.name)), reason


def part_of(dataset: Data, asked: Split | None) -> tuple[Split, list[str]]:
    """The part to compare with: what was asked for, or test images, or held-out ones with a sentence on that."""
    if asked == "heldout" or has_test(dataset):
        return asked or "test", []
    if asked is None:
        return "heldout", [
            f"{Path(dataset.name).name} has no test images, so these are compared with the images that are held out "
            "for choosing checkpoints (--reference heldout)"
        ]
    open_data(dataset, part="train")  # of a data set that there is none of, this says so
    raise UsageError(  # of train, they are the floor
        f"{dataset.name} has no test images; use --reference heldout, or add the folders train and test"
    )


def training(
    subject: Source, dataset: Data, reference: Split, strangers: str
) -> tuple[Images | None, Images | None, str]:
    """The images the generator learned from, and real ones that it did not see; or none of both, and why."""
    used = subject.run.read_recipe().data if subject.run else Data(split="fit" if reference == "heldout" else "train")
    part = used.split
    if strangers:
        return None, None, strangers
    if reference == "train" or (reference == "heldout" and part == "train"):
        return None, None, f"the generator has seen the {reference} images, so none are left to compare with"
    train = open_data(dataset.model_copy(update={"count": used.count}), part=part)
    return train, open_data(dataset, part=reference), ""


def baseline_images(dataset: Data, reference: Split, count: int) -> tuple[Images, int]:
    """Real images that are not in the reference, at most `count`, and how many of the first are new to the judge."""
    parts = [part for part in FLOOR_PARTS[reference] if part != "test" or has_test(dataset)]
    sets = [open_data(dataset, part=part) for part in parts]
    name, chosen, left = " and ".join(images.name for images in sets), [], count
    for images in sets:
        if left > 0:
            chosen.append(first_images(images, left))
            left -= len(chosen[-1])
    known = [images.labels for images in chosen if images.labels is not None]
    labels = np.concatenate(known) if len(known) == len(chosen) else None
    pixels = np.concatenate([images.pixels for images in chosen])
    return Images(pixels, labels, sets[0].class_names, name), 0 if parts[0] == "fit" else len(chosen[0])
