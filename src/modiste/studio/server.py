"""The studio's web server: its parts put together, started and ended."""

from __future__ import annotations

import contextlib
import json
import mimetypes
import socket
import webbrowser
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from modiste import environment
from modiste.errors import ModisteError, UsageError
from modiste.studio import (
    access,
    blind,
    commands,
    compare,
    fails,
    film,
    library,
    neighbours,
    noise,
    steer,
    take_away,
    train,
    wall,
)
from modiste.studio.queries import folder_of

STATIC = Path(__file__).with_name("static")
FOLDER = Path("runs")
PORT = 8765
PORTS_TRIED = 20
GRACE_SECONDS = 1
"""For open connections when the studio ends."""
PARTS = (wall, neighbours, noise, steer, film, compare, fails, blind, train, take_away)
"""Modules of the studio with their ROUTES; the page's module of the same name stands in `static` (noise: paths)."""


def serve(folder: Path | None, host: str, port: int | None, open_browser: bool, log: Callable[[str], None]) -> None:
    """Serve the runs of a folder until Ctrl-C; without one those in `runs`, which need not be there yet.

    Without a port the first free one from 8765 is taken. UsageError where there is no such folder or address.
    """
    if folder is not None and not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give the folder that holds your runs, as in `modiste studio runs`")
    folder = folder or FOLDER
    with listen(host, port) as listening:
        entry = access.Access(host, listening.getsockname()[1], lambda address: log(f"open {address}"))
        if host not in access.LOOPBACK:
            log(
                f"the studio listens on {host}: whoever reaches this machine and has the address below can look at all "
                "runs and start trainings, and the connection is not encrypted"
            )
        log(f"open {entry.address}")
        log("end with Ctrl-C")
        if open_browser:
            webbrowser.open(entry.address)
        environment.keep_freed_memory()  # a wall takes the same memory again and again
        app = make_app(folder, entry, lambda: server.should_exit)
        config = uvicorn.Config(
            app, log_level="error", lifespan="on", timeout_graceful_shutdown=GRACE_SECONDS, server_header=False
        )
        server = uvicorn.Server(config)
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again after its end
            server.run(sockets=[listening])
        log("the studio has ended")


def make_app(folder: Path, entry: access.Access, is_ending: Callable[[], bool] = lambda: False) -> ASGIApp:
    """The studio as an ASGI application; `is_ending` says when streams of events are to end."""
    mimetypes.add_type("text/javascript", ".js")  # some systems say otherwise, and nosniff is strict
    app = Starlette(
        routes=[
            Route("/", page),
            Route("/api/runs", listing),
            *commands.ROUTES,
            *(route for part in PARTS for route in part.ROUTES),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        exception_handlers={ModisteError: refused},
        lifespan=_lifespan,
    )
    app.state.folder, app.state.commands, app.state.is_ending = folder, commands.Commands(), is_ending
    return access.guarded(app, entry)


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    yield
    app.state.commands.close()


def page(request: Request) -> Response:
    return FileResponse(STATIC / "index.html")


def listing(request: Request) -> Response:
    """All runs of the folder."""
    found = [_describe(entry) for entry in library.list_runs(folder_of(request))]
    return Response(json.dumps(found, allow_nan=False), media_type="application/json")  # also of names not in UTF-8


def refused(request: Request, error: Exception) -> Response:
    """A refusal as JSON, in the sentence that the command line would show."""
    return JSONResponse({"error": str(error)}, 400)


def _describe(entry: library.Entry) -> dict[str, object]:
    """A run of the listing as JSON."""
    named = {"id": entry.id, "name": entry.name, "place": entry.run.word}
    problem = {"problem": entry.problem, "broken": entry.facts is None} if entry.problem else {}
    return {**named, **problem, **(asdict(entry.facts) if entry.facts else {})}


def listen(host: str, port: int | None) -> socket.socket:
    """A listening socket; UsageError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in [port] if port is not None else range(PORT, PORT + PORTS_TRIED):
        try:
            return socket.create_server((host, number), family=family)
        except OSError as error:
            reason = error.strerror or str(error)
    tried = f"port {port}" if port is not None else f"ports {PORT} to {PORT + PORTS_TRIED - 1}"
    raise UsageError(f"{host} with {tried} cannot be listened at ({reason}); give another --port or --host")
