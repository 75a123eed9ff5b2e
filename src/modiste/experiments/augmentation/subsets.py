"""The images of an augmentation experiment: label budgets, the subset of each seed, and separate test images.

The subset of a seed is drawn class by class, so that a budget keeps the classes' shares; those of one seed are nested
(its 100 images are among its 300; of close budgets an image or two may not be), which makes learning curves smoother.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from modiste.config import Data
from modiste.data.classes import check_learnable, class_number
from modiste.data.images import Images
from modiste.data.sets import Part, has_test, open_data
from modiste.errors import ModisteError, UsageError

Budget = int | Literal["all"]

BUDGETS = (100, 300, 1000, 5000)
"""The default: those below the size of the data, and all."""
RARE_SHARE = 0.1
FOLDS = 5
SUBSET, FOLD = 0x5AB5E7, 0xF01D  # keep these uses of a seed apart from all other random streams


@dataclass(frozen=True)
class Parts:
    """Labelled images to choose from and test images; None where each seed holds out a fold of the former."""

    images: Images
    test: Images | None


def open_parts(dataset: Data) -> Parts:
    """The images that labels may be taken from, and the real ones to test on, which nothing else uses.

    That is the published test split. Data without one are tested on their held-out tenth where `dataset.split` is fit;
    else every seed holds out another fifth of each class, so that five seeds make a cross-validation.
    """
    images = open_data(dataset)
    if images.labels is None or len(images.class_names) < 2:
        raise UsageError(
            f"{images.name} has no labels of two classes or more, and this experiment is about labelled images; "
            "give one folder per class, or labels in the .npz file"
        )
    counts = np.bincount(images.labels, minlength=len(images.class_names))
    check_learnable(images, limited=dataset.count is not None)
    part: Part | None = "test" if has_test(dataset) else "heldout" if dataset.split == "fit" else None
    if part is None:
        fewest = int(counts.min())
        if fewest < FOLDS:
            name = images.class_names[int(np.argmin(counts))]
            raise UsageError(
                f"{images.name} has no test images, and of the {fewest} of class {name!r} a fifth cannot be held out; "
                f"give at least {FOLDS} of each class, or test images"
            )
        return Parts(images, None)
    return Parts(images, _matching(open_data(dataset, part=part), images))


def _matching(test: Images, images: Images) -> Images:
    """The test images with the training images' classes; an error where they do not fit."""
    if test.labels is None:
        raise UsageError(f"{test.name} has no labels, and accuracy needs them; add them")
    if test.class_names != images.class_names[: len(test.class_names)]:
        raise UsageError(
            f"{test.name} has the classes {', '.join(test.class_names[:5])} and {images.name} "
            f"{', '.join(images.class_names[:5])}; give both the same"
        )
    if test.pixels.shape[1:] != images.pixels.shape[1:]:
        raise ModisteError(
            f"{test.name} is {list(test.pixels.shape[1:])} and {images.name} {list(images.pixels.shape[1:])} "
            "per image; bring both to one size with --resize"
        )
    return replace(test, class_names=images.class_names)


def split(parts: Parts, seed: int) -> tuple[Images, Images]:
    """The images to choose from and the test images of that seed; no image is in both."""
    if parts.test is not None:
        return parts.images, parts.test
    labels = _labels(parts.images)
    tested = np.zeros(len(labels), bool)
    for label in range(len(parts.images.class_names)):
        order = _shuffled(np.flatnonzero(labels == label), FOLD, seed // FOLDS, label)
        tested[order[seed % FOLDS :: FOLDS]] = True
    name = f"{parts.images.name} fold-{seed % FOLDS + 1}-of-{FOLDS}"
    return parts.images.select(np.flatnonzero(~tested)), parts.images.select(np.flatnonzero(tested), name)


def choose(images: Images, budget: Budget, seed: int, rare: Sequence[int] = ()) -> NDArray[np.int64]:
    """Sorted indices of the budget's images: shares of the classes as in `images`, those of rare ones a tenth of it.

    With rare classes `all` means all images of the others and every tenth of theirs.
    """
    labels = _labels(images)
    weights = np.bincount(labels, minlength=len(images.class_names)).astype(np.float64)
    weights[list(rare)] *= RARE_SHARE
    available = np.floor(weights + 1e-9).astype(int)
    total = int(available.sum())
    if isinstance(budget, int) and budget > total:
        raise UsageError(
            f"a budget of {budget:,} labels is larger than the {total:,} images of {images.name} to choose from"
            f"{' with classes made rare' if rare else ''}; ask for at most {total} with --budgets"
        )
    if not available.all():
        name, has = images.class_names[int(np.argmin(available))], int((labels == int(np.argmin(available))).sum())
        raise UsageError(f"of the {has} images of the class {name!r} a tenth is none; leave it out of --rare")
    quota = available if budget == "all" else _quotas(weights, budget)
    if not quota.all():
        name = images.class_names[int(np.argmin(quota))]
        raise UsageError(
            f"with {int(quota.sum())} labels the class {name!r} is left with no image; "
            f"ask for at least {int(np.ceil(weights.sum() / weights.min()))} with --budgets"
        )
    parts = [
        _shuffled(np.flatnonzero(labels == label), SUBSET, seed, label)[:count] for label, count in enumerate(quota)
    ]
    return np.sort(np.concatenate(parts))


def _quotas(weights: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Whole numbers that sum to the total, in proportion to the weights (largest remainders)."""
    shares = weights / weights.sum() * total
    quota: NDArray[np.int64] = np.floor(shares + 1e-9).astype(np.int64)
    largest = np.argsort(quota - shares, kind="stable")
    quota[largest[: total - int(quota.sum())]] += 1
    return quota


def missing_to_balance(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """How many images each class lacks to have as many as the most frequent one."""
    counts = np.bincount(labels, minlength=classes)
    return np.asarray(counts.max() - counts, np.int64)


def balanced(images: Images) -> Images:
    """The images with those of rarer classes repeated until all classes have as many as the most frequent one."""
    labels = _labels(images)
    missing = missing_to_balance(labels, len(images.class_names))
    more = [np.resize(np.flatnonzero(labels == label), count) for label, count in enumerate(missing)]
    return images.select(np.concatenate([np.arange(len(labels)), *more]))


def rare_classes(words: Sequence[str], images: Images) -> tuple[int, ...]:
    """The sorted numbers of the classes of these names or numbers; UsageError where they are all classes."""
    numbers = {class_number(word, images.class_names, images.name) for word in words}
    if len(numbers) == len(images.class_names):
        raise UsageError("every class was named as rare; leave at least one as it is")
    return tuple(sorted(numbers))


def _labels(images: Images) -> NDArray[np.int64]:
    assert images.labels is not None  # checked by open_parts
    return images.labels


def _shuffled(indices: NDArray[np.int64], *entropy: int) -> NDArray[np.int64]:
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(entropy))))
    order: NDArray[np.int64] = generator.permutation(indices)
    return order
