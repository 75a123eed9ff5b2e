"""How fast Modiste trains and scores: its loop against a tutorial's and the bare arithmetic, its scores against rivals.

A shared machine is never the same for long, so the contestants take turns (A B C A B C ...) and only ratios within a
round are compared. docs/performance.md says what the rows mean.

    python benchmarks/bench.py            # `make bench`: about five minutes
    python benchmarks/bench.py --quick    # does it run at all? The numbers mean nothing
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault(
    "GOMP_SPINCOUNT", "5000"
)  # as the command line does; before torch is imported, for all contestants alike

import bare_step
import bench_sampling
import bench_scores
import torch
import tutorial_dcgan
from rich.console import Console
from rich.table import Table

from modiste import config, environment, progress, runs, schema
from modiste.config import Recipe
from modiste.data.images import Images, to_unit
from modiste.data.sets import open_data
from modiste.errors import ModisteError
from modiste.training import callbacks, setup, trainer
from modiste.training.distributed import ProcessGroup
from modiste.training.step import make_step_functions, step

MEMORY_GOAL_MB = 1500
GOALS = {  # what is compared, the least ratio of speeds, and what it is about
    "modiste / tutorial": (2.0, "Modiste as it comes against the tutorial's script"),
    "modiste float32 / tutorial": (1.2, "Modiste without bfloat16 against the tutorial's script"),
    "modiste / bare": (1 / 1.03, "the loop's overhead: at most 3 %"),
    "modiste float32 / bare float32": (1 / 1.03, "the loop's overhead without bfloat16: at most 3 %"),
    "modiste / tutorial, 2 workers": (None, "the tutorial's script with two processes that make its batches"),
}


@dataclass
class Contestant:
    """Something that trains: a call does so many steps and gives wall and processor seconds per step."""

    turn: Callable[[int], tuple[float, float]]
    steps: int = 1
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def plain(step: Callable[[], object]) -> Callable[[int], tuple[float, float]]:
    """Turns of a step function, after one that does not count."""

    def turn(steps: int) -> tuple[float, float]:
        step()
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(steps):
            step()
        return (time.perf_counter() - wall) / steps, (time.process_time() - processor) / steps

    return turn


def modiste(recipe: Recipe, dataset: Images, folder: Path, precision: str) -> Callable[[int], tuple[float, float]]:
    """Turns of the trainer's own loop in a run folder, progress bar included, with each step's share of a tick."""
    shape, group = setup.image_shape(recipe, dataset), ProcessGroup()
    state = setup.make_state(recipe, shape, "cpu")
    functions = make_step_functions(recipe, state, group, "cpu", precision)
    batch_at = setup.batches(recipe, dataset, shape, group, "cpu")
    run = runs.create_run(folder, recipe, runs.Manifest())
    times: list[tuple[float, float]] = []
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100)

    def turn(steps: int) -> tuple[float, float]:
        times.clear()
        advance = partial(step, state, functions, group, batch_at)
        session = trainer.Session(recipe, run, len(dataset), shape, group, advance, stop=lambda: len(times) > steps)
        with callbacks.progress_callbacks(terminal, recipe.train.images or 0, None, state.images) as bar:

            def note(images: int, seconds: float) -> None:
                bar.step(images, seconds)
                times.append((time.perf_counter(), time.process_time()))

            watch = callbacks.Callbacks(note, bar.tick, bar.log)
            trainer.loop(session, state, watch)
            (wall, processor), (wall_end, processor_end) = times[0], times[-1]
            tick_wall, tick_processor = time.perf_counter(), time.process_time()
            trainer.tick(session, state, trainer.Clock(0.0), watch)
            tick_wall, tick_processor = time.perf_counter() - tick_wall, time.process_time() - tick_processor
        share = recipe.train.batch_size / recipe.train.tick_images
        return (
            (wall_end - wall) / steps + tick_wall * share,
            (processor_end - processor) / steps + tick_processor * share,
        )

    return turn


def contestants(recipe: Recipe, folder: Path) -> dict[str, Contestant]:
    """Everything that takes turns, by name."""
    dataset = open_data(recipe.data)
    originals = open_data(recipe.data.model_copy(update={"resize": None})).pixels[:, 0]
    shape = setup.image_shape(recipe, dataset)
    batch_size = recipe.train.batch_size
    real = to_unit(torch.from_numpy(dataset.pixels[:batch_size]))
    best = environment.choose_precision("auto", "cpu")
    turns = {
        "modiste": modiste(recipe, dataset, folder / "best", best),
        "bare": plain(bare_step.make_step(recipe, shape, real, best)),
        "tutorial": plain(tutorial_dcgan.make_step(originals, workers=0, batch_size=batch_size)),
        "tutorial, 2 workers": plain(tutorial_dcgan.make_step(originals, workers=2, batch_size=batch_size)),
    }
    if best != "float32":
        turns["modiste float32"] = modiste(recipe, dataset, folder / "float32", "float32")
        turns["bare float32"] = plain(bare_step.make_step(recipe, shape, real, "float32"))
    return {name: Contestant(turn) for name, turn in turns.items()}


def compete(field_of: dict[str, Contestant], seconds: float, quick: bool, say: Callable[[str], None]) -> float:
    """Let them take turns for about so long; returns how many processor cores others used meanwhile."""
    for name, contestant in field_of.items():
        say(f"warming up: {name}")
        contestant.turn(1)
        wall, _ = contestant.turn(1 if quick else 2)
        contestant.steps = 1 if quick else min(30, max(2, round(2.0 / wall)))
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


def ratios(field_of: dict[str, Contestant]) -> dict[str, dict[str, Any]]:
    """Per pair of contestants the ratio of speeds: median, least and greatest of the rounds, and by processor time."""
    found = {}
    for pair, (goal, about) in GOALS.items():
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
    if environment.choose_precision("auto", "cpu") == "float32" and "modiste / tutorial" in found:
        row, goal = found["modiste / tutorial"], GOALS["modiste float32 / tutorial"][0]
        row.update(goal=goal, met=row["median"] >= goal)  # no bfloat16 instructions here
    return found


MEASURE_CHILD = (  # in a small process between, since a child's peak starts with the size of the process that forked it
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:], stdout=sys.stderr); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
)


def peak_memory(recipe_name: str, data_name: str, folder: Path, quick: bool) -> dict[str, Any]:
    """The peak resident set, in MB (1e6 bytes), of `modiste train` from its start to its end."""
    length = ["--set", "train.images=256"] if quick else ["--budget", "20s"]
    train = [sys.executable, "-m", "modiste", "train", recipe_name, "--data", data_name, *length]
    command = [sys.executable, "-c", MEASURE_CHILD, *train, "--out", str(folder / "memory")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ModisteError(f"`{' '.join(train[1:])}` failed: {done.stderr.strip().splitlines()[-1]}")
    peak = int(done.stdout) * (1 if sys.platform == "darwin" else 1024) / 1e6
    return {
        "recipe": recipe_name,
        "data": data_name,
        "mb": peak,
        "goal_mb": MEMORY_GOAL_MB,
        "met": peak <= MEMORY_GOAL_MB,
    }


def resolve_data(wish: str | None, quick: bool) -> str:
    """The name of the data set to use: Fashion-MNIST if it can be had, else the drawn toy set."""
    if wish or quick:
        return wish or "toy"
    try:
        open_data(config.Data())
    except ModisteError:
        return "toy"
    return "fashion-mnist"


def show(result: dict[str, Any], console: Console) -> None:
    """The tables."""
    console.print(
        f"\n[bold]Training throughput of diaz-a[/bold] (32 x 32, batch {result['batch_size']}) on {result['data']}; "
        f"{result['threads']} threads, {result['precision']}, {result['rounds']} paired rounds; "
        f"other processes used {result['others_cores']:.2f} cores meanwhile"
    )
    speeds = Table("", "images/s", "ms per step", "processor ms per step", title="medians of the rounds")
    for name, row in result["contestants"].items():
        speeds.add_row(name, f"{row['images_per_second']:,.0f}", f"{row['wall_ms']:.1f}", f"{row['processor_ms']:.1f}")
    console.print(speeds)
    table = Table("ratio of speeds", "median", "min - max", "by processor time", "goal", "met", title="paired ratios")
    for pair, row in result["ratios"].items():
        goal = "" if row["goal"] is None else f"at least {row['goal']:.2f}"
        verdict = "" if row["met"] is None else "yes" if row["met"] else "NO"
        spread = f"{row['min']:.3f} - {row['max']:.3f}"
        table.add_row(pair, f"{row['median']:.3f}", spread, f"{row['processor_median']:.3f}", goal, verdict)
    console.print(table)
    memory = result["memory"]
    console.print(
        f"peak memory of `modiste train {memory['recipe']}` on {memory['data']}: {memory['mb']:,.0f} MB, "
        f"{memory['mb'] / memory['goal_mb']:.2f} of the goal of {memory['goal_mb']:,} MB: "
        + ("met" if memory["met"] else "NOT met")
    )
    if result["others_cores"] > 0.1:
        console.print(
            "Others used this machine meanwhile; where the two times disagree, processor time is the better guide."
        )
    bench_sampling.show(result["sampling"], console)
    bench_scores.show(result["scores"], console)
    if result["quick"]:
        console.print("--quick: these numbers mean nothing.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print tables or JSON."""
    parser = argparse.ArgumentParser(description="Modiste's speed and memory against their goals.")
    parser.add_argument("--quick", action="store_true", help="a few small steps on toy data; the numbers mean nothing")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--data", help="the data set; default fashion-mnist if it can be had, else toy")
    parser.add_argument("--seconds", type=float, default=140.0, help="length of the paired rounds (default 140)")
    parser.add_argument("--threads", type=int, default=0, help="processor threads (default: torch's choice)")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    notes = Console(stderr=True)
    name = resolve_data(options.data, options.quick)
    changes: dict[str, Any] = {"data.name": name, "train.images": 10**9, "train.epochs": None}
    if options.quick:
        changes |= {"data.count": 256, "train.batch_size": 8}
    recipe = config.override(config.load("diaz-a"), changes)
    memory_recipe = "swift" if "swift" in schema.shipped() else "diaz-a"
    with tempfile.TemporaryDirectory() as folder, notes.status("opening the data") as status:
        field_of = contestants(recipe, Path(folder))
        say = status.update if notes.is_terminal else _seldom(notes)
        others = compete(field_of, options.seconds, options.quick, say)
        say(f"measuring the memory of {memory_recipe}")
        memory = peak_memory(memory_recipe, name, Path(folder), options.quick)
        sampling = bench_sampling.measure(Path(folder) / "memory", options.quick, say)
        scoring = bench_scores.measure(options.quick, say, options.threads)
    result = {
        "data": name,
        "quick": options.quick,
        "batch_size": recipe.train.batch_size,
        "threads": torch.get_num_threads(),
        "precision": environment.choose_precision("auto", "cpu"),
        "rounds": len(field_of["modiste"].wall),
        "others_cores": others,
        "contestants": {
            name: {
                "images_per_second": recipe.train.batch_size / median(contestant.wall),
                "wall_ms": 1000 * median(contestant.wall),
                "processor_ms": 1000 * median(contestant.processor),
                "steps_per_round": contestant.steps,
            }
            for name, contestant in field_of.items()
        },
        "ratios": ratios(field_of),
        "memory": memory,
        "sampling": sampling,
        "scores": scoring,
    }
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result, Console())


def _seldom(console: Console, every_seconds: float = 10.0) -> Callable[[str], None]:
    """Say something at most every so often: for output that is no terminal."""
    last = [-every_seconds]

    def say(text: str) -> None:
        if time.monotonic() - last[0] >= every_seconds:
            last[0] = time.monotonic()
            console.print(text, highlight=False)

    return say


if __name__ == "__main__":
    main()
