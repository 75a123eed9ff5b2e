"""Real images that an evaluation compares with: which data set, which part of it, and the images of the baselines."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from modiste.config import Data
from modiste.data.images import Images, content_digest
from modiste.data.sets import Part, has_test, is_known_set, native_data, open_data, resolved_name
from modiste.data.subsets import first_images
from modiste.errors import ModisteError, UsageError
from modiste.evaluation.options import Split
from modiste.evaluation.sources import Origin
from modiste.runs import Run

DEFAULT = Data().name  # the data set that images are measured against where nothing names theirs

BASELINE_PARTS: dict[Split, tuple[Part, ...]] = {
    "test": ("heldout", "fit"),
    "heldout": ("test", "fit"),
    "train": ("test",),
}
"""Where the images of the real baseline come from, in order: first those that the judge did not learn from."""

OpenPart = Callable[[Data, Part], Images]


def opener() -> OpenPart:
    """`open_data` that opens every part once: reading a folder of pictures takes long."""
    return functools.cache(lambda data, part: open_data(data, part=part))


def named(origin: Origin, data_name: str | None) -> Data:
    """The data set to compare with by its name, without reading its images."""
    used = origin.run.read_recipe().data if origin.run else Data(**{"name": DEFAULT, **(origin.data or {})})
    if data_name is not None:
        return used.model_copy(update={"name": resolved_name(data_name)})
    if origin.data and not is_known_set(used.name):
        raise UsageError(f"{origin.name} learned from {used.name}; say with --data where that data set is")
    return used


def dataset_of(origin: Origin, data_name: str | None) -> tuple[Data, str]:
    """The data set to compare with, uncut; and why copies of its training images cannot be recognised, if so."""
    own = named(origin, data_name)
    if origin.run is None:
        return native_data(own), ""
    if own == origin.run.read_recipe().data and is_known_set(own.name):  # under which it does not change
        return native_data(own), ""
    with suppress(ModisteError):  # of a set that cannot be opened, the caller says so
        if content_digest(open_data(own)) == origin.run.read_manifest().data.digest:
            return native_data(own), ""
    reason = f"{Path(own.name).name} does not hold the images that {origin.run.name} learned from"
    return native_data(own if data_name is None else Data(name=own.name)), reason


def part_of(dataset: Data, asked: Split | None) -> tuple[Split, list[str]]:
    """The part to compare with: the one that is asked for, or test images, or held-out ones with a warning."""
    if asked == "heldout" or has_test(dataset):
        return asked or "test", []
    if asked is None:
        return "heldout", [
            f"{Path(dataset.name).name} has no test images, so these are compared with the images that are held out "
            "for choosing checkpoints (--reference heldout)"
        ]
    open_data(dataset, part="train")  # raises the error of a data set that does not exist
    raise UsageError(  # for train, test images are the baseline
        f"{dataset.name} has no test images; use --reference heldout, or add the folders train and test"
    )


def training(
    run: Run | None, dataset: Data, reference: Split, no_memory: str, open_part: OpenPart
) -> tuple[Images | None, Images | None, str]:
    """The images the generator of a run learned from, and real ones that it did not see; or neither, and why.

    `no_memory` is the reason of `dataset_of`, if there is one.
    """
    used = run.read_recipe().data if run else Data(split="fit" if reference == "heldout" else "train")
    part = used.split
    if no_memory:
        return None, None, no_memory
    if reference == "train" or (reference == "heldout" and part == "train"):
        return None, None, f"the generator has seen the {reference} images, so none are left to compare with"
    train = open_part(dataset.model_copy(update={"count": used.count}), part)
    return train, open_part(dataset, reference), ""


def baseline_images(dataset: Data, reference: Split, count: int, open_part: OpenPart) -> tuple[Images, int]:
    """Real images that are not in the reference, at most `count`, and how many of the first are new to the judge."""
    parts = [part for part in BASELINE_PARTS[reference] if part != "test" or has_test(dataset)]
    sets = [open_part(dataset, part) for part in parts]
    name, chosen, left = " and ".join(images.name for images in sets), [], count
    for images in sets:
        if left > 0:
            chosen.append(first_images(images, left))
            left -= len(chosen[-1])
    known = [images.labels for images in chosen if images.labels is not None]
    labels = np.concatenate(known) if len(known) == len(chosen) else None
    pixels = np.concatenate([images.pixels for images in chosen])
    return Images(pixels, labels, sets[0].class_names, name), 0 if parts[0] == "fit" else len(chosen[0])
