"""How near the training step comes to what its device can do: operations per second against large matrix products.

    python benchmarks/peak.py                          # `make peak`: swift and hour on the device that `auto` takes
    python benchmarks/peak.py --recipe hour --compile --device cuda

Each recipe takes steps in the precision that `auto` chooses, eager and (with --compile) compiled, on a GPU also as a
CUDA graph, and eager in float32. They take turns, since a machine is never the same for long. Ticks and judging are
left out (bench.py has the loop's overhead). docs/performance.md says what was found.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from modiste import config, environment
from modiste.data.sets import open_data
from modiste.networks.summary import training_flops
from modiste.training import cuda_graph, setup
from modiste.training.distributed import ProcessGroup
from modiste.training.step import make_step_functions

ROUNDS = 3
SIDES = {"cpu": 2048, "cuda": 8192, "mps": 4096}  # of the square matrices of the peak
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def finish(device: str) -> None:
    """Wait until the device has done all that it was told."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def peak(device: str, precision: str, quick: bool) -> float:
    """Operations per second of a square matrix product, the best of ten."""
    side = 64 if quick else SIDES[device]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32  # as convolutions do it
    left, right = torch.randn(2, side, side, device=device, dtype=DTYPES[precision])
    times = []
    for _ in range(10):
        finish(device)
        start = time.perf_counter()
        left @ right
        finish(device)
        times.append(time.perf_counter() - start)
    return 2 * side**3 / min(times)


def stepper(recipe: config.Recipe, device: str, precision: str) -> Callable[[float], float]:
    """Images per second of this recipe's steps for about so many seconds."""
    dataset, group = open_data(recipe.data), ProcessGroup()
    shape = setup.image_shape(recipe, dataset)
    state = setup.make_state(recipe, shape, device)
    functions = make_step_functions(recipe, state, group, device, precision)
    batch_at = setup.batches(recipe, dataset, shape, group, device)
    advance = cuda_graph.make_step(recipe, state, functions, group, batch_at, device)

    def turn(seconds: float) -> float:
        for _ in range(cuda_graph.EAGER_STEPS + 1):  # the first ones compile, choose kernels, fill caches and capture
            advance()
        finish(device)
        before, start = state.images, time.perf_counter()
        while time.perf_counter() - start < seconds or state.images == before:
            advance()
        finish(device)
        return (state.images - before) / (time.perf_counter() - start)

    return turn


def measure(
    name: str, device: str, compiled: bool, seconds: float, quick: bool, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """A row per way of taking this recipe's steps."""
    changes: dict[str, Any] = {"train.images": 10**12, "train.epochs": None, "train.lr_schedule": "constant"}
    if quick:
        changes |= {"data.name": "toy", "data.count": 64, "train.batch_size": 8}
    recipe = config.override(config.load(name), changes)
    shape = setup.image_shape(recipe, open_data(recipe.data))
    best = environment.choose_precision("auto", device)
    plain = {"train.cuda_graph": False}
    ways: dict[str, tuple[dict[str, Any], str]] = {
        "eager, float32": (plain, "float32"),
        f"eager, {best}": (plain, best),
    }
    if compiled:
        ways[f"compiled, {best}"] = (plain | {"train.compile": True}, best)
    if cuda_graph.can_capture(recipe, ProcessGroup(), device):
        ways[f"CUDA graph, {best}"] = ({}, best)
        if compiled:
            ways[f"compiled, CUDA graph, {best}"] = ({"train.compile": True}, best)
    turns = {way: stepper(config.override(recipe, wanted), device, kind) for way, (wanted, kind) in ways.items()}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    peaks: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(1 if quick else ROUNDS):
        for way, turn in turns.items():
            say(f"{name}: {way}, round {number + 1} of {ROUNDS}")
            peaks[way].append(peak(device, ways[way][1], quick))
            rates[way].append(turn(0 if quick else seconds))
    work = training_flops(recipe, shape)
    slowest = median(rates["eager, float32"])
    return [
        {
            "recipe": name,
            "way": way,
            "images_per_second": median(rates[way]),
            "of_eager_float32": median(rates[way]) / slowest,
            "gflop_per_image": work / 1e9,
            "tflop_per_second": median(rates[way]) * work / 1e12,
            "peak_tflop_per_second": median(peaks[way]) / 1e12,
            "share_of_peak": median([work * rate / most for rate, most in zip(rates[way], peaks[way], strict=True)]),
        }
        for way in ways
    ]


def show(result: dict[str, Any], console: Console) -> None:
    """One table."""
    table = Table(
        *("recipe", "step", "images/s", "of eager float32", "TFLOP/s", "peak TFLOP/s", "share of the peak"),
        title=f"training steps on {result['device']}, {result['threads']} processor threads",
    )
    for row in result["rows"]:
        table.add_row(
            row["recipe"],
            row["way"],
            f"{row['images_per_second']:,.0f}",
            f"{row['of_eager_float32']:.2f}",
            f"{row['tflop_per_second']:.3g}",
            f"{row['peak_tflop_per_second']:.3g}",
            f"{row['share_of_peak']:.2f}",
        )
    console.print(table)
    console.print(
        "peak: the best of ten products of two square matrices in the same precision, measured in the same round"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description="What share of its device's matrix peak a training step reaches.")
    parser.add_argument("--recipe", nargs="+", default=["swift", "hour"], help="recipes (default: swift hour)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    parser.add_argument("--compile", action="store_true", help="also with torch.compile")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each turn (default 10)")
    parser.add_argument("--quick", action="store_true", help="a step or two on toy data; the numbers mean nothing")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    device = environment.choose_device(options.device)
    torch.backends.cudnn.benchmark = True  # as in a training
    notes = Console(stderr=True)
    rows = []
    for name in options.recipe:
        torch.compiler.reset()  # or what was compiled for one recipe counts against the next
        rows += measure(name, device, options.compile, options.seconds, options.quick, lambda text: notes.print(text))
    there = torch.cuda.get_device_name() if device == "cuda" else device
    result = {"device": there, "threads": torch.get_num_threads(), "quick": options.quick, "rows": rows}
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result, Console())


if __name__ == "__main__":
    main()
