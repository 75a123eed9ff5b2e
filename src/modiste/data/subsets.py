"""Which images of a set are used: the order of training, images held out and their groups, and draws."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modiste import cache
from modiste.data import folders, idx, npz, parquet
from modiste.data.classes import class_counts, is_skewed
from modiste.data.images import Images, Labels, fingerprint, parts
from modiste.errors import UsageError
from modiste.wording import counted

Fingerprints = NDArray[np.uint8]  # [N, 16]
DATA_ORDER = 0x0D47A  # keeps this use of (seed, epoch) apart from all other random streams
HELDOUT_SHARE = 10  # one of so many images is held out


def batch_indices(dataset_size: int, seed: int, images_seen: int, count: int) -> NDArray[np.int64]:
    """Indices [count] at positions images_seen, images_seen + 1, ... of an endless shuffled order.

    Position p belongs to epoch p // dataset_size and is entry p % dataset_size of that epoch's permutation.
    The order depends on (seed, position) alone: batch size, process count and resuming cannot change it.
    """
    parts: list[NDArray[np.int64]] = []
    position, end = images_seen, images_seen + count
    while position < end:
        epoch, offset = divmod(position, dataset_size)
        part = _permutation(dataset_size, seed, epoch)[offset : offset + end - position]
        parts.append(part)
        position += len(part)
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


@functools.lru_cache(maxsize=2)
def _permutation(dataset_size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch, DATA_ORDER])))
    order = generator.permutation(dataset_size).astype(np.int64)
    order.flags.writeable = False
    return order


def drawn_subset(total: int, labels: Labels | None, count: int, seed: int) -> NDArray[np.int64]:
    """Sorted indices of `count` images drawn at random, in proportion to the classes; all if there are no more.

    Drawn, because every regular pick goes wrong on some order: the first ones where a file is sorted by class, every
    tenth one where ten classes take turns.
    """
    if total <= count:
        return np.arange(total)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(total)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    return np.sort(order[np.arange(count) * total // count])


def first_images(images: Images, count: int) -> Images:
    """The first `count` images of a shuffled set, the same ones as others measure with; of other sets so many drawn.

    They are also drawn where the first ones have a class more or less often than a draw would, by six deviations.
    """
    total, labels = len(images), images.labels
    if total <= count:
        return images
    counts = () if labels is None else class_counts(labels, len(images.class_names))
    if not images.is_shuffled or (labels is not None and is_skewed(labels[:count], counts, total)):
        return images.select(drawn_subset(total, labels, count, seed=0))
    return images.select(slice(count))


def heldout_indices(images: Images, method: Literal["drawn", "last"] = "drawn") -> NDArray[np.int64]:
    """Sorted indices of held-out images: the last 500 of each class of a set like MNIST, else a tenth of each class.

    That tenth is drawn by content (see `draw_heldout`), or the last one in the order of the images.
    """
    labels = np.zeros(len(images), np.int64) if images.labels is None else images.labels
    if method == "drawn" and not is_published(images):

        def draw() -> bytes:
            return draw_heldout(fingerprints_of(images), labels, images.groups).tobytes()

        key = json.dumps([images.source, hashlib.sha256(labels.tobytes()).hexdigest(), images.groups])
        return np.frombuffer(draw() if images.source is None else cache.cached_bytes("heldout", key, draw), np.int64)
    held = []
    for label in range(max(1, len(images.class_names))):
        members = np.flatnonzero(labels == label)
        share = 500 if is_published(images) else -(-len(members) // 10)
        held.append(members[len(members) - share :])
    return np.sort(np.concatenate(held))


def fingerprints_of(images: Images) -> Fingerprints:
    """Fingerprints [N, 16] of the images, as they were before any scaling."""
    if images.fingerprints is not None:
        return images.fingerprints

    def compute() -> bytes:
        return b"".join(fingerprint(image) for part in parts(images.pixels) for image in part)

    key = json.dumps(images.source)
    content = compute() if images.source is None else cache.cached_bytes("fingerprints", key, compute)
    return np.frombuffer(content, np.uint8).reshape(len(images), -1)


def is_published(images: Images) -> bool:
    """Whether these are training images like MNIST's, whose last 500 of each class are held out by custom."""
    if len(images) != 60_000 or len(images.class_names) != 10 or images.labels is None:
        return False
    return int(np.bincount(images.labels, minlength=10).min()) >= 5_000


def draw_heldout(
    fingerprints: Fingerprints, labels: NDArray[Any], groups: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """Sorted indices of the images to hold out, by their fingerprints [N, 16], classes and groups, both [N].

    The draw depends on the pixels alone, neither on the order of the files nor on their names: names are often codes,
    dates or frames, and the last tenth by name is then another population. Of each class a tenth is held out, rounded,
    and at least one image where the class has two that may be parted. Images of one group, and equal ones, form a
    block; blocks are taken in the order of their hashes where that brings the counts of the classes nearer to a tenth
    and leaves every class an image to learn from. A class whose tenth is smaller than any of its blocks gives the one
    that fits best.
    """
    members, ends = _blocks(fingerprints, groups)
    own_labels, bounds = labels[members].tolist(), [0, *ends.tolist()]
    sizes = Counter(own_labels)
    targets = {
        label: min(max(1, (size + HELDOUT_SHARE // 2) // HELDOUT_SHARE), size - 1) for label, size in sizes.items()
    }
    held: Counter[int] = Counter()
    chosen: set[int] = set()

    def counts(number: int) -> Counter[int]:
        return Counter(own_labels[bounds[number] : bounds[number + 1]])

    def change(of: Counter[int]) -> int:
        """The change of the distance of all classes from their tenth if a block of these counts is taken."""
        return sum(abs(held[k] + n - targets[k]) - abs(held[k] - targets[k]) for k, n in of.items())

    def is_allowed(number: int, of: Counter[int]) -> bool:
        return number not in chosen and all(held[k] + n < sizes[k] for k, n in of.items())

    def take(number: int, of: Counter[int]) -> None:
        chosen.add(number)
        held.update(of)

    wanted = {label for label, target in targets.items() if target}
    for number in range(len(ends)):
        if not wanted:  # no block brings any class nearer to its tenth
            break
        if change(of := counts(number)) < 0 and is_allowed(number, of):
            take(number, of)
            wanted = {label for label in wanted if held[label] < targets[label]}
    while missing := {label for label, count in targets.items() if count and not held[label]}:
        blocks = ((number, counts(number)) for number in range(len(ends)))
        candidates = [(number, of) for number, of in blocks if missing & of.keys() and is_allowed(number, of)]
        if not candidates:
            break
        take(*min(candidates, key=lambda block: change(block[1])))
    taken = [members[bounds[number] : bounds[number + 1]] for number in sorted(chosen)]
    return np.sort(np.concatenate([np.empty(0, np.int64), *taken]))


def _blocks(fingerprints: Fingerprints, groups: Sequence[str] | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Images that must stay together: their indices [N], block after block in the order of a hash of each block's
    content, and where each block ends."""
    order = _byte_order(fingerprints)
    is_first = np.ones(len(order), bool)
    is_first[1:] = (fingerprints[order[1:]] != fingerprints[order[:-1]]).any(1)
    different = fingerprints[order[is_first]]  # in the order of their bytes
    content = np.empty(len(order), np.int64)  # of each image, its place among these
    content[order] = np.cumsum(is_first) - 1
    block = np.arange(len(different)) if groups is None else _joined(content, len(different), groups)
    by_block = np.argsort(block, kind="stable")
    ends = np.cumsum(np.bincount(block))
    text = different[by_block].tobytes()
    size = fingerprints.shape[1]
    hashes = b"".join(
        hashlib.blake2b(text[size * start : size * end], digest_size=16).digest()
        for start, end in itertools.pairwise([0, *ends.tolist()])
    )
    rank = np.empty(len(ends), np.int64)
    rank[_byte_order(np.frombuffer(hashes, np.uint8).reshape(-1, 16))] = np.arange(len(ends))
    ranks = rank[block[content]]
    return np.argsort(ranks, kind="stable"), np.cumsum(np.bincount(ranks))


def _byte_order(rows: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The indices by which rows of 16 bytes are sorted."""
    words = np.ascontiguousarray(rows).view(">u8")
    return np.lexsort((words[:, 1], words[:, 0]))


def _joined(content: NDArray[np.int64], count: int, groups: Sequence[str]) -> NDArray[np.int64]:
    """The block of each of `count` contents: those are together that share a group, or a chain of groups."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, group = np.unique(np.array(groups), return_inverse=True)
    total = count + len(names)
    links = coo_array((np.ones(len(content), bool), (content, count + group)), shape=(total, total))
    blocks = connected_components(links, directed=False)[1][:count]
    return np.unique(blocks, return_inverse=True)[1]


def groups_of(images: Images, path: Path, by: str) -> tuple[str, ...]:
    """The group [N] of each training image that was read from that folder or file.

    `by` is the text up to which the file names of one group are alike, whatever their classes, or the name of a column
    or an array. UsageError where there is none, and for groups that keep nothing together, or everything.
    """
    place = f"data.group_by = {by!r}"
    if npz.is_arrays(path):
        groups = _groups_in_array(images, path, by, place)
    elif idx.is_idx_folder(path):
        raise UsageError(f"{place}: IDX files have neither names of pictures nor columns; leave it out")
    elif files := parquet.files(path, "train"):
        columns = parquet.columns(files)
        if by in columns:
            groups = parquet.column(files, by)
        else:
            names = [Path(name).name for name in parquet.names(files)]
            groups = _name_prefixes(names, path, by, place, columns)
    else:
        groups = _name_prefixes([file.name for file in folders.list_folder(path, "train").files], path, by, place)
    count = len(set(groups))
    if count == 1:
        raise UsageError(
            f"{place} makes one group of {counted(len(images))} of {images.name}, so none can be held out; give more "
            "groups, or leave it out"
        )
    if count == len(images):
        raise UsageError(
            f"{place}: each of the {len(images):,} images of {images.name} is a group of its own, so nothing is kept "
            "together; give what several images share, or leave it out"
        )
    return groups


def _groups_in_array(images: Images, path: Path, by: str, place: str) -> tuple[str, ...]:
    with npz.open_arrays(path) as archive:
        if by not in archive.files:
            raise UsageError(f"{place}: {path} has no such array; its arrays are {', '.join(archive.files)}")
        values = npz.read_array(archive, by, path)
    if values.shape != (len(images),):
        raise UsageError(
            f"{place}: this array of {path} has the shape {list(values.shape)}; give one with a value for each image, "
            f"[{len(images)}]"
        )
    return tuple(map(str, values.tolist()))


def _name_prefixes(
    names: Sequence[str], path: Path, until: str, place: str, columns: Sequence[str] = ()
) -> tuple[str, ...]:
    """The names of files up to the first `until`."""
    if not until or not any(until in name for name in names):
        beside = f", and no column (these are {', '.join(columns)})" if columns else ""
        first = f"the first is {names[0]!r}" if names and names[0] else "there are none"
        raise UsageError(
            f"{place} is in no name of a picture of {path} ({first}){beside}; give the text before which the names of "
            "one group are the same"
        )
    return tuple(name.partition(until)[0] for name in names)
