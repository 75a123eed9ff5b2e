"""Commands that the studio starts: one at a time, each a process with a fixed list of arguments."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from modiste import runs, subprocesses
from modiste.errors import UsageError
from modiste.studio import events, library
from modiste.studio.queries import entry_of, folder_of

TAIL_BYTES = 6_000
"""Of a command's output that the page shows."""
STOP_SECONDS = 30.0
"""For a training to save its state when the studio ends."""


@dataclass
class Command:
    """A command under way, or the last one that was."""

    words: list[str]
    """The arguments of `modiste`."""
    run: runs.Run
    """The run that it is about."""
    process: subprocess.Popen[bytes]
    output: Path
    start: float
    end: float | None = None
    stopped: bool = False

    @property
    def is_running(self) -> bool:
        if self.process.poll() is not None and self.end is None:
            self.end = time.monotonic()
        return self.end is None

    @property
    def seconds(self) -> float:
        return (self.end or time.monotonic()) - self.start


class Commands:
    """The one command of a studio."""

    def __init__(self) -> None:
        self.last: Command | None = None
        self._lock = threading.Lock()

    def start(self, words: list[str], run: runs.Run) -> None:
        """Start `modiste WORDS`; UsageError while another command is under way."""
        with self._lock:
            if self.last is not None and self.last.is_running:
                line = subprocesses.printable(self.last.words)
                raise UsageError(f"one command at a time: `{line}` is under way; wait for it or stop it")
            self._forget()
            with tempfile.NamedTemporaryFile(prefix="modiste-studio-", suffix=".log", delete=False) as output:
                process = subprocesses.start(words, output.fileno(), own_session=True)
            self.last = Command(words, run, process, Path(output.name), time.monotonic())

    def stop(self) -> None:
        """Ask the command to end: a training saves its state first."""
        with self._lock:
            if self.last is not None and self.last.is_running and not self.last.stopped:
                self.last.stopped = True
                self.last.process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """Stop the command and wait for it, at the end of the studio."""
        self.stop()
        with self._lock:
            if self.last is not None:
                with suppress(subprocess.TimeoutExpired):
                    self.last.process.wait(STOP_SECONDS)
            self._forget()

    def _forget(self) -> None:
        if self.last is not None:
            subprocesses.let_go(self.last.process)  # which ends it, should it still run
            self.last.output.unlink(missing_ok=True)
            self.last = None


def commands_of(request: Request) -> Commands:
    """The studio's commands."""
    found: Commands = request.app.state.commands
    return found


def describe(commands: Commands, folder: Path) -> dict[str, Any]:
    """The command for the page: its line, state and last output, and how far a training is."""
    command = commands.last
    if command is None:
        return {"command": None}
    running = command.is_running
    return {
        "command": subprocesses.printable(command.words),
        "kind": command.words[0],
        "running": running,
        "stopping": running and command.stopped,
        "code": command.process.returncode,
        "seconds": round(command.seconds),
        "output": _tail(command.output),
        "run": library.id_of(command.run, folder),
        "images": library.images_shown(command.run) if runs.exists(command.run.path) else 0,
        "grids": len(command.run.list_grids()),
    }


def _tail(place: Path) -> str:
    """The end of what the command has printed; "" where the next command has taken its place meanwhile."""
    with suppress(FileNotFoundError), place.open("rb") as output:
        output.seek(max(0, os.fstat(output.fileno()).st_size - TAIL_BYTES))
        return output.read().decode(errors="replace")
    return ""


def current(request: Request) -> Response:
    """The command as it is now."""
    return JSONResponse(describe(commands_of(request), folder_of(request)))


def stop(request: Request) -> Response:
    """Stop the command, which saves its state."""
    commands_of(request).stop()
    return current(request)


def watch(request: Request) -> Response:
    """The command whenever it changes, as server-sent events."""
    known: list[dict[str, Any]] = []

    def changes() -> list[dict[str, Any]]:
        now = describe(commands_of(request), folder_of(request))
        if known == [now]:
            return []
        known[:] = [now]
        return known

    return events.stream(request, changes)


def newest_grid(request: Request) -> Response:
    """The newest grid of a training."""
    grids = entry_of(request).run.list_grids()
    if not grids:
        raise UsageError("the training has drawn no grid yet")
    return FileResponse(grids[-1], media_type="image/png")


ROUTES = [
    Route("/api/runs/{id}/newest-grid.png", newest_grid),
    Route("/api/command", current),
    Route("/api/command/stop", stop, methods=["POST"]),
    Route("/api/command/events", watch),
]
