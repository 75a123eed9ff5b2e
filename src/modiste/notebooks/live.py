"""The live display of work in a notebook: one bar and one picture, both changed in place.

IPython is not a dependency: `in_notebook` asks for it only where it runs already. In a terminal and in scripts the work
is shown as on the command line.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from markupsafe import Markup

from modiste import progress, runs
from modiste.notebooks import html

SECONDS = 0.5
"""Between two changes of the bar."""
PICTURE_SECONDS = 3.0
"""Between two looks for a new picture."""
LINES = 12
"""Messages that are kept below the bar, the newest ones."""

FindRuns = Callable[[], Sequence[runs.Run]]
"""The runs whose newest grid is shown."""


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return _shell() is not None


def _shell() -> Any:
    """IPython's shell in a kernel; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if getattr(shell, "kernel", None) is not None else None


class NotebookDisplay:
    """A bar with messages, and a picture above which it stands; a thread redraws both while the work goes on."""

    def __init__(self, title: str, find_runs: FindRuns) -> None:
        self.title, self.start = title, time.monotonic()
        self.share: float | None = None
        self.text, self.changed = title, self.start
        self.lines: deque[str] = deque(maxlen=LINES)
        self.passing = ""
        self.find_runs, self._seen = find_runs, (Path(), 0)
        self._bar, self._picture = self._show(self._html()), None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._redraw, name="notebook display", daemon=True)
        self._thread.start()

    def update(self, share: float | None, text: str) -> None:
        """See `progress.Display`."""
        self.share, self.text, self.changed = share, text, time.monotonic()

    def log(self, text: str, passing: bool) -> None:
        """See `progress.Display`."""
        if passing:
            self.passing = text
        else:
            self.lines.append(text)

    def end(self, text: str) -> None:
        """The last state: messages and this text, without a bar; the last picture stays."""
        self._over.set()
        self._thread.join()
        self._draw_picture()
        lines = [*self.lines, text]
        self._bar.update(_content(Markup("").join(map(html.paragraph, lines)), "\n".join(lines)), raw=True)

    def _redraw(self) -> None:
        looked = 0.0
        while not self._over.wait(SECONDS):
            with suppress(Exception):  # a display that fails must not end the work
                self._bar.update(self._html(), raw=True)
                if time.monotonic() - looked > PICTURE_SECONDS:
                    self._draw_picture()
                    looked = time.monotonic()

    def _draw_picture(self) -> None:
        """Show the newest grid of the runs, where there is a newer one than before."""
        with suppress(Exception):  # a file that is being replaced
            found = [(grid.stat().st_mtime_ns, grid, run) for run in self.find_runs() for grid in run.list_grids()[-1:]]
            if not found:
                return
            changed, grid, run = max(found, key=lambda one: one[0])
            if (grid, changed) == self._seen:
                return
            from modiste.notebooks import pictures

            content = {"image/png": pictures.run_grid(run, grid, 2), "text/plain": f"images of {run.name}"}
            self._seen = grid, changed
            if self._picture is None:
                self._picture = self._show(content)
            else:
                self._picture.update(content, raw=True)

    def _html(self) -> dict[str, str]:
        text, stage = self.text, progress.current_stage()
        if stage and stage[1] > self.changed:
            text = f"{self.title}: {stage[0]}"
        seconds = progress.duration(time.monotonic() - self.start)
        lines = [*self.lines, *filter(None, [self.passing])]
        plain = "\n".join([f"{text}  ({seconds} so far)", *lines])
        return _content(html.bar(self.share, plain), plain)

    def _show(self, content: dict[str, Any]) -> Any:
        return import_module("IPython.display").display(content, raw=True, display_id=True)


def _content(markup: Markup, plain: str) -> dict[str, str]:
    """An output by its types; a str, as frontends know no other."""
    return {"text/html": str(markup), "text/plain": plain}


@contextmanager
def shown(title: str, find_runs: FindRuns = lambda: ()) -> Iterator[Callable[[str], None]]:
    """Show the work within this context in a notebook, from its first second; elsewhere as on the command line.

    The function that it gives sets the text that remains. An exception remains as `stopped` or `failed`.
    """
    last = title
    if not in_notebook():
        yield lambda _: None
        return

    def remain(text: str) -> None:
        nonlocal last
        last = text

    display = NotebookDisplay(title, find_runs)
    try:
        with progress.shown_on(display):
            yield remain
    except BaseException as error:
        last = f"{title}: {'stopped' if isinstance(error, KeyboardInterrupt) else 'failed'}"
        raise
    finally:
        display.end(last)


@contextmanager
def logged(title: str) -> Iterator[Callable[[str], None]]:
    """A function that shows what is done now: in a notebook or a terminal; in other scripts it is silent."""
    if in_notebook() or progress.console().is_terminal:
        with progress.live_log(title) as log:
            yield log
    else:
        yield lambda _: None


def let_figures_show() -> None:
    """Let a notebook draw matplotlib's figures as cell results also where pyplot was never imported."""
    shell = _shell()
    if shell is None:
        return
    from matplotlib.figure import Figure

    from modiste.notebooks import pictures

    formatter = shell.display_formatter.formatters["image/png"]
    if Figure not in formatter.type_printers:  # pyplot's own stays
        formatter.for_type(Figure, pictures.chart)
