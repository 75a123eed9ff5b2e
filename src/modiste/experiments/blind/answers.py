"""Answers to a blind test and its key, read from JSON that anybody may have written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modiste.errors import ModisteError, UsageError
from modiste.experiments.blind.trials import Question, Side

ANSWERS, KEY = "modiste blind answers 1", "modiste blind key 1"
MOST_BYTES = 2**22
NAME_LENGTH = 60


@dataclass(frozen=True)
class Answer:
    """The picture that was chosen in a trial, and after how many milliseconds."""

    trial: int
    choice: Side
    ms: int


@dataclass(frozen=True)
class Sheet:
    """The answers of one person."""

    place: str
    """The file, for messages."""
    test: str
    """The identity of the test."""
    person: str
    """Given by the page at random."""
    name: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class KeyTrial:
    """What the key says of a trial."""

    pair: int | None
    """None for an attention check, whose first picture is noise."""
    class_name: str
    first: Side


@dataclass(frozen=True)
class Key:
    """The key of a test."""

    test: str
    question: Question
    per_class: bool
    pairs: tuple[tuple[str, str], ...]
    trials: tuple[KeyTrial, ...]


class _Wrong(Exception):
    """What is wrong with a JSON tree, in a few words."""


def read_sheets(places: Sequence[Path]) -> list[Sheet]:
    """The answers in these files: of one test, and one file of each person. ModisteError says which file is not so."""
    return check_sheets([parse_answers(_read(place), str(place)) for place in places])


def check_sheets(sheets: Sequence[Sheet]) -> list[Sheet]:
    """The sheets, if all are of one test and no two of one person."""
    seen: dict[str, Sheet] = {}
    for sheet in sheets:
        if sheet.test != sheets[0].test:
            raise UsageError(
                f"{sheets[0].place} and {sheet.place} answer different pages; give the answers to one page at a time"
            )
        if (other := seen.setdefault(sheet.person, sheet)) is not sheet:
            raise UsageError(
                f"{other.place} and {sheet.place} are answers of one person in one session; give the later of them"
            )
    return list(sheets)


def find_key(sheets: Sequence[Sheet], place: Path | None = None) -> Key:
    """The key of the test that was answered: in that file, or beside the answers or in the current folder.

    UsageError where there is none, or where the file is the key of another page.
    """
    test = sheets[0].test
    if place is not None:
        key = parse_key(_read(place), str(place))
        if key.test != test:
            raise UsageError(f"{place} is the key of another page than {sheets[0].place} answers; give that page's key")
        return key
    folders = dict.fromkeys([*(Path(sheet.place).parent for sheet in sheets), Path()])
    for file in (file for folder in folders for file in sorted(folder.glob("*.key.json"))):
        try:
            key = parse_key(_read(file), str(file))
        except ModisteError:  # the key of something else
            continue
        if key.test == test:
            return key
    raise UsageError(
        f"no key of the page that {sheets[0].place} answers is beside it or in this folder; say with --key where the "
        "NAME.key.json is that was written with the page"
    )


def parse_answers(tree: Any, place: str) -> Sheet:
    """The answers in JSON as the page saves it; ModisteError names `place` and what is wrong."""
    try:
        _format(tree, ANSWERS)
        person = _value(tree, "person", dict)
        answers = tuple(_answer(one) for one in _value(tree, "answers", list))
        numbers = [answer.trial for answer in answers]
        if (twice := next((number for number in numbers if numbers.count(number) > 1), None)) is not None:
            raise _Wrong(f"it answers trial {twice + 1} twice")
        name = _plain(_value(person, "name", str)) or "anonymous"
        return Sheet(place, _value(tree, "test", str), _value(person, "id", str), name, answers)
    except _Wrong as wrong:
        raise ModisteError(
            f"{place} does not hold the answers to a blind test ({wrong}); give a file as the page saves it"
        ) from None


def parse_key(tree: Any, place: str) -> Key:
    """The key in JSON; ModisteError names `place` and what is wrong."""
    try:
        _format(tree, KEY)
        question = _one_of(_value(tree, "question", str), ("generated", "better"))
        pairs = [_value({"pair": pair}, "pair", list) for pair in _value(tree, "pairs", list)]
        if not all(len(pair) == 2 and all(isinstance(name, str) for name in pair) for pair in pairs):
            raise _Wrong("pairs are two names each")
        trials = tuple(_key_trial(one, len(pairs)) for one in _value(tree, "trials", list))
        named = tuple((_plain(pair[0]), _plain(pair[1])) for pair in pairs)
        return Key(_value(tree, "test", str), question, _value(tree, "per_class", bool), named, trials)
    except _Wrong as wrong:
        raise ModisteError(
            f"{place} is not the key of a blind test ({wrong}); give the NAME.key.json that was written with the page"
        ) from None


def _read(place: Path) -> Any:
    try:
        if place.stat().st_size > MOST_BYTES:
            raise ModisteError(f"{place} has more than {MOST_BYTES // 2**20} MB, which no file of a blind test has; "
                               "give a file as the page saves it")  # fmt: skip
        return json.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModisteError(f"cannot read {place}: {error.strerror}; check its name and permissions") from None
    except (ValueError, RecursionError):
        raise ModisteError(f"{place} is not JSON; give a file as the page saves it") from None


def _answer(tree: Any) -> Answer:
    number, ms = _value(tree, "trial", int), _value(tree, "ms", int)
    if number < 0 or ms < 0:
        raise _Wrong(f"trial {number} after {ms} ms")
    return Answer(number, _one_of(_value(tree, "choice", str), ("left", "right")), ms)


def _key_trial(tree: Any, pairs: int) -> KeyTrial:
    pair = None if isinstance(tree, Mapping) and tree.get("pair", 0) is None else _value(tree, "pair", int)
    if pair is not None and not 0 <= pair < pairs:
        raise _Wrong(f"there is no pair {pair}")
    side = _one_of(_value(tree, "first", str), ("left", "right"))
    return KeyTrial(pair, _plain(_value(tree, "class", str)), side)


def _format(tree: Any, expected: str) -> None:
    if _value(tree, "format", str) != expected:
        raise _Wrong(f"its format is not {expected!r}")


def _value(tree: Any, name: str, kind: type) -> Any:
    if not isinstance(tree, Mapping) or name not in tree:
        raise _Wrong(f"{name!r} is missing")
    value = tree[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _Wrong(f"{name!r} is no {kind.__name__}")
    return value


def _one_of(value: str, choices: tuple[Any, Any]) -> Any:
    if value not in choices:
        raise _Wrong(f"{_plain(value)!r} is neither {choices[0]} nor {choices[1]}")
    return value


def _plain(text: str) -> str:
    """The text without what would move a terminal's cursor, and not longer than the page allows a name."""
    return "".join(sign for sign in text if sign.isprintable()).strip()[:NAME_LENGTH]
