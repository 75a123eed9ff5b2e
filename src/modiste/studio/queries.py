"""Values of a request, checked."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from modiste.errors import UsageError
from modiste.studio import library
from modiste.wording import quoted

MOST_NUMBERS = 1_000
MOST_BYTES = 64 * 1024
"""Of a post."""
LONGEST_TEXT = 200
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


def posting(answer: Callable[[Request, dict[str, Any]], Response]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that reads a post's JSON object and answers in a thread, as other endpoints do."""

    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(answer, request, await _json_of(request))

    return endpoint


async def _json_of(request: Request) -> dict[str, Any]:
    """The JSON object of a post; UsageError for anything else."""
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > MOST_BYTES:
            raise UsageError(f"a request has at most {MOST_BYTES:,} bytes")
    try:
        tree = json.loads(content)
    except ValueError:
        raise UsageError("the request is not JSON") from None
    if not isinstance(tree, dict):
        raise UsageError("the request is no JSON object")
    return tree


def text_of(asked: Mapping[str, Any], key: str) -> str:
    """A short text of a post, empty where it is missing."""
    value = asked.get(key, "")
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise UsageError(f"{key} is no short text; load the page again")
    return value.strip()


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
        raise UsageError(f"{name} {quoted(text)} is not a number from {least} to {most}") from None
    if not least <= value <= most:  # also for a value that is not a number
        raise UsageError(f"{name} {quoted(value)} is out of range; take {least} to {most}")
    return value
