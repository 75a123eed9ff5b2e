"""Progress reporting for training: a live bar in a terminal, one line per tick elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.progress import TextColumn, TimeRemainingColumn

from modiste import progress

FIRST_LINE_SECONDS = 5.0
"""Outside a terminal the speed is printed first after so much time."""
Listener = Callable[[Mapping[str, Any]], None]
"""Takes the log's new record after each tick."""


def _nothing(*_: Any) -> None:
    pass


@dataclass(frozen=True)
class Callbacks:
    """What training calls while it runs; each may be left out."""

    step: Callable[[int, float], None] = _nothing
    """After every step: images shown and seconds trained so far."""
    tick: Listener = _nothing
    """After every tick: the log's new record."""
    log: Callable[[str], None] = _nothing
    """A sentence for the user."""

    def and_also(self, tick: Listener) -> Callbacks:
        """These callbacks with one more listener to the ticks."""

        def both(record: Mapping[str, Any]) -> None:
            self.tick(record)
            tick(record)

        return replace(self, tick=both)


def tick_line(record: Mapping[str, Any], total_images: int) -> str:
    """One tick in one line of text."""
    return (
        f"epoch {record['epoch']:6.2f}  images {record['images']:>9,}/{total_images:,}  "
        f"loss G {record['loss_g']:7.3f} D {record['loss_d']:6.3f}  "
        f"D accuracy real {record['d_accuracy_real']:4.0%} fake {record['d_accuracy_fake']:4.0%}  "
        f"{record['images_per_second']:,.0f} images/s"
    )


@contextmanager
def progress_callbacks(
    console: Console, total_images: int, budget_seconds: float | None, start_images: int = 0
) -> Iterator[Callbacks]:
    """Callbacks that show on this console how far a training is and how long the rest takes."""
    start = (start_images, 0.0)
    is_first = True
    text = "training"

    def left(images: int, seconds: float) -> str:
        by_images = (total_images - images) * (seconds - start[1]) / max(1, images - start[0])
        return f"{progress.duration(min(by_images, budget_seconds - seconds) if budget_seconds else by_images)} left"

    def step(images: int, seconds: float) -> None:
        nonlocal start, is_first
        if is_first:  # it takes longer than the others, so the speed is measured from its end
            start, is_first = (images, seconds), False
            return

        def line() -> str:
            speed = (images - start[0]) / max(1e-9, seconds - start[1])
            return f"images {images:,}/{total_images:,}  {speed:,.0f} images/s  {left(images, seconds)}"

        reporter.update(max(images / total_images, seconds / (budget_seconds or float("inf"))), text, line)

    def tick(record: Mapping[str, Any]) -> None:
        nonlocal text
        text = f"{record['images']:,} images"
        line = tick_line(record, total_images)
        line = line if reporter.is_live else f"{line}  {left(record['images'], record['seconds'])}"
        reporter.log(line, passing=True)

    columns = (TextColumn("{task.percentage:3.0f}%"), TimeRemainingColumn(), TextColumn("left"))
    with progress.reporter(console, text, *columns, first_seconds=FIRST_LINE_SECONDS) as reporter:
        yield Callbacks(step, tick, reporter.log)
