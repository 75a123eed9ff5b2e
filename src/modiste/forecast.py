"""What a study will take: each configuration trained for some seconds on the real images, then multiplied."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from modiste import evaluation, plan, runs, workers, writing
from modiste.errors import ModisteError
from modiste.pace import START_SECONDS
from modiste.plan import Planned, Study
from modiste.workers import Errand

CALIBRATION_SECONDS = 4.0
JUDGED_IMAGES = 500

Say = Callable[[str], None]


def table(study: Study, planned: Sequence[Planned], jobs: int, calibrate: bool, say: Say) -> dict[str, Any]:
    """Per configuration its length, cost and predicted seconds and bytes per run, and the totals over all runs.

    Predictions are None without calibration, but for training times that the budget sets.
    """
    first = {run.configuration: run for run in reversed(planned)}
    with writing.scratch() as folder:
        rows = []
        judging: float | None = None
        for name in dict.fromkeys(run.configuration for run in planned):
            speed = size = None
            if calibrate:
                say(f"calibrating {name}")
                trial = folder / name
                speed, size = _trial(first[name], trial, study.threads)
                judging = _judging_seconds(trial, study) if judging is None else judging
            rows.append(_row(first[name], speed, size, judging, study.evaluate.count))
    runs_each = len(study.seed_list)
    seconds = [row["seconds"] for row in rows]
    sizes = [row["bytes"] for row in rows]
    return {
        "study": study.name,
        "about": study.about,
        "seeds": list(study.seed_list),
        "budget": study.budget,
        "jobs": jobs,
        "threads": study.threads,
        "runs": len(planned),
        "configurations": rows,
        "seconds": None if None in seconds else round(sum(seconds) * runs_each / min(jobs, len(planned))),
        "bytes": None if None in sizes else sum(sizes) * runs_each,
        "commands": [plan.shown(command, study.threads) for run in planned for command in run.commands],
    }


def _row(run: Planned, speed: float | None, size: int | None, judging: float | None, count: int) -> dict[str, Any]:
    """`judging` are the seconds of an evaluation of so many images; a training judges itself on fewer now and then."""
    train, itself = run.recipe.train, run.recipe.evaluate
    longest = (train.images or 0) / speed if speed else None
    if longest is not None and judging is not None and itself.every_images:
        times = (train.images or 0) // itself.every_images + 1
        longest += times * judging * itself.count / count
    known = [seconds for seconds in (longest, train.budget_seconds) if seconds is not None]
    training = min(known) if known else None
    return {
        "configuration": run.configuration,
        "recipe": run.recipe.name,
        "images": train.images,
        "budget_seconds": train.budget_seconds,
        "gflop_per_image": round(run.gflop_per_image, 4),
        "images_per_second": speed and round(speed, 1),
        "training_seconds": None if training is None else round(training, 1),
        "evaluation_seconds": None if judging is None else round(judging, 1),
        "seconds": None if training is None else round(training + (judging or 0) + 2 * START_SECONDS),
        "bytes": size,
    }


def _trial(run: Planned, folder: Path, threads: int | None) -> tuple[float, int]:
    """Images per second of a short training, and the size that its folder will have."""
    words = list(run.commands[0])
    words[words.index("--out") + 1] = str(folder)
    for option in ("--budget", "--track"):
        if option in words:
            del words[words.index(option) : words.index(option) + 2]
    words += ["--budget", f"{CALIBRATION_SECONDS}s", "--set", "evaluate.every_images=0"]
    log = folder.with_suffix(".log")
    environment = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    if reason := workers.carry_out(Errand(folder, (tuple(words),), log, Path.cwd(), environment)):
        raise ModisteError(f"{run.configuration} cannot be trained: {reason}")
    trained = runs.Run(folder)
    record = trained.log[-1]
    speed = record["images"] / record["seconds"]
    train = run.recipe.train
    images = min(train.images or 0, speed * (train.budget_seconds or float("inf")))
    ticks = images / train.tick_images
    grid = sum(file.stat().st_size for file in trained.grids) / max(1, len(trained.grids))
    states = sum(file.stat().st_size for file in runs.states(trained))
    # Two states and two generators in the end, and a grid per tick, which comes a second time in the animation.
    weights = (folder / "generator.safetensors").stat().st_size
    return speed, round(states / len(runs.states(trained)) * 2 + 2 * weights + 2 * grid * (ticks + 1))


def _judging_seconds(run: Path, study: Study) -> float:
    """Seconds of an evaluation as the study asks, by a smaller one whose real images are measured already."""
    count = min(JUDGED_IMAGES, study.evaluate.count)
    reference = study.evaluate.reference
    evaluation.evaluate(run, count=count, reference=reference)
    start = time.perf_counter()
    evaluation.evaluate(run, count=count, reference=reference)
    return (time.perf_counter() - start) * study.evaluate.count / count
