"""How near the training step comes to what its device can do: its matrix peak and its memory bandwidth.

    python benchmarks/peak.py                          # `make peak`: the published recipes, swift and hour
    python benchmarks/peak.py --recipe hour --compile --device cuda

Each recipe takes steps in the precision that `auto` chooses, eager and (with --compile) compiled, on a GPU also as a
CUDA graph, and eager in float32. They take turns, since a machine is never the same for long. Ticks and judging are
left out (bench.py has the loop's overhead). A step needs operations and moves bytes; roofline.py says which are counted
and how the device's most per second is measured. The bound is the larger of both times, and the last column the share
of the bound's speed that is reached (Williams et al. 2009). profile_step.py says where the rest goes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # as the command line does; before torch is imported

import roofline
import torch
from rich.console import Console
from rich.table import Table
from tables import put

from modiste import config, environment
from modiste.data.sets import open_data
from modiste.networks.layers import ImageShape
from modiste.networks.summary import training_flops
from modiste.training import cuda_graph, setup, trainer
from modiste.training.distributed import ProcessGroup

ROUNDS = 3
RECIPES = ["noronha", "diaz-a", "roh", "dense-sigmoid", "bare-naich", "swift", "hour"]


def stepper(recipe: config.Recipe, device: str, precision: str) -> Callable[[float], float]:
    """Images per second of this recipe's steps for about so many seconds."""
    environment.keep_freed_memory()
    dataset, group = open_data(recipe.data), ProcessGroup()
    shape = setup.image_shape(recipe, dataset)
    state = setup.make_state(recipe, shape, device)
    batch_at = setup.batches(recipe, dataset, shape, group, device)
    advance = trainer.make_advance(recipe, state, shape, group, batch_at, device, precision)

    def turn(seconds: float) -> float:
        for _ in range(cuda_graph.EAGER_STEPS + 1):  # the first ones compile, choose kernels, fill caches and capture
            advance()
        roofline.finish(device)
        before, start = state.images, time.perf_counter()
        while time.perf_counter() - start < seconds or state.images == before:
            advance()
        roofline.finish(device)
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
    widths: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(1 if quick else ROUNDS):
        for way, turn in turns.items():
            say(f"{name}: {way}, round {number + 1} of {ROUNDS}")
            peaks[way].append(roofline.peak(device, ways[way][1], quick))
            widths[way].append(roofline.bandwidth(device, quick))
            rates[way].append(turn(0 if quick else seconds))
    return [
        describe_way(recipe, shape, way, ways[way][1], rates, peaks[way], widths[way]) | {"recipe": name}
        for way in ways
    ]


def describe_way(
    recipe: config.Recipe,
    shape: ImageShape,
    way: str,
    precision: str,
    rates: dict[str, list[float]],
    peaks: list[float],
    widths: list[float],
) -> dict[str, Any]:
    """A row: medians of images per second and of their shares of what the device did in the same rounds."""
    work, moved = training_flops(recipe, shape), roofline.bytes_per_image(recipe, shape, precision)
    bounds = [1 / max(work / most, moved / wide) for most, wide in zip(peaks, widths, strict=True)]
    rate = median(rates[way])

    def share(most: list[float]) -> float:
        return median([one / other for one, other in zip(rates[way], most, strict=True)])

    return {
        "way": way,
        "batch_size": recipe.train.batch_size,
        "images_per_second": rate,
        "of_eager_float32": rate / median(rates["eager, float32"]),
        "gflop_per_image": work / 1e9,
        "tflop_per_second": rate * work / 1e12,
        "peak_tflop_per_second": median(peaks) / 1e12,
        "share_of_peak": share([most / work for most in peaks]),
        "mb_per_image": moved / 1e6,
        "gb_per_second": rate * moved / 1e9,
        "peak_gb_per_second": median(widths) / 1e9,
        "share_of_bandwidth": share([wide / moved for wide in widths]),
        "bound_images_per_second": median(bounds),
        "bound_by": "matrix products" if work / median(peaks) > moved / median(widths) else "memory",
        "share_of_bound": share(bounds),
    }


def show(result: dict[str, Any], console: Console, markdown: bool) -> None:
    """One table."""
    table = Table(
        *("recipe", "step", "images/s", "of eager float32", "GFLOP per image", "TFLOP/s", "share of the peak"),
        *("MB per image", "GB/s", "share of the bandwidth", "bound, images/s", "bound by", "share of the bound"),
        title=f"training steps on {result['device']}, {result['threads']} processor threads",
    )
    for row in result["rows"]:
        table.add_row(
            f"{row['recipe']}, batch {row['batch_size']}",
            row["way"],
            f"{row['images_per_second']:,.0f}",
            f"{row['of_eager_float32']:.2f}",
            f"{row['gflop_per_image']:.3f}",
            f"{row['tflop_per_second']:.3g} of {row['peak_tflop_per_second']:.3g}",
            f"{row['share_of_peak']:.2f}",
            f"{row['mb_per_image']:.2f}",
            f"{row['gb_per_second']:.3g} of {row['peak_gb_per_second']:.3g}",
            f"{row['share_of_bandwidth']:.2f}",
            f"{row['bound_images_per_second']:,.0f}",
            row["bound_by"],
            f"{row['share_of_bound']:.2f}",
        )
    put(table, console, markdown)
    console.print(
        "peak: the best of ten products of two square matrices in the same precision; bandwidth: the best of five "
        "triads a = b + s c; both measured in the same rounds as the steps"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(
        description="What share of its device's matrix peak and memory bandwidth a training step reaches."
    )
    parser.add_argument(
        "--recipe", nargs="+", default=RECIPES, help="recipes (default: the published ones, swift and hour)"
    )
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    parser.add_argument("--compile", action="store_true", help="also with torch.compile")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each turn (default 4)")
    parser.add_argument("--quick", action="store_true", help="a step or two on toy data; the numbers mean nothing")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--markdown", action="store_true", help="print the tables as docs/performance.md has them")
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
        show(result, Console(width=max(200, Console().width)), options.markdown)


if __name__ == "__main__":
    main()
