"""Progress messages: consoles, a live bar in a terminal or plain lines elsewhere, and no long silence.

`shown_on` sends messages and bars to a display instead, such as a notebook's output.

Names of classes and folders are the user's and are printed unchanged: brackets are no markup, and characters that an
encoding lacks are escaped instead of ending the work.
"""

from __future__ import annotations

import codecs
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

QUIET_SECONDS = 1.0
"""A stage of the work that takes longer is printed."""
AGAIN_SECONDS = 30.0
"""A stage is printed again if nothing else was printed for so long."""
LINE_SECONDS = 60.0
"""Outside a terminal a reporter prints a line when none was printed for so long."""
SPELT = {"±": "+-", "…": "...", "√": "sqrt ", "↓": "(lower)", "↑": "(higher)", "≈": "(near)", "\N{NO-BREAK SPACE}": " "}
"""Characters of our tables, spelt for encodings without them."""


# --- streams


def accept_any_text() -> None:
    """Let this process print any text, whatever the encoding of its output: missing characters are spelt or escaped."""
    codecs.register_error("modiste", _spell)
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="modiste")


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    """A codec error handler: our own characters are spelt, others escaped as in Python (\\u65e5).

    Bytes of a path that are not valid in this encoding stay as they are, so that the path can be copied.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    if "\udc80" <= error.object[error.start] <= "\udcff":
        return bytes([ord(error.object[error.start]) - 0xDC00]), error.start + 1
    missing = error.object[error.start : error.end]
    return "".join(SPELT.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in missing), error.end


# --- consoles


def console(*, to_errors: bool = True, quiet: bool = False) -> Console:
    """A console on standard error, or standard output, without markup; no terminal where a display is used instead."""
    from rich.console import Console

    plain = False if _activity.display else None
    return Console(
        stderr=to_errors, quiet=quiet, markup=False, highlight=False, emoji=False, force_terminal=plain,
        force_jupyter=plain,
    )  # fmt: skip


def log(on: Console, text: str, passing: bool = False) -> None:
    """Print one line on that console, without markup and without wrapping.

    A `passing` line says how far the work is, so a display that changes in place may drop it for the next one.
    """
    _activity.printed()
    if display := _display_instead_of(on):
        display.log(text, passing)
        return
    from rich.text import Text

    on.print(Text(text), soft_wrap=True)


def log_plain(text: str) -> None:
    """Print one line on standard error at once."""
    _activity.printed()
    if _activity.display:
        _activity.display.log(text, False)
        return
    print(text, file=sys.stderr, flush=True)


class Display(Protocol):
    """Where messages and bars may go instead of a console; called from any thread."""

    def update(self, share: float | None, text: str) -> None:
        """Show the share of the work that is done, 0 to 1 (None: unknown), with this text."""

    def log(self, text: str, passing: bool) -> None:
        """Show a line; a passing one until the next one."""


@contextmanager
def shown_on(display: Display) -> Iterator[None]:
    """Context in which the messages and bars of this process go to that display; quiet consoles stay quiet."""
    before, _activity.display = _activity.display, display
    try:
        yield
    finally:
        _activity.display = before


def _display_instead_of(on: Console) -> Display | None:
    return None if on.quiet else _activity.display


@contextmanager
def bar(on: Console, *columns: ProgressColumn) -> Iterator[Progress]:
    """A live progress bar on that console, with these columns after its description."""
    from rich.progress import Progress, TextColumn

    description = TextColumn("{task.description}", markup=False)
    progress = Progress(description, *columns, console=on, refresh_per_second=2, speed_estimate_period=60)
    with _activity.live_display(), progress:
        yield progress


@dataclass
class Reporter:
    """How far some work is: a live bar in a terminal or on a display, plain lines from time to time elsewhere."""

    console: Console
    bar: Progress | None
    wait: float
    """Seconds without a line after which the next one is printed."""
    last_line: float
    display: Display | None = None

    @property
    def is_live(self) -> bool:
        return self.bar is not None or self.display is not None

    def log(self, text: str, passing: bool = False) -> None:
        """Print a line at once, in a terminal above the bar; see `progress.log`."""
        self.last_line, self.wait = time.monotonic(), LINE_SECONDS
        log(self.console, text, passing)

    def update(self, share: float, text: str, line: Callable[[], str] | None = None) -> None:
        """Show the share that is done, 0 to 1, with this text; `line` makes the text of plain lines if it differs."""
        if self.display is not None:
            self.display.update(share, line() if line else text)
        elif self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=share, description=text)
        elif time.monotonic() - self.last_line >= self.wait:
            self.log(line() if line else text)


@contextmanager
def reporter(
    on: Console, text: str, *columns: ProgressColumn, live: bool = True, first_seconds: float = LINE_SECONDS
) -> Iterator[Reporter]:
    """A reporter on that console. `columns` follow its bar; `live=False` asks for plain lines in a terminal too."""
    from rich.progress import BarColumn

    if display := _display_instead_of(on):
        display.update(0.0, text)
        yield Reporter(on, None, first_seconds, time.monotonic(), display)
        return
    with bar(on, BarColumn(), *columns) if live and on.is_terminal else nullcontext() as progress:
        if progress is not None:
            progress.add_task(text, total=1.0)
        yield Reporter(on, progress, first_seconds, time.monotonic())


@contextmanager
def live_log(about: str, every_line: bool = False) -> Iterator[Callable[[str], None]]:
    """A function that shows what is done now: in a terminal one line that changes, elsewhere a line each.

    `every_line` keeps each line in a terminal too.
    """
    from rich.text import Text

    to = console()
    if display := _display_instead_of(to):
        yield lambda text: display.update(None, f"{about}: {text}")
        return
    if every_line or not to.is_terminal:
        yield lambda text: log(to, f"{about}: {text}")
        return
    with _activity.live_display(), to.status(Text(about), spinner="line" if to.options.ascii_only else "dots") as live:
        yield lambda text: live.update(Text(f"{about}: {text}"))


# --- stages of long work


@dataclass
class _Stage:
    """A part of the work under way, and whether it was printed."""

    text: str
    start: float
    minor: bool = False
    """Not printed once anything else was."""
    printed: bool = False


class _Activity:
    """What was printed last, and the stages under way, innermost last."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stages: list[_Stage] = []
        self.last = 0.0
        self.last_stage = ""
        """The stage that was printed last."""
        self.live = 0
        self.display: Display | None = None

    def printed(self) -> None:
        self.last = time.monotonic()

    @contextmanager
    def live_display(self) -> Iterator[None]:
        """Context of a display that moves: no line about slow stages is printed meanwhile."""
        self.printed()
        self.live += 1
        try:
            yield
        finally:
            self.live -= 1
            self.printed()

    def due_line(self) -> str:
        """The line to print now; empty if there is none."""
        with self.lock:
            if not self.stages or self.live:
                return ""
            stage, now = self.stages[-1], time.monotonic()
            if stage.minor and self.last > stage.start:
                return ""
            if not stage.printed and now - stage.start > QUIET_SECONDS:
                stage.printed = True
                if stage.text != self.last_stage:  # the same set may be read twice
                    self.last_stage = stage.text
                    return stage.text
            if now - max(self.last, stage.start) > AGAIN_SECONDS:
                return f"{stage.text}, {now - stage.start:.0f} s so far"
            return ""


_activity = _Activity()


@contextmanager
def stage(text: str, minor: bool = False) -> Iterator[None]:
    """A stage of the work, printed as `text` if it takes more than a moment; see `heartbeat`."""
    stage = _Stage(text, time.monotonic(), minor)
    with _activity.lock:
        _activity.stages.append(stage)
    try:
        yield
    finally:
        with _activity.lock:
            _activity.stages.remove(stage)


@contextmanager
def heartbeat(command: str) -> Iterator[None]:
    """Print every stage that takes more than a moment on standard error, the preparation first."""
    over, _activity.last_stage = threading.Event(), ""

    def watch() -> None:
        while not over.wait(QUIET_SECONDS / 4):
            if line := _activity.due_line():
                with suppress(OSError, ValueError):  # the stream is closed
                    log_plain(line)

    watcher = threading.Thread(target=watch, name="heartbeat", daemon=True)
    watcher.start()
    try:
        with stage(f"{command}: preparing", minor=True):
            yield
    finally:
        over.set()
        watcher.join()


def current_stage() -> tuple[str, float] | None:
    """The innermost stage under way and when it began, by `time.monotonic`; None if there is none."""
    with _activity.lock:
        stage = _activity.stages[-1] if _activity.stages else None
    return (stage.text, stage.start) if stage else None


def duration(seconds: float | None) -> str:
    """Seconds as `42 s`, `4 min 05 s` or `2 h 10 min`; a dash where they are unknown."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    if minutes < 1:
        return f"{rest} s"
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
