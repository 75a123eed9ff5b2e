"""Values of a request, checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from starlette.requests import Request

from modiste.errors import UsageError
from modiste.studio import library

MOST_NUMBERS = 1_000
Number = TypeVar("Number", int, float)


def folder_of(request: Request) -> Path:
    """The folder that the studio shows."""
    folder: Path = request.app.state.folder
    return folder


def entry_of(request: Request) -> library.Entry:
    """The run that the address names by its id."""
    return library.find(folder_of(request), request.path_params["id"])


def entry_named(request: Request, name: str) -> library.Entry:
    """The run whose id is the value of that name."""
    return library.find(folder_of(request), request.query_params.get(name, ""))


def number(
    request: Request,
    name: str,
    least: Number,
    most: Number,
    default: Number | None = None,
    kind: Callable[[str], Number] = int,
) -> Number | None:
    """A number of the address, or the default; UsageError where it is none or out of range."""
    text = request.query_params.get(name)
    if text is None or text == "":
        return default
    return _checked(name, text, least, most, kind)


def numbers(request: Request, name: str, least: int, most: int) -> list[int]:
    """Numbers of the address, parted by commas; UsageError where there are none, too many, or one is out of range."""
    texts = request.query_params.get(name, "").split(",")[: MOST_NUMBERS + 1]
    if len(texts) > MOST_NUMBERS:
        raise UsageError(f"{name} are more than {MOST_NUMBERS}; ask for fewer")
    return [_checked(name, text, least, most, int) for text in texts]


def _checked(name: str, text: str, least: Number, most: Number, kind: Callable[[str], Number]) -> Number:
    try:
        value = kind(text)
    except ValueError:
        raise UsageError(f"{name} {text[:40]!r} is not a number from {least} to {most}") from None
    if not least <= value <= most:  # also for a value that is not a number
        raise UsageError(f"{name} {value} is out of range; take {least} to {most}")
    return value
