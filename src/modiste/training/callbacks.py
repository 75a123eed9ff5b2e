"""What a training tells while it runs: a live line in a terminal, plain lines in a log file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from modiste import progress
from modiste.progress import duration

FIRST_WORD_SECONDS, SILENCE_SECONDS = 5.0, 60.0
"""After how much training its speed is told first in a log file, and how long no line may come after another."""
Listener = Callable[[Mapping[str, Any]], None]
"""Somebody who wants each tick's record of the log."""


def _nothing(*_: Any) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Callbacks:
    """The three things a training tells; each may be left out."""

    step: Callable[[int, float], None] = _nothing
    """After every update: images shown and seconds trained so far."""
    tick: Listener = _nothing
    """After every tick: the log's new record."""
    say: Callable[[str], None] = _nothing
    """A sentence worth reading."""

    def and_also(self, tick: Listener) -> Callbacks:
        """This watch with one more listener to the ticks."""

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
    """A watch on that console: a bar with time left in a terminal, one line per tick with time left elsewhere."""
    if not console.is_terminal:
        yield _plain(console, total_images, budget_seconds, start_images)
        return
    columns = (BarColumn(), TextColumn("{task.percentage:3.0f}%"), TimeRemainingColumn(), TextColumn("left"))
    with progress.bar(console, *columns) as bar:
        unit_total = budget_seconds or float(total_images)
        task = bar.add_task("training", total=unit_total, completed=0 if budget_seconds else start_images)

        def step(images: int, seconds: float) -> None:
            share = images / total_images
            bar.update(task, completed=max(share * unit_total, seconds) if budget_seconds else images)

        def tick(record: Mapping[str, Any]) -> None:
            bar.update(task, description=f"{record['images']:,} images")
            progress.log(bar.console, tick_line(record, total_images))

        yield Callbacks(step, tick, partial(progress.log, bar.console))


def _plain(console: Console, total_images: int, budget_seconds: float | None, start_images: int) -> Callbacks:
    first: list[tuple[int, float]] = []
    speak_at = 0.0  # in seconds of training

    def left(images: int, seconds: float) -> str:
        since_images, since_seconds = first[0] if first else (start_images, 0.0)
        by_images = (total_images - images) * (seconds - since_seconds) / max(1, images - since_images)
        return f"{duration(min(by_images, budget_seconds - seconds) if budget_seconds else by_images)} left"

    def step(images: int, seconds: float) -> None:
        nonlocal speak_at
        if not first:
            first.append((images, seconds))
            speak_at = seconds + FIRST_WORD_SECONDS
        elif seconds >= speak_at:
            speak_at = seconds + SILENCE_SECONDS
            speed = (images - first[0][0]) / (seconds - first[0][1])
            text = f"images {images:,}/{total_images:,}  {speed:,.0f} images/s  {left(images, seconds)}"
            progress.log(console, text)

    def tick(record: Mapping[str, Any]) -> None:
        nonlocal speak_at
        speak_at = max(speak_at, record["seconds"] + SILENCE_SECONDS)
        text = f"{tick_line(record, total_images)}  {left(record['images'], record['seconds'])}"
        progress.log(console, text)

    return Callbacks(step, tick, partial(progress.log, console))
