"""Data: what a set of images is, where it comes from, how it is split, and how training walks through it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from modiste import progress, schema
from modiste.config import Data
from modiste.data import notes, pictures, published, readers, splits, toy
from modiste.data.classes import NoReference, without_images
from modiste.data.groups import groups_of
from modiste.data.heldout import draw_heldout, fingerprint
from modiste.data.images import Images, Note, resized
from modiste.data.notes import AllEqual, Fitted, Transparent
from modiste.data.published import PUBLISHED
from modiste.errors import UsageError

Part = Literal["train", "fit", "heldout", "test"]

CLASS_NAMES = toy.CLASS_NAMES  # Fashion-MNIST's, in the order of its labels
TOY_COUNTS = {"train": 10_000, "test": 2_000}
TOY_SEEDS = {"train": 0, "test": 1}


def open_data(data: Data, *, part: Part | None = None, show_progress: bool = True) -> Images:
    """The images of one part of a data set, resized if asked; the name says which part and how.

    train: all training images; heldout: those kept for choosing checkpoints, see `heldout_indices`; fit: the others;
    test: the published test split. data.count limits train and fit only, so that the reference of a score never shrinks
    with the training set.
    """
    part = part or data.split
    split: readers.Split = "test" if part == "test" else "train"
    limit = data.count if part in ("train", "fit") else None
    with progress.stage(f"reading {data.name}"):
        images = _open_split(data, split, limit if part == "train" else None, show_progress)
    name = f"{images.name} {part}"
    if part in ("fit", "heldout"):
        held = heldout_indices(images, data.heldout)
        chosen = held if part == "heldout" else np.setdiff1d(np.arange(len(images)), held)
        if not len(chosen):
            if len(images) > 1:
                check_varied(images)
            raise UsageError(f"{images.name} has {_no_parts(len(images), part)}; give more images")
        way = _way(images, chosen, data, part == "heldout")
        images = images.select(chosen)
        if part == "heldout" and (missing := without_images(images.labels, images.class_names)):
            images = replace(images, notes=(*images.notes, NoReference(name, "held-out", missing)))
        name += way
    if limit is not None:
        if limit > len(images):
            raise UsageError(f"data.count = {limit} but {name} has only {len(images):,} images; lower it")
        images = images.select(slice(limit))
        name += f" first-{limit}"
    height, width = images.pixels.shape[2:]
    if data.resize is not None:
        if (width, height) != (data.resize, data.resize):
            pixels = resized(images.pixels, data.resize, data.resize_filter, data.fit, data.background)
            images = replace(images, pixels=pixels, prints=images.prints or _prints(images))
        if width != height:
            oblong = pictures.fitted(data.fit, [(width, height)] * len(images), len(images))
            images = replace(images, notes=(*images.notes, oblong))
        name += f" {data.resize}px-{data.resize_filter}"
        name += "".join(f"-{note.fit}" for note in images.notes if isinstance(note, Fitted))
    elif width != height:
        raise UsageError(f"{name}: images are {width} x {height} pixels, not square; {pictures.SQUARE}")
    return replace(images, name=name)


def all_notes(images: Images) -> tuple[Note, ...]:
    """What was noticed while the set was read, and what its brightness says of it."""
    return (*images.notes, *notes.brightness(images))


def remarks(images: Images) -> list[str]:
    """What was noticed of the set in sentences for the user."""
    return list(map(str, all_notes(images)))


def check_varied(images: Images) -> None:
    """UsageError where all images are the same one, from which nothing can be learned."""
    equal = next((note for note in notes.brightness(images) if isinstance(note, AllEqual)), None)
    if equal:
        raise UsageError(
            "; ".join(map(str, (equal, *(note for note in images.notes if isinstance(note, Transparent)))))
        )


def native_data(data: Data) -> Data:
    """The same data set whole and as it is, which is what generated images are judged against.

    Without a limited count, and without resizing: only pictures in a folder or in Parquet files, which may differ in
    size, and images that are not square, or of one size in training and another in test, keep it.
    """
    path = readers.expanded(data.name)
    keeps_resize = path.suffix.lower() == ".parquet" or (
        path.is_dir() and not readers.idx_file(path, "train", "images")
    )
    if data.resize and not keeps_resize and path.exists():  # an .npz file or IDX files
        both: list[readers.Split] = ["train", "test"] if readers.has_test_split(path) else ["train"]
        sizes = {readers.read_path(path, split).pixels.shape[2:] for split in both}
        keeps_resize = len(sizes) > 1 or any(height != width for height, width in sizes)
    own = {} if keeps_resize else {"resize": None, "fit": Data().fit}
    return data.model_copy(update={"split": "train", "count": None, **own})


def is_known_set(name: str) -> bool:
    """Whether this is a known set's name, and no path: it means the same images everywhere."""
    return _is_toy(name) or name in PUBLISHED


def resolved_name(name: str) -> str:
    """The name of a known set as it is, a path in full, so that a recipe means the same in every folder."""
    path = readers.expanded(name)
    return name if is_known_set(name) or not path.exists() else str(path.resolve())


def has_test(data: Data) -> bool:
    """Whether the data set brings its own test images."""
    path = readers.expanded(data.name)
    return is_known_set(data.name) or (path.exists() and readers.has_test_split(path))


def heldout_indices(images: Images, way: Literal["drawn", "last"] = "drawn") -> NDArray[np.int64]:
    """Sorted indices held out: the last 500 of each class of a set like MNIST, else a tenth of each class.

    That is drawn by content, equal images and groups staying together (`drawn_tenth`), or the last in order.
    """
    labels = np.zeros(len(images), np.int64) if images.labels is None else images.labels
    if way == "drawn" and not is_published(images):
        return draw_heldout(images.prints or _prints(images), labels, images.groups)
    held = []
    for label in range(max(1, len(images.class_names))):
        members = np.flatnonzero(labels == label)
        share = 500 if is_published(images) else -(-len(members) // 10)
        held.append(members[len(members) - share :])
    return np.sort(np.concatenate(held))


def _no_parts(count: int, part: Part) -> str:
    """How many images there are, and what becomes of them where all or none would be held out."""
    one = "1 image" if count == 1 else f"{count:,} images"
    if part == "heldout":
        return f"{one}, of which none can be held out to choose checkpoints and compare with"
    return f"{one}, which would be held out, so that none would be left to learn from"


def _prints(images: Images) -> tuple[bytes, ...]:
    return tuple(map(fingerprint, images.pixels))


def _way(images: Images, chosen: NDArray[np.int64], data: Data, heldout: bool) -> str:
    """How the images of a part were chosen, in a word for its name."""
    if is_published(images):
        return ""
    if data.heldout == "last":
        return " last-10%" if heldout else " first-90%"
    groups = images.groups
    some = f" ({len({groups[k] for k in chosen}):,} of {len(set(groups)):,} groups)" if groups else ""
    return (" drawn-10%" if heldout else " drawn-90%") + some


def is_published(images: Images) -> bool:
    """Whether these are training images like MNIST's, whose last 500 of each class are held out by custom."""
    if len(images) != 60_000 or len(images.class_names) != 10 or images.labels is None:
        return False
    return int(np.bincount(images.labels, minlength=10).min()) >= 5_000


def _open_split(data: Data, split: readers.Split, limit: int | None, show_progress: bool) -> Images:
    if data.group_by is not None and is_known_set(data.name):
        raise UsageError(f"data.group_by = {data.group_by!r}: the images of {data.name} have no groups; leave it out")
    if _is_toy(data.name):
        return _toy(data.name, split, limit)
    if data.name in PUBLISHED:
        return published.open_published(PUBLISHED[data.name], split, show_progress)
    path = readers.expanded(data.name)
    if not path.exists() and path.suffix.lower() not in (".npz", ".parquet") and "/" not in data.name:
        raise UsageError(
            f"no data set is named {data.name!r}{schema.nearest(data.name, (*PUBLISHED, 'toy'))}; "
            f"use {', '.join(PUBLISHED)}, toy, a folder, a .npz or .parquet file"
        )
    images = published.recognised(splits.read(path, split, data))
    if data.group_by is None or split == "test":
        return images
    if is_published(images):
        raise UsageError(
            f"data.group_by = {data.group_by!r}: {images.name} has a published way to hold images out; leave it out"
        )
    return replace(images, groups=groups_of(images, path, data.group_by))


def _is_toy(name: str) -> bool:
    return re.fullmatch(r"toy(-[0-9]+)?", name) is not None


def _toy(name: str, split: readers.Split, limit: int | None) -> Images:
    """The drawn set: toy is 28 pixels wide, toy-32 is drawn at 32."""
    side = name.removeprefix("toy").removeprefix("-") or "28"
    if not 8 <= int(side) <= 512:
        raise UsageError(f"{name!r} is no toy set; write toy, or toy-32 for a side of 32 pixels (8 to 512)")
    images = toy.draw(limit or TOY_COUNTS[split], int(side), TOY_SEEDS[split])
    return replace(images, name=name, mixed=True)
