"""What is printed while work goes on: consoles that take text as it is, streams that can print it, no long silence.

Names of classes and folders are the user's. They reach the terminal as they are: brackets are no markup, and what an
encoding cannot hold is written in its signs and never ends the work.
"""

from __future__ import annotations

import codecs
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

QUIET_SECONDS = 1.0
"""A stage of the work that takes longer is said."""
AGAIN_SECONDS = 30.0
"""So long after the last sign of life, a stage that still lasts is said again."""
SPELT = {"±": "+-", "…": "...", "√": "sqrt "}
"""Signs of our tables where an encoding has none of them."""


# --- streams


def accept_any_text() -> None:
    """Let this process's output take every text, whatever its encoding: what is missing is spelt or escaped."""
    codecs.register_error("modiste", _spell)
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="modiste")


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    """A codec's error handler: our own signs in other words, others as Python writes them (\\u65e5).

    The bytes of a path that are no text in this encoding stay those bytes, so that the path can be copied.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    if "\udc80" <= error.object[error.start] <= "\udcff":
        return bytes([ord(error.object[error.start]) - 0xDC00]), error.start + 1
    missing = error.object[error.start : error.end]
    return "".join(SPELT.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in missing), error.end


# --- consoles


def console(*, to_errors: bool = True, width: int | None = None, quiet: bool = False) -> Console:
    """A console on standard error, or output, that prints text as it is."""
    from rich.console import Console

    return Console(stderr=to_errors, width=width, quiet=quiet, markup=False, highlight=False, emoji=False)


def log(on: Console, text: str) -> None:
    """Print one line of text as it is on that console, whatever it would take for markup; a long line stays one."""
    from rich.text import Text

    _signs.heard()
    on.print(Text(text), soft_wrap=True)


def log_plain(text: str) -> None:
    """Print one line on standard error at once."""
    _signs.heard()
    print(text, file=sys.stderr, flush=True)


def description() -> ProgressColumn:
    """The column of a progress bar with its task's description as it is."""
    from rich.progress import TextColumn

    return TextColumn("{task.description}", markup=False)


@contextmanager
def bar(on: Console, *columns: ProgressColumn) -> Iterator[Progress]:
    """A live progress bar on that console, with these columns after its description."""
    from rich.progress import Progress

    drawn = Progress(description(), *columns, console=on, refresh_per_second=2, speed_estimate_period=60)
    with _signs.shown_live(), drawn as progress:
        yield progress


@contextmanager
def status(on: Console, text: str) -> Iterator[Callable[[str], None]]:
    """A live line on that console that says what is under way."""
    from rich.text import Text

    spinner = "line" if on.options.ascii_only else "dots"
    with _signs.shown_live(), on.status(Text(text), spinner=spinner) as live:
        yield lambda new: live.update(Text(new))


# --- silence


@dataclass
class _Stage:
    """A part of the work that goes on, and whether the user has been told of it."""

    text: str
    begun: float
    passing: bool = False
    """Not worth a word once anything else was said."""
    said: bool = False


class _Signs:
    """What the user has seen last, and what goes on: the stages of the work, innermost last."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stages: list[_Stage] = []
        self.last = 0.0
        self.told = ""
        """The stage that was said last."""
        self.live = 0

    def heard(self) -> None:
        """Something was printed."""
        self.last = time.monotonic()

    @contextmanager
    def shown_live(self) -> Iterator[None]:
        """Something that moves is on the screen."""
        self.heard()
        self.live += 1
        try:
            yield
        finally:
            self.live -= 1
            self.heard()

    def due(self) -> str:
        """The line that is due now; empty if there is none."""
        with self.lock:
            if not self.stages or self.live:
                return ""
            stage, now = self.stages[-1], time.monotonic()
            if stage.passing and self.last > stage.begun:
                return ""
            if not stage.said and now - stage.begun > QUIET_SECONDS:
                stage.said = True
                if stage.text != self.told:  # as reading the same set for another purpose
                    self.told = stage.text
                    return stage.text
            if now - max(self.last, stage.begun) > AGAIN_SECONDS:
                return f"{stage.text}, {now - stage.begun:.0f} s so far"
            return ""


_signs = _Signs()


@contextmanager
def stage(text: str, passing: bool = False) -> Iterator[None]:
    """A stage of the work, in the words in which it is said if it takes more than a moment (see `never_silent`)."""
    stage = _Stage(text, time.monotonic(), passing)
    with _signs.lock:
        _signs.stages.append(stage)
    try:
        yield
    finally:
        with _signs.lock:
            _signs.stages.remove(stage)


@contextmanager
def heartbeat(command: str) -> Iterator[None]:
    """While this lasts, every stage that takes more than a moment is said on standard error; first the start itself."""
    over, _signs.told = threading.Event(), ""

    def watch() -> None:
        while not over.wait(QUIET_SECONDS / 4):
            if line := _signs.due():
                with suppress(OSError, ValueError):  # nobody reads there any more
                    log_plain(line)

    watcher = threading.Thread(target=watch, name="never silent", daemon=True)
    watcher.start()
    try:
        with stage(f"{command}: preparing", passing=True):
            yield
    finally:
        over.set()
        watcher.join()


@contextmanager
def live_log(about: str, every_line: bool = False) -> Iterator[Callable[[str], None]]:
    """Something to say what is under way: a line that changes in a terminal, plain lines elsewhere."""
    to = console()
    if every_line or not to.is_terminal:
        yield lambda text: log(to, f"{about}: {text}")
        return
    with status(to, about) as update:
        yield lambda text: update(f"{about}: {text}")


def duration(seconds: float | None) -> str:
    """Seconds as a clock says them: `42 s`, `4 min 05 s`, `2 h 10 min`; a dash where they are unknown."""
    if seconds is None:
        return "-"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
