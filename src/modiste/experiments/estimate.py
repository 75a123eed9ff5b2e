"""An estimate of a study's time and disk: each configuration is trained for some seconds, then multiplied."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from modiste import cache, files, runs, subprocesses
from modiste.data.sets import native_data, open_data
from modiste.errors import ModisteError
from modiste.evaluation.evaluate import extractors_for
from modiste.experiments import runner
from modiste.experiments.monitor import START_SECONDS
from modiste.experiments.plan import RunSpec
from modiste.experiments.runner import Job
from modiste.experiments.study_config import Study
from modiste.metrics import features
from modiste.metrics.nearest_neighbours import nearest
from modiste.sampling import generators

CALIBRATION_SECONDS = 4.0
SHARE_OF_A_RUN = 0.25
"""A calibration takes at most this share of the length of a run, so that a dry run is shorter than the study."""
SAMPLED, ROWS = 128, 2_048
"""Images and rows of features that the time of an evaluation is estimated from."""
COVARIANCES = 32
"""Computed on the generated images, for distances and their errors."""
TRIVIAL = 3
"""Further sets that a first evaluation measures where no baselines ship: other real images, noise, the mean image."""

Log = Callable[[str], None]


def table(study: Study, planned: Sequence[RunSpec], jobs: int, calibrate: bool, log: Log) -> dict[str, Any]:
    """Per configuration its length, cost and predicted seconds and bytes per run, and the totals over all runs.

    Predictions are None without calibration, but for training times that the budget sets.
    """
    first = {run.configuration: run for run in reversed(planned)}
    with files.temporary_folder() as folder:
        rows = []
        judging: Judging | None = None
        for name in dict.fromkeys(run.configuration for run in planned):
            speed = size = None
            if calibrate:
                log(f"calibrating {name}")
                trial = folder / name
                speed, size = _trial(first[name], trial, study.threads)
                log(f"measuring evaluations of {name}" if judging is None else f"{name} is calibrated")
                judging = judging or _judging(trial, study)
            rows.append(_row(first[name], speed, size, judging.each if judging else None, study.evaluate.count))
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
        "first_evaluation_seconds": judging and round(judging.first, 1),
        "seconds": None
        if None in seconds
        else round(sum(seconds) * runs_each / min(jobs, len(planned)) + (judging.first if judging else 0)),
        "bytes": None if None in sizes else sum(sizes) * runs_each,
        "commands": [subprocesses.printable(words, study.threads) for run in planned for words in run.commands],
    }


def _row(run: RunSpec, speed: float | None, size: int | None, judging: float | None, count: int) -> dict[str, Any]:
    """`judging` are the seconds of an evaluation of `count` images; training scores itself on fewer now and then."""
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


def _trial(run: RunSpec, folder: Path, threads: int | None) -> tuple[float, int]:
    """Images per second of a short training, and the size that its folder will have."""
    longest = CALIBRATION_SECONDS
    if budget := run.recipe.train.budget_seconds:
        longest = min(longest, SHARE_OF_A_RUN * budget)
    changes = {**run.changes, "evaluate.every_images": 0}
    trial = replace(run, folder=folder, budget=f"{longest:.3f}s", changes=changes, track=None)
    variables = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    result = runner.run_job(Job(folder, (trial.argv(),), folder.with_suffix(".log"), Path.cwd(), variables))
    if result.status != "finished":
        raise ModisteError(f"{run.configuration} cannot be trained: {result.reason or result.status}")
    trained = runs.Run(folder)
    record = trained.read_log()[-1]
    speed = record["images"] / record["seconds"]
    train = run.recipe.train
    images = min(train.images or 0, speed * (train.budget_seconds or float("inf")))
    ticks = images / train.tick_images
    grid = sum(file.stat().st_size for file in trained.list_grids()) / max(1, len(trained.list_grids()))
    states = sum(file.stat().st_size for file in runs.states(trained))
    # Two states and two generators in the end, and a grid per tick, which comes a second time in the animation.
    weights = (folder / "generator.safetensors").stat().st_size
    return speed, round(states / len(runs.states(trained)) * 2 + 2 * weights + 2 * grid * (ticks + 1))


@dataclass(frozen=True)
class Judging:
    """Estimated seconds of evaluations."""

    each: float
    """Of one evaluation of a run."""
    first: float
    """How much longer the first one takes, as it measures the real images; 0 where that was done before."""


def _judging(folder: Path, study: Study) -> Judging:
    """Measured on few images and multiplied.

    Features take the same time for every image. Distances between all images of two sets, and covariances, are
    counted as operations at the speed of this machine.
    """
    run, count, part = runs.Run(folder), study.evaluate.count, study.evaluate.reference
    dataset = native_data(run.read_recipe().data)
    real, used = open_data(dataset, part=part), run.read_recipe().data
    train = open_data(dataset.model_copy(update={"count": used.count}), part=used.split)
    extractors, _ = extractors_for(dataset, real, None, False)
    few = real.select(slice(SAMPLED))
    generator = generators.load(folder)
    makes = _seconds(partial(generator.sample_set, SAMPLED)) / SAMPLED
    sees = {one.name: _seconds(partial(features.extract, one, few)) / SAMPLED for one in extractors}
    widths = {one.name: features.extract(one, few.select(slice(2))).vectors.shape[1] for one in extractors}
    judge, pixels = widths[extractors[0].name], extractors[0].shape.size ** 2 * extractors[0].shape.channels
    rows = np.random.default_rng(0).standard_normal((ROWS, judge)).astype(np.float32)
    speed = 2.0 * ROWS**2 * judge / _seconds(partial(nearest, rows, rows))

    def distances(made: int) -> float:
        """Operations: precision to coverage, nearest neighbours of both sets together, copies, covariances."""
        many, learned = len(real), len(train)
        pairs = many**2 + made**2 + 2 * many * made + 4 * min(many, made) ** 2 + 3 * made * learned
        samples = COVARIANCES * made * sum(width**2 for width in widths.values())
        return 2.0 * float(pairs * judge + made * learned * pixels + samples)

    each = count * (makes + sum(sees.values())) + distances(count) / speed
    first, sees_judge = 0.0, sees[extractors[0].name]
    if not features.is_cached(extractors[0], real) or not features.is_cached(extractors[0], train):
        first = (len(real) + len(train)) * sees_judge
        if not cache.ships(dataset.name):
            first += len(real) * (sum(sees.values()) - sees_judge) + 2.0 * len(real) * len(train) * pixels / speed
            first += TRIVIAL * (count * sum(sees.values()) + distances(count) / speed)
    return Judging(each, first)


def _seconds(do: Callable[[], object]) -> float:
    """How long the call takes."""
    start = time.perf_counter()
    do()
    return time.perf_counter() - start
