"""A lifeline from a process to those that it starts: they end soon after it is gone, however it went.

A process that is killed cannot end its children. So each of them reads from a pipe, as its standard input, that nobody
writes to and whose other end its parent alone holds: the system closes it when the parent is gone, and the child ends
as SIGTERM would end it, a training with its state saved.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from modiste import launch

HELD = "MODISTE_LIFELINE"
"""The environment variable that tells a process that its standard input is a lifeline."""
GRACE_SECONDS = 60.0
"""For a step of a training and its save, after which the process ends at once."""


def start(
    words: Sequence[str],
    said: IO[bytes] | int,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    own_session: bool = False,
) -> subprocess.Popen[bytes]:
    """A Modiste command as a process that ends with this one; what it says goes to `said`.

    To be closed by `let_go` when it has ended. Its own session keeps it from a Ctrl-C at the terminal.
    """
    return subprocess.Popen(
        launch.command(words),
        stdin=subprocess.PIPE,
        stdout=said,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env={**os.environ, **(environment or {}), HELD: "1"},
        start_new_session=own_session,
    )


def let_go(process: subprocess.Popen[Any]) -> None:
    """Close this process's end of the lifeline."""
    if process.stdin is not None:
        process.stdin.close()


def hold() -> None:
    """End this process soon after its parent is gone, if that has given it a lifeline."""
    if os.environ.pop(HELD, ""):  # which is not for the processes that this one starts
        threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(128 + signal.SIGTERM)
