"""Server-sent events: what a page is told while something goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from modiste.errors import ModisteError

POLL_SECONDS = 0.5
"""Between two looks; shorter than the time that the studio gives open connections when it ends."""


def stream(request: Request, read: Callable[[], Iterable[Any]]) -> Response:
    """A stream of the JSON values that `read` gives each time it is called.

    It ends with the page or the studio, or with an event `refused` that holds the sentence of a ModisteError.
    """
    return StreamingResponse(_events(request, read), media_type="text/event-stream")


async def _events(request: Request, read: Callable[[], Iterable[Any]]) -> AsyncIterator[str]:
    yield ": open\n\n"
    while not request.app.state.is_ending():
        try:
            for value in await run_in_threadpool(read):
                yield f"data: {json.dumps(value, allow_nan=False)}\n\n"
        except ModisteError as error:
            yield f"event: refused\ndata: {json.dumps({'error': str(error)})}\n\n"
            return
        await asyncio.sleep(POLL_SECONDS)
