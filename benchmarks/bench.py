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
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "GOMP_SPINCOUNT", "5000"
)  # as the command line does; before torch is imported, for all contestants alike

import bare_step
import bench_sampling
import bench_scores
import rounds
import torch
import tutorial_gan
from line_protocol import Turn, plain
from rich.console import Console

from modiste import config, environment, runs, schema
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


def modiste(recipe: Recipe, dataset: Images, folder: Path, precision: str) -> Turn:
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


def contestants(recipe: Recipe, folder: Path) -> dict[str, rounds.Contestant]:
    """Everything that takes turns, by name."""
    dataset = open_data(recipe.data)
    originals = open_data(recipe.data.model_copy(update={"resize": None}))
    shape = setup.image_shape(recipe, dataset)
    batch_size = recipe.train.batch_size
    real = to_unit(torch.from_numpy(dataset.pixels[:batch_size]))
    best = environment.choose_precision("auto", "cpu")
    script, pixels = tutorial_gan.SCRIPTS[recipe.name], originals.pixels[:, 0]

    def tutorial(workers: int) -> Callable[[], object]:
        return tutorial_gan.make_step(script, script.networks(), pixels, originals.labels, workers, batch_size)

    turns = {
        "modiste": modiste(recipe, dataset, folder / "best", best),
        "bare": plain(bare_step.make_step(recipe, shape, real, best)),
        "tutorial": plain(tutorial(workers=0)),
        "tutorial, 2 workers": plain(tutorial(workers=2)),
    }
    if best != "float32":
        turns["modiste float32"] = modiste(recipe, dataset, folder / "float32", "float32")
        turns["bare float32"] = plain(bare_step.make_step(recipe, shape, real, "float32"))
    return {name: rounds.Contestant(turn) for name, turn in turns.items()}


def paired_ratios(field_of: dict[str, rounds.Contestant]) -> dict[str, dict[str, Any]]:
    """The ratios of GOALS; without bfloat16 instructions Modiste as it comes has float32's goal."""
    found = rounds.ratios(field_of, GOALS)
    if environment.choose_precision("auto", "cpu") == "float32":
        row, goal = found["modiste / tutorial"], GOALS["modiste float32 / tutorial"][0]
        row.update(goal=goal, met=row["median"] >= goal)
    return found


MEASURE_CHILD = (  # in a small process between, since a child's peak starts with the size of the process that forked it
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:], stdout=sys.stderr); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
)


def peak_memory(recipe_name: str, data_name: str, folder: Path, quick: bool) -> dict[str, Any]:
    """The peak resident set, in MB (1e6 bytes), of `modiste train` from its start to its end."""
    few = ["train.images=256", "data.count=256", "evaluate.every_images=0"]
    length = [word for setting in few for word in ("--set", setting)] if quick else ["--budget", "20s"]
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
    rounds.show_speeds(result["contestants"], console)
    rounds.show_ratios(result["ratios"], console)
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
        say = status.update if notes.is_terminal else rounds.seldom(notes)
        others = rounds.compete(field_of, options.seconds, options.quick, say)
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
        "contestants": rounds.speeds(field_of, recipe.train.batch_size),
        "ratios": paired_ratios(field_of),
        "memory": memory,
        "sampling": sampling,
        "scores": scoring,
    }
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result, Console())


if __name__ == "__main__":
    main()
