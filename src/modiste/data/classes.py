"""Classes: what they may be called, which of them a set has, and which one a word or a number asks for."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from modiste.data.images import Images, Note
from modiste.errors import ModisteError, UsageError

SHOWN = 30
"""Classes that a sentence names before it stops."""
UNWRITTEN = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of what no name holds: controls such as line breaks, lone surrogates, separators of lines."""


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
    if any(unicodedata.category(sign) in UNWRITTEN for sign in name):
        raise ModisteError(
            f"{place}: the name of the class {name!a} holds a line break or another control character; rename it"
        )
    return name


def normalised_name(name: str) -> str:
    """A name as it is compared: in Unicode's form NFC, without spaces around it."""
    return unicodedata.normalize("NFC", name).strip()


def _spelled(raw: object) -> str:
    """A name between quotation marks with every sign that is not ASCII by its number."""
    return repr(bytes(raw)) if isinstance(raw, bytes) else ascii(str(raw))


@dataclass(frozen=True)
class Unused(Note):
    """Classes that a set names, or numbers between those that it uses, of which it has no image."""

    place: str
    names: tuple[str, ...]
    kept: int
    """How many classes are left."""

    def __str__(self) -> str:
        return (
            f"{self.place}: no image is of {listed(self.names)}, so there {'are' if self.kept > 1 else 'is'} "
            f"{self.kept} {'classes' if self.kept > 1 else 'class'} and not {self.kept + len(self.names)}"
        )


@dataclass(frozen=True)
class NoReference(Note):
    """Classes of which there are training images and none to compare with in `part`."""

    place: str
    part: str
    """As a sentence calls it: test, held-out."""
    missing: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.place}: no {self.part} image is of {listed(self.missing)}, so scores on {self.part} images say "
            f"nothing about {'them' if len(self.missing) > 1 else 'it'}"
        )


def listed(names: Sequence[str]) -> str:
    """`the class 'a'`, or `the classes 'a', 'b'` and how many more where there are many."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"the class{'es' if len(names) > 1 else ''} {', '.join(map(repr, names[:SHOWN]))}{more}"


def without_images(labels: NDArray[np.int64] | None, class_names: Sequence[str]) -> tuple[str, ...]:
    """The classes of which no image has the label; none where there are no labels."""
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


def class_number(word: int | str, class_names: Sequence[str], place: str) -> int:
    """The class that a label, or a word, asks for; UsageError names those of `place`.

    A whole number is a label and never a name: 1 is the second class, also of those called 1 to 12. A word is a
    class's name, that in the same case of letters before any other. Where no class has a number for a name, a word of
    digits is a label; else any word may be a part of one name alone, digits a number in it from end to end.
    """
    if isinstance(word, Integral) and not isinstance(word, bool):
        fitting = [int(word)] if 0 <= word < len(class_names) else []
    else:
        fitting = _fitting(str(word), class_names)
    if len(fitting) == 1:
        return fitting[0]
    problem = "fits several classes" if fitting else "is no class"
    numbers = any(name.isdecimal() for name in class_names)
    known = [f"{name!r} (label {k})" if numbers else f"{k} {name}" for k, name in enumerate(class_names)]
    shown = ", ".join(known[:SHOWN]) + (f" and {len(known) - SHOWN} more" if len(known) > SHOWN else "")
    raise UsageError(f"{word!r} {problem} of {place}; its classes are {shown}")


def _fitting(word: str, class_names: Sequence[str]) -> list[int]:
    """The classes that a word fits in the first way in which it fits any."""
    exact, wanted = (unicodedata.normalize("NFC", text) for text in (word, word.strip().casefold()))
    names = [unicodedata.normalize("NFC", name) for name in class_names]
    for name in (exact, exact.strip()):
        if name in names:
            return [names.index(name)]
    names = [name.casefold() for name in names]
    if wanted in names or not wanted:
        return [k for k, name in enumerate(names) if name == wanted]
    if not wanted.isdecimal():
        return [k for k, name in enumerate(names) if wanted in name]
    if any(name.isdecimal() for name in names):
        return []
    if int(wanted) < len(names):
        return [int(wanted)]
    return [k for k, name in enumerate(names) if wanted in re.findall(r"\d+", name)]
