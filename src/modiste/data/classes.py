"""Classes: their names and numbers, how often a set has each, and labels in these proportions."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modiste.data.images import Images, Labels, Note, Pixels
from modiste.errors import ModisteError, UsageError
from modiste.wording import counted

SHOWN = 30
"""Classes that a sentence names at most."""
FORBIDDEN = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of signs that no name may hold: controls, lone surrogates, separators of lines."""
UNKNOWN = -1  # the label of an image whose class is kept secret
MOST_UNNAMED_CLASSES = 1000  # a label above this in a file without class names is taken for a mistake


def checked_names(raw: Sequence[object], place: str) -> tuple[str, ...]:
    """The names of classes as text: bytes decoded, in Unicode's form NFC, without spaces around them.

    ModisteError for names that are not UTF-8, are empty, hold line breaks or other control characters, or are equal.
    """
    names = tuple(_checked(one, place) for one in raw)
    first: dict[str, int] = {}
    for number, name in enumerate(names):
        if (before := first.setdefault(name, number)) != number:
            spelled = [_spelled(raw[k]) for k in (before, number)]
            how = f", written as {' and '.join(spelled)}" if spelled[0] != spelled[1] else ""
            raise ModisteError(f"{place}: two classes are called {name!r}{how}; give each a name of its own")
    return names


def _checked(raw: object, place: str) -> str:
    try:
        text = raw.decode() if isinstance(raw, bytes) else str(raw)
        text.encode()
    except UnicodeError:
        raise ModisteError(f"{place}: the class {_spelled(raw)} has a name that is not UTF-8; rename it") from None
    name = normalised_name(text)
    if not name:
        raise ModisteError(f"{place}: a class is called {_spelled(raw)}, which is no name; give it one")
    if any(unicodedata.category(sign) in FORBIDDEN for sign in name):
        raise ModisteError(
            f"{place}: the name of the class {name!a} holds a line break or another control character; rename it"
        )
    return name


def normalised_name(name: str) -> str:
    """A name in Unicode's form NFC, without spaces around it, as names are compared."""
    return unicodedata.normalize("NFC", name).strip()


def _spelled(raw: object) -> str:
    """A name in quotation marks with every sign that is not ASCII as an escape."""
    return repr(bytes(raw)) if isinstance(raw, bytes) else ascii(str(raw))


@dataclass(frozen=True)
class Unused(Note):
    """Classes that a set names, or numbers below its highest label, of which it has no image."""

    place: str
    names: tuple[str, ...]
    kept: int
    """How many classes are left."""

    def __str__(self) -> str:
        return (
            f"{self.place}: no image is of {listed(self.names)}, so there {'are' if self.kept > 1 else 'is'} "
            f"{counted(self.kept, 'class')} and not {self.kept + len(self.names)}"
        )


@dataclass(frozen=True)
class NoReference(Note):
    """Classes that have training images and no image in `part` to compare with."""

    place: str
    part: str
    """test or held-out."""
    missing: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.place}: no {self.part} image is of {listed(self.missing)}, so scores on {self.part} images say "
            f"nothing about {'them' if len(self.missing) > 1 else 'it'}"
        )


def listed(names: Sequence[str]) -> str:
    """The names for a sentence: `the class 'a'`, or `the classes 'a', 'b' and 7 more`."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"the class{'es' if len(names) > 1 else ''} {', '.join(map(repr, names[:SHOWN]))}{more}"


def without_images(labels: NDArray[np.int64] | None, class_names: Sequence[str]) -> tuple[str, ...]:
    """The classes without an image; none where there are no labels."""
    if labels is None:
        return ()
    counts = np.bincount(labels, minlength=len(class_names))
    return tuple(name for name, count in zip(class_names, counts, strict=True) if not count)


def check_learnable(images: Images, limited: bool = False) -> None:
    """UsageError for classes of which there is no image to learn from; `limited` where data.count chose the images."""
    if missing := without_images(images.labels, images.class_names):
        remedy = "raise data.count, or mix the order of the images" if limited else "add some, or leave the class out"
        raise UsageError(
            f"{images.name} has no image of {listed(missing)}, so nothing can be learned of "
            f"{'them' if len(missing) > 1 else 'it'}; {remedy}"
        )


def class_number(wanted: int | str, class_names: Sequence[str], place: str) -> int:
    """The number of the class with this label or name; UsageError lists the classes of `place`.

    A whole number is a label and never a name: 1 is the second class, also where classes are called 1 to 12. A text is
    a class's name, first in the same case of letters, then in any. Where no class has a number for a name, a text of
    digits is a label. Otherwise a text may be a part of exactly one name; digits must be a whole number in it.
    """
    if isinstance(wanted, Integral) and not isinstance(wanted, bool):
        fitting = [int(wanted)] if 0 <= wanted < len(class_names) else []
    else:
        fitting = _fitting(str(wanted), class_names)
    if len(fitting) == 1:
        return fitting[0]
    problem = "fits several classes" if fitting else "is no class"
    numbers = any(name.isdecimal() for name in class_names)
    known = [f"{name!r} (label {k})" if numbers else f"{k} {name}" for k, name in enumerate(class_names)]
    shown = ", ".join(known[:SHOWN]) + (f" and {len(known) - SHOWN} more" if len(known) > SHOWN else "")
    raise UsageError(f"{wanted!r} {problem} of {place}; its classes are {shown}")


def _fitting(text: str, class_names: Sequence[str]) -> list[int]:
    """The classes that the text fits, by the first rule by which it fits any."""
    exact, folded = (unicodedata.normalize("NFC", word) for word in (text, text.strip().casefold()))
    names = [unicodedata.normalize("NFC", name) for name in class_names]
    for name in (exact, exact.strip()):
        if name in names:
            return [names.index(name)]
    names = [name.casefold() for name in names]
    if folded in names or not folded:
        return [k for k, name in enumerate(names) if name == folded]
    if not folded.isdecimal():
        return [k for k, name in enumerate(names) if folded in name]
    if any(name.isdecimal() for name in names):
        return []
    if int(folded) < len(names):
        return [int(folded)]
    return [k for k, name in enumerate(names) if folded in re.findall(r"\d+", name)]


# labels


def labelled(
    pixels: Pixels,
    labels: NDArray[Any] | None,
    class_names: Sequence[object] | None,
    name: str,
    train_labels: NDArray[Any] | None = None,
) -> Images:
    """Images from raw arrays; classes without names are called by their numbers.

    The classes are those of `train_labels` (by default of `labels`), renumbered in their order: a class without images
    is left out and noted. ModisteError for a class that no training image has. Test images that all have the label -1,
    as where labels are kept secret, count as unlabelled.
    """
    if labels is None:
        return Images(pixels, None, (), name)
    labels = _whole_numbers(labels, name)
    known = labels if train_labels is None else _whole_numbers(train_labels, name)
    if len(labels) and len(known) and (labels == UNKNOWN).all() and (known >= 0).all():
        return Images(pixels, None, (), name)
    names = (
        _numbers_as_names(int(known.max(initial=-1)), name) if class_names is None else checked_names(class_names, name)
    )
    both = np.union1d(labels, known)
    if len(both) and both[0] < 0:
        raise ModisteError(
            f"{name}: label {both[0]} is no class, since labels begin at 0; leave images without a class out, or all "
            "labels where no image has a class"
        )
    if len(both) and class_names is not None and both[-1] >= len(names):
        raise ModisteError(
            f"{name}: label {both[-1]} is out of range for {counted(len(names), 'class name')}; number the classes "
            "from 0 and name each"
        )
    used = np.unique(known)
    if len(untrained := np.setdiff1d(labels, used)):
        one = f"is of the class {names[untrained[-1]]!r}" if class_names is not None else f"has label {untrained[-1]}"
        raise ModisteError(f"{name}: no training image {one}, and a test image does; add some, or leave it out")
    kept = tuple(names[label] for label in used)
    unused = tuple(one for label, one in enumerate(names) if label not in set(used.tolist()))
    notes = (Unused(name, unused, len(kept)),) if unused and kept else ()
    return Images(pixels, np.searchsorted(used, labels).astype(np.int64), kept, name, notes)


def _whole_numbers(labels: NDArray[Any], name: str) -> Labels:
    """Labels int64 [N] from whole numbers or truth values [N] or [N, 1]."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iub":
        raise ModisteError(
            f"{name}: labels are {labels.dtype} {list(labels.shape)}; save whole numbers [N] from 0, one per image"
        )
    if (highest := int(labels.max(initial=0))) > np.iinfo(np.int64).max:
        raise ModisteError(f"{name}: label {highest} is out of range; number the classes from 0")
    return labels.astype(np.int64)


def _numbers_as_names(highest: int, name: str) -> tuple[str, ...]:
    """The numbers up to the highest label as names of classes."""
    if highest >= MOST_UNNAMED_CLASSES:
        raise ModisteError(
            f"{name}: label {highest} is out of range for {MOST_UNNAMED_CLASSES} unnamed classes; "
            "number the classes from 0 or add class_names"
        )
    return tuple(map(str, range(highest + 1)))


def class_counts(labels: NDArray[np.int64], classes: int) -> tuple[int, ...]:
    """The number of these labels [N] per class."""
    return tuple(np.bincount(labels, minlength=classes).tolist())


def is_balanced(counts: Sequence[int]) -> bool:
    """Whether all classes are equally frequent."""
    return len(set(counts)) <= 1


def is_skewed(labels: NDArray[np.int64], counts: Sequence[int], total: int | None = None) -> bool:
    """Whether a class is more or less frequent here than in a draw by the counts, by six standard deviations.

    With `total` it is a draw without replacement from so many images.
    """
    shares = np.array(counts) / sum(counts)
    observed = np.bincount(labels, minlength=len(shares))
    rest = 1.0 if total is None else (total - len(labels)) / (total - 1)
    deviations = np.sqrt(len(labels) * shares * (1 - shares) * rest)
    return bool((np.abs(observed - len(labels) * shares) > 6 * deviations + 1).any())


def label_of(positions: Sequence[int], counts: Sequence[int]) -> NDArray[np.int64]:
    """The class [N] at each position of an endless sequence in which class k has the share counts[k] / sum(counts).

    Scores and checkpoints ask generators for these labels, so that a perfect generator shows the classes as often as
    the real images that it is compared with. Of the first n labels, for every n, each class has its share of n rounded
    up or down; after as many labels as the counts have (without their common divisor) the sequence repeats. Equal
    counts give `position % classes`. A label does not depend on which other positions are asked for.
    """
    common = int(np.gcd.reduce(np.array(counts, np.int64)))
    shares = tuple(count // common for count in counts)
    places = np.array(positions, dtype=np.int64) % sum(shares)
    return _sequence(shares, int(places.max(initial=-1)) + 1)[places]


@functools.lru_cache(maxsize=8)
def _sequence(shares: tuple[int, ...], length: int) -> NDArray[np.int64]:
    """The first `length` labels, by the rule of Tijdeman 1980 ("The chairman assignment problem"), in integers.

    Next is the class that must come soonest so as not to fall one behind its share, among those that would not run
    ahead; of equals the first.
    """
    present = np.flatnonzero(shares)
    if len(present) == 1:
        return np.full(length, present[0])
    weights = np.array(shares, np.int64)[present]
    total, margin = int(weights.sum()), 2 * len(present) - 2
    taken = np.zeros(len(present), np.int64)
    labels = np.empty(length, np.int64)
    for step in range(1, length + 1):
        allowed = (weights * step - taken * total) * margin >= total
        deadlines = np.where(allowed, (margin - 1 + margin * taken) / weights, np.inf)
        chosen = int(np.argmin(deadlines))
        taken[chosen] += 1
        labels[step - 1] = chosen
    return present[labels]
