"""Data sets by name, folder or file: their parts, resized as a recipe asks, with notes on what to know of them."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from modiste import progress, schema
from modiste.config import Data
from modiste.data import idx, image_files, notes, npz, published, readers, stored, toy
from modiste.data.classes import NoReference, class_number, without_images
from modiste.data.images import Images, Note, Split
from modiste.data.notes import AllEqual, Fitted, Transparent
from modiste.data.published import PUBLISHED
from modiste.data.subsets import fingerprints_of, groups_of, heldout_indices, is_published
from modiste.errors import UsageError
from modiste.wording import counted

Part = Literal["train", "fit", "heldout", "test"]
PARTS: tuple[Part, ...] = get_args(Part)

CLASS_NAMES = toy.CLASS_NAMES  # Fashion-MNIST's, in the order of its labels
TOY_COUNTS = {"train": 10_000, "test": 2_000}
TOY_SEEDS = {"train": 0, "test": 1}


def open_data(data: Data, *, part: Part | None = None) -> Images:
    """The images of one part of a data set, resized if asked; their name says which part and how.

    train: all training images; heldout: those kept for choosing checkpoints, see `heldout_indices`; fit: the others;
    test: the set's test split. data.count limits train and fit only, so that the reference of a score never shrinks
    with the training set.
    """
    part = part or data.split
    if data.name in PUBLISHED:
        return _open_published(data, part)
    return _open(data, part)


@functools.lru_cache(maxsize=8)
def _open_published(data: Data, part: Part) -> Images:
    """A part of a set that does not change while this process runs, read once."""
    return _open(data, part)


def _open(data: Data, part: Part) -> Images:
    split: Split = "test" if part == "test" else "train"
    limit = data.count if part in ("train", "fit") else None
    with progress.stage(f"reading {data.name}"):
        needed = limit if part == "train" and not data.classes else None
        images = _open_split(data, split, needed)
    name, suffix = f"{images.name} {part}", ""
    if part in ("fit", "heldout"):
        images, suffix = _split_heldout(images, data, part)
    if data.classes:
        images, chosen = _of_classes(images, data, part)
        suffix += chosen
    if part == "heldout" and (missing := without_images(images.labels, images.class_names)):
        images = replace(images, notes=(*images.notes, NoReference(name, "held-out", missing)))
    name += suffix
    if limit is not None:
        if limit > len(images):
            raise UsageError(f"data.count = {limit} but {name} has only {counted(len(images))}; lower it")
        images = images.select(slice(limit))
        name += f" first-{limit}"
    height, width = images.pixels.shape[2:]
    if data.resize is not None:
        if (width, height) != (data.resize, data.resize):
            prints = fingerprints_of(images)
            images = stored.resize(images, data.resize, data.resize_filter, data.fit, data.background)
            images = replace(images, fingerprints=prints)
        if width != height:
            note = image_files.fit_note(data.fit, [(width, height)] * len(images), len(images))
            images = replace(images, notes=(*images.notes, note))
        name += f" {data.resize}px-{data.resize_filter}"
        name += "".join(f"-{note.fit}" for note in images.notes if isinstance(note, Fitted))
    elif width != height:
        raise UsageError(f"{name}: images are {width} x {height} pixels, not square; {image_files.RESIZE_REMEDY}")
    return replace(images, name=name)


def set_name(images_name: str) -> str:
    """The name of the set in the name that `open_data` gives a part of it, as manifests and records keep it."""
    return re.split(rf" (?:{'|'.join(PARTS)})(?= |$)", images_name, maxsplit=1)[0]


def list_notes(images: Images) -> tuple[Note, ...]:
    """The notes on how the set was read, and those on its brightness."""
    return (*images.notes, *notes.brightness(images))


def list_warnings(images: Images) -> list[str]:
    """The notes on a set as sentences for the user."""
    return list(map(str, list_notes(images)))


def check_varied(images: Images) -> None:
    """UsageError where all images are the same one, or there is only one, from which nothing can be learned."""
    if len(images) == 1:
        raise UsageError(
            f"{images.name} has 1 image, too few to learn from; give 3 different ones or more, of which one is held "
            "out (a smaller data.count and data.classes may have left one)"
        )
    equal = next((note for note in notes.brightness(images) if isinstance(note, AllEqual)), None)
    if equal:
        causes = [note for note in images.notes if isinstance(note, Transparent)]
        raise UsageError("; ".join(map(str, (equal, *causes))))


def native_data(data: Data) -> Data:
    """The settings of the same data set uncut and unscaled, with which generated images are compared.

    They keep the choice of classes, limit no count and resize only what cannot be compared otherwise: pictures in a
    folder or in Parquet files, which may differ in size, and images that are not square or of another size in training
    than in test.
    """
    keeps_resize = not is_known_set(data.name) and _differs_in_size(data)
    resets = {} if keeps_resize else {"resize": None, "fit": Data().fit}
    return data.model_copy(update={"split": "train", "count": None, **resets})


def _differs_in_size(data: Data) -> bool:
    """Whether the images of a folder or file may differ in size, or are not square."""
    path = readers.expanded(data.name)
    is_array = npz.is_arrays(path) or (path.is_dir() and idx.idx_file(path, "train", "images") is not None)
    if path.suffix.lower() == ".parquet" or (path.is_dir() and not is_array):
        return True
    if not data.resize or not path.exists():
        return False
    splits: list[Split] = ["train", "test"] if readers.has_test_split(path) else ["train"]  # of .npz, .npy or IDX files
    sizes = {readers.read_path(path, split).pixels.shape[2:] for split in splits}
    return len(sizes) > 1 or any(height != width for height, width in sizes)


def is_known_set(name: str) -> bool:
    """Whether this is the name of a known set, which means the same images everywhere, and not a path."""
    return _is_toy(name) or name in PUBLISHED


def resolved_name(name: str) -> str:
    """A known set's name as it is, a path in full, so that a recipe means the same in every folder."""
    path = readers.expanded(name)
    return name if not name or is_known_set(name) or not path.exists() else str(path.resolve())


def has_test(data: Data) -> bool:
    """Whether the data set has test images of its own."""
    path = readers.expanded(data.name)
    return is_known_set(data.name) or (path.exists() and readers.has_test_split(path))


def _split_heldout(images: Images, data: Data, part: Part) -> tuple[Images, str]:
    """The held-out images, or the others, and how they were chosen, as a suffix of their name."""
    held = heldout_indices(images, data.heldout)
    chosen = held if part == "heldout" else np.setdiff1d(np.arange(len(images)), held)
    return _part_of(images, data, part, chosen), _choice_suffix(images, chosen, data, part)


def _part_of(images: Images, data: Data, part: Part, chosen: NDArray[np.int64]) -> Images:
    """The chosen images of that part; UsageError where there are none."""
    if not len(chosen):
        raise _unparted(images, data, part)
    return stored.select(images, chosen, f"{part} {data.heldout} {data.group_by}")


def _unparted(images: Images, data: Data, part: Part) -> UsageError:
    """The error for images of which none can be in that part, with what would let some be."""
    if len(images) > 1:
        check_varied(images)
    what, each = counted(len(images)), " of each class" if len(images.class_names) > 1 else ""
    if (groups := images.groups) is not None:
        what += f" in {counted(len(set(groups)), 'group')} ({data.group_by!r})"
        remedy = f"give more groups{each} that have no image in common, or leave data.group_by out"
    else:
        least = f"two different ones{each}" if each else "3 different ones (15, so that two are held out)"
        remedy = f"give more images, at least {least}"
    problem = (
        "of which none can be held out to choose checkpoints and compare with"
        if part == "heldout"
        else "which would be held out, so that none would be left to learn from"
    )
    return UsageError(f"{images.name} has {what}, {problem}; {remedy}")


def obstacle(images: Images, data: Data, held: NDArray[np.int64]) -> str:
    """Why no training can learn from these images without the held-out ones, and what to do; empty where one can."""
    try:
        check_varied(images)
        if not len(held):
            raise _unparted(images, data, "heldout")
        left = np.setdiff1d(np.arange(len(images)), held)
        if (fingerprints_of(images)[left] == fingerprints_of(images)[left[:1]]).all():  # few, or the same
            suffix = _choice_suffix(images, left, data, "fit")
            check_varied(replace(images.select(left), name=f"{set_name(images.name)} fit{suffix}"))
    except UsageError as error:
        return str(error)
    return ""


def _of_classes(images: Images, data: Data, part: Part) -> tuple[Images, str]:
    """The images of data.classes, numbered from 0 in the set's order, and which these are, as a suffix of the name."""
    wanted = f"data.classes = {list(data.classes)}"
    if images.labels is None:
        raise UsageError(f"{wanted}: the {part} images of {images.name} have no labels to choose by; leave it out")
    names = images.class_names
    numbers = [class_number(one, names, images.name) for one in data.classes]
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"{wanted} names a class of {images.name} twice; name each once")
    numbers.sort()
    chosen = np.flatnonzero(np.isin(images.labels, numbers))
    if not len(chosen):
        raise UsageError(f"{wanted}: no {part} image of {images.name} is of these classes; name others, or give more")
    labels = np.searchsorted(numbers, images.labels[chosen]).astype(np.int64)
    found = stored.select(images, chosen, f"{part} {data.heldout} {data.group_by} {numbers}")
    others = [name for number, name in enumerate(names) if number not in numbers]
    kept = tuple(names[number] for number in numbers)
    few = f" of {', '.join(kept)}" if len(kept) <= len(others) else f" without {', '.join(others)}" if others else ""
    return replace(found, labels=labels, class_names=kept), few


def _choice_suffix(images: Images, chosen: NDArray[np.int64], data: Data, part: Part) -> str:
    if is_published(images):
        return ""
    share = "10%" if part == "heldout" else "90%"
    if data.heldout == "last":
        return f" last-{share}" if part == "heldout" else f" first-{share}"
    if not (groups := images.groups):
        return f" drawn-{share}"
    return f" drawn-{share} ({len({groups[k] for k in chosen}):,} of {len(set(groups)):,} groups)"


def _open_split(data: Data, split: Split, limit: int | None) -> Images:
    if data.group_by is not None and is_known_set(data.name):
        raise UsageError(f"data.group_by = {data.group_by!r}: the images of {data.name} have no groups; leave it out")
    if _is_toy(data.name):
        return _toy(data.name, split, limit)
    if data.name in PUBLISHED:
        return published.open_published(PUBLISHED[data.name], split)
    path = readers.expanded(data.name)
    is_path = path.exists() or path.suffix.lower() in (".npz", ".npy", ".parquet") or "/" in data.name
    if not data.name or not is_path:  # an empty one would be the folder that one is in
        raise UsageError(
            f"no data set is named {data.name!r}{schema.nearest(data.name, (*PUBLISHED, 'toy'))}; "
            f"use {', '.join(PUBLISHED)}, toy, a folder, a .npz, .npy or .parquet file"
        )
    images = published.recognise(readers.read_split(path, split, data))
    if data.group_by is None or split == "test":
        return images
    if is_published(images):
        raise UsageError(
            f"data.group_by = {data.group_by!r}: {images.name} has held-out images of its own by custom; leave it out"
        )
    return replace(images, groups=groups_of(images, path, data.group_by))


def _is_toy(name: str) -> bool:
    return re.fullmatch(r"toy(-[0-9]+)?", name) is not None


def _toy(name: str, split: Split, limit: int | None) -> Images:
    """The toy set: toy is 28 pixels wide, toy-32 is 32."""
    side = name.removeprefix("toy").removeprefix("-") or "28"
    if not 8 <= int(side) <= 512:
        raise UsageError(f"{name!r} is no toy set; write toy, or toy-32 for a side of 32 pixels (8 to 512)")
    images = toy.draw(min(limit or TOY_COUNTS[split], TOY_COUNTS[split]), int(side), TOY_SEEDS[split])
    return replace(images, name=name, is_shuffled=True)
