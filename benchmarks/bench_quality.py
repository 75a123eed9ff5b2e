"""Time to quality: how long each of our recipes trains until it is as good as a published system after an hour.

Both sides are judged by their own training logs: the Fréchet distance of 2,000 generated images to the held-out ones,
which every training measures now and then (`evaluate.every_images`), beside the training seconds of that tick.

    python benchmarks/bench_quality.py                      # `make bench-quality`: an hour, and our recipes' time
    python benchmarks/bench_quality.py --minutes 1 --out D  # a sketch; finished runs in D are reused
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from modiste import runs

PUBLISHED = "bare-naich"
HOUSE = ("swift", "hour")
GOAL = 0.1  # of the published system's time


def train(recipe: str, folder: Path, minutes: float, every_images: int, changes: Sequence[str]) -> runs.Run:
    """The run of that recipe, trained for so long unless it is there already."""
    settings = [f"evaluate.every_images={every_images}", *changes]
    command = [sys.executable, "-m", "modiste", "train", recipe, "--out", str(folder / recipe)]
    command += ["--budget", f"{minutes:g}min", *(part for setting in settings for part in ("--set", setting))]
    if subprocess.call(command):
        raise SystemExit(f"`modiste {' '.join(command[3:])}` failed")
    return runs.open_run(folder / recipe)


def course(log: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """(training seconds, Fréchet distance on held-out images) of every tick that has the latter."""
    names = [key for record in log for key in record if key.startswith("frechet_")]
    return [(record["seconds"], record[names[0]]) for record in log if names and names[0] in record]


def seconds_to(target: float, points: Sequence[tuple[float, float]]) -> float | None:
    """When a score was first at or below the target, straight lines between the measured points; None = never."""
    before = (0.0, float("inf"))
    for seconds, value in points:
        if value <= target:
            if before[1] == float("inf"):
                return seconds
            share = (before[1] - target) / (before[1] - value)
            return before[0] + share * (seconds - before[0])
        before = (seconds, value)
    return None


def compare(
    published: Sequence[tuple[float, float]], house: Mapping[str, Sequence[tuple[float, float]]]
) -> dict[str, Any]:
    """The published system's last score and time, and for each of our recipes the time to that score and its share."""
    end, target = published[-1]
    rows = {}
    for name, points in house.items():
        seconds = seconds_to(target, points)
        share = None if seconds is None else seconds / end
        last = {"seconds": points[-1][0], "frechet": points[-1][1]}
        rows[name] = {"seconds": seconds, "share": share, "met": share is not None and share <= GOAL, "last": last}
    return {"published": {"name": PUBLISHED, "seconds": end, "frechet": target}, "house": rows, "goal": GOAL}


def show(result: Mapping[str, Any], console: Console) -> None:
    """The table."""
    published = result["published"]
    console.print(
        f"\n{published['name']} has a Fréchet distance of {published['frechet']:.3g} (held-out images, garment judge) "
        f"after {published['seconds'] / 60:.1f} minutes of training."
    )
    table = Table("recipe", "minutes to that score", "share of its time", "goal", "met", "at its end")
    for name, row in result["house"].items():
        never = row["seconds"] is None
        last = f"{row['last']['frechet']:.3g} after {row['last']['seconds'] / 60:.1f} min"
        minutes, share = ("never", "") if never else (f"{row['seconds'] / 60:.2f}", f"{row['share']:.4f}")
        table.add_row(name, minutes, share, f"at most {result['goal']:g}", "yes" if row["met"] else "NO", last)
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, and print the table or JSON."""
    parser = argparse.ArgumentParser(
        description="How soon our recipes are as good as a published system after an hour."
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="training of the published system (default 60)")
    parser.add_argument(
        "--house-minutes", type=float, default=10.0, help="training of each recipe of ours (default 10)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/quality"), help="folder of the runs")
    parser.add_argument("--set", action="append", default=[], dest="changes", help="section.key=value for every run")
    parser.add_argument("--recipes", nargs="*", default=list(HOUSE), help="our recipes")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    published = course(train(PUBLISHED, options.out, options.minutes, 60_000, options.changes).read_log())
    house = {
        name: course(train(name, options.out, options.house_minutes, 6_000, options.changes).read_log())
        for name in options.recipes
    }
    if not published or not all(house.values()):
        raise SystemExit("a run has no score on held-out images in its log; train for longer")
    result = compare(published, house)
    print(json.dumps(result, indent=2)) if options.json else show(result, Console())


if __name__ == "__main__":
    main()
