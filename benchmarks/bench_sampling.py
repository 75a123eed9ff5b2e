"""How fast a trained generator gives images: eager, compiled and in ONNX Runtime, and the wait for the first one.

The wait is that of a person: from the start of `modiste sample RUN --count 1` in a fresh process to the file on disk.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from modiste.exports import model as exported_model
from modiste.sampling import generators

FIRST_IMAGE_GOAL_SECONDS = 1.5


def measure(run: Path, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds to the first image, images per second of each way, and why a way is not there."""
    cold = []
    for turn in range(1 if quick else 5):
        say(f"sampling from a cold command line, {turn + 1}")
        cold.append(_cold(run))
    generator = generators.load(run)
    count = generators.CHUNK * (1 if quick else 40)
    noise = generators.seed_noise(range(count), generator.z_dim)
    labels = np.arange(count) % generator.shape.classes if generator.shape.classes else None
    speeds: dict[str, float] = {}
    missing: dict[str, str] = {}
    ways = {"eager": eager, "compiled": compiled, "ONNX Runtime": onnx}
    if quick:
        missing["compiled"] = "left out by --quick, since compiling takes long"
        del ways["compiled"]
    for name, way in ways.items():
        say(f"sampling {count} images: {name}")
        try:
            make = way(generator, noise, labels)
            make()  # the first call compiles and allocates
        except Exception as error:  # a compiler or an extra that is not installed; the table says so
            missing[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}"
            continue
        times = []
        for _ in range(1 if quick else 3):
            start = time.perf_counter()
            make()
            times.append(time.perf_counter() - start)
        speeds[name] = count / median(times)
    seconds = median(cold)
    return {
        "first_image_seconds": seconds,
        "goal_seconds": FIRST_IMAGE_GOAL_SECONDS,
        "met": seconds <= FIRST_IMAGE_GOAL_SECONDS,
        "images_per_second": speeds,
        "missing": missing,
    }


def _cold(run: Path) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "modiste", "sample", str(run), "--count", "1", "--out", f"{folder}/one.png"]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - start


def eager(
    generator: generators.TrainedGenerator, noise: torch.Tensor, labels: np.ndarray | None
) -> Callable[[], object]:
    """What `modiste sample` does: chunks of 64 in float32, pixels as uint8."""
    return lambda: generators.generate(generator.network, noise, labels)


def compiled(
    generator: generators.TrainedGenerator, noise: torch.Tensor, labels: np.ndarray | None
) -> Callable[[], object]:
    """The same through torch.compile."""
    network = torch.compile(generator.network)
    return lambda: generators.generate(network, noise, labels)  # type: ignore[arg-type]


def onnx(
    generator: generators.TrainedGenerator, noise: torch.Tensor, labels: np.ndarray | None
) -> Callable[[], object]:
    """The exported generator in onnxruntime, in the same chunks, without the rounding to pixels."""
    import onnxruntime

    model = exported_model.to_onnx(generator.network, generator.shape, generator.z_dim)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    numbers = noise.numpy()

    def make() -> None:
        for start in range(0, len(numbers), generators.CHUNK):
            given = {"noise": numbers[start : start + generators.CHUNK]}
            if labels is not None:
                given["labels"] = labels[start : start + generators.CHUNK]
            session.run(None, given)

    return make


def show(result: dict[str, Any], console: Console) -> None:
    """The table."""
    table = Table("sampling with swift", "images per second", "of eager", title="how fast images come")
    speeds = result["images_per_second"]
    for name, speed in speeds.items():
        table.add_row(name, f"{speed:,.0f}", f"{speed / speeds['eager']:.2f}")
    for name, reason in result["missing"].items():
        table.add_row(name, "not here", reason)
    console.print(table)
    seconds, goal = result["first_image_seconds"], result["goal_seconds"]
    console.print(
        f"first image from a cold command line: {seconds:.2f} s, {seconds / goal:.2f} of the goal of {goal:g} s: "
        + ("met" if result["met"] else "NOT met")
    )
