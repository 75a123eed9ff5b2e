"""Classes of a source in the numbering of the reference, and how often they come."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from modiste.data.classes import class_counts, is_balanced, is_skewed, normalised_name
from modiste.data.images import Images

IN_EQUAL_SHARES, AS_IN_REFERENCE = "in equal shares", "as often as in the reference"
"""How often images of each class come."""


def match_labels(images: Images, class_names: tuple[str, ...]) -> tuple[Images, tuple[str, ...]]:
    """The images with their labels in the numbering of these classes, and a warning where the match is doubtful.

    Classes match by equal names, else by names that differ only in case, spaces and punctuation, else by number if they
    are called 0 to K-1.
    """
    if images.labels is None or images.class_names == class_names:
        return images, ()
    used = sorted(set(images.labels.tolist()))
    names = {k: images.class_names[k] for k in used}
    by_name, by_number = _numbers(names, class_names)
    numbers, warnings = by_name or by_number, tuple[str, ...]()
    if by_name and by_number not in ({}, by_name):
        warnings = (f"the labels of {images.name} are taken for names of classes and not for their numbers from 0: its "
                    f"{names[used[0]]!r} for the {class_names[by_name[used[0]]]!r} of the reference",)  # fmt: skip
    if not numbers:
        known = set(map(_plain, class_names))
        unknown = next((name for name in names.values() if _plain(name) not in known), names[used[0]])
        there = f"the reference's are {', '.join(class_names)}" if class_names else "the reference has none"
        text = f"the labels of {images.name} are left out: its class {unknown!r} fits none, {there}"
        return replace(images, labels=None, class_names=()), (text,)
    table = np.zeros(len(images.class_names), np.int64)
    table[used] = [numbers[k] for k in used]
    return replace(images, labels=table[images.labels], class_names=class_names), warnings


def _numbers(names: Mapping[int, str], class_names: Sequence[str]) -> tuple[dict[int, int], dict[int, int]]:
    """The numbers of these classes in `class_names`, by name and by number; empty where not every one has its own."""
    by_name = {}
    for k, name in names.items():
        for spelled in (normalised_name, _plain):
            if fitting := [number for number, one in enumerate(class_names) if spelled(one) == spelled(name)]:
                break
        if len(fitting) == 1:
            by_name[k] = fitting[0]
    unique = len(set(by_name.values())) == len(names)
    decimal = all(name.isdecimal() and int(name) < len(class_names) for name in names.values())
    return by_name if unique else {}, {k: int(name) for k, name in names.items()} if decimal else {}


def counts_of(class_names: tuple[str, ...], like: Images | None) -> tuple[int, ...] | None:
    """How often each of a generator's classes comes among these images; None where not all of them match."""
    if like is None or like.labels is None or not class_names:
        return None
    there = class_counts(like.labels, len(like.class_names))
    if class_names == like.class_names:
        return there
    by_name, by_number = _numbers(dict(enumerate(class_names)), like.class_names)
    numbers = by_name or by_number
    if not numbers or len(set(numbers.values())) < len(numbers):
        return None
    counts = tuple(there[numbers[k]] for k in range(len(class_names)))
    return counts if any(counts) else None


def shares(labels: NDArray[np.int64] | None, class_names: tuple[str, ...], like: Images) -> str:
    """How often each class comes, in words: equally, as often as in `like`, or else the shares themselves."""
    if like.labels is None:
        return IN_EQUAL_SHARES
    wanted = class_counts(like.labels, len(like.class_names))
    if labels is not None and is_skewed(labels, wanted):
        counts = class_counts(labels, len(class_names))
        listed = [f"{name} {count / len(labels):.1%}" for name, count in zip(class_names, counts, strict=True) if count]
        return ", ".join(listed)
    return IN_EQUAL_SHARES if is_balanced(wanted) else AS_IN_REFERENCE


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", normalised_name(name).casefold()) or name
