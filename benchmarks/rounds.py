"""Contestants that take turns (A B C A B C ...), and ratios of their speeds within a round.

A shared machine is never the same for long, so only turns of one round are compared.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from line_protocol import Turn
from rich.console import Console
from rich.table import Table

from modiste import progress

TURN_SECONDS = 2.0


@dataclass
class Contestant:
    """Something that trains: a call does so many steps and gives wall and processor seconds per step."""

    turn: Turn
    steps: int = 1
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def compete(field_of: Mapping[str, Contestant], seconds: float, quick: bool, say: Callable[[str], None]) -> float:
    """Let them take turns for about so long; returns how many processor cores others used meanwhile."""
    for name, contestant in field_of.items():
        say(f"warming up: {name}")
        contestant.turn(1)
        wall, _ = contestant.turn(1 if quick else 2)
        contestant.steps = 1 if quick else max(2, round(TURN_SECONDS / wall))
    start, busy, own = time.perf_counter(), machine_seconds(), family_seconds()
    rounds = 0
    while rounds < 2 or (not quick and time.perf_counter() - start < seconds):
        for name, contestant in field_of.items():
            left = max(0.0, seconds - (time.perf_counter() - start))
            say(f"round {rounds + 1}: {name}" + ("" if quick else f" ({progress.duration(left)} left)"))
            wall, processor = contestant.turn(contestant.steps)
            contestant.wall.append(wall)
            contestant.processor.append(processor)
        rounds += 1
    others = (machine_seconds() - busy) - (family_seconds() - own)
    return max(0.0, others / (time.perf_counter() - start))


def machine_seconds() -> float:
    """Processor time that all processes of the machine have used; 0 where the system does not tell."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, irq, softirq, *_ = map(int, stat.read_text().splitlines()[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def family_seconds() -> float:
    """Processor time of this process and of its live children."""
    seconds = time.process_time()
    for child in Path(f"/proc/{os.getpid()}/task/{os.getpid()}").glob("children"):
        for process in child.read_text().split():
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def speeds(field_of: Mapping[str, Contestant], batch_size: int) -> dict[str, dict[str, float]]:
    """Per contestant the medians of its rounds."""
    return {
        name: {
            "images_per_second": batch_size / median(contestant.wall),
            "wall_ms": 1000 * median(contestant.wall),
            "processor_ms": 1000 * median(contestant.processor),
            "steps_per_round": contestant.steps,
        }
        for name, contestant in field_of.items()
    }


def ratios(
    field_of: Mapping[str, Contestant], goals: Mapping[str, tuple[float | None, str]]
) -> dict[str, dict[str, Any]]:
    """Per pair "A / B" of the goals the ratio of speeds: median, least and greatest of the rounds, and by processor
    time; pairs without a contestant here are left out. A goal is the least ratio or None, and what it is about."""
    found = {}
    for pair, (goal, about) in goals.items():
        one, other = pair.split(" / ")
        if one not in field_of or other not in field_of:
            continue
        wall = [b / a for a, b in zip(field_of[one].wall, field_of[other].wall, strict=True)]
        processor = [b / a for a, b in zip(field_of[one].processor, field_of[other].processor, strict=True)]
        found[pair] = {
            "about": about,
            "median": median(wall),
            "min": min(wall),
            "max": max(wall),
            "processor_median": median(processor),
            "goal": goal,
            "met": None if goal is None else median(wall) >= goal,
        }
    return found


def verdict(row: Mapping[str, Any]) -> tuple[str, str]:
    """A ratio's goal and whether it is met, as a table has them."""
    goal = "" if row["goal"] is None else f"at least {row['goal']:.2f}"
    return goal, "" if row["met"] is None else "yes" if row["met"] else "NO"


def show_speeds(rows: Mapping[str, Mapping[str, float]], console: Console) -> None:
    """The table of `speeds`."""
    table = Table("", "images/s", "ms per step", "processor ms per step", title="medians of the rounds")
    for name, row in rows.items():
        table.add_row(name, f"{row['images_per_second']:,.0f}", f"{row['wall_ms']:.1f}", f"{row['processor_ms']:.1f}")
    console.print(table)


def show_ratios(rows: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """The table of `ratios`."""
    table = Table("ratio of speeds", "median", "min - max", "by processor time", "goal", "met", title="paired ratios")
    for pair, row in rows.items():
        spread = f"{row['min']:.3f} - {row['max']:.3f}"
        table.add_row(pair, f"{row['median']:.3f}", spread, f"{row['processor_median']:.3f}", *verdict(row))
    console.print(table)


def seldom(console: Console, every_seconds: float = 10.0) -> Callable[[str], None]:
    """Say something at most every so often: for output that is no terminal."""
    last = [-every_seconds]

    def say(text: str) -> None:
        if time.monotonic() - last[0] >= every_seconds:
            last[0] = time.monotonic()
            console.print(text, highlight=False)

    return say
