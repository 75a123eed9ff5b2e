"""Labelled synthetic images, and whether they help: a classifier with and without them, over budgets and seeds."""

from __future__ import annotations

import functools
import math
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
from rich.console import Console
from rich.progress import TextColumn, TimeRemainingColumn

from modiste import config, environment, parts, progress, runs
from modiste.config import Data
from modiste.data.images import Images, content_digest
from modiste.data.sets import list_warnings, open_data
from modiste.errors import ModisteError, UsageError
from modiste.experiments import monitor, runner, studies
from modiste.experiments.augmentation import analysis, arms, experiment, linear, plan, report, subsets
from modiste.experiments.augmentation.arms import ArmRow, Conditions, Filter
from modiste.experiments.augmentation.experiment import Measurement, Settings
from modiste.experiments.augmentation.plan import AugmentOptions, Plan
from modiste.experiments.augmentation.subsets import Budget
from modiste.experiments.folder import ExperimentFolder
from modiste.experiments.runner import Job
from modiste.networks.classifier import Classifier
from modiste.provenance import metadata
from modiste.sampling import generators, writers

GENERATOR_SHARE = 0.5
"""Of a measurement's progress: its generator is trained, and no arm is measured."""


@dataclass(frozen=True)
class Experiment:
    """The folder of an experiment, finished or not."""

    path: Path

    def read_settings(self) -> Settings:
        """The settings it was begun with."""
        return experiment.read(self.path)[0]

    def read_rows(self) -> list[ArmRow]:
        """The results: one per budget, seed and arm that is measured."""
        settings = self.read_settings()
        return [row for one in experiment.measurements(settings, self.path) for row in one.read_rows(settings)]

    def is_finished(self) -> bool:
        """Whether every arm of every measurement is measured."""
        settings = self.read_settings()
        return all(one.is_finished(settings) for one in experiment.measurements(settings, self.path))

    def read_answer(self) -> list[str]:
        """Whether synthetic images help: a sentence per budget, and one for all."""
        rows = self.read_rows()
        return analysis.answer(rows, analysis.decisive(rows), self.path)


def augment(
    what: str | Path,
    out: str | Path | None = None,
    *,
    budgets: Sequence[Budget] | None = None,
    seeds: Sequence[int] | None = None,
    rare: Sequence[str] | None = None,
    recipe: str | Path | None = None,
    length: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    ratio: Sequence[float] | None = None,
    filter: Sequence[Filter] | None = None,
    keep: float | None = None,
    count: int | None = None,
    steps: int | None = None,
    flip: bool | None = None,
    features: bool = False,
    resize: int | None = None,
    fit: str | None = None,
    background: str | None = None,
    jobs: int = 1,
    ray: str | None = None,
    console: Console | None = None,
) -> Experiment:
    """Measure whether a generator's labelled images help a classifier, or continue an experiment that was stopped.

    `what` is a data set (a name, a folder, an .npz file), of which every budget and seed trains a generator of its own
    on the budget's images alone; a run, whose training images are then the only budget; or an experiment's folder.
    The classifier has the same weights to start from, the same steps and the same real images in every arm. `rare`
    keeps a tenth of these classes, and synthetic images fill them to balance. `ratio` and `filter` may have several
    values, which are compared. `features` adds linear classifiers on pixels, on the discriminator's features and, where
    there is one, on the judge's. `jobs` measurements run at a time, here or, with `ray`, on a Ray cluster that shares
    the folder. Finished measurements are reused; the same call gives the same numbers on one machine.

    >>> experiment = augment("toy", budgets=[100, 300], seeds=range(5), length="60000 images")  # doctest: +SKIP
    >>> experiment.read_answer()[-1]  # doctest: +SKIP
    'no gain over real + classical is shown at any budget; do not use it'
    """
    options = AugmentOptions(
        budgets=budgets, seeds=seeds, ratio=ratio, filter=filter, keep=keep, count=count, steps=steps, flip=flip,
        features=features, rare=rare, recipe=recipe, length=length, overrides=overrides, resize=resize, fit=fit,
        background=background, jobs=jobs, ray=ray,
    )  # fmt: skip
    return run_experiment(what, out, options, console)


def run_experiment(
    what: str | Path, out: str | Path | None, options: AugmentOptions, console: Console | None = None
) -> Experiment:
    """Carry out what is left of an experiment; `augment` says of what."""
    console = console or progress.console()
    if options.ray:
        runner.ray_package()
    planned = plan.resolve(what, out, options)
    path, settings = planned.path, planned.settings
    for note in list_warnings(planned.parts.images):
        progress.log(console, f"warning: {note}")
    jobs = options.jobs
    if options.ray in (None, "local"):
        jobs = studies.jobs_at_a_time(jobs, planned.processes, console)
    failed: dict[str, str] = {}
    with _locked(planned), environment.interruptible() as stopped:
        plan.write(planned)
        todo = [one for one in planned.measurements if not one.is_finished(settings)]
        if reused := len(planned.measurements) - len(todo):
            progress.log(console, f"{reused} of {len(planned.measurements)} measurements are finished already")
        work = [_job(planned, one) for one in todo]
        with progress_reporter(console, path.name, todo, settings) as (poll, report_end):
            run_jobs = functools.partial(runner.run_on_ray, options.ray) if options.ray else runner.run_locally
            for number, result in run_jobs(work, jobs, stopped, poll):
                if result.status == "interrupted":
                    continue
                if result.status == "failed":
                    failed[todo[number].name] = result.reason
                report_end(todo[number], f"failed: {result.reason}" if result.reason else "done")
        if rows := Experiment(path).read_rows():
            report.write(path, settings, rows)
    if failed:
        name, reason = next(iter(failed.items()))
        raise ModisteError(
            f"{len(failed)} of {len(planned.measurements)} measurements failed, {name} because: {reason}; the others "
            f"are kept, and `modiste augment {shlex.quote(str(path))}` tries again"
        )
    return Experiment(path)


@contextmanager
def _locked(planned: Plan) -> Iterator[None]:
    """Hold the experiment's folder, which is new, an experiment's, or holds the recipe of a start that was cut off."""
    folder = ExperimentFolder(planned.path, "experiment")
    if not experiment.is_experiment(planned.path):
        folder.refuse_foreign_files({"recipe.toml": config.to_toml(planned.recipe)})
    with folder.locked():
        yield


def _job(planned: Plan, measurement: Measurement) -> Job:
    """The commands that are left to run for a measurement, as a person would type them."""
    train = ["train", str(planned.path / "recipe.toml"), "--data", str(measurement.folder / "subset.npz")]
    train += ["--out", str(measurement.generator), "--seed", str(measurement.seed)]
    for key, value in plan.batch_changes(planned.recipe, len(planned.subsets[measurement.name].images)).items():
        train += ["--set", f"{key}={value}"]
    measure = ("augment", str(planned.path), "--only", measurement.name)
    generator, threads = measurement.generator, planned.settings.threads
    trained = runs.exists(generator) and runs.Run(generator).read_manifest().status == "finished"
    return Job(
        generator.absolute(),
        (measure,) if trained else (tuple(train), measure),
        ExperimentFolder(planned.path, "experiment").log(measurement.name).absolute(),
        Path.cwd(),
        {"OMP_NUM_THREADS": str(threads)},
        max(threads, planned.processes),
        sources=tuple(parts.copies(config.own_parts(planned.recipe)).values()),
    )


def measure_arms(path: Path, name: str, log: Callable[[str], None] | None = None) -> None:
    """Train and measure the classifiers of one measurement whose generator is trained; each arm is written at once."""
    settings, _ = experiment.read(path)
    by_name = {one.name: one for one in experiment.measurements(settings, path)}
    if name not in by_name:
        raise UsageError(f"{path} has no measurement {name!r}; there are {', '.join(by_name)}")
    measurement = by_name[name]
    with filelock.FileLock(measurement.folder / ".lock"):  # the process of an experiment that was killed may still work
        real = measurement.read_subset()
        _, test = subsets.split(plan.open_images(settings, path), measurement.seed)
        steps = settings.steps or arms.default_steps(len(real))
        conditions = Conditions(measurement.budget, measurement.seed, steps, settings.flip)
        classical = arms.Arm(arms.CLASSICAL)
        # the classifier of the arm real + classical filters: it has seen the budget's images and no others
        classical_network = functools.cache(lambda: arms.learn(real, None, classical, conditions))
        sets = functools.cache(lambda kind: synthetic_set(measurement, settings, real, kind, classical_network))
        for arm in experiment.all_arms(settings):
            finished = measurement.read_rows(settings)
            if arm in {row.arm for row in finished}:
                continue
            synthetic = sets(arm.filter) if arm.uses_synthetic else None
            network = classical_network() if arm == classical else None
            with progress.stage(f"a classifier of {arm.name}, {steps} steps"):
                if arm.is_linear:
                    row = linear.measure_arm(real, test, arm, conditions, measurement.generator, settings.data)
                else:
                    row = arms.measure_arm(real, synthetic, test, arm, conditions, network)
            measurement.write_rows([*finished, row])
            if log:
                log(f"{arm.name}: {row.accuracy:.2%} right" + ("" if arm.is_linear else f" after {steps} steps"))


def synthetic_set(
    measurement: Measurement, settings: Settings, real: Images, kind: Filter, classical: Callable[[], Classifier]
) -> Images:
    """The labelled synthetic images of a measurement, as many of each class, from its folder or made and written there.

    ModisteError unless the generator was trained on exactly the measurement's images.
    """
    place = measurement.folder / ("synthetic.npz" if kind == "none" else f"synthetic-{kind}.npz")
    if place.is_file():
        return open_data(Data(name=str(place)))
    if runs.Run(measurement.generator).read_manifest().data.digest != content_digest(real):
        raise ModisteError(
            f"{measurement.generator} was trained on other images than {measurement.folder / 'subset.npz'}, so its set "
            "would know labels outside the budget; move it away and run the experiment again"
        )
    start = measurement.seed * experiment.SEED_STRIDE
    seeds = range(start, start + experiment.generated_count(settings, real, kind))
    images = generators.load(measurement.generator).sample_set(seeds=seeds)
    if kind != "none":
        images = arms.filtered(images, kind, settings.keep, classical(), real)
    writers.write(images, None, place, "npz", mark=metadata.stamp)
    return images


@contextmanager
def progress_reporter(
    console: Console, name: str, todo: Sequence[Measurement], settings: Settings
) -> Iterator[tuple[Callable[[], None], Callable[[Measurement, str], None]]]:
    """`poll`, which shows how far the experiment is by what its folders hold, and `report_end` of a measurement."""
    start, last_poll, unfinished = time.monotonic(), -math.inf, list(todo)

    def share() -> float:
        shares = [_share_done(one, settings) for one in unfinished]
        return (len(todo) - len(unfinished) + sum(shares)) / max(1, len(todo))

    def state() -> str:
        return f"{len(todo) - len(unfinished)} of {len(todo)} measurements"

    share_before = share()
    columns = (TimeRemainingColumn(), TextColumn("left"))
    with progress.reporter(console, name, *columns, live=bool(todo)) as reporter:

        def poll() -> None:
            nonlocal last_poll
            if time.monotonic() - last_poll >= monitor.READ_SECONDS:
                last_poll = time.monotonic()
                done = share()
                reporter.update(done, name, lambda: f"{name}: {state()}, {done:.0%}")

        def report_end(measurement: Measurement, text: str) -> None:
            unfinished.remove(measurement)
            done, seconds = share(), time.monotonic() - start
            left = progress.duration((1 - done) * seconds / max(1e-3, done - share_before))
            reporter.log(f"{measurement.name}: {text}  ({state()}, {left} left)")

        if todo and not reporter.is_live:
            count = len(experiment.all_arms(settings))
            reporter.log(f"{name}: {state()}, each with a generator and {count} classifiers")
        yield poll, report_end


def _share_done(measurement: Measurement, settings: Settings) -> float:
    """The share of a measurement that is done, from 0 to 1, by what its folder holds."""
    try:
        run = runs.Run(measurement.generator)
        last = runs.read_last_record(run) if runs.exists(run.path) else None
        trained = min(1.0, last["images"] / (run.read_recipe().train.images or 1)) if last else 0.0
        measured = len(measurement.read_rows(settings)) / len(experiment.all_arms(settings))
    except ModisteError:
        return 0.0
    return GENERATOR_SHARE * max(trained, float(measured > 0)) + (1 - GENERATOR_SHARE) * measured
