"""Which images of a set are held out: a tenth of each class, drawn by what the images show.

An image's place in the draw is a hash of its pixels, so that neither the order of the files nor their names nor the
folder's decide: names are often codes, dates or frames, and the last tenth by name is then another population. Equal
images have equal hashes and stay on one side, and so do images of one group.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARE = 10  # one of so many images is held out


def fingerprint(image: NDArray[np.uint8]) -> bytes:
    """16 bytes that stand for one image uint8 [H, W] or [C, H, W]; colours that are all equal count as grey."""
    if image.ndim == 3 and (len(image) == 1 or (image == image[:1]).all()):
        image = image[0]
    sha = hashlib.blake2b(str(image.shape).encode(), digest_size=16)
    sha.update(np.ascontiguousarray(image).data)
    return sha.digest()


def draw_heldout(
    prints: Sequence[bytes], labels: NDArray[Any], groups: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """Sorted indices of the images to hold out, by their fingerprints, classes [N] and groups.

    Of each class a tenth, rounded, and at least one image where the class has two that may be parted. Images of one
    group, and equal ones, form a block; blocks are taken in the order of their hashes where that brings the counts of
    the classes nearer to a tenth and leaves every class an image to learn from. A class whose tenth is smaller than any
    of its blocks gives the one that fits best.
    """
    blocks = _blocks(prints, groups)
    holds = [Counter(labels[block].tolist()) for block in blocks]
    sizes = Counter(labels.tolist())
    wanted = {label: min(max(1, (size + SHARE // 2) // SHARE), size - 1) for label, size in sizes.items()}
    held: Counter[int] = Counter()
    chosen: set[int] = set()

    def change(number: int) -> int:
        """By how much taking this block changes the distance of all classes from their tenth."""
        block = holds[number].items()
        return sum(abs(held[k] + more - wanted[k]) - abs(held[k] - wanted[k]) for k, more in block)

    def may(number: int) -> bool:
        return number not in chosen and all(held[k] + more < sizes[k] for k, more in holds[number].items())

    def take(number: int) -> None:
        chosen.add(number)
        held.update(holds[number])

    for number in range(len(blocks)):
        if change(number) < 0 and may(number):
            take(number)
    while True:
        without = {label for label, count in wanted.items() if count and not held[label]}
        able = [number for number in range(len(blocks)) if without & holds[number].keys() and may(number)]
        if not able:
            break
        take(min(able, key=change))
    return np.sort(np.array([index for number in chosen for index in blocks[number]], np.int64))


def _blocks(prints: Sequence[bytes], groups: Sequence[str] | None) -> list[list[int]]:
    """Indices of images that must stay together, in the order of a hash of what each block holds."""
    above: dict[Hashable, Hashable] = {}

    def top(key: Hashable) -> Hashable:
        while (upper := above.setdefault(key, key)) != key:
            above[key] = key = above[upper]
        return key

    if groups is not None:
        for print_, group in zip(prints, groups, strict=True):
            above[top(print_)] = top(group)
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, print_ in enumerate(prints):
        members[top(print_)].append(index)

    def place(block: list[int]) -> bytes:
        return hashlib.blake2b(b"".join(sorted({prints[index] for index in block})), digest_size=16).digest()

    return sorted(members.values(), key=place)
