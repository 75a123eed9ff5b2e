"""Other processes of this very package: workers of studies and searches, further processes of a training."""

from __future__ import annotations

import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

MAIN = Path(__file__).with_name("__main__.py")


def command(words: Sequence[str]) -> list[str]:
    """The command that runs these words of the command line in a process of its own.

    `python -m modiste` would look into the working folder first, and a csv.py there would be imported for Python's.
    Run by its path, `__main__.py` takes this package and leaves PYTHONPATH as it is.
    """
    return [sys.executable, str(MAIN.absolute()), *words]


def printable(words: Sequence[str], threads: int | None = None) -> str:
    """The command line with these arguments of `modiste`, quoted for a shell; `threads` as its environment variable."""
    return (f"OMP_NUM_THREADS={threads} " if threads else "") + shlex.join(["modiste", *words])


SERVE = "serve"
"""The command line of a process that runs one command after the other, each of which it is asked for."""
HELD = "MODISTE_LIFELINE"
"""The environment variable that tells a process that its standard input is a lifeline."""
COLOURED = ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE")
"""Variables that ask for colours and bars where the output is no terminal, as the kernel of a notebook sets them: they
would stand in the log of a process."""
GRACE_SECONDS = 60.0
"""For a step of a training and its save, after which the process ends at once."""


def start(
    words: Sequence[str],
    output: IO[bytes] | int,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    own_session: bool = False,
) -> subprocess.Popen[bytes]:
    """A Modiste command as a process that ends with this one; its output goes to `output`.

    To be closed by `let_go` when it has ended. Its own session keeps it from a Ctrl-C at the terminal.
    """
    return subprocess.Popen(
        command(words),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env={
            **{key: value for key, value in os.environ.items() if key not in COLOURED},
            **(environment or {}),
            HELD: "1",
        },
        start_new_session=own_session,
    )


def let_go(process: subprocess.Popen[Any]) -> None:
    """Close this process's end of the lifeline."""
    if process.stdin is not None:
        process.stdin.close()


def ask(process: subprocess.Popen[Any], line: str) -> None:
    """Send a line to a process, which `asked` gives there; BrokenPipeError where it has ended."""
    assert process.stdin is not None
    process.stdin.write(line.encode() + b"\n")
    process.stdin.flush()


def asked() -> str:
    """The next line from the process that started this one, which waits for it."""
    return _lines.get()


_lines: queue.SimpleQueue[str] = queue.SimpleQueue()


def hold() -> None:
    """End this process soon after its parent is gone, if that has given it a lifeline."""
    if os.environ.pop(HELD, ""):  # which is not for the processes that this one starts
        threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()


def _end_with_parent() -> None:
    with open(sys.stdin.fileno(), encoding="utf-8", closefd=False) as lines:
        for line in lines:
            _lines.put(line)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(128 + signal.SIGTERM)
